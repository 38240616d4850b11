/* The workload program of `make bench-engine`: the same static program runs natively and, as PID 1,
 * in a guest. A workload does a fixed amount of work and returns a check, which must be the same
 * everywhere; what can be known beforehand it verifies itself (work_expect). One thread runs them
 * in turn; those that start threads or processes wait for them. */
#ifndef BENCH_WORK_H
#define BENCH_WORK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct work {
    const char *name;
    uint64_t (*run)(uint64_t n); /* does n units; returns the check */
    uint64_t n;                  /* units at scale 1: 0.05 to 0.3 s natively */
    unsigned cpus;               /* 1, or 2: left out where there is only one */
};

/* One table a class of workloads; each ends with a name of NULL. */
extern const struct work work_int[], work_float[], work_mem[], work_string[], work_call[],
    work_sys[], work_thread[], work_code[], work_shell[];

/* A workload's own verification: prints what is wrong and ends the program. */
void work_expect(bool ok, const char *what);

/* The program itself, for workloads that run it anew. Borrowed. */
const char *work_self(void);

/* The folder for temporary files. Borrowed. */
const char *work_tmp(void);

/* A buffer of len bytes (mmap; page-aligned), touched; ends the program if there is none. */
void *work_map(size_t len);
void work_unmap(void *p, size_t len);

/* A seeded sequence, the same everywhere: xorshift64*. */
static inline uint64_t work_random(uint64_t *state)
{
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    return *state * 0x2545f4914f6cdd1d;
}

/* One step of a hash (FNV-1a by words) that folds results into a check. */
static inline uint64_t work_mix(uint64_t h, uint64_t v)
{
    return (h ^ v) * 0x100000001b3;
}

#define WORK_SEED 0x9e3779b97f4a7c15
#define WORK_COUNT(a) (sizeof(a) / sizeof((a)[0]))

/* Keeps the compiler from knowing what p points at or dropping the stores to it. */
#define WORK_HIDE(p) __asm__ volatile("" : "+r"(p) : : "memory")

#endif
