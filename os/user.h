/* os/user.h - who an image's process is to be: passwd(5) and group(5) of the image, which may hold
 * anything. Source: OCI image-spec 1.1, config.md, "User". Thread: any. */
#ifndef OS_USER_H
#define OS_USER_H

#include <stddef.h>
#include <sys/types.h>

#include "base/err.h"

enum { USER_GROUPS_MAX = 1024 };
struct user {
    uid_t uid;
    gid_t gid;
    gid_t groups[USER_GROUPS_MAX];
    size_t n_groups;
    char home[256];
};
/* `spec` as in OCI ("", "user", "uid", "user:group", "uid:gid"), looked up in the files (which may
 * be absent). Errors: -EINVAL unknown name or number out of range. */
int user_find(const char *spec, const char *passwd_path, const char *group_path, struct user *u,
              struct err *e) MUST_CHECK;
/* A group by name or number. Errors as above. */
int user_find_group(const char *name, const char *group_path, gid_t *gid, struct err *e) MUST_CHECK;

#endif
