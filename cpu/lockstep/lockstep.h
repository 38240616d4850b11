/* cpu/lockstep/lockstep.h - the engine `lockstep`: bt executes, and interp checks it.
 *
 * interp goes first: it executes a few blocks with its stores kept beside memory
 * (cpu/soft/overlay.h), and its state behind each is kept. Then bt executes them in earnest,
 * chained by links and jump cache as far as it will, and where it leaves registers, the exception
 * if there was one, and every byte stored are compared with interp's behind that block. What
 * touches more than registers and memory (devices, control registers, time) is executed by bt
 * alone, which has the interpreter do it. Not compared either is what an interrupt, a device's
 * write or a change of the running code came into.
 *
 * Arithmetic flags that nobody reads may differ (docs/translator.md); the interpreter goes on with
 * its own, so that one which is read later shows there. Flags that the SDM leaves undefined may
 * differ, and what the code makes of them.
 *
 * lockstep.c   the engine and its loop      lockreport.c   a difference in words
 * lockflags.c  undefined flags */
#ifndef CPU_LOCKSTEP_LOCKSTEP_H
#define CPU_LOCKSTEP_LOCKSTEP_H

#include "cpu/bt/bt_engine.h"
#include "cpu/soft/overlay.h"

enum { TRAIL = 16, CHAIN = 12 };

struct trail { /* what agreed: where it began, RFLAGS behind it */
    uint64_t rip, ours, theirs;
};

struct ours { /* what interp made of a block */
    struct cpu_state s;
    struct soft_exc exc;
    int stop;       /* enum soft_stop */
    uint64_t insns; /* of all blocks up to it */
    unsigned n_log; /* stores up to its end */
};

struct lockstep { /* one a machine, which has one vCPU */
    struct soft_engine_ops ops;
    struct overlay overlay;
    struct cpu_state before;
    uint64_t began_flags; /* interp's */
    struct bt_piece piece[CHAIN];
    struct ours ours[CHAIN];
    unsigned n, known; /* how many; how many of them bt's jump cache is told of */
    bool half;         /* the instruction that was refused had stored something */

    struct bt_chain chain;
    int stop;              /* bt's */
    uint64_t wrote;        /* mem.wrote before it */
    const struct ours *at; /* what bt's end is compared with */

    /* Flags by interp, where bt's differ. */
    bool own_flags;
    uint64_t flags_rip, their_flags, flags;

    uint64_t compared, not_compared; /* blocks */
    struct trail trail[TRAIL];       /* the latest is at n_trail - 1 */
    uint64_t n_trail;
};

/* Arithmetic flags that are undefined behind the n pieces of code; *read: they read some while they
 * are. */
uint32_t lockflags_undefined(const struct mem *m, const struct bt_piece *p, unsigned n, bool *read);

enum { LOCKREPORT_BYTES = 65536 };

/* Both states, and the code, into text[LOCKREPORT_BYTES]. `what`: the first difference. */
void lockreport(const struct lockstep *l, const struct vcpu *v, const char *what, char *text);

#endif
