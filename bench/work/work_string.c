/* The string instructions themselves, in assembly: what kernels and C libraries copy and clear
 * pages with, and musl everything. Long runs over 1 MiB, and short ones. */
#include "bench/work/work.h"

#include <string.h>

#define LEN ((size_t)1 << 20)

static void rep_movsb(void *to, const void *from, size_t len)
{
    __asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(len) : : "memory");
}

static void rep_movsq(void *to, const void *from, size_t len)
{
    __asm__ volatile("rep movsq" : "+D"(to), "+S"(from), "+c"(len) : : "memory");
}

static void rep_stosb(void *to, int byte, size_t len)
{
    __asm__ volatile("rep stosb" : "+D"(to), "+c"(len) : "a"(byte) : "memory");
}

static void rep_stosq(void *to, uint64_t word, size_t len)
{
    __asm__ volatile("rep stosq" : "+D"(to), "+c"(len) : "a"(word) : "memory");
}

/* Both give what is left of len behind the first difference, or behind the byte found. */
static size_t repe_cmpsb(const void *a, const void *b, size_t len)
{
    __asm__ volatile("repe cmpsb" : "+D"(a), "+S"(b), "+c"(len) : : "memory", "cc");
    return len;
}

static size_t repne_scasb(const void *at, int byte, size_t len)
{
    __asm__ volatile("repne scasb" : "+D"(at), "+c"(len) : "a"(byte) : "memory", "cc");
    return len;
}

/* The gap keeps a and b from lying a power of two apart, where a software TLB would hold only one.
 */
struct buffers {
    unsigned char a[LEN], gap[17 * 4096], b[LEN];
};

static struct buffers *buffers(void)
{
    struct buffers *s = work_map(sizeof(*s));

    for (size_t i = 0; i < LEN; i++)
        s->a[i] = (unsigned char)((i * 11 >> 4) | 1);
    return s;
}

static uint64_t buffers_check(struct buffers *s)
{
    uint64_t h = 0, v;

    for (size_t i = 0; i < LEN; i += 4096 + 8) {
        memcpy(&v, s->b + (i < LEN - 8 ? i : 0), 8);
        h = work_mix(h, v);
    }
    work_unmap(s, sizeof(*s));
    return h;
}

/* n times 1 MiB. */
static uint64_t movsb(uint64_t n)
{
    struct buffers *s = buffers();

    for (uint64_t i = 0; i < n; i++)
        rep_movsb(s->b, s->a, LEN);
    work_expect(s->b[LEN - 1] == s->a[LEN - 1], "rep movsb");
    return buffers_check(s);
}

static uint64_t movsq(uint64_t n)
{
    struct buffers *s = buffers();

    for (uint64_t i = 0; i < n; i++)
        rep_movsq(s->b, s->a, LEN / 8);
    work_expect(s->b[LEN - 1] == s->a[LEN - 1], "rep movsq");
    return buffers_check(s);
}

static uint64_t stosb(uint64_t n)
{
    struct buffers *s = buffers();

    for (uint64_t i = 0; i < n; i++)
        rep_stosb(s->b, (int)(i & 0xff), LEN);
    return buffers_check(s);
}

static uint64_t stosq(uint64_t n)
{
    struct buffers *s = buffers();

    for (uint64_t i = 0; i < n; i++)
        rep_stosq(s->b, i * 0x0101010101010101, LEN / 8);
    return buffers_check(s);
}

/* n KiB compared; the last byte differs. */
static uint64_t cmpsb(uint64_t n)
{
    struct buffers *s = buffers();
    uint64_t sum = 0;
    size_t len = 16 << 10;

    memcpy(s->b, s->a, LEN);
    s->b[len - 2] ^= 1;
    for (uint64_t i = 0; i < n; i += 16)
        sum += repe_cmpsb(s->a, s->b, len);
    work_expect(sum == (n + 15) / 16, "repe cmpsb");
    work_unmap(s, sizeof(*s));
    return sum;
}

/* n KiB searched for a byte that comes last. */
static uint64_t scasb(uint64_t n)
{
    struct buffers *s = buffers();
    uint64_t sum = 0;
    size_t len = 16 << 10;

    s->a[len - 2] = 0;
    for (uint64_t i = 0; i < n; i += 16)
        sum += repne_scasb(s->a, 0, len);
    work_expect(sum == (n + 15) / 16, "repne scasb");
    work_unmap(s, sizeof(*s));
    return sum;
}

/* n copies of 8 to 135 bytes: what musl's memcpy is. */
static uint64_t movs_short(uint64_t n)
{
    struct buffers *s = buffers();

    for (uint64_t i = 0; i < n; i++) {
        size_t len = 8 + (i * 37 & 127);
        rep_movsq(s->b + (i * 64 & 0xffff), s->a + (i * 24 & 0xffff), len / 8);
        rep_movsb(s->b + (1 << 17) + (i & 0xffff), s->a + (i & 0xffff), len & 7);
    }
    return buffers_check(s);
}

/* n pages cleared and copied as a kernel does it. */
static uint64_t pages(uint64_t n)
{
    struct buffers *s = buffers();

    for (uint64_t i = 0; i < n; i++) {
        size_t at = i * 4096 & (LEN - 1);
        rep_stosq(s->b + at, 0, 512);
        rep_movsq(s->b + at, s->a + (at ^ 0x4000), 512);
    }
    return buffers_check(s);
}

const struct work work_string[] = {
    {"movsb", movsb, 600, 1},
    {"movsq", movsq, 3000, 1},
    {"stosb", stosb, 800, 1},
    {"stosq", stosq, 4000, 1},
    {"cmpsb", cmpsb, 600000, 1},
    {"scasb", scasb, 60000, 1},
    {"movs-short", movs_short, 2000000, 1},
    {"page-copy", pages, 300000, 1},
    {0},
};
