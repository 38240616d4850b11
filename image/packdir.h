/* image/packdir.h - a folder of the host as a tar. Links are packed, never followed. */
#ifndef IMAGE_PACKDIR_H
#define IMAGE_PACKDIR_H

#include "base/err.h"
#include "image/merge.h"

/* Write the folder `path` to `fd` (borrowed). Sockets are left out. Errors: -EIO with what could
 * not be read. */
int packdir_write(const char *path, int fd, merge_progress p, void *ctx, struct err *e) MUST_CHECK;

#endif
