/* cpu/bt/bt_engine.h - what the translator gives to the engine object (btengine.c). */
#ifndef CPU_BT_BT_ENGINE_H
#define CPU_BT_BT_ENGINE_H

#include "cpu/soft/soft.h"

extern const struct soft_engine_ops bt_ops;

/* The machine's half, before any vCPU. bt_vm_done() accepts what a failed init left. */
int bt_vm_init(struct soft_vm *vm, struct err *e) MUST_CHECK;
void bt_vm_done(struct soft_vm *vm);
void bt_stats(struct vcpu *v, struct cpu_stats *out);
void bt_fallbacks(struct vcpu *v, uint64_t *count);

#endif
