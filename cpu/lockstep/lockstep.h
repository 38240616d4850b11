/* cpu/lockstep/lockstep.h - the engine `lockstep`: bt executes, and interp checks it block by
 * block.
 *
 * Before a block, interp executes the same instructions with its stores kept beside memory
 * (cpu/soft/overlay.h); then bt executes the block in earnest, and registers, the exception if
 * there was one, and every byte stored are compared. What touches more than registers and memory
 * (devices, control registers, time) is executed by bt alone, which has the interpreter do it. Not
 * compared either are blocks in which an interrupt, a device's write or a change of its own code
 * came up.
 *
 * Arithmetic flags that nobody reads may differ (docs/translator.md); the interpreter goes on with
 * its own, so that one which is read later shows there.
 *
 * Flags that the SDM leaves undefined may differ, and what a block makes of them.
 *
 * lockstep.c   the engine and its loop      lockreport.c   a difference in words
 * lockflags.c  undefined flags */
#ifndef CPU_LOCKSTEP_LOCKSTEP_H
#define CPU_LOCKSTEP_LOCKSTEP_H

#include "cpu/bt/bt_engine.h"
#include "cpu/soft/overlay.h"

enum { TRAIL = 16 };
struct trail { /* a block that agreed: where it began, RFLAGS behind it */
    uint64_t rip, ours, theirs;
};

struct lockstep { /* one a machine, which has one vCPU */
    struct soft_engine_ops ops;
    struct overlay overlay;
    struct cpu_state before; /* the block */
    struct {                 /* what interp made of it */
        struct cpu_state s;
        struct soft_exc exc;
        int stop;       /* enum soft_stop */
        unsigned insns; /* finished */
        uint64_t flags; /* that it began with */
        bool half;      /* the one that was refused had stored something */
    } ours;
    struct bt_piece piece;
    int stop;       /* bt's */
    uint64_t wrote; /* mem.wrote before it */

    /* Flags by interp, where bt's differ. */
    bool own_flags;
    uint64_t flags_rip, their_flags, flags;

    uint64_t compared, not_compared;
    struct trail trail[TRAIL]; /* the last ones, by compared % TRAIL */
};

enum { LOCKREPORT_BYTES = 16384 };

/* Arithmetic flags that are undefined behind the code; *read: it reads some while they are. */
uint32_t lockflags_undefined(const uint8_t *code, unsigned bytes, bool *read);
/* Both states, and the block, into text[LOCKREPORT_BYTES]. `what`: the first difference. */
void lockreport(const struct lockstep *l, const struct vcpu *v, const char *what, char *text);

#endif
