/* A machine standing still: pause and resume, change of engine, save and load. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "mem/mem.h"
#include "state/state.h"
#include "vm/vm_private.h"

/* --- pause --------------------------------------------------------------- */

/* Posted by vm_pause(): finish what the devices have under way, then stand still. Runs with the
 * board's lock, which the wait gives up. */
static void io_freeze(void *ctx)
{
    struct vm *vm = ctx;

    board_drain(vm->board);
    vm->frozen = true;
    pthread_cond_broadcast(&vm->io_cond);
    while (vm->frozen)
        pthread_cond_wait(&vm->io_cond, &vm->lock);
}

static void unpark(struct vm *vm)
{
    pthread_mutex_lock(&vm->ctl);
    vm->paused = false;
    pthread_cond_broadcast(&vm->ctl_cond);
    pthread_mutex_unlock(&vm->ctl);
}

int vm_pause(struct vm *vm, struct err *e)
{
    if (vm->paused)
        return 0;
    pthread_mutex_lock(&vm->ctl);
    vm->paused = true;
    unsigned want = 0;
    for (unsigned i = 0; i < vm->n_cpus; i++)
        want += vm->cpu[i].started;
    pthread_cond_broadcast(&vm->ctl_cond);
    vm_kick_all(vm);
    while (vm->parked < want)
        pthread_cond_wait(&vm->ctl_cond, &vm->ctl);
    pthread_mutex_unlock(&vm->ctl);
    if (!vm->io_started)
        return 0;
    if (loop_post(vm->loop, io_freeze, vm) < 0) {
        unpark(vm);
        return err_set(e, -ENOMEM, "out of memory");
    }
    pthread_mutex_lock(&vm->lock);
    while (!vm->frozen)
        pthread_cond_wait(&vm->io_cond, &vm->lock);
    clock_stop(&vm->clock);
    pthread_mutex_unlock(&vm->lock);
    return 0;
}

int vm_resume(struct vm *vm, struct err *e)
{
    (void)e;
    if (!vm->paused)
        return 0;
    pthread_mutex_lock(&vm->lock);
    clock_start(&vm->clock);
    vm->frozen = false;
    pthread_cond_broadcast(&vm->io_cond);
    pthread_mutex_unlock(&vm->lock);
    loop_wake(vm->loop);
    unpark(vm);
    return 0;
}

/* --- state --------------------------------------------------------------- */

int vm_switch_engine(struct vm *vm, const char *name, struct err *e)
{
    const struct cpu_engine *eng, *old = vm->engine;
    struct cpu_state *s = NULL;
    struct cpu_vm *cpus = NULL;
    struct vcpu *v[VM_CPUS_MAX] = {NULL};
    int r = cpu_engine_pick(name, &eng, e);

    if (r < 0)
        return r;
    if (!vm->paused)
        return err_set(e, -EBUSY, "the machine must be paused to change its engine");
    s = aligned_alloc(64, (sizeof(*s) * vm->n_cpus + 63) / 64 * 64);
    if (!s)
        return err_set(e, -ENOMEM, "out of memory");
    bool log = vm->track.how == TRACK_LOG;
    if (log) /* what the old one alone knows to be written */
        r = old->vm_dirty_sync(vm->cpus, e);
    for (unsigned i = 0; r >= 0 && i < vm->n_cpus; i++)
        r = old->get(vm->cpu[i].v, &s[i], e);
    if (r >= 0)
        r = vm_make_cpus(vm, eng, &cpus, v, e);
    for (unsigned i = 0; cpus && r >= 0 && i < vm->n_cpus; i++)
        r = eng->set(v[i], &s[i], e);
    free(s);
    if (r < 0) {
        for (unsigned i = 0; cpus && i < vm->n_cpus; i++)
            eng->vcpu_free(v[i]);
        if (cpus)
            eng->vm_free(cpus);
        return err_wrap(e, r, "change to engine %s", name);
    }
    devices_unhook(vm);
    vm_free_cpus(vm);
    vm->engine = eng;
    vm->cpus = cpus;
    for (unsigned i = 0; i < vm->n_cpus; i++)
        vm->cpu[i].v = v[i];
    devices_hook(vm);
    if (log)
        eng->vm_mem_changed(cpus, true);
    eng->vm_extint(cpus, vm->extint);
    return 0;
}

