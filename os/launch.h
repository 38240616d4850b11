/* os/launch.h - the last steps before an image's command runs, the same in a machine and in a
 * process-class container: environment, working directory, finding the program. In the child, in
 * the container's root. Thread: the child's only one. */
#ifndef OS_LAUNCH_H
#define OS_LAUNCH_H

#include <stdbool.h>
#include <sys/types.h>

#include "base/err.h"
#include "base/strv.h"
#include "os/user.h"

/* As mkdir -p; 0 or -errno. */
int launch_mkdirs(const char *path, mode_t mode) MUST_CHECK;
/* What docker sets when neither image nor user did: PATH, HOSTNAME, HOME, TERM with a tty. */
int launch_env(struct strv *env, const struct user *u, bool tty) MUST_CHECK;
/* Go to `cwd` (NULL or "" = "/"), made for the user when missing. -EINVAL: cannot be one. */
int launch_cwd(const char *cwd, const struct user *u, struct err *e) MUST_CHECK;
/* So that the user can open /dev/stdout anew after it is no longer root. Never /dev/null: that is
 * everybody's. */
void launch_own_streams(uid_t uid);
/* execve(2) of argv[0], searched in the PATH of `env`. Returns on failure only: -ENOENT not found,
 * others: it cannot be run. */
int launch_exec(char *const *argv, char *const *env, struct err *e);

#endif
