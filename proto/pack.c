#include "proto/pack.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

enum {
    ENTRY_HDR = 47, /* bytes behind the kind */
    NAME_MAX_LEN = 255,
};
static const char magic[4] = {'k', 'p', 'k', '1'};

static void put_le(uint8_t *p, uint64_t v, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        p[i] = (uint8_t)(v >> (8 * i));
}

static uint64_t get_le(const uint8_t *p, unsigned n)
{
    uint64_t v = 0;

    for (unsigned i = 0; i < n; i++)
        v |= (uint64_t)p[i] << (8 * i);
    return v;
}

bool pack_path_ok(const char *path)
{
    if (!path[0])
        return true;
    if (strlen(path) > PACK_PATH_MAX)
        return false;
    for (const char *p = path;; p++) {
        size_t n = strcspn(p, "/");

        if (n == 0 || n > NAME_MAX_LEN || (n == 1 && p[0] == '.') ||
            (n == 2 && p[0] == '.' && p[1] == '.'))
            return false;
        p += n;
        if (!*p)
            return true;
    }
}

/* ---- writing */

void pack_out_init(struct pack_out *o, int fd)
{
    o->fd = fd;
    o->failed = 0;
    memcpy(o->buf, magic, sizeof(magic));
    o->len = sizeof(magic);
}

static int flush(struct pack_out *o)
{
    size_t at = 0;

    while (!o->failed && at < o->len) {
        ssize_t n = write(o->fd, o->buf + at, o->len - at);

        if (n < 0 && errno != EINTR)
            o->failed = -errno;
        if (n > 0)
            at += (size_t)n;
    }
    o->len = 0;
    return o->failed;
}

static int put(struct pack_out *o, const void *p, size_t len)
{
    const uint8_t *from = p;

    while (len > 0 && !o->failed) {
        size_t room = sizeof(o->buf) - o->len, n = len < room ? len : room;

        memcpy(o->buf + o->len, from, n);
        o->len += n;
        from += n;
        len -= n;
        if (o->len == sizeof(o->buf))
            (void)flush(o);
    }
    return o->failed;
}

static bool entry_ok(const struct pack_entry *en)
{
    size_t bytes = 0;

    if (!pack_path_ok(en->path) || strlen(en->link) > PACK_PATH_MAX ||
        en->n_xattrs > PACK_XATTRS_MAX)
        return false;
    for (unsigned i = 0; i < en->n_xattrs; i++) {
        if (strlen(en->xattr[i].name) > PACK_XATTR_NAME_MAX ||
            en->xattr[i].len > PACK_XATTR_BYTES_MAX - bytes)
            return false;
        bytes += en->xattr[i].len;
    }
    return true;
}

int pack_put_entry(struct pack_out *o, const struct pack_entry *en)
{
    uint8_t h[1 + ENTRY_HDR] = {PACK_ENTRY, (uint8_t)en->type, (uint8_t)en->flags,
                                (uint8_t)en->n_xattrs};

    if (!entry_ok(en))
        return -EINVAL;
    put_le(h + 4, en->mode, 4);
    put_le(h + 8, en->uid, 4);
    put_le(h + 12, en->gid, 4);
    put_le(h + 16, en->mtime_ns, 4);
    put_le(h + 20, (uint64_t)en->mtime_s, 8);
    put_le(h + 28, en->size, 8);
    put_le(h + 36, en->major, 4);
    put_le(h + 40, en->minor, 4);
    put_le(h + 44, strlen(en->path), 2);
    put_le(h + 46, strlen(en->link), 2);
    (void)put(o, h, sizeof(h));
    (void)put(o, en->path, strlen(en->path));
    (void)put(o, en->link, strlen(en->link));
    for (unsigned i = 0; i < en->n_xattrs; i++) {
        uint8_t len[6];

        put_le(len, strlen(en->xattr[i].name), 2);
        put_le(len + 2, en->xattr[i].len, 4);
        (void)put(o, len, sizeof(len));
        (void)put(o, en->xattr[i].name, strlen(en->xattr[i].name));
        (void)put(o, en->xattr[i].value, en->xattr[i].len);
    }
    return o->failed;
}