int vm_check_whole(const struct vm *vm, struct err *e)
{
    if (!vm->served)
        return 0;
    return err_set(
        e, -ENOTSUP,
        "another process serves one of the machine's devices (vhost-user) and holds what "
        "belongs to it: such a machine cannot be saved or forked");
}

enum { STATE_VERSION = 1 };

/* One object for the whole machine but its RAM. Saving fills from the vCPUs, loading puts back. */
static void visit(struct vm *vm, struct state_io *io, struct err *e, int *failed)
{
    uint32_t version = STATE_VERSION, cpus = vm->n_cpus;
    uint64_t ram = mem_size(vm->mem);
    struct cpu_state *s = aligned_alloc(64, (sizeof(*s) + 63) / 64 * 64);

    if (!s) {
        *failed = err_set(e, -ENOMEM, "out of memory");
        return;
    }
    state_u32(io, 1, &version);
    state_u32(io, 2, &cpus);
    state_u64(io, 3, &ram);
    if (state_loading(io) && version != STATE_VERSION)
        state_fail(io, "state of version %u, this program reads %d", version, STATE_VERSION);
    if (state_loading(io) && (cpus != vm->n_cpus || ram != mem_size(vm->mem)))
        state_fail(io, "state of a machine with %u CPUs and %llu MiB does not fit this one", cpus,
                   (unsigned long long)(ram >> 20));
    state_begin(io, 4, "clock");
    clock_visit(&vm->clock, io);
    state_end(io);
    for (unsigned i = 0; !io->failed && !*failed && i < vm->n_cpus; i++) {
        memset(s, 0, sizeof(*s));
        if (io->saving)
            *failed = vm->engine->get(vm->cpu[i].v, s, e);
        state_begin(io, 5, "cpu");
        cpu_state_visit(s, io);
        state_end(io);
        if (state_loading(io) && (s->xcr0 & XCR0_AVX) && !vm->model.avx)
            state_fail(io, "CPU %u uses AVX, which this machine does not offer", i);
        if (state_loading(io))
            *failed = vm->engine->set(vm->cpu[i].v, s, e);
    }
    free(s);
    state_begin(io, 6, "board");
    board_visit(vm->board, io);
    state_end(io);
}

int vm_save(struct vm *vm, uint8_t **buf, size_t *len, struct err *e)
{
    struct state_io io;
    int failed = 0;

    if (!vm->paused && vm->io_started)
        return err_set(e, -EBUSY, "the machine must be paused to be saved");
    state_save_init(&io);
    pthread_mutex_lock(&vm->lock);
    visit(vm, &io, e, &failed);
    pthread_mutex_unlock(&vm->lock);
    if (failed < 0) {
        state_done(&io, NULL);
        return failed;
    }
    return state_take(&io, buf, len, e);
}

int vm_load(struct vm *vm, const void *buf, size_t len, struct err *e)
{
    struct state_io io;
    int failed = 0;

    if (!vm->paused && vm->io_started)
        return err_set(e, -EBUSY, "the machine must be paused to be loaded");
    state_load_init(&io, buf, len);
    pthread_mutex_lock(&vm->lock);
    bool running = !vm->clock.stopped;
    clock_stop(&vm->clock);
    visit(vm, &io, e, &failed);
    if (running)
        clock_start(&vm->clock);
    pthread_mutex_unlock(&vm->lock);
    if (failed < 0) {
        state_done(&io, NULL);
        return failed;
    }
    return state_done(&io, e);
}
