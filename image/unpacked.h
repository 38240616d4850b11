/* image/unpacked.h - an image's root file system as a folder, for containers that share the host's
 * kernel: ROOT/unpacked/HEX/, made once from rootfs/HEX.squashfs.
 *
 * Mounted from a loop device, each container would read the image's files into a page cache of its
 * own, through a thread of the kernel; a folder's pages are there once for all containers, and are
 * warm (docs/images.md has the figures). Made by others than root, all of it is theirs, and device
 * nodes are missing. */
#ifndef IMAGE_UNPACKED_H
#define IMAGE_UNPACKED_H

#include <limits.h>

#include "base/err.h"
#include "image/store.h"

struct unpacked { /* owned: unpacked_done() */
    char path[PATH_MAX];
    int lock; /* as long as it is held nobody removes the folder; 0 = not held */
};

/* `rootfs`: image.rootfs. Errors: -ENOSPC; -ENOENT unsquashfs is not installed; -EIO what it says.
 */
int unpacked_open(const char *root, const char *rootfs, struct unpacked *u,
                  struct err *e) MUST_CHECK;
void unpacked_done(struct unpacked *u); /* of {0}, too */

#endif
