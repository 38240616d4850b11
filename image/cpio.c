#include "image/cpio.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { HEADER_LEN = 110, ALIGN = 4 };

static int put(struct cpio *c, const void *bytes, size_t len, struct err *e)
{
    const uint8_t *p = bytes;

    if (len > CPIO_SIZE_MAX - c->len)
        return err_set(e, -E2BIG, "the initramfs exceeds %d MiB", CPIO_SIZE_MAX >> 20);
    c->len += len;
    while (len > 0) {
        ssize_t n = write(c->fd, p, len);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return err_errno(e, -errno, "write the initramfs");
        p += n;
        len -= (size_t)n;
    }
    return 0;
}

static int pad(struct cpio *c, struct err *e)
{
    static const uint8_t zero[ALIGN];

    return put(c, zero, -c->len % ALIGN, e);
}

int cpio_add(struct cpio *c, const char *name, uint32_t mode, unsigned major, unsigned minor,
             const void *bytes, size_t len, struct err *e)
{
    char h[HEADER_LEN + 1];
    size_t name_len = strlen(name) + 1;

    if (name_len > CPIO_NAME_MAX || len > CPIO_SIZE_MAX)
        return err_set(e, -E2BIG, "%s: too large for the initramfs", name);
    /* magic, ino, mode, uid, gid, nlink, mtime, filesize, maj, min, rmaj, rmin, namesize, check */
    snprintf(h, sizeof(h), "070701%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X", ++c->ino,
             mode, 0, 0, 1, 0, (unsigned)len, 0, 0, major, minor, (unsigned)name_len, 0);
    int r = put(c, h, HEADER_LEN, e);
    if (r == 0)
        r = put(c, name, name_len, e);
    if (r == 0)
        r = pad(c, e);
    if (r == 0 && len)
        r = put(c, bytes, len, e);
    return r == 0 ? pad(c, e) : r;
}

int cpio_end(struct cpio *c, struct err *e)
{
    return cpio_add(c, "TRAILER!!!", 0, 0, 0, NULL, 0, e);
}
