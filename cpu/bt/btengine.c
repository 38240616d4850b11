/* The engine object: the software machine of cpu/soft with the translator's loop. What does not
 * depend on how instructions run is the interpreter's. */
#include <errno.h>
#include <unistd.h>
#include <sys/syscall.h>

#include "cpu/bt/bt_engine.h"

static struct soft_vm *soft_of(struct cpu_vm *vm)
{
    return (struct soft_vm *)vm;
}

static int probe(bool *hw, struct err *e)
{
    *hw = false;
    return 0;
}

static void vm_free(struct cpu_vm *vm)
{
    if (!vm)
        return;
    bt_vm_done(soft_of(vm));
    soft_vm_free(soft_of(vm));
}

static int vm_new(const struct cpu_vm_conf *conf, struct cpu_vm **ret, struct err *e)
{
    struct soft_vm *vm;
    int r = soft_vm_new(conf, &bt_ops, &vm, e);

    if (r < 0)
        return r;
    r = bt_vm_init(vm, e);
    if (r < 0) {
        vm_free((struct cpu_vm *)vm);
        return r;
    }
    *ret = (struct cpu_vm *)vm;
    return 0;
}

static void vm_msi(struct cpu_vm *vm, struct msi m)
{
    cpu_interp.vm_msi(vm, m);
}

static void vm_extint(struct cpu_vm *vm, bool level)
{
    cpu_interp.vm_extint(vm, level);
}

static void vm_set_pic_ack(struct cpu_vm *vm, int (*ack)(void *ctx), void *ctx)
{
    cpu_interp.vm_set_pic_ack(vm, ack, ctx);
}

static int vm_ioeventfd(struct cpu_vm *vm, gpa_t gpa, unsigned len, bool match, uint64_t val,
                        int fd, bool add)
{
    return -ENOTSUP;
}

static int vm_irqfd(struct cpu_vm *vm, unsigned gsi, const struct msi *m, int fd)
{
    return -ENOTSUP;
}

static void vm_mem_changed(struct cpu_vm *vm, bool dirty_log)
{
    cpu_interp.vm_mem_changed(vm, dirty_log);
}

static int vm_dirty_sync(struct cpu_vm *vm, struct err *e)
{
    return 0;
}

static int vcpu_new(struct cpu_vm *vm, unsigned index, struct vcpu **ret, struct err *e)
{
    return soft_vcpu_new(soft_of(vm), index, ret, e);
}

const struct cpu_engine cpu_bt = {
    .name = "bt",
    .probe = probe,
    .vm_new = vm_new,
    .vm_free = vm_free,
    .vm_msi = vm_msi,
    .vm_extint = vm_extint,
    .vm_set_pic_ack = vm_set_pic_ack,
    .vm_ioeventfd = vm_ioeventfd,
    .vm_irqfd = vm_irqfd,
    .vm_mem_changed = vm_mem_changed,
    .vm_dirty_sync = vm_dirty_sync,
    .vcpu_new = vcpu_new,
    .vcpu_free = soft_vcpu_free,
    .run = soft_run,
    .kick = soft_kick,
    .get = soft_get,
    .set = soft_set,
    .stats = bt_stats,
};
