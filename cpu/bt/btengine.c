/* The engine object: the software machine of cpu/soft with the translator's loop. */
#include "cpu/bt/bt_engine.h"
#include "cpu/bt/btkeep.h"
#include "cpu/soft/softengine.h"

static void vm_free(struct cpu_vm *vm)
{
    if (!vm)
        return;
    bt_vm_done(softengine_vm(vm));
    soft_vm_free(softengine_vm(vm));
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

static int code_save(struct cpu_vm *vm, const uint64_t *written, int fd, struct err *e)
{
    return btkeep_save(softengine_vm(vm)->engine, written, fd, e);
}

static int code_load(struct cpu_vm *vm, int fd, struct err *e)
{
    return btkeep_load(softengine_vm(vm)->engine, fd, e);
}

const struct cpu_engine cpu_bt = {
    .name = "bt",
    .probe = softengine_probe,
    .vm_new = vm_new,
    .vm_free = vm_free,
    .vm_msi = softengine_msi,
    .vm_extint = softengine_extint,
    .vm_set_pic_ack = softengine_set_pic_ack,
    .vm_ioeventfd = softengine_ioeventfd,
    .vm_irqfd = softengine_irqfd,
    .vm_mem_changed = softengine_mem_changed,
    .vm_dirty_sync = softengine_dirty_sync,
    .vm_code_save = code_save,
    .vm_code_load = code_load,
    .vcpu_new = softengine_vcpu_new,
    .vcpu_free = soft_vcpu_free,
    .run = soft_run,
    .kick = soft_kick,
    .get = soft_get,
    .set = soft_set,
    .stats = bt_stats,
    .fallbacks = bt_fallbacks,
};
