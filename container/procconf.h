/* container/procconf.h - a container's description as that of a process-class container
 * (process/process.h). Thread: the caller's. */
#ifndef CONTAINER_PROCCONF_H
#define CONTAINER_PROCCONF_H

#include "base/err.h"
#include "container/record.h"
#include "container/task.h"
#include "container/volume.h"
#include "image/unpacked.h"
#include "process/filter.h"
#include "process/process.h"

enum { PROCCONF_MOUNTS_MAX = 160, PROCCONF_LIMITS_MAX = 16, PROCCONF_RULES_MAX = 64 };

struct procconf { /* owned: procconf_done(); points into itself, so it is not copied */
    struct process_conf conf;
    struct strv strings; /* what nothing else owns */
    struct filter filter;
    struct unpacked unpacked; /* to be held while the container lives */
    struct volume *volumes;   /* owned */
    size_t n_volumes;
    struct process_mount mounts[PROCCONF_MOUNTS_MAX];
    struct process_device *devices; /* owned */
    struct cgroup_device rules[PROCCONF_RULES_MAX];
    struct process_rlimit rlimits[PROCCONF_LIMITS_MAX];
    struct process_sysctl sysctls[PROCESS_SYSCTLS_MAX];
    struct process_maps maps;
    const char **masked, **readonly; /* owned arrays */
    char ns_path[PROCESS_NS_KINDS][64];
};

/* For a start. *c is borrowed as long as *out is used. Files for /etc are written to c->dir.
 * Errors: -EINVAL, -EOPNOTSUPP what cannot be had; -ENOENT a source that is missing. */
int procconf_fill(const struct task_conf *c, struct procconf *out, struct err *e) MUST_CHECK;
/* For a further process: conf.process alone, but for command, streams, and terminal. `privileged`:
 * all capabilities, no filter. *s is borrowed likewise. */
int procconf_process(const struct spec *s, bool privileged, struct procconf *out,
                     struct err *e) MUST_CHECK;
void procconf_done(struct procconf *p); /* of {0}, too */

/* What acts on a container that runs, or of which something is left. -ESRCH: no process is known.
 */
int procconf_state(const struct record *r, struct process_state *st, struct err *e) MUST_CHECK;
/* Its control group. -ENOENT. */
int procconf_group(const struct record *r, struct cgroup *out, struct err *e) MUST_CHECK;

#endif
