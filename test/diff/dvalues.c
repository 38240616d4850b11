/* Values with a meaning to some instruction: pointers, small counts, limits, special floats. */
#include "test/diff/dvalues.h"

#include <string.h>

#include "base/cleanup.h"

static uint64_t integer(struct drng *r)
{
    static const uint64_t known[] = {
        0,          1,          UINT64_MAX, INT64_MAX,
        1ull << 63, 0x7f,       0x80,       0xff,
        0x7fff,     0x8000,     0xffff,     INT32_MAX,
        1ull << 31, UINT32_MAX, 1ull << 32, 0x5555555555555555,
    };

    switch (drng_below(r, 4)) {
    case 0:
        return known[drng_below(r, ARRAY_LEN(known))];
    case 1:
        return drng_below(r, 70);
    case 2:
        return drng_next(r) >> drng_below(r, 64);
    default:
        return drng_next(r);
    }
}

static uint64_t pointer(struct drng *r)
{
    uint64_t at = DIFF_DATA + drng_below(r, DIFF_RW_BYTES);

    return drng_chance(r, 75) ? at & ~63ull : at;
}

static uint32_t single(struct drng *r)
{
    static const uint32_t known[] = {
        0,          0x80000000, 0x3f800000, 0xbf800000, 0x7f800000, 0xff800000,
        0x7fc00000, 0x7fa00000, 0x00000001, 0x007fffff, 0x00800000, 0x7f7fffff,
        0x4f000000, 0x5f000000, 0xcf000000, 0x3fc00000, 0x40200000,
    };

    if (drng_chance(r, 40))
        return known[drng_below(r, ARRAY_LEN(known))];
    if (drng_chance(r, 60)) /* of moderate size */
        return ((uint32_t)drng_next(r) & 0x807fffff) | (110 + drng_below(r, 40)) << 23;
    return (uint32_t)drng_next(r);
}

static uint64_t dbl(struct drng *r)
{
    static const uint64_t known[] = {
        0,
        1ull << 63,
        0x3ff0000000000000,
        0xbff0000000000000,
        0x7ff0000000000000,
        0xfff0000000000000,
        0x7ff8000000000000,
        0x7ff4000000000000,
        1,
        0x000fffffffffffff,
        0x0010000000000000,
        0x7fefffffffffffff,
        0x41e0000000000000,
        0x43e0000000000000,
        0xc3e0000000000000,
        0x3ff8000000000000,
        0x4004000000000000,
    };

    if (drng_chance(r, 40))
        return known[drng_below(r, ARRAY_LEN(known))];
    if (drng_chance(r, 60))
        return (drng_next(r) & 0x800fffffffffffff) | (uint64_t)(990 + drng_below(r, 60)) << 52;
    return drng_next(r);
}

static uint64_t lane(struct drng *r)
{
    switch (drng_below(r, 5)) {
    case 0:
        return (uint64_t)single(r) << 32 | single(r);
    case 1:
        return dbl(r);
    case 2:
        return drng_below(r, 2048); /* an index of a gather */
    case 3:
        return integer(r);
    default:
        return drng_next(r);
    }
}

void dvalues_pool(struct drng *r, uint8_t *pool, size_t len)
{
    for (size_t at = 0; at + 8 <= len; at += 8) {
        uint64_t x = lane(r);

        memcpy(pool + at, &x, 8);
    }
}

static void extended(struct drng *r, uint8_t *p)
{
    static const uint16_t exps[] = {0, 1, 0x3fff, 0x4000, 0x7ffe, 0x7fff, 0x3ffe, 0x403e};
    static const uint64_t fracs[] = {0, 1ull << 63, 3ull << 62, 1, UINT64_MAX, 5ull << 61};
    uint64_t frac =
        drng_chance(r, 50) ? fracs[drng_below(r, ARRAY_LEN(fracs))] : drng_next(r) | 1ull << 63;
    uint16_t exp = drng_chance(r, 40) ? exps[drng_below(r, ARRAY_LEN(exps))]
                                      : (uint16_t)(0x3fc0 + drng_below(r, 0x80));

    exp |= (uint16_t)(drng_below(r, 2) << 15);
    memcpy(p, &frac, 8);
    memcpy(p + 8, &exp, 2);
}

static void x87(struct drng *r, uint8_t *fx)
{
    uint16_t fcw = 0x37f, fsw = (uint16_t)(drng_below(r, 8) << 11), tags = 0xff;

    if (drng_chance(r, 40))
        fcw = (uint16_t)(0x7f | drng_below(r, 16) << 8);
    if (drng_chance(r, 10))
        fcw &= (uint16_t) ~(1u << drng_below(r, 6));
    if (drng_chance(r, 30))
        fsw |= (uint16_t)(drng_next(r) & 0x477f);
    if (!drng_chance(r, 10))
        fsw &= (uint16_t)(0xff40 | (fcw & 0x3f)); /* nothing pending */
    if (fsw & ~fcw & 0x3f)
        fsw |= 0x8080;
    if (drng_chance(r, 50))
        tags = (uint16_t)(drng_next(r) & 0xff);
    memcpy(fx, &fcw, 2);
    memcpy(fx + 2, &fsw, 2);
    memcpy(fx + 4, &tags, 2);
    for (unsigned n = 0; n < 8; n++)
        extended(r, fx + 32 + 16 * n);
}

static uint32_t mxcsr(struct drng *r)
{
    uint32_t x = 0x1f80;

    if (drng_chance(r, 40))
        x |= (uint32_t)(drng_next(r) & 0xe07f);
    if (drng_chance(r, 10))
        x &= ~(0x80u << drng_below(r, 6));
    return x;
}

static uint64_t general(struct drng *r, unsigned n)
{
    if (n == RSP)
        return DIFF_DATA + 1024 + 8 * drng_below(r, 700) +
               (drng_chance(r, 5) ? drng_below(r, 8) : 0);
    return drng_chance(r, 45) ? pointer(r) : integer(r);
}

void dvalues_state(struct drng *r, bool c32, struct diff_state *s)
{
    uint32_t m = mxcsr(r);

    for (unsigned n = 0; n < GPRS; n++) {
        s->gpr[n] = general(r, n);
        if (c32)
            s->gpr[n] = (uint32_t)s->gpr[n];
    }
    if (drng_chance(r, 30))
        s->gpr[RCX] = drng_below(r, 40); /* shifts, REP, LOOP */
    s->rflags = FL_FIXED | FL_IF | (drng_next(r) & FL_ARITH);
    if (drng_chance(r, 15))
        s->rflags |= FL_DF;
    x87(r, s->fx);
    memcpy(s->fx + 24, &m, 4);
    for (unsigned at = 160; at < DIFF_FX; at += 8) {
        uint64_t x = lane(r);

        memcpy(s->fx + at, &x, 8);
    }
    for (unsigned at = 0; at < DIFF_YMMH; at += 8) {
        uint64_t x = lane(r);

        memcpy(s->ymmh + at, &x, 8);
    }
}
