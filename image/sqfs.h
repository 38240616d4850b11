/* image/sqfs.h - from merged layers to one squashfs file.
 *
 * squashfs, because sqfstar builds it from a tar stream: no unpacking, no root, ownership and
 * devices kept. Not compressed, because the guest would pay for it at every read (docs/images.md
 * has the figures). */
#ifndef IMAGE_SQFS_H
#define IMAGE_SQFS_H

#include "image/merge.h"

/* Write `path`, which must not exist. On failure it may be left half-made: the caller's folder is
 * swept. Errors: those of merge_write(); -ENOENT = sqfstar is not installed; -ENOSPC; -EIO = what
 * sqfstar says. */
int sqfs_build(const char *path, struct tree *t, struct merge_layer *layers, size_t n,
               merge_progress p, void *ctx, struct err *e) MUST_CHECK;

#endif
