/* cpu/bt/bt_engine.h - what the translator gives to the engine object (btengine.c). */
#ifndef CPU_BT_BT_ENGINE_H
#define CPU_BT_BT_ENGINE_H

#include "cpu/soft/soft.h"

extern const struct soft_engine_ops bt_ops;

/* The machine's half, before any vCPU. bt_vm_done() accepts what a failed init left. */
int bt_vm_init(struct soft_vm *vm, struct err *e) MUST_CHECK;
void bt_vm_done(struct soft_vm *vm);
void bt_stats(struct vcpu *v, struct cpu_stats *out);
/* For lockstep: one block at a time. bt_vm_apart(), before any vCPU runs, has what ends a block by
 * way of the interpreter be a block of its own, so that the others touch nothing but registers and
 * memory. */
struct block;
struct bt_piece {
    struct block *block;
    unsigned insns, bytes; /* guest's */
    gpa_t gpa;
    bool cut; /* by bt_run_piece(): left by a call-out */
};
void bt_vm_apart(struct soft_vm *vm);
/* The block at s.rip. Where the interpreter executes what is there it has done so, p->insns is 0
 * and the value is its. SOFT_OK or as soft_engine_ops.exec. */
int bt_piece_at(struct vcpu *v, struct bt_piece *p);
/* Executes it and no more. */
int bt_run_piece(struct vcpu *v, struct bt_piece *p);

void bt_fallbacks(struct vcpu *v, uint64_t *count);

#endif
