/* container/copyup.h - a new volume begins with what the image has at its place, as docker has it.
 * Thread: the caller's. */
#ifndef CONTAINER_COPYUP_H
#define CONTAINER_COPYUP_H

#include "base/err.h"
#include "container/volstore.h"

/* If the volume is empty: what the image (a file system image) has below `target`, with the owner
 * and the mode of that folder. Nothing there, nothing done. Errors: those of unsquashfs(1), rename
 * and chown. */
int copyup(const struct volstore *v, const char *rootfs, const char *fstype, const char *target,
           struct err *e) MUST_CHECK;

#endif
