#include "cpu/soft/softengine.h"

#include <errno.h>

#include "cpu/soft/lapic.h"
#include "cpu/soft/mmu.h"

int softengine_probe(bool *hw, struct err *e)
{
    *hw = false;
    return 0;
}

void softengine_msi(struct cpu_vm *vm, struct msi m)
{
    lapic_bus_msi(softengine_vm(vm), m);
}

void softengine_extint(struct cpu_vm *vm, bool level)
{
    soft_vm_extint(softengine_vm(vm), level);
}

void softengine_set_pic_ack(struct cpu_vm *vm, int (*ack)(void *ctx), void *ctx)
{
    soft_vm_set_pic_ack(softengine_vm(vm), ack, ctx);
}

int softengine_ioeventfd(struct cpu_vm *vm, gpa_t gpa, unsigned len, bool match, uint64_t val,
                         int fd, bool add)
{
    return -ENOTSUP;
}

int softengine_irqfd(struct cpu_vm *vm, unsigned gsi, const struct msi *m, int fd)
{
    return -ENOTSUP;
}

/* What may be written fast is not known to be logged. */
void softengine_mem_changed(struct cpu_vm *vm, bool dirty_log)
{
    soft_vm_mem_changed(softengine_vm(vm));
}

int softengine_dirty_sync(struct cpu_vm *vm, struct err *e)
{
    return 0;
}

int softengine_vcpu_new(struct cpu_vm *vm, unsigned index, struct vcpu **ret, struct err *e)
{
    return soft_vcpu_new(softengine_vm(vm), index, ret, e);
}
