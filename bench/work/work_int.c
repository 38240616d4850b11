/* Integer code: SHA-256 in plain C, Fibonacci by recursion, and code full of branches: sorting, and
 * a sieve. Registers and branches; hardly any memory beyond the first cache. */
#include "bench/work/work.h"

#include <stdlib.h>
#include <string.h>

/* FIPS 180-4, section 4.2.2 */
static const uint32_t sha_k[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
};

static uint32_t ror(uint32_t x, unsigned n)
{
    return x >> n | x << (32 - n);
}

/* Section 6.2.2: one block of 64 bytes. */
static void sha_block(uint32_t h[8], const unsigned char *p)
{
    uint32_t w[64], v[8];

    for (unsigned t = 0; t < 16; t++) {
        memcpy(&w[t], p + 4 * t, 4);
        w[t] = __builtin_bswap32(w[t]);
    }
    for (unsigned t = 16; t < 64; t++) {
        uint32_t a = w[t - 15], b = w[t - 2];
        w[t] = w[t - 16] + (ror(a, 7) ^ ror(a, 18) ^ a >> 3) + w[t - 7] +
               (ror(b, 17) ^ ror(b, 19) ^ b >> 10);
    }
    memcpy(v, h, sizeof(v));
    for (unsigned t = 0; t < 64; t++) {
        uint32_t a = v[0], e = v[4];
        uint32_t t1 = v[7] + (ror(e, 6) ^ ror(e, 11) ^ ror(e, 25)) + ((e & v[5]) ^ (~e & v[6])) +
                      sha_k[t] + w[t];
        uint32_t t2 =
            (ror(a, 2) ^ ror(a, 13) ^ ror(a, 22)) + ((a & v[1]) ^ (a & v[2]) ^ (v[1] & v[2]));
        v[7] = v[6], v[6] = v[5], v[5] = e, v[4] = v[3] + t1;
        v[3] = v[2], v[2] = v[1], v[1] = a, v[0] = t1 + t2;
    }
    for (unsigned i = 0; i < 8; i++)
        h[i] += v[i];
}

static void sha_start(uint32_t h[8])
{
    static const uint32_t first[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                      0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};

    memcpy(h, first, sizeof(first));
}

/* n KiB of a counter's bytes. The digest of "abc" (FIPS 180-4's example) is verified first. */
static uint64_t sha256(uint64_t n)
{
    unsigned char block[64] = {'a', 'b', 'c', 0x80, [63] = 24};
    uint32_t h[8];

    sha_start(h);
    sha_block(h, block);
    work_expect(h[0] == 0xba7816bf && h[7] == 0xf20015ad, "sha256 of abc");
    for (uint64_t i = 0; i < n * 16; i++) {
        memcpy(block, &i, sizeof(i));
        sha_block(h, block);
    }
    return (uint64_t)h[0] << 32 | h[7];
}

static __attribute__((noinline)) uint64_t fib(unsigned n)
{
    return n < 2 ? n : fib(n - 1) + fib(n - 2);
}

/* n times fib(24): 75025 calls each. gcc unrolls the recursion in part, as it does everywhere. */
static uint64_t fibs(uint64_t n)
{
    uint64_t sum = 0;
    unsigned depth = 24;

    for (uint64_t i = 0; i < n; i++) {
        __asm__ volatile("" : "+r"(depth));
        sum += fib(depth);
    }
    work_expect(sum == n * 46368, "fib(24)");
    return sum;
}

static int by_value(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

    return (x > y) - (x < y);
}

/* The C library's qsort of n random words, and binary searches for all of them. */
static uint64_t sort(uint64_t n)
{
    uint32_t *v = work_map(n * sizeof(*v));
    uint64_t seed = WORK_SEED, h = 0;

    for (uint64_t i = 0; i < n; i++)
        v[i] = (uint32_t)work_random(&seed);
    qsort(v, n, sizeof(*v), by_value);
    for (uint64_t i = 0; i < n; i++) {
        uint32_t *at = bsearch(&v[i], v, n, sizeof(*v), by_value);
        work_expect(at && *at == v[i] && (!i || v[i - 1] <= v[i]), "a sorted array");
        h = work_mix(h, v[i]);
    }
    work_unmap(v, n * sizeof(*v));
    return h;
}

/* Eratosthenes up to n. */
static uint64_t sieve(uint64_t n)
{
    unsigned char *composite = work_map(n + 1);
    uint64_t count = 0, sum = 0;

    memset(composite, 0, n + 1);
    for (uint64_t i = 2; i <= n; i++) {
        if (composite[i])
            continue;
        count++;
        sum += i;
        for (uint64_t k = i * i; k <= n; k += i)
            composite[k] = 1;
    }
    work_unmap(composite, n + 1);
    return count << 40 ^ sum;
}

const struct work work_int[] = {
    {"sha256", sha256, 24 << 10, 1},
    {"fib", fibs, 900, 1},
    {"qsort", sort, 250000, 1},
    {"sieve", sieve, 24000000, 1},
    {0},
};
