/* Floating point: scalar SSE2 (a matrix product, libm), packed SSE2, and x87. Results are exact
 * functions of the instructions, so the checks are the bits. */
#include "bench/work/work.h"

#include <emmintrin.h>
#include <math.h>
#include <string.h>

enum { DIM = 160 };

struct matrices {
    double a[DIM][DIM], b[DIM][DIM], c[DIM][DIM];
};

static uint64_t bits(double d)
{
    uint64_t u;

    memcpy(&u, &d, sizeof(u));
    return u;
}

static struct matrices *matrices(void)
{
    struct matrices *m = work_map(sizeof(*m));

    for (unsigned i = 0; i < DIM; i++)
        for (unsigned k = 0; k < DIM; k++) {
            m->a[i][k] = (double)(i * 7 + k) / 64;
            m->b[i][k] = (double)((int)k - (int)i) / 32;
            m->c[i][k] = 0;
        }
    return m;
}

static uint64_t matrices_check(struct matrices *m)
{
    uint64_t h = 0;

    for (unsigned i = 0; i < DIM; i++)
        for (unsigned k = 0; k < DIM; k++)
            h = work_mix(h, bits(m->c[i][k]));
    work_unmap(m, sizeof(*m));
    return h;
}

static __attribute__((noinline)) void product(struct matrices *m)
{
    for (unsigned i = 0; i < DIM; i++)
        for (unsigned j = 0; j < DIM; j++) {
            double sum = 0;
            for (unsigned k = 0; k < DIM; k++)
                sum += m->a[i][k] * m->b[k][j];
            m->c[i][j] += sum;
        }
}

static uint64_t matmul(uint64_t n)
{
    struct matrices *m = matrices();

    for (uint64_t i = 0; i < n; i++)
        product(m);
    return matrices_check(m);
}

/* Row by row, two columns an instruction. */
static __attribute__((noinline)) void product_sse2(struct matrices *m)
{
    for (unsigned i = 0; i < DIM; i++)
        for (unsigned k = 0; k < DIM; k++) {
            __m128d a = _mm_set1_pd(m->a[i][k]);
            for (unsigned j = 0; j < DIM; j += 2)
                _mm_store_pd(&m->c[i][j], _mm_add_pd(_mm_load_pd(&m->c[i][j]),
                                                     _mm_mul_pd(a, _mm_load_pd(&m->b[k][j]))));
        }
}

static uint64_t matmul_sse2(uint64_t n)
{
    struct matrices *m = matrices();

    for (uint64_t i = 0; i < n; i++)
        product_sse2(m);
    return matrices_check(m);
}

/* Packed integers: sums of absolute differences between two rows of bytes, n KiB of them. */
static uint64_t sad_sse2(uint64_t n)
{
    enum { LEN = 1024 };
    static _Alignas(16) unsigned char a[LEN], b[LEN];
    uint64_t seed = WORK_SEED, out[2];
    __m128i sum = _mm_setzero_si128();

    for (unsigned i = 0; i < LEN; i++) {
        a[i] = (unsigned char)work_random(&seed);
        b[i] = (unsigned char)work_random(&seed);
    }
    for (uint64_t r = 0; r < n; r++) {
        const unsigned char *pa = a, *pb = b;
        WORK_HIDE(pa);
        for (unsigned i = 0; i < LEN; i += 16) {
            __m128i x = _mm_load_si128((const __m128i *)(pa + i));
            __m128i y = _mm_load_si128((const __m128i *)(pb + i));
            __m128i best = _mm_max_epu8(x, _mm_shuffle_epi32(y, 0x1b));
            sum = _mm_add_epi64(sum, _mm_sad_epu8(best, _mm_unpacklo_epi8(x, y)));
        }
    }
    memcpy(out, &sum, sizeof(out));
    return work_mix(out[0], out[1]);
}

/* n rounds of the mathematics library. musl's, which is the same code on every CPU. */
static uint64_t libm(uint64_t n)
{
    double x = 0.5, sum = 0;

    for (uint64_t i = 0; i < n; i++) {
        double t = (double)(i & 1023) / 100 + x;
        sum += sin(t) * cos(t) + exp(-t) + log(t + 1) + pow(t, 0.25) + atan2(t, x);
        x = sqrt(fabs(sum) + 1) / (double)(i + 2);
    }
    work_expect(sum == sum, "a number from libm");
    return bits(sum);
}

/* long double is x87: Horner's rule, a division and a square root a round. */
static uint64_t x87(uint64_t n)
{
    static const long double coef[] = {1.0L, -0.5L, 0.25L, -0.125L, 0.0625L, 0.3L, -0.7L, 0.1L};
    volatile long double start = 0.3L;
    long double x = start, sum = 0;

    for (uint64_t i = 0; i < n; i++) {
        long double p = 0;
        for (unsigned c = 0; c < WORK_COUNT(coef); c++)
            p = p * x + coef[c];
        sum += p / (x + 2);
        x = __builtin_sqrtl(sum * sum + x) / (sum + 3);
    }
    return bits((double)sum);
}

const struct work work_float[] = {
    {"matmul", matmul, 24, 1},         {"matmul-sse2", matmul_sse2, 50, 1},
    {"sad-sse2", sad_sse2, 800000, 1}, {"libm", libm, 600000, 1},
    {"x87", x87, 1200000, 1},          {0},
};
