/* test/diff/diff.h - random instruction streams on the host's own CPU and on kiln's engines.
 *
 * dgen.c    a case: a few instructions and the state they start from
 * dundef.c  flags the SDM leaves undefined
 * dhost.c   cases on the host's CPU, in a throw-away child
 * dguest.c  cases on an engine, through struct cpu_engine
 * diff.c    the program: options, comparison, reports */
#ifndef TEST_DIFF_DIFF_H
#define TEST_DIFF_DIFF_H

#include <Zydis/Zydis.h>
#include <stdbool.h>
#include <stdint.h>

#include "cpu/cpu.h"

enum {
    DIFF_CODE = 0x10000000, /* linear: code, read and execute only */
    DIFF_DATA = 0x20000000, /* linear: data, writable, then one read-only page; none around */
    DIFF_CASE_BYTES = 160,  /* of code, the ending INT3 included */
    DIFF_INSNS = 8,         /* a case, at most */
    DIFF_BATCH = 256,       /* cases per child */
    DIFF_CODE_BYTES = (DIFF_CASE_BYTES * DIFF_BATCH + 4095) & ~4095,
    DIFF_RW_BYTES = 8192,
    DIFF_DATA_BYTES = DIFF_RW_BYTES + 4096,
    DIFF_POOL = 16384, /* random bytes that fill the data */
    DIFF_FX = 416,     /* what counts of an FXSAVE image */
    DIFF_YMMH = 256,
};

enum { /* selectors as Linux has them, so that pushed ones compare */
       DIFF_CS32 = 0x23,
       DIFF_DS = 0x2b,
       DIFF_CS64 = 0x33,
};

enum diff_class { DIFF_INT, DIFF_VEC, DIFF_X87, DIFF_CLASSES };

struct diff_state {
    uint64_t gpr[GPRS];
    uint64_t rip, rflags;
    uint8_t fx[DIFF_FX]; /* layout of FXSAVE64 */
    uint8_t ymmh[DIFF_YMMH];
    /* how it ended: */
    uint8_t vector;
    uint32_t error;
    uint64_t cr2;
};

struct diff_insn {
    uint8_t at, len; /* bytes, in code[] */
    uint32_t undef;  /* flags that are undefined before it */
};

struct diff_case {
    uint64_t id;
    bool c32; /* compatibility mode */
    uint8_t code[DIFF_CASE_BYTES];
    unsigned len, n;
    struct diff_insn insn[DIFF_INSNS];
    uint32_t undef;   /* ... and at the end */
    unsigned pool_at; /* its data: from here on in the pool */
    struct diff_state in;
};

struct diff_result {
    struct diff_state s;
    bool done;
    uint8_t data[DIFF_DATA_BYTES];
};

struct dgen { /* fixed for a run */
    uint64_t seed;
    unsigned max_insns;
    bool classes[DIFF_CLASSES];
    bool no32;
    int only; /* mnemonic every case must have, -1: none */
    const struct cpu_model *model;
    uint8_t pool[DIFF_POOL];
};

void dgen_init(struct dgen *g);
/* Case `id`, always the same for one seed. in.rip says where its code must lie. */
void dgen_case(const struct dgen *g, uint64_t id, struct diff_case *c);

/* Flags which `z` leaves undefined (SDM). */
uint32_t dundef_flags(const ZydisDecodedInstruction *z);
/* May it leave the flags as they were (a count of 0)? */
bool dundef_conditional(const ZydisDecodedInstruction *z);
/* Results, not flags, that the SDM leaves undefined: such an instruction is not made. */
bool dundef_result(const ZydisDecodedInstruction *z, const ZydisDecodedOperand *op);

/* Runs cases[0..n) in a child. What killed its child has !done; another child goes on behind it.
 * Errors: negative errno. */
struct dhost;
int dhost_new(const struct dgen *g, struct dhost **ret);
void dhost_free(struct dhost *h);
int dhost_run(struct dhost *h, const struct diff_case *cases, unsigned n, struct diff_result *out);

struct dguest;
int dguest_new(const struct dgen *g, const struct cpu_engine *engine, struct dguest **ret,
               struct err *e);
void dguest_free(struct dguest *q);
int dguest_run(struct dguest *q, const struct diff_case *cases, unsigned n, struct diff_result *out,
               struct err *e);

#endif
