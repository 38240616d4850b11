/* cpu/bt/bt_engine.h - what the translator gives to the engine object (btengine.c). */
#ifndef CPU_BT_BT_ENGINE_H
#define CPU_BT_BT_ENGINE_H

#include "cpu/soft/soft.h"

extern const struct soft_engine_ops bt_ops;

/* The machine's half, before any vCPU. bt_vm_done() accepts what a failed init left. */
int bt_vm_init(struct soft_vm *vm, struct err *e) MUST_CHECK;
void bt_vm_done(struct soft_vm *vm);
void bt_stats(struct vcpu *v, struct cpu_stats *out);
/* For lockstep: a few blocks at a time. bt_vm_apart(), before any vCPU runs, has what ends a block
 * by way of the interpreter be a block of its own, so that the others touch nothing but registers
 * and memory. */
struct block;
struct link;
struct bt_piece { /* a block and where it runs */
    struct block *block;
    uint64_t rip;
    gpa_t gpa;
    unsigned insns, bytes; /* guest's; bytes in its first page */
};
struct bt_chain {      /* kept from one call of bt_run_pieces() to the next; zeroes at first */
    uint64_t insns;    /* of the blocks entered */
    bool cut;          /* left by a call-out */
    struct link *from; /* by which it left the block at from_gpa for `to` */
    gpa_t from_gpa;
    uint64_t to;
    uint64_t flushes;
};
void bt_vm_apart(struct soft_vm *vm);
/* The block at s.rip. Where the interpreter executes what is there it has done so, p->insns is 0
 * and the value is its. SOFT_OK or as soft_engine_ops.exec. */
int bt_piece_at(struct vcpu *v, struct bt_piece *p);
/* While stores are pretended, behind *last: the block at s.rip, if it is translated already, is no
 * single instruction of the interpreter's, and the mode is the same. */
bool bt_piece_next(struct vcpu *v, const struct bt_piece *last, struct bt_piece *p);
/* Executes p[0] and, by links and jump cache, p[1] to p[n - 1], which begin at different places.
 * Where what follows them has been linked before, more. */
int bt_run_pieces(struct vcpu *v, const struct bt_piece *p, unsigned n, struct bt_chain *chain);

void bt_fallbacks(struct vcpu *v, uint64_t *count);

#endif
