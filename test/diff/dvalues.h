/* test/diff/dvalues.h - random numbers and the values that make differences. */
#ifndef TEST_DIFF_DVALUES_H
#define TEST_DIFF_DVALUES_H

#include "test/diff/diff.h"

struct drng {
    uint64_t s;
};

/* splitmix64 */
static inline uint64_t drng_next(struct drng *r)
{
    uint64_t z = r->s += 0x9e3779b97f4a7c15;

    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    return z ^ z >> 31;
}

static inline unsigned drng_below(struct drng *r, unsigned n)
{
    return (unsigned)((drng_next(r) >> 32) * n >> 32);
}

static inline bool drng_chance(struct drng *r, unsigned percent)
{
    return drng_below(r, 100) < percent;
}

void dvalues_pool(struct drng *r, uint8_t *pool, size_t len);
/* Registers, flags, x87 and vector state. */
void dvalues_state(struct drng *r, bool c32, struct diff_state *s);

#endif
