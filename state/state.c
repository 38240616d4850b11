#include "state/state.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FIELD_HDR = 6 }; /* u16 id, u32 size */

void state_save_init(struct state_io *io)
{
    memset(io, 0, sizeof(*io));
    io->saving = true;
}

void state_load_init(struct state_io *io, const void *buf, size_t len)
{
    memset(io, 0, sizeof(*io));
    io->buf = (uint8_t *)(uintptr_t)buf; /* loading never writes through it */
    io->len = len;
    io->end[0] = len;
}

int state_take(struct state_io *io, uint8_t **buf, size_t *len, struct err *e)
{
    if (io->failed)
        return state_done(io, e);
    *buf = io->buf;
    *len = io->len;
    io->buf = NULL;
    return 0;
}

int state_done(struct state_io *io, struct err *e)
{
    if (io->saving)
        free(io->buf);
    io->buf = NULL;
    if (io->failed && e)
        *e = io->err;
    return io->failed;
}

void state_fail(struct state_io *io, const char *fmt, ...)
{
    char text[ERR_MSG_MAX];
    va_list ap;

    if (io->failed)
        return;
    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    io->failed = err_set(&io->err, -EBADMSG, "%s", text);
}

static void fail_size(struct state_io *io, int code, const char *what)
{
    if (!io->failed)
        io->failed = err_set(&io->err, code, "%s", what);
}

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

/* Room for `n` more bytes at the end, NULL when saving failed. */
static uint8_t *grow(struct state_io *io, size_t n)
{
    if (io->failed)
        return NULL;
    if (n > STATE_MAX - io->len) {
        fail_size(io, -E2BIG, "the machine's state is larger than its limit");
        return NULL;
    }
    if (io->len + n > io->cap) {
        size_t cap = io->cap ? io->cap * 2 : 4096;

        while (cap < io->len + n)
            cap *= 2;
        uint8_t *p = realloc(io->buf, cap);
        if (!p) {
            fail_size(io, -ENOMEM, "out of memory");
            return NULL;
        }
        io->buf = p;
        io->cap = cap;
    }
    uint8_t *at = io->buf + io->len;
    io->len += n;
    return at;
}

static void put_field(struct state_io *io, uint16_t id, const void *p, size_t len)
{
    uint8_t *at = grow(io, FIELD_HDR + len);

    if (!at)
        return;
    put_le(at, id, 2);
    put_le(at + 2, len, 4);
    if (len)
        memcpy(at + FIELD_HDR, p, len);
}

/* Next field with this id in the innermost object; others before it are skipped. Returns its bytes
 * and sets *len; NULL on failure. */
static const uint8_t *find_field(struct state_io *io, uint16_t id, size_t *len)
{
    size_t end = io->end[io->depth];

    while (!io->failed) {
        if (end - io->pos < FIELD_HDR) {
            state_fail(io, "field %u is missing", id);
            break;
        }
        uint16_t got = (uint16_t)get_le(io->buf + io->pos, 2);
        size_t n = (size_t)get_le(io->buf + io->pos + 2, 4);
        if (n > end - io->pos - FIELD_HDR) {
            state_fail(io, "field %u is cut short", got);
            break;
        }
        const uint8_t *p = io->buf + io->pos + FIELD_HDR;
        io->pos += FIELD_HDR + n;
        if (got == id) {
            *len = n;
            return p;
        }
    }
    return NULL;
}

void state_begin(struct state_io *io, uint16_t id, const char *name)
{
    if (io->failed)
        return;
    if (io->depth + 1 >= STATE_DEPTH) {
        state_fail(io, "%s: nested too deep", name);
        return;
    }
    if (io->saving) {
        put_field(io, id, NULL, 0);
        io->end[++io->depth] = io->len; /* the size goes 4 bytes before this */
        return;
    }
    size_t len;
    const uint8_t *p = find_field(io, id, &len);
    if (!p) {
        char inner[ERR_MSG_MAX];
        memcpy(inner, io->err.msg, sizeof(inner));
        err_set(&io->err, io->failed, "%s: %.400s", name, inner);
        return;
    }
    io->pos = (size_t)(p - io->buf);
    io->end[++io->depth] = io->pos + len;
}

