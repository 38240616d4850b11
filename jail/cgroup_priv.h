/* jail/cgroup_priv.h - what the files cgroup*.c share: the small text files of a group. */
#ifndef JAIL_CGROUP_PRIV_H
#define JAIL_CGROUP_PRIV_H

#include "jail/cgroup.h"

enum {
    CGROUP_FILE_MAX = CGROUP_PATH_MAX + 64, /* bytes of a file's path */
    CGROUP_TEXT_MAX = 16 * 1024,            /* of a file that is read */
};
#define CGROUP_PREFIX "kiln-"

/* For writing; owned by the caller. -ENOENT: the group has no such file. */
int cgroup_file_open(const char *dir, const char *file) MUST_CHECK;
/* 0 or -errno, likewise. */
int cgroup_file_put(const char *dir, const char *file, const char *text) MUST_CHECK;
/* The text, NUL-terminated, cut at `len`. Returns its length or -errno. */
int cgroup_file_get(const char *dir, const char *file, char *buf, size_t len) MUST_CHECK;
/* A file with one number; "max" and v1's "no limit" are UINT64_MAX. */
int cgroup_file_u64(const char *dir, const char *file, uint64_t *out) MUST_CHECK;
/* The number behind `key` in a file of lines "KEY NUMBER"; -ENOENT: no such line. */
int cgroup_file_key(const char *dir, const char *file, const char *key, uint64_t *out) MUST_CHECK;

/* The group has this controller, and it is v2's. */
bool cgroup_is_v2(const struct cgroup *c, enum cgroup_controller k);
/* Call fn for each folder of the group once, until one is not 0: that is returned. */
int cgroup_each_folder(const struct cgroup *c, int (*fn)(void *ctx, const char *dir, bool v2),
                       void *ctx) MUST_CHECK;

/* In jail/cgroup_limits.c. */
int cgroup_apply(const struct cgroup *c, const struct cgroup_limits *l, struct err *e) MUST_CHECK;
/* The controllers these limits need, bit n = controller n. */
unsigned cgroup_needs(const struct cgroup_limits *l);

#endif
