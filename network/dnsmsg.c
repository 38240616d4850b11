#include "network/dnsmsg.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"

enum { /* RFC 1035, 4.1.1 */
       FLAG_QR = 0x8000,
       FLAG_OPCODE = 0x7800,
       FLAG_AA = 0x0400,
       FLAG_TC = 0x0200,
       FLAG_RD = 0x0100,
       FLAG_RA = 0x0080,
};
enum { LABEL_MAX = 63, WIRE_NAME_MAX = 255, CLASS_IN = 1, OPT_BYTES = 11, TTL = 0 };

static uint16_t get16(const uint8_t *p)
{
    return (uint16_t)(p[0] << 8 | p[1]);
}

static uint8_t *put16(uint8_t *p, uint16_t v)
{
    p[0] = (uint8_t)(v >> 8);
    p[1] = (uint8_t)v;
    return p + 2;
}

/* A question's name: no compression, there is nothing before it to point to. Returns the offset
 * behind it, 0 = broken. */
static size_t read_name(const uint8_t *p, size_t len, struct dnsmsg_query *q)
{
    size_t at = DNSMSG_HEADER, n = 0;

    q->plain = true;
    while (at < len && p[at]) {
        uint8_t label = p[at++];

        if (label > LABEL_MAX || label > len - at || at + label - DNSMSG_HEADER >= WIRE_NAME_MAX)
            return 0;
        if (n > 0)
            q->name[n++] = '.';
        for (uint8_t i = 0; i < label; i++) {
            uint8_t c = p[at++];

            if (c >= 'A' && c <= 'Z')
                c |= 0x20;
            if (c <= ' ' || c >= 0x7f || c == '.')
                q->plain = false;
            q->name[n++] = (char)c;
        }
    }
    q->name[q->plain ? n : 0] = '\0';
    return at < len ? at + 1 : 0;
}

/* Of records behind the question only an OPT that stands first is looked at (RFC 6891, 6.1.1). */
static void read_edns(const uint8_t *p, size_t len, struct dnsmsg_query *q)
{
    const uint8_t *r = p + q->question;

    q->udp_size = DNSMSG_UDP;
    if (get16(p + 6) || get16(p + 8) || get16(p + 10) == 0 || len - q->question < OPT_BYTES ||
        r[0] != 0 || get16(r + 1) != DNSMSG_OPT)
        return;
    q->edns = true;
    uint16_t size = get16(r + 3);
    q->udp_size = size < DNSMSG_UDP ? DNSMSG_UDP : size > DNSMSG_UDP_MAX ? DNSMSG_UDP_MAX : size;
}

int dnsmsg_parse(const uint8_t *p, size_t len, struct dnsmsg_query *q)
{
    *q = (struct dnsmsg_query){.udp_size = DNSMSG_UDP, .question = DNSMSG_HEADER};
    if (len < DNSMSG_HEADER || get16(p + 2) & FLAG_QR)
        return -EPROTO;
    q->id = get16(p);
    q->flags = get16(p + 2);
    if (q->flags & FLAG_OPCODE)
        return -EOPNOTSUPP;
    size_t at = get16(p + 4) == 1 ? read_name(p, len, q) : 0;
    if (at == 0 || len - at < 4)
        return -EBADMSG;
    q->type = get16(p + at);
    q->class = get16(p + at + 2);
    q->question = at + 4;
    read_edns(p, len, q);
    return 0;
}

struct out {
    uint8_t *p, *end;
    bool full;
};

/* Owner (the question's name), type, class, TTL and the room for the data. */
static uint8_t *put_record(struct out *o, uint16_t type, size_t data)
{
    uint8_t *p = o->p;

    if ((size_t)(o->end - p) < 12 + data) {
        o->full = true;
        return NULL;
    }
    p = put16(p, 0xc000 | DNSMSG_HEADER);
    p = put16(p, type);
    p = put16(p, CLASS_IN);
    p = put16(put16(p, 0), TTL);
    p = put16(p, (uint16_t)data);
    o->p = p + data;
    return p;
}

static unsigned put_addresses(struct out *o, const struct dnsmsg_answer *a)
{
    unsigned n = 0;

    for (unsigned i = 0; i < a->n; i++) {
        unsigned len = ipaddr_len(&a->ip[i]);
        uint8_t *p = put_record(o, len == 4 ? DNSMSG_A : DNSMSG_AAAA, len);

        if (!p)
            break;
        memcpy(p, a->ip[i].bytes, len);
        n++;
    }
    return n;
}

