#include "base/crc32c.h"

#include <string.h>

/* One bit at a time: hosts without the instruction run no machine, but read snapshots. */
static uint32_t plain(uint32_t crc, const uint8_t *p, size_t len)
{
    while (len-- > 0) {
        crc ^= *p++;
        for (int i = 0; i < 8; i++)
            crc = (crc >> 1) ^ (0x82f63b78 & -(crc & 1));
    }
    return crc;
}

__attribute__((target("sse4.2"))) static uint32_t fast(uint32_t crc, const uint8_t *p, size_t len)
{
    uint64_t c = crc;

    for (; len >= 8; p += 8, len -= 8) {
        uint64_t w;

        memcpy(&w, p, 8);
        c = __builtin_ia32_crc32di(c, w);
    }
    while (len-- > 0)
        c = __builtin_ia32_crc32qi((uint32_t)c, *p++);
    return (uint32_t)c;
}

uint32_t crc32c(uint32_t crc, const void *p, size_t len)
{
    return ~(__builtin_cpu_supports("sse4.2") ? fast(~crc, p, len) : plain(~crc, p, len));
}