int pack_put_data(struct pack_out *o, const void *p, size_t len)
{
    const uint8_t *from = p;

    while (len > 0 && !o->failed) {
        size_t n = len < PACK_DATA_MAX ? len : PACK_DATA_MAX;
        uint8_t h[5] = {PACK_DATA};

        put_le(h + 1, n, 4);
        (void)put(o, h, sizeof(h));
        (void)put(o, from, n);
        from += n;
        len -= n;
    }
    return o->failed;
}

int pack_put_hole(struct pack_out *o, uint64_t len)
{
    uint8_t h[9] = {PACK_HOLE};

    put_le(h + 1, len, 8);
    return put(o, h, sizeof(h));
}

int pack_put_end(struct pack_out *o)
{
    const uint8_t kind = PACK_END;

    (void)put(o, &kind, 1);
    return flush(o);
}

int pack_put_fail(struct pack_out *o, int code, const char *text)
{
    uint8_t h[7] = {PACK_FAIL};
    size_t len = strnlen(text, PACK_TEXT_MAX);

    put_le(h + 1, (uint64_t)(code < 0 ? -code : code), 4);
    put_le(h + 5, len, 2);
    (void)put(o, h, sizeof(h));
    (void)put(o, text, len);
    return flush(o);
}

/* ---- reading */

void pack_in_init(struct pack_in *i, ssize_t (*fill)(void *ctx, void *buf, size_t len), void *ctx)
{
    i->fill = fill;
    i->ctx = ctx;
    i->begun = i->over = i->file = false;
    i->at = i->len = 0;
}

ssize_t pack_fill_fd(void *fd, void *buf, size_t len)
{
    ssize_t n;

    do
        n = read(*(const int *)fd, buf, len);
    while (n < 0 && errno == EINTR);
    return n < 0 ? -errno : n;
}

static int damaged(struct err *e, const char *what)
{
    return err_set(e, -EBADMSG, "a stream of files is damaged: %s", what);
}

/* `len` bytes, at most PACK_DATA_MAX, in one piece: borrowed until the next call. */
static int need(struct pack_in *i, size_t len, const uint8_t **p, struct err *e)
{
    if (i->at == i->len || sizeof(i->buf) - i->at < len) {
        memmove(i->buf, i->buf + i->at, i->len - i->at);
        i->len -= i->at;
        i->at = 0;
    }
    while (i->len - i->at < len) {
        ssize_t n = i->fill(i->ctx, i->buf + i->len, sizeof(i->buf) - i->len);

        if (n < 0)
            return err_errno(e, (int)n, "a stream of files");
        if (n == 0)
            return damaged(e, "it ends early");
        i->len += (size_t)n;
    }
    *p = i->buf + i->at;
    i->at += len;
    return 0;
}

/* A string of `len` bytes into `out`. */
static int take_str(struct pack_in *i, size_t len, char *out, size_t max, struct err *e)
{
    const uint8_t *p;

    if (len > max)
        return damaged(e, "a name is too long");
    int r = need(i, len, &p, e);
    if (r < 0)
        return r;
    if (memchr(p, 0, len))
        return damaged(e, "a name holds a NUL");
    memcpy(out, p, len);
    out[len] = '\0';
    return 0;
}

static int take_xattrs(struct pack_in *i, struct pack_entry *en, unsigned n, struct err *e)
{
    size_t used = 0;
    const uint8_t *p;

    if (n > PACK_XATTRS_MAX)
        return damaged(e, "too many attributes");
    for (unsigned k = 0; k < n; k++) {
        int r = need(i, 6, &p, e);
        if (r < 0)
            return r;
        size_t name = get_le(p, 2), len = get_le(p + 2, 4);
        if (len > sizeof(i->values) - used)
            return damaged(e, "an attribute is too long");
        r = take_str(i, name, i->names[k], PACK_XATTR_NAME_MAX, e);
        if (r == 0)
            r = need(i, len, &p, e);
        if (r < 0)
            return r;
        memcpy(i->values + used, p, len);
        en->xattr[k] = (struct pack_xattr){i->names[k], i->values + used, (uint32_t)len};
        used += len;
    }
    en->n_xattrs = n;
    return 0;
}

