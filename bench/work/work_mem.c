/* Memory: dependent loads over a large area, random reads and writes, and copies and fills by SSE2
 * as a C library for any x86-64 makes them. Copies by string instructions are in work_string.c. */
#include "bench/work/work.h"

#include <emmintrin.h>
#include <string.h>

#define MIB ((size_t)1 << 20)

/* n loads, each of the address the one before gave: a single cycle (Sattolo) over 32 MiB. */
static uint64_t chase(uint64_t n)
{
    size_t len = 32 * MIB / 64;
    uint64_t(*line)[8] = work_map(len * 64);
    uint64_t seed = WORK_SEED, at = 0;

    for (size_t i = 0; i < len; i++)
        line[i][0] = i;
    for (size_t i = len - 1; i > 0; i--) {
        size_t k = (size_t)(work_random(&seed) % i);
        uint64_t t = line[i][0];
        line[i][0] = line[k][0];
        line[k][0] = t;
    }
    for (uint64_t i = 0; i < n; i++)
        at = line[at][0];
    work_unmap(line, len * 64);
    return at;
}

/* n read-modify-writes of random words in 32 MiB: more pages than any TLB holds. */
static uint64_t random_rw(uint64_t n)
{
    size_t words = 32 * MIB / 8;
    uint64_t *v = work_map(words * 8);
    uint64_t seed = WORK_SEED, h = 0;

    for (uint64_t i = 0; i < n; i++) {
        uint64_t r = work_random(&seed);
        v[r % words] += r;
        h += v[(r >> 32) % words];
    }
    work_unmap(v, words * 8);
    return h;
}

/* Sums of n MiB in sequence, 8 bytes a load, from an area that the caches hold in part. */
static uint64_t read_seq(uint64_t n)
{
    size_t words = 4 * MIB / 8;
    uint64_t *v = work_map(words * 8);
    uint64_t sum = 0;

    for (size_t i = 0; i < words; i++)
        v[i] = i * 3;
    for (uint64_t r = 0; r < n; r += 4) {
        uint64_t *p = v;
        WORK_HIDE(p);
        for (size_t i = 0; i < words; i++)
            sum += p[i];
    }
    work_unmap(v, words * 8);
    return sum;
}

/* As glibc's baseline does it: 64 bytes a turn, loads unaligned. len is a multiple of 64. */
static __attribute__((noinline)) void copy_sse2(unsigned char *to, const unsigned char *from,
                                                size_t len)
{
    for (size_t i = 0; i < len; i += 64) {
        __m128i a = _mm_loadu_si128((const __m128i *)(from + i));
        __m128i b = _mm_loadu_si128((const __m128i *)(from + i + 16));
        __m128i c = _mm_loadu_si128((const __m128i *)(from + i + 32));
        __m128i d = _mm_loadu_si128((const __m128i *)(from + i + 48));
        _mm_store_si128((__m128i *)(to + i), a);
        _mm_store_si128((__m128i *)(to + i + 16), b);
        _mm_store_si128((__m128i *)(to + i + 32), c);
        _mm_store_si128((__m128i *)(to + i + 48), d);
    }
}

static __attribute__((noinline)) void fill_sse2(unsigned char *to, int byte, size_t len)
{
    __m128i v = _mm_set1_epi8((char)byte);

    for (size_t i = 0; i < len; i += 64)
        for (size_t k = 0; k < 64; k += 16)
            _mm_store_si128((__m128i *)(to + i + k), v);
}

/* n MiB from 8 MiB to 8 MiB. */
static uint64_t memcpy_large(uint64_t n)
{
    size_t len = 8 * MIB;
    unsigned char *from = work_map(len + 64), *to = work_map(len);
    uint64_t h;

    for (size_t i = 0; i < len; i++)
        from[i + 5] = (unsigned char)(i * 31 >> 3);
    for (uint64_t r = 0; r < n; r += 8)
        copy_sse2(to, from + 5, len);
    work_expect(!memcmp(to, from + 5, len), "a copy");
    memcpy(&h, to + len / 3, sizeof(h));
    work_unmap(from, len + 64);
    work_unmap(to, len);
    return h;
}

static uint64_t memset_large(uint64_t n)
{
    size_t len = 8 * MIB;
    unsigned char *to = work_map(len);
    uint64_t h;

    for (uint64_t r = 0; r < n; r += 8)
        fill_sse2(to, (int)(r & 0x7f), len);
    memcpy(&h, to + len / 3, sizeof(h));
    work_unmap(to, len);
    return h;
}

/* 1 to 128 bytes the way C libraries do it: two overlapping halves of the widest fitting kind. */
static __attribute__((noinline)) void copy_small(unsigned char *to, const unsigned char *from,
                                                 size_t len)
{
    if (len >= 16) {
        size_t i = 0;
        for (; i + 32 <= len; i += 16)
            _mm_storeu_si128((__m128i *)(to + i), _mm_loadu_si128((const __m128i *)(from + i)));
        __m128i a = _mm_loadu_si128((const __m128i *)(from + i));
        __m128i b = _mm_loadu_si128((const __m128i *)(from + len - 16));
        _mm_storeu_si128((__m128i *)(to + i), a);
        _mm_storeu_si128((__m128i *)(to + len - 16), b);
    } else if (len >= 8) {
        uint64_t a, b;
        __builtin_memcpy(&a, from, 8);
        __builtin_memcpy(&b, from + len - 8, 8);
        __builtin_memcpy(to, &a, 8);
        __builtin_memcpy(to + len - 8, &b, 8);
    } else if (len >= 4) {
        uint32_t a, b;
        __builtin_memcpy(&a, from, 4);
        __builtin_memcpy(&b, from + len - 4, 4);
        __builtin_memcpy(to, &a, 4);
        __builtin_memcpy(to + len - 4, &b, 4);
    } else {
        to[0] = from[0];
        to[len / 2] = from[len / 2];
        to[len - 1] = from[len - 1];
    }
}

/* n copies of 1 to 128 bytes at changing places. */
static uint64_t memcpy_small(uint64_t n)
{
    static unsigned char from[4096 + 128], to[4096 + 128];
    uint64_t h = 0, x = 1;

    for (size_t i = 0; i < sizeof(from); i++)
        from[i] = (unsigned char)(i * 7 >> 1);
    for (uint64_t i = 0; i < n; i++) {
        x = x * 6364136223846793005 + 1442695040888963407;
        size_t len = 1 + (x >> 33) % 128;
        copy_small(to + (x >> 40) % 4096, from + (x >> 52), len);
    }
    for (size_t i = 0; i < sizeof(to); i++)
        h = work_mix(h, to[i]);
    return h;
}

const struct work work_mem[] = {
    {"chase", chase, 1500000, 1},
    {"random-rw", random_rw, 4000000, 1},
    {"read-seq", read_seq, 1600, 1},
    {"memcpy-large", memcpy_large, 800, 1},
    {"memset-large", memset_large, 1600, 1},
    {"memcpy-small", memcpy_small, 6000000, 1},
    {0},
};
