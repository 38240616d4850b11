#include "machine/aml.h"

#include <string.h>

enum { /* opcodes, 20.3 */
       NAME_OP = 0x08,
       BYTE_PREFIX = 0x0a,
       DWORD_PREFIX = 0x0c,
       STRING_PREFIX = 0x0d,
       SCOPE_OP = 0x10,
       BUFFER_OP = 0x11,
       PACKAGE_OP = 0x12,
       METHOD_OP = 0x14,
       EXT_OP = 0x5b,
       EXT_DEVICE_OP = 0x82,
       NOTIFY_OP = 0x86,
};

enum { /* resource descriptors, 6.4.2 and 6.4.3 */
       RES_IO = 0x47,
       RES_IO_DECODE16 = 1,
       RES_MEMORY32_FIXED = 0x86,
       RES_READ_WRITE = 1,
       RES_INTERRUPT = 0x89,
       RES_CONSUMER = 1,
       RES_EDGE = 2,
       RES_END = 0x79,
};

void aml_bytes(struct aml *a, const void *p, size_t n)
{
    if (a->overflow || n > a->cap - a->len) {
        a->overflow = true;
        return;
    }
    memcpy(a->buf + a->len, p, n);
    a->len += n;
}

static void put_le(struct aml *a, uint64_t v, unsigned n)
{
    uint8_t b[8];

    for (unsigned i = 0; i < n; i++)
        b[i] = (uint8_t)(v >> (8 * i));
    aml_bytes(a, b, n);
}

void aml_u8(struct aml *a, uint8_t v)
{
    put_le(a, v, 1);
}

void aml_u16(struct aml *a, uint16_t v)
{
    put_le(a, v, 2);
}

void aml_u32(struct aml *a, uint32_t v)
{
    put_le(a, v, 4);
}

void aml_u64(struct aml *a, uint64_t v)
{
    put_le(a, v, 8);
}

/* Room for a package length in its three-byte form, which holds any length up to 1 MiB; aml_end()
 * fills it in (20.2.4). */
static size_t begin(struct aml *a)
{
    size_t mark = a->len;

    put_le(a, 0, 3);
    return mark;
}

void aml_end(struct aml *a, size_t mark)
{
    size_t n = a->len - mark;

    if (a->overflow)
        return;
    a->buf[mark] = (uint8_t)(2 << 6 | (n & 15));
    a->buf[mark + 1] = (uint8_t)(n >> 4);
    a->buf[mark + 2] = (uint8_t)(n >> 12);
}

static void put_name(struct aml *a, const char *name)
{
    aml_bytes(a, name, strlen(name));
}

size_t aml_scope(struct aml *a, const char *name)
{
    aml_u8(a, SCOPE_OP);
    size_t mark = begin(a);
    put_name(a, name);
    return mark;
}

size_t aml_device(struct aml *a, const char *name)
{
    aml_u8(a, EXT_OP);
    aml_u8(a, EXT_DEVICE_OP);
    size_t mark = begin(a);
    put_name(a, name);
    return mark;
}

void aml_name(struct aml *a, const char *name)
{
    aml_u8(a, NAME_OP);
    put_name(a, name);
}

void aml_int(struct aml *a, uint32_t v)
{
    aml_u8(a, v < 256 ? BYTE_PREFIX : DWORD_PREFIX);
    put_le(a, v, v < 256 ? 1 : 4);
}

void aml_string(struct aml *a, const char *s)
{
    aml_u8(a, STRING_PREFIX);
    aml_bytes(a, s, strlen(s) + 1);
}

static uint32_t hex(char c)
{
    return (uint32_t)(c <= '9' ? c - '0' : c - 'A' + 10);
}

/* Three letters of five bits, four hexadecimal digits, big-endian (19.3.4). */
void aml_eisaid(struct aml *a, const char *id)
{
    uint32_t v = (uint32_t)(id[0] - '@') << 26 | (uint32_t)(id[1] - '@') << 21 |
                 (uint32_t)(id[2] - '@') << 16 | hex(id[3]) << 12 | hex(id[4]) << 8 |
                 hex(id[5]) << 4 | hex(id[6]);

    aml_u8(a, DWORD_PREFIX);
    aml_u32(a, __builtin_bswap32(v));
}

void aml_package(struct aml *a, const uint32_t *v, uint8_t n)
{
    aml_u8(a, PACKAGE_OP);
    size_t mark = begin(a);
    aml_u8(a, n);
    for (unsigned i = 0; i < n; i++)
        aml_int(a, v[i]);
    aml_end(a, mark);
}

size_t aml_method(struct aml *a, const char *name, unsigned args)
{
    aml_u8(a, METHOD_OP);
    size_t mark = begin(a);
    put_name(a, name);
    aml_u8(a, (uint8_t)(args & 7)); /* not serialized */
    return mark;
}

void aml_notify(struct aml *a, const char *name, uint8_t value)
{
    aml_u8(a, NOTIFY_OP);
    put_name(a, name);
    aml_int(a, value);
}

/* A buffer states its size twice: as a package and as a number, filled in at the end too. */
size_t aml_resources(struct aml *a)
{
    aml_name(a, "_CRS");
    aml_u8(a, BUFFER_OP);
    size_t mark = begin(a);
    aml_u8(a, DWORD_PREFIX);
    aml_u32(a, 0);
    return mark;
}

void aml_resources_end(struct aml *a, size_t mark)
{
    size_t size_at = mark + 4; /* package length, prefix */

    aml_u8(a, RES_END);
    aml_u8(a, 0); /* no checksum */
    aml_end(a, mark);
    if (a->overflow)
        return;
    size_t n = a->len - (size_at + 4);
    for (unsigned i = 0; i < 4; i++)
        a->buf[size_at + i] = (uint8_t)(n >> (8 * i));
}

void aml_io(struct aml *a, uint16_t port, uint8_t n)
{
    aml_u8(a, RES_IO);
    aml_u8(a, RES_IO_DECODE16);
    aml_u16(a, port); /* lowest and highest base: it is fixed */
    aml_u16(a, port);
    aml_u8(a, 1); /* alignment */
    aml_u8(a, n);
}

void aml_memory(struct aml *a, uint32_t base, uint32_t size)
{
    aml_u8(a, RES_MEMORY32_FIXED);
    aml_u16(a, 9);
    aml_u8(a, RES_READ_WRITE);
    aml_u32(a, base);
    aml_u32(a, size);
}

void aml_interrupt(struct aml *a, uint32_t gsi)
{
    aml_u8(a, RES_INTERRUPT);
    aml_u16(a, 6);
    aml_u8(a, RES_CONSUMER | RES_EDGE);
    aml_u8(a, 1); /* one interrupt */
    aml_u32(a, gsi);
}