static int take_entry(struct pack_in *i, struct pack_entry *en, struct err *e)
{
    const uint8_t *p;
    int r = need(i, ENTRY_HDR, &p, e);

    if (r < 0)
        return r;
    unsigned n_xattrs = p[2];
    size_t path = get_le(p + 43, 2), link = get_le(p + 45, 2);
    *en = (struct pack_entry){
        .type = p[0],
        .flags = p[1] & (PACK_NEW | PACK_OPAQUE),
        .mode = (uint32_t)get_le(p + 3, 4) & 07777,
        .uid = (uint32_t)get_le(p + 7, 4),
        .gid = (uint32_t)get_le(p + 11, 4),
        .mtime_ns = (uint32_t)get_le(p + 15, 4),
        .mtime_s = (int64_t)get_le(p + 19, 8),
        .size = get_le(p + 27, 8),
        .major = (uint32_t)get_le(p + 35, 4),
        .minor = (uint32_t)get_le(p + 39, 4),
        .path = i->path,
        .link = i->link,
    };
    if (en->type < PACK_FILE || en->type > PACK_ABSENT || en->mtime_ns >= 1000000000 ||
        en->uid == UINT32_MAX || en->gid == UINT32_MAX || en->size > INT64_MAX)
        return damaged(e, "an entry is not one");
    r = take_str(i, path, i->path, PACK_PATH_MAX, e);
    if (r == 0)
        r = take_str(i, link, i->link, PACK_PATH_MAX, e);
    if (r == 0 && !pack_path_ok(i->path))
        r = damaged(e, "a path is not one");
    if (r == 0 && en->type == PACK_HARDLINK && !pack_path_ok(i->link))
        r = damaged(e, "a link leads out");
    if (r == 0 && en->type == PACK_SYMLINK && !i->link[0])
        r = damaged(e, "a link leads nowhere");
    return r < 0 ? r : take_xattrs(i, en, n_xattrs, e);
}

static int take_fail(struct pack_in *i, struct err *e)
{
    char text[PACK_TEXT_MAX + 1];
    const uint8_t *p;
    int r = need(i, 6, &p, e);

    if (r < 0)
        return r;
    uint32_t code = (uint32_t)get_le(p, 4);
    r = take_str(i, get_le(p + 4, 2), text, PACK_TEXT_MAX, e);
    if (r < 0)
        return r;
    for (char *c = text; *c; c++) /* it goes to a terminal */
        if ((unsigned char)*c < ' ' || *c == 127)
            *c = '?';
    return err_set(e, code > 0 && code < 4096 ? -(int)code : -EIO, "%s", text);
}

static int take_bytes(struct pack_in *i, struct pack_record *r, struct err *e)
{
    const uint8_t *p;
    unsigned width = r->kind == PACK_DATA ? 4 : 8;
    int rc = i->file ? need(i, width, &p, e) : damaged(e, "content without a file");

    if (rc < 0)
        return rc;
    r->len = get_le(p, width);
    if (r->kind == PACK_DATA && (r->len == 0 || r->len > PACK_DATA_MAX))
        return damaged(e, "content of a wrong length");
    if (r->kind == PACK_HOLE)
        return r->len > INT64_MAX ? damaged(e, "a hole of a wrong length") : 0;
    return need(i, r->len, &r->data, e);
}

int pack_next(struct pack_in *i, struct pack_record *r, struct err *e)
{
    const uint8_t *p;
    int rc = 0;

    BUG_ON(i->over);
    if (!i->begun) {
        rc = need(i, sizeof(magic), &p, e);
        if (rc == 0 && memcmp(p, magic, sizeof(magic)) != 0)
            rc = damaged(e, "it is another");
        i->begun = true;
    }
    if (rc == 0)
        rc = need(i, 1, &p, e);
    if (rc < 0)
        return rc;
    r->kind = *p;
    r->data = NULL;
    r->len = 0;
    switch (*p) {
    case PACK_END:
        i->over = true;
        return 0;
    case PACK_ENTRY:
        rc = take_entry(i, &r->entry, e);
        i->file = rc == 0 && r->entry.type == PACK_FILE;
        return rc;
    case PACK_DATA:
    case PACK_HOLE:
        return take_bytes(i, r, e);
    case PACK_FAIL:
        return take_fail(i, e);
    default:
        return damaged(e, "a record of an unknown kind");
    }
}
