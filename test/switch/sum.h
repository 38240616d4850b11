/* test/switch/sum.h - the sum that a guest computes while its engine is changed under it, and that
 * the host computes again to compare. Both compile this text; integers, SSE2, x87 and string moves
 * take part, with values that live in registers from round to round. */
#ifndef TEST_SWITCH_SUM_H
#define TEST_SWITCH_SUM_H

#include <stdint.h>

enum { SUM_WORDS = 512 };

/* Where host and guest meet: guest physical addresses. */
#define MAILBOX_GPA 0x1800000ull
#define WORK_GPA 0x1000000ull

struct mailbox {
    volatile uint64_t stop;      /* the host asks for the end */
    volatile uint64_t rounds;    /* done so far */
    volatile uint64_t sum;       /* valid at the end */
    volatile uint64_t ticks;     /* timer interrupts */
    volatile uint64_t backwards; /* times the TSC went backwards */
};

struct sum {
    uint64_t x;
    double d;
    long double l;
};

static inline void sum_init(struct sum *s, uint64_t *w)
{
    *s = (struct sum){.x = 0x123456789abcdef};
    for (unsigned i = 0; i < 2 * SUM_WORDS; i++)
        w[i] = i * 0x9e3779b97f4a7c15;
}

/* w: 2 * SUM_WORDS words, of which the second half is copied over the first each round. */
static inline void sum_round(struct sum *s, uint64_t *w)
{
    uint64_t x = s->x;
    double d = s->d;
    long double l = s->l;
    void *to = w, *from = w + SUM_WORDS;
    uint64_t n = SUM_WORDS / 2;

    for (unsigned i = 0; i < SUM_WORDS; i++) {
        x ^= w[i];
        x *= 0xbf58476d1ce4e5b9;
        x = x << 29 | x >> 35;
        w[SUM_WORDS + i] += x / (i + 1);
        if (!(i & 15)) {
            d = d * 0.75 + (double)(int64_t)(x & 0xffff);
            l = l * 0.5L + (long double)(int64_t)(x >> 48);
        }
    }
    __asm__ volatile("rep movsq" : "+D"(to), "+S"(from), "+c"(n) : : "memory");
    *s = (struct sum){x, d, l};
}

static inline uint64_t sum_end(const struct sum *s)
{
    return s->x ^ (uint64_t)(int64_t)(s->d * 1024) ^ (uint64_t)(int64_t)(s->l * 4096) << 20;
}

#endif
