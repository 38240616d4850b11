#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "fs/fusereq.h"

/* Adds one record with the name behind it, padded to 8 bytes. False: no room. */
static bool put(struct fusereq *r, size_t max, const void *rec, size_t rec_len, const char *name)
{
    size_t len = strlen(name), all = FUSE_DIRENT_ALIGN(rec_len + len);

    if (all > max - r->reply_len)
        return false;
    uint8_t *at = r->reply + r->reply_len;
    memset(at, 0, all);
    memcpy(at, rec, rec_len);
    memcpy(at + rec_len, name, len);
    r->reply_len += all;
    return true;
}

/* READDIRPLUS looks every name up but "." and ".."; one that vanished meanwhile is given without.
 */
static bool put_entry(struct fusereq *r, size_t max, int dir, const struct dirent *d, bool plus)
{
    struct fuse_dirent e = {.ino = d->d_ino,
                            .off = (uint64_t)d->d_off,
                            .namelen = (uint32_t)strlen(d->d_name),
                            .type = d->d_type};
    struct fuse_direntplus p = {.dirent = e};
    bool dots = strcmp(d->d_name, ".") == 0 || strcmp(d->d_name, "..") == 0;

    if (!plus)
        return put(r, max, &e, FUSE_NAME_OFFSET, d->d_name);
    if (FUSE_DIRENT_ALIGN(FUSE_NAME_OFFSET_DIRENTPLUS + e.namelen) > max - r->reply_len)
        return false; /* before a lookup the guest would not know of */
    if (!dots)
        (void)fusereq_entry(r->f, dir, r->node, d->d_name, &p.entry_out);
    return put(r, max, &p, FUSE_NAME_OFFSET_DIRENTPLUS, d->d_name);
}

int fusedir_read(struct fusereq *r, bool plus)
{
    struct fuse_read_in in;

    if (r->arg_len < sizeof(in))
        return -EINVAL;
    memcpy(&in, r->arg, sizeof(in));
    struct fusefs_handle *h = fusereq_handle(r->f, in.fh);
    if (!h || !h->dir)
        return -EBADF;
    size_t max = in.size < r->out_room ? in.size : r->out_room;
    if (max > FUSEREQ_REPLY_MAX)
        max = FUSEREQ_REPLY_MAX;
    if ((long)in.offset != h->dir_at || in.offset == 0)
        seekdir(h->dir, (long)in.offset);
    for (;;) {
        errno = 0;
        long before = telldir(h->dir);
        struct dirent *d = readdir(h->dir);

        if (!d && errno && r->reply_len == 0)
            return -errno;
        if (!d || !put_entry(r, max, h->fd, d, plus)) {
            if (d)
                seekdir(h->dir, before); /* it did not fit: next time */
            h->dir_at = before;
            return 0;
        }
    }
}