/* Labels of a text; 0 = it has one that is empty or too long. */
static size_t put_name(const char *name, uint8_t wire[WIRE_NAME_MAX])
{
    size_t at = 0;

    while (*name) {
        size_t n = strcspn(name, ".");

        if (n == 0 || n > LABEL_MAX || at + 1 + n + 1 > WIRE_NAME_MAX)
            return 0;
        wire[at++] = (uint8_t)n;
        memcpy(wire + at, name, n);
        at += n;
        name += n + (name[n] == '.');
    }
    wire[at++] = 0;
    return at;
}

static unsigned put_ptr(struct out *o, const char *name)
{
    uint8_t wire[WIRE_NAME_MAX];
    size_t len = put_name(name, wire);
    uint8_t *p = len ? put_record(o, DNSMSG_PTR, len) : NULL;

    if (!p)
        return 0;
    memcpy(p, wire, len);
    return 1;
}

static void put_opt(struct out *o)
{
    uint8_t *p = o->p;

    *p++ = 0;
    p = put16(p, DNSMSG_OPT);
    p = put16(p, DNSMSG_UDP_MAX);
    memset(p, 0, 6);
    o->p = p + 6;
}

size_t dnsmsg_reply(const uint8_t *query, const struct dnsmsg_query *q,
                    const struct dnsmsg_answer *a, uint8_t *out, size_t size)
{
    struct out o = {.p = out + q->question, .end = out + size - (q->edns ? OPT_BYTES : 0)};
    unsigned n;

    memcpy(out, query, q->question);
    n = a->ptr[0] ? put_ptr(&o, a->ptr) : put_addresses(&o, a);
    if (q->edns)
        put_opt(&o);
    bool asked = q->question > DNSMSG_HEADER;
    put16(out + 2,
          (uint16_t)(FLAG_QR | (q->flags & (FLAG_OPCODE | FLAG_RD)) | FLAG_RA |
                     (a->rcode == DNSMSG_NOERROR || a->rcode == DNSMSG_NXDOMAIN ? FLAG_AA : 0) |
                     (o.full ? FLAG_TC : 0) | a->rcode));
    put16(out + 4, asked);
    put16(out + 6, (uint16_t)n);
    put16(out + 8, 0);
    put16(out + 10, q->edns);
    return (size_t)(o.p - out);
}

static bool reverse4(const char *name, size_t len, struct ipaddr *out)
{
    unsigned b[4];
    char text[32];
    int end = -1;

    if (len >= sizeof(text))
        return false;
    memcpy(text, name, len);
    text[len] = '\0';
    if (sscanf(text, "%3u.%3u.%3u.%3u%n", &b[3], &b[2], &b[1], &b[0], &end) != 4 || end != (int)len)
        return false;
    *out = (struct ipaddr){.family = AF_INET, .bits = 32};
    for (unsigned i = 0; i < 4; i++) {
        if (b[i] > 255)
            return false;
        out->bytes[i] = (uint8_t)b[i];
    }
    return true;
}

/* 32 digits, the lowest first, a dot behind each (RFC 3596, 2.5). */
static bool reverse6(const char *name, size_t len, struct ipaddr *out)
{
    if (len != 63)
        return false;
    *out = (struct ipaddr){.family = AF_INET6, .bits = 128};
    for (unsigned i = 0; i < 32; i++) {
        const char digits[] = "0123456789abcdef", *at = strchr(digits, name[2 * i]);

        if (!at || !*at || (i < 31 && name[2 * i + 1] != '.'))
            return false;
        out->bytes[15 - i / 2] |= (uint8_t)((at - digits) << (i % 2 * 4));
    }
    return true;
}

bool dnsmsg_reverse(const char *name, struct ipaddr *out)
{
    static const char v4[] = ".in-addr.arpa", v6[] = ".ip6.arpa";
    size_t len = strlen(name), n4 = sizeof(v4) - 1, n6 = sizeof(v6) - 1;

    if (len > n4 && strcmp(name + len - n4, v4) == 0)
        return reverse4(name, len - n4, out);
    return len > n6 && strcmp(name + len - n6, v6) == 0 && reverse6(name, len - n6, out);
}