void state_end(struct state_io *io)
{
    if (io->failed || io->depth == 0)
        return;
    size_t mark = io->end[io->depth--];
    if (io->saving)
        put_le(io->buf + mark - 4, io->len - mark, 4);
    else
        io->pos = mark;
}

static void number(struct state_io *io, uint16_t id, uint64_t *v, unsigned n)
{
    uint8_t b[8];
    size_t len;

    if (io->failed)
        return;
    if (io->saving) {
        put_le(b, *v, n);
        put_field(io, id, b, n);
        return;
    }
    const uint8_t *p = find_field(io, id, &len);
    if (p && len != n)
        state_fail(io, "field %u has %zu bytes, not %u", id, len, n);
    else if (p)
        *v = get_le(p, n);
}

void state_u8(struct state_io *io, uint16_t id, uint8_t *v)
{
    uint64_t w = *v;

    number(io, id, &w, 1);
    *v = (uint8_t)w;
}

void state_u16(struct state_io *io, uint16_t id, uint16_t *v)
{
    uint64_t w = *v;

    number(io, id, &w, 2);
    *v = (uint16_t)w;
}

void state_u32(struct state_io *io, uint16_t id, uint32_t *v)
{
    uint64_t w = *v;

    number(io, id, &w, 4);
    *v = (uint32_t)w;
}

void state_u64(struct state_io *io, uint16_t id, uint64_t *v)
{
    number(io, id, v, 8);
}

void state_bool(struct state_io *io, uint16_t id, bool *v)
{
    uint64_t w = *v;

    number(io, id, &w, 1);
    if (w > 1)
        state_fail(io, "field %u is neither 0 nor 1", id);
    else if (!io->failed)
        *v = w;
}

void state_bytes(struct state_io *io, uint16_t id, void *p, size_t len)
{
    size_t got;

    if (io->failed)
        return;
    if (io->saving) {
        put_field(io, id, p, len);
        return;
    }
    const uint8_t *b = find_field(io, id, &got);
    if (b && got != len)
        state_fail(io, "field %u has %zu bytes, not %zu", id, got, len);
    else if (b && len)
        memcpy(p, b, len);
}

/* `n` numbers of `size` bytes in one field. */
static void numbers(struct state_io *io, uint16_t id, void *v, size_t n, unsigned size)
{
    size_t got;

    if (io->failed)
        return;
    if (io->saving) {
        uint8_t *at = grow(io, FIELD_HDR + n * size);
        if (!at)
            return;
        put_le(at, id, 2);
        put_le(at + 2, n * size, 4);
        for (size_t i = 0; i < n; i++)
            put_le(at + FIELD_HDR + i * size, size == 4 ? ((uint32_t *)v)[i] : ((uint64_t *)v)[i],
                   size);
        return;
    }
    const uint8_t *p = find_field(io, id, &got);
    if (p && got != n * size) {
        state_fail(io, "field %u has %zu bytes, not %zu", id, got, n * size);
        return;
    }
    for (size_t i = 0; p && i < n; i++) {
        uint64_t w = get_le(p + i * size, size);
        if (size == 4)
            ((uint32_t *)v)[i] = (uint32_t)w;
        else
            ((uint64_t *)v)[i] = w;
    }
}

void state_u32s(struct state_io *io, uint16_t id, uint32_t *v, size_t n)
{
    numbers(io, id, v, n, 4);
}

void state_u64s(struct state_io *io, uint16_t id, uint64_t *v, size_t n)
{
    numbers(io, id, v, n, 8);
}

void state_blob(struct state_io *io, uint16_t id, uint8_t **p, size_t *len, size_t max)
{
    size_t got;

    if (io->failed)
        return;
    if (io->saving) {
        put_field(io, id, *p, *len);
        return;
    }
    const uint8_t *b = find_field(io, id, &got);
    if (!b)
        return;
    if (got > max) {
        state_fail(io, "field %u has %zu bytes, more than %zu", id, got, max);
        return;
    }
    uint8_t *copy = malloc(got ? got : 1);
    if (!copy) {
        fail_size(io, -ENOMEM, "out of memory");
        return;
    }
    if (got)
        memcpy(copy, b, got);
    free(*p);
    *p = copy;
    *len = got;
}
