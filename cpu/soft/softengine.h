/* cpu/soft/softengine.h - the members of struct cpu_engine that are the same for every software
 * engine, to be put into its table: struct cpu_vm is struct soft_vm. Errors and threads as
 * cpu/cpu.h says. */
#ifndef CPU_SOFT_SOFTENGINE_H
#define CPU_SOFT_SOFTENGINE_H

#include "cpu/soft/soft.h"

static inline struct soft_vm *softengine_vm(struct cpu_vm *vm)
{
    return (struct soft_vm *)vm;
}

int softengine_probe(bool *hw, struct err *e);
void softengine_msi(struct cpu_vm *vm, struct msi m);
void softengine_extint(struct cpu_vm *vm, bool level);
void softengine_set_pic_ack(struct cpu_vm *vm, int (*ack)(void *ctx), void *ctx);
int softengine_ioeventfd(struct cpu_vm *vm, gpa_t gpa, unsigned len, bool match, uint64_t val,
                         int fd, bool add);
int softengine_irqfd(struct cpu_vm *vm, unsigned gsi, const struct msi *m, int fd);
void softengine_mem_changed(struct cpu_vm *vm, bool dirty_log);
int softengine_dirty_sync(struct cpu_vm *vm, struct err *e);
int softengine_vcpu_new(struct cpu_vm *vm, unsigned index, struct vcpu **ret, struct err *e);

#endif
