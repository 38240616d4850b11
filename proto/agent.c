#include "proto/agent.h"

#include <errno.h>
#include <string.h>

enum { FIELD_HDR = 6 }; /* u16 id, u32 len */

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

void proto_begin(struct proto_buf *p, enum proto_type type, uint16_t stream)
{
    put_le(p->b, 0, 4);
    put_le(p->b + 4, type, 2);
    put_le(p->b + 6, stream, 2);
    p->len = PROTO_HDR;
    p->overflow = false;
}

void proto_raw(struct proto_buf *p, const void *bytes, size_t len)
{
    if (p->overflow || len > sizeof(p->b) - p->len) {
        p->overflow = true;
        return;
    }
    if (len)
        memcpy(p->b + p->len, bytes, len);
    p->len += len;
}

void proto_put(struct proto_buf *p, enum proto_field id, const void *bytes, size_t len)
{
    uint8_t h[FIELD_HDR];

    /* Both parts or neither: a caller may end the frame without the field that did not fit. */
    if (p->overflow || len > sizeof(p->b) || sizeof(h) + len > sizeof(p->b) - p->len) {
        p->overflow = true;
        return;
    }
    put_le(h, id, 2);
    put_le(h + 2, len, 4);
    proto_raw(p, h, sizeof(h));
    proto_raw(p, bytes, len);
}

void proto_put_str(struct proto_buf *p, enum proto_field id, const char *s)
{
    proto_put(p, id, s, strlen(s));
}

void proto_put_u32(struct proto_buf *p, enum proto_field id, uint32_t v)
{
    uint8_t le[4];

    put_le(le, v, sizeof(le));
    proto_put(p, id, le, sizeof(le));
}

void proto_put_u64(struct proto_buf *p, enum proto_field id, uint64_t v)
{
    uint8_t le[8];

    put_le(le, v, sizeof(le));
    proto_put(p, id, le, sizeof(le));
}

int proto_end(struct proto_buf *p)
{
    if (p->overflow)
        return -EMSGSIZE;
    put_le(p->b, p->len - PROTO_HDR, 4);
    return 0;
}

void proto_header(uint8_t h[PROTO_HDR], enum proto_type type, uint16_t stream, uint32_t len)
{
    put_le(h, len, 4);
    put_le(h + 4, type, 2);
    put_le(h + 6, stream, 2);
}

int proto_next(const uint8_t *buf, size_t len, struct proto_frame *f)
{
    if (len < PROTO_HDR)
        return 0;

    uint32_t n = (uint32_t)get_le(buf, 4);
    if (n > PROTO_FRAME_MAX)
        return -EBADMSG;
    if (len - PROTO_HDR < n)
        return 0;
    *f = (struct proto_frame){
        .type = (uint16_t)get_le(buf + 4, 2),
        .stream = (uint16_t)get_le(buf + 6, 2),
        .p = buf + PROTO_HDR,
        .len = n,
    };
    return (int)(PROTO_HDR + n);
}

int proto_field_next(const struct proto_frame *f, size_t *pos, struct proto_field_view *v)
{
    if (*pos == f->len)
        return 0;
    if (*pos > f->len || f->len - *pos < FIELD_HDR)
        return -EBADMSG;

    const uint8_t *p = f->p + *pos;
    uint32_t n = (uint32_t)get_le(p + 2, 4);
    if (n > f->len - *pos - FIELD_HDR)
        return -EBADMSG;
    *v = (struct proto_field_view){.id = (uint16_t)get_le(p, 2), .p = p + FIELD_HDR, .len = n};
    *pos += FIELD_HDR + n;
    return 1;
}

int proto_field_u64(const struct proto_field_view *v, uint64_t *out)
{
    if (v->len != 1 && v->len != 2 && v->len != 4 && v->len != 8)
        return -EBADMSG;
    *out = get_le(v->p, v->len);
    return 0;
}

char *proto_field_str(const struct proto_field_view *v)
{
    if (memchr(v->p, 0, v->len)) {
        errno = EBADMSG;
        return NULL;
    }
    return strndup((const char *)v->p, v->len);
}
