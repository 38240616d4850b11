/* fs/fusefs.h - a folder of the host served in the FUSE protocol, for a guest that mounts it.
 * Source: Linux include/uapi/linux/fuse.h, protocol 7.31.
 *
 * The guest is hostile: every step is one name, never "..", never through a symbolic link
 * (openat2(2), RESOLVE_BENEATH and NO_SYMLINKS), so nothing outside the folder is reached, whatever
 * others do to the folder meanwhile. Only regular files and folders are ever opened; device nodes
 * are not made and set-user-ID bits are not stored. The guest's kernel checks permissions
 * (default_permissions). Requests are served at once, with the host's system calls. Thread: one. */
#ifndef FS_FUSEFS_H
#define FS_FUSEFS_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/uio.h>

#include "base/err.h"

enum {
    FUSEFS_HANDLES_MAX = 4096,  /* open files and folders */
    FUSEFS_IO_MAX = 256 * 1024, /* bytes of one read or write */
};

struct fusefs;

/* `path` may be a regular file: then it alone is there, in a folder that cannot be listed and in
 * which no name can be made or removed. What it is called there is its own name.
 * Errors: what open(2) says of `path`; -ENOMEM. `path` NULL: no folder yet; whoever mounts it is
 * told ENODEV. */
int fusefs_new(const char *path, bool read_only, struct fusefs **ret, struct err *e) MUST_CHECK;
/* Of a folder that is open (O_PATH), and /proc, as fusefs_fds() tells them; both are duplicated.
 * `only`: the one file of it that is shown; "" = all. */
int fusefs_new_fds(int root, int proc, const char *only, bool read_only, struct fusefs **ret,
                   struct err *e) MUST_CHECK;
const char *fusefs_only(const struct fusefs *f); /* borrowed */
/* Its descriptors of the folder and of /proc: borrowed, -1 = no folder. */
void fusefs_fds(const struct fusefs *f, int *root, int *proc);
void fusefs_free(struct fusefs *f);  /* may be NULL */
void fusefs_reset(struct fusefs *f); /* forget every node and handle */

/* One request, its bytes in `in`; the reply goes to `out`. The iovecs may lie in guest memory that
 * changes meanwhile. Returns bytes of the reply; 0 = none is due. */
size_t fusefs_serve(struct fusefs *f, const struct iovec *in, unsigned n_in,
                    const struct iovec *out, unsigned n_out);

#endif
