/* Translated code that outlives its machine. */
#include <errno.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "mem/mem.h"
#include "vm/vm_private.h"

static int check(const struct vm *vm, struct err *e)
{
    if (!vm->engine->vm_code_save)
        return err_set(e, -ENOTSUP, "engine %s keeps no code", vm->engine->name);
    if (!vm->paused)
        return err_set(e, -EBUSY, "the machine must be paused for its code to be kept");
    return 0;
}

int vm_code_share(struct vm *vm, int fd, struct err *e)
{
    int r = check(vm, e);

    return r < 0 ? r : vm->engine->vm_code_save(vm->cpus, NULL, fd, e);
}

int vm_code_save(struct vm *vm, int fd, struct err *e)
{
    int r = check(vm, e);

    if (r < 0)
        return r;
    CLEANUP(mem) uint64_t *written = calloc((size_t)(mem_pages(vm->mem) + 63) / 64, 8);
    if (!written)
        return err_set(e, -ENOMEM, "out of memory");
    r = mem_written(vm->mem, written, e);
    return r < 0 ? r : vm->engine->vm_code_save(vm->cpus, written, fd, e);
}

int vm_code_load(struct vm *vm, int fd, struct err *e)
{
    if (!vm->engine->vm_code_load)
        return err_set(e, -ENOTSUP, "engine %s keeps no code", vm->engine->name);
    return vm->engine->vm_code_load(vm->cpus, fd, e);
}
