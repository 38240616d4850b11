/* image/cpio.h - writes an archive in the "newc" format that Linux unpacks as its initramfs.
 * Source: Linux Documentation/driver-api/early-userspace/buffer-format.rst. Thread: none of its
 * own. */
#ifndef IMAGE_CPIO_H
#define IMAGE_CPIO_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

enum { CPIO_SIZE_MAX = 512 << 20, CPIO_NAME_MAX = 255 }; /* bytes */

struct cpio { /* owns nothing */
    int fd;   /* borrowed; written from its current end */
    uint32_t ino;
    size_t len; /* bytes written */
};

/* `name` without a leading slash, its folders before it. `mode` with the file type. rdev: for
 * device nodes. Every entry belongs to root and has no date, so the same contents make the same
 * archive. -E2BIG. */
int cpio_add(struct cpio *c, const char *name, uint32_t mode, unsigned major, unsigned minor,
             const void *bytes, size_t len, struct err *e) MUST_CHECK;
int cpio_end(struct cpio *c, struct err *e) MUST_CHECK;

#endif
