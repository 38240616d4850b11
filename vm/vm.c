#include "vm/vm.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/sysinfo.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "fs/fusefs.h"
#include "machine/board.h"
#include "mem/mem.h"
#include "os/loop.h"
#include "vm/devices.h"
#include "vm/lazymem.h"
#include "vm/vm_private.h"

/* --- how a machine ends -------------------------------------------------- */

/* The first reason counts. Async-signal-safe. */
static void vm_end(struct vm *vm, enum vm_end why, uint32_t value)
{
    int running = VM_RUNNING;
    uint64_t one = 1;

    if (why == VM_EXIT_PORT && atomic_load(&vm->end) == VM_RUNNING)
        atomic_store(&vm->end_value, value);
    if (!atomic_compare_exchange_strong(&vm->end, &running, (int)why))
        return;
    ssize_t r = write(vm->end_fd, &one, sizeof(one));
    (void)r;
}

static void vm_failed(struct vm *vm, const struct err *e)
{
    pthread_mutex_lock(&vm->lock);
    if (!vm->end_err.code)
        vm->end_err = *e;
    pthread_mutex_unlock(&vm->lock);
    vm_end(vm, VM_FAILED, 0);
}

void vm_lost(void *ctx, const struct err *e)
{
    struct vm *vm = ctx;

    (void)e; /* lazymem_wait() tells it */
    vm_end(vm, VM_FAILED, 0);
    vm_kick_all(vm);
}

int vm_whole(struct vm *vm, struct err *e)
{
    return vm->lazy ? lazymem_wait(vm->lazy, e) : 0;
}

static void on_reset(void *ctx)
{
    vm_end(ctx, VM_RESET, 0);
}

static void on_poweroff(void *ctx)
{
    vm_end(ctx, VM_POWEROFF, 0);
}

static void on_exit_port(void *ctx, uint32_t value)
{
    vm_end(ctx, VM_EXIT_PORT, value);
}

void vm_stop(struct vm *vm)
{
    vm_end(vm, VM_STOPPED, 0);
}

int vm_end_fd(const struct vm *vm)
{
    return vm->end_fd;
}

enum vm_end vm_wait(struct vm *vm, int timeout_ms, uint32_t *value, struct err *e)
{
    struct pollfd p = {.fd = vm->end_fd, .events = POLLIN};

    while (atomic_load(&vm->end) == VM_RUNNING) {
        int r = poll(&p, 1, timeout_ms);

        if (r == 0)
            return VM_RUNNING;
        if (r < 0 && errno == EINTR && timeout_ms >= 0)
            return VM_RUNNING; /* the caller counts its own time */
    }
    enum vm_end end = (enum vm_end)atomic_load(&vm->end);
    if (value)
        *value = atomic_load(&vm->end_value);
    if (end == VM_FAILED && e) {
        pthread_mutex_lock(&vm->lock);
        *e = vm->end_err;
        pthread_mutex_unlock(&vm->lock);
        if (e->code == 0)
            (void)!vm_whole(vm, e);
    }
    return end;
}

/* --- between board and engine -------------------------------------------- */

static void send_msi(void *ctx, struct msi m)
{
    struct vm *vm = ctx;

    vm->engine->vm_msi(vm->cpus, m);
}

static void set_extint(void *ctx, unsigned n, bool level)
{
    struct vm *vm = ctx;

    (void)n;
    vm->extint = level;
    vm->engine->vm_extint(vm->cpus, level);
}

/* The engine calls this on a vCPU's thread, outside the board's lock. */
static int pic_ack(void *ctx)
{
    struct vm *vm = ctx;

    pthread_mutex_lock(&vm->lock);
    int vector = board_pic_ack(vm->board);
    pthread_mutex_unlock(&vm->lock);
    return vector;
}

static void do_pio(struct vm *vm, struct cpu_exit *x)
{
    uint8_t *p = x->u.pio.data;
    unsigned len = x->u.pio.len;

    for (uint32_t i = 0; i < x->u.pio.count; i++, p += len) {
        uint64_t v = 0;

        if (x->u.pio.write) {
            memcpy(&v, p, len);
            bus_write(board_pio(vm->board), x->u.pio.port, len, v);
        } else {
            v = bus_read(board_pio(vm->board), x->u.pio.port, len);
            memcpy(p, &v, len);
        }
    }
}

static void do_mmio(struct vm *vm, struct cpu_exit *x)
{
    struct bus *bus = board_mmio(vm->board);

    if (x->u.mmio.write)
        bus_write(bus, x->u.mmio.gpa, x->u.mmio.len, x->u.mmio.val);
    else
        x->u.mmio.val = bus_read(bus, x->u.mmio.gpa, x->u.mmio.len);
}

/* Answer one exit. False: this machine is over. */
static bool answer(struct vm *vm, struct cpu_exit *x)
{
    struct err e = {0};

    switch (x->kind) {
    case CPU_EXIT_KICKED:
        return true;
    case CPU_EXIT_SHUTDOWN:
        vm_end(vm, VM_SHUTDOWN, 0);
        return false;
    case CPU_EXIT_STUCK:
        err_set(&e, -EIO, "%s", x->u.stuck.why);
        vm_failed(vm, &e);
        return false;
    case CPU_EXIT_PIO:
    case CPU_EXIT_MMIO:
    case CPU_EXIT_EOI:
        break;
    }
    pthread_mutex_lock(&vm->lock);
    if (x->kind == CPU_EXIT_PIO)
        do_pio(vm, x);
    else if (x->kind == CPU_EXIT_MMIO)
        do_mmio(vm, x);
    else
        board_eoi(vm->board, x->u.eoi.vector);
    pthread_mutex_unlock(&vm->lock);
    return true;
}

/* --- vCPU threads -------------------------------------------------------- */

/* Wait while the machine is paused. False: leave the thread. */
static bool vcpu_may_run(struct vm *vm)
{
    pthread_mutex_lock(&vm->ctl);
    if (vm->paused) {
        vm->parked++;
        pthread_cond_broadcast(&vm->ctl_cond);
        while (vm->paused && !vm->quit)
            pthread_cond_wait(&vm->ctl_cond, &vm->ctl);
        vm->parked--;
    }
    bool go = !vm->quit;
    pthread_mutex_unlock(&vm->ctl);
    return go;
}

static void *vcpu_main(void *arg)
{
    struct vm_cpu *c = arg;
    struct vm *vm = c->vm;
    struct cpu_exit x = {.kind = CPU_EXIT_KICKED};
    struct err e = {0};

    thread_enter(vm->hook, THREAD_VCPU);
    for (;;) {
        /* Only here is no answer outstanding, so only here the state is whole. */
        if (x.kind == CPU_EXIT_KICKED && !vcpu_may_run(vm))
            return NULL;
        if (vm->engine->run(c->v, &x, &e) < 0) {
            vm_failed(vm, &e);
            break;
        }
        if (!answer(vm, &x))
            break;
    }
    /* The machine has ended, but the thread must still park and quit on request. */
    while (vcpu_may_run(vm)) {
        pthread_mutex_lock(&vm->ctl);
        while (!vm->paused && !vm->quit)
            pthread_cond_wait(&vm->ctl_cond, &vm->ctl);
        pthread_mutex_unlock(&vm->ctl);
    }
    return NULL;
}

void vm_kick_all(struct vm *vm)
{
    for (unsigned i = 0; i < vm->n_cpus; i++) {
        if (vm->cpu[i].v)
            vm->engine->kick(vm->cpu[i].v);
    }
}

/* --- I/O thread ---------------------------------------------------------- */

static void timers_sooner(void *ctx)
{
    struct vm *vm = ctx;

    loop_wake(vm->loop);
}

/* Machine time of the next timer, as the host's monotonic time. */
static uint64_t timers_next(void *ctx)
{
    struct vm *vm = ctx;
    ns_t at = timerq_next(&vm->timers);

    if (at == TIMER_NEVER || vm->clock.stopped)
        return UINT64_MAX;
    return at > UINT64_MAX - 1 - vm->clock.ns_off ? UINT64_MAX - 1 : at + vm->clock.ns_off;
}

static void timers_due(void *ctx)
{
    struct vm *vm = ctx;

    timerq_run(&vm->timers, clock_ns(&vm->clock));
}

static void *io_main(void *arg)
{
    struct vm *vm = arg;

    thread_enter(vm->hook, THREAD_IO);
    loop_run(vm->loop);
    return NULL;
}

/* --- making -------------------------------------------------------------- */

static int check_conf(const struct vm_conf *c, struct err *e)
{
    struct sysinfo si;

    if (c->cpus < 1 || c->cpus > VM_CPUS_MAX)
        return err_set(e, -EINVAL, "%u CPUs: a machine has 1 to %d", c->cpus, VM_CPUS_MAX);
    if (c->ram_bytes < (uint64_t)VM_RAM_MIN_MIB << 20 || c->ram_bytes > MEM_SIZE_MAX)
        return err_set(e, -EINVAL, "%llu MiB of memory: a machine has %d MiB to %llu MiB",
                       (unsigned long long)(c->ram_bytes >> 20), VM_RAM_MIN_MIB,
                       (unsigned long long)(MEM_SIZE_MAX >> 20));
    if (sysinfo(&si) == 0) {
        uint64_t host = ((uint64_t)si.totalram + si.totalswap) * si.mem_unit;

        if (c->ram_bytes > host)
            return err_set(e, -ENOMEM, "%llu MiB of memory wanted, but this host has only %llu MiB",
                           (unsigned long long)(c->ram_bytes >> 20),
                           (unsigned long long)(host >> 20));
    }
    return 0;
}

static struct cpu_vm_conf cpus_conf(struct vm *vm)
{
    return (struct cpu_vm_conf){
        .mem = vm->mem,
        .clock = &vm->clock,
        .timers = &vm->timers,
        .model = &vm->model,
        .code_cache_bytes = vm->code_cache_bytes,
        .perf_map = vm->perf_map,
        .differs = vm->differs,
        .differs_ctx = vm->differs_ctx,
        .host_fd = vm->host_fd,
        .count_insns = vm->count_insns,
    };
}

int vm_make_cpus(struct vm *vm, const struct cpu_engine *eng, struct cpu_vm **cpus, struct vcpu **v,
                 struct err *e)
{
    struct cpu_vm_conf c = cpus_conf(vm);
    int r = eng->vm_new(&c, cpus, e);

    if (r < 0)
        return r;
    eng->vm_set_pic_ack(*cpus, pic_ack, vm);
    for (unsigned i = 0; i < vm->n_cpus; i++) {
        r = eng->vcpu_new(*cpus, i, &v[i], e);
        if (r < 0) {
            while (i-- > 0)
                eng->vcpu_free(v[i]);
            eng->vm_free(*cpus);
            return err_wrap(e, r, "CPU %u", i);
        }
    }
    return 0;
}

void vm_free_cpus(struct vm *vm)
{
    for (unsigned i = 0; i < vm->n_cpus; i++) {
        if (vm->cpu[i].v)
            vm->engine->vcpu_free(vm->cpu[i].v);
        vm->cpu[i].v = NULL;
    }
    if (vm->cpus)
        vm->engine->vm_free(vm->cpus);
    vm->cpus = NULL;
}

static int make_board(struct vm *vm, struct err *e)
{
    struct board_conf bc = {
        .mem = vm->mem,
        .clock = &vm->clock,
        .timers = &vm->timers,
        .model = &vm->model,
        .msi = {.send = send_msi, .ctx = vm},
        .pic_out = {.set = set_extint, .ctx = vm},
        .events = {.reset = on_reset,
                   .poweroff = on_poweroff,
                   .exit_port = on_exit_port,
                   .ctx = vm},
        .serial_out = devices_serial_out,
        .serial_room = devices_serial_room,
        .serial_ctx = &vm->dev,
    };

    return board_new(&bc, &vm->board, e);
}

/* Such a back end maps all of RAM. */
static bool is_served(const struct vm_conf *c)
{
    for (unsigned i = 0; i < c->n_disks; i++)
        if (c->disk[i].vhost)
            return true;
    for (unsigned i = 0; i < c->n_nets; i++)
        if (c->net[i].kind == VM_NET_VHOST)
            return true;
    return false;
}

/* RAM and CPU model: new ones, or those of a machine that ran before. */
static int make_base(struct vm *vm, const struct vm_conf *c, struct mem *mem,
                     const struct shape *like, struct err *e)
{
    int r = like ? shape_copy(&vm->shape, like, e) : shape_init(&vm->shape, c, e);

    vm->mem = mem;
    if (r == 0 && !mem) {
        vm->mem = mem_new(c->ram_bytes, e);
        r = vm->mem ? 0 : -ENOMEM;
    }
    vm->served = is_served(c);
    if (r == 0 && vm->served)
        r = mem_share(vm->mem, e);
    if (r == 0)
        r = cpu_model_init(&vm->model, c->cpus, vm->clock.tsc_khz, e);
    if (r == 0 && like)
        r = cpu_model_restrict(&vm->model, &like->features, e);
    if (r < 0)
        return r;
    cpu_model_features(&vm->model, &vm->shape.features);
    vm->shape.tsc_khz = vm->clock.tsc_khz;
    vm->shape.vsock_cid = c->vsock_cid;
    vm->loop = loop_new(&vm->lock, e);
    if (vm->loop)
        loop_set_hook(vm->loop, vm->hook);
    return vm->loop ? 0 : -ENOMEM;
}

int vm_new(const struct vm_conf *c, struct vm **ret, struct err *e)
{
    return vm_build(c, NULL, NULL, ret, e);
}

int vm_build(const struct vm_conf *c, struct mem *mem, const struct shape *like, struct vm **ret,
             struct err *e)
{
    const struct cpu_engine *eng = NULL;
    struct vcpu *v[VM_CPUS_MAX] = {NULL};
    int r = check_conf(c, e);

    if (r == 0 && c->host_fd > 0) /* a copy of a machine that runs on it */
        eng = cpu_engine_named(c->engine);
    if (r == 0 && !eng)
        r = cpu_engine_pick(c->engine ? c->engine : "auto", &eng, e);
    struct vm *vm = r < 0 ? NULL : calloc(1, sizeof(*vm));
    if (!vm) {
        mem_free(mem);
        return r < 0 ? r : err_set(e, -ENOMEM, "out of memory");
    }
    vm->engine = eng;
    vm->n_cpus = c->cpus;
    vm->code_cache_bytes = c->code_cache_bytes;
    vm->perf_map = c->perf_map;
    vm->differs = c->differs;
    vm->differs_ctx = c->differs_ctx;
    vm->count_insns = c->count_insns;
    vm->no_sockets = c->no_sockets;
    vm->host_fd = c->host_fd;
    vm->vhost_dial = c->vhost_dial;
    vm->hook = c->hook;
    pthread_mutex_init(&vm->lock, NULL);
    pthread_cond_init(&vm->io_cond, NULL);
    pthread_mutex_init(&vm->ctl, NULL);
    pthread_cond_init(&vm->ctl_cond, NULL);
    timerq_init(&vm->timers, timers_sooner, vm);
    for (unsigned i = 0; i < VM_DISKS_MAX; i++)
        vm->disk_fd[i] = -1;
    clock_init(&vm->clock, clock_host(), like ? like->tsc_khz : 0);
    vm->end_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (vm->end_fd < 0) {
        r = err_errno(e, -errno, "make an event descriptor");
        mem_free(mem);
        vm_free(vm);
        return r;
    }
    r = make_base(vm, c, mem, like, e);
    if (r >= 0)
        r = vm_make_cpus(vm, eng, &vm->cpus, v, e);
    for (unsigned i = 0; r >= 0 && i < vm->n_cpus; i++)
        vm->cpu[i] = (struct vm_cpu){.vm = vm, .v = v[i]};
    if (r >= 0)
        r = make_board(vm, e);
    if (r >= 0) {
        loop_set_timeout(vm->loop, timers_next, timers_due, vm);
        r = devices_add(vm, c, e);
    }
    if (r >= 0)
        r = vm_boot(vm, c, e);
    if (r >= 0)
        mem_keep_pagemap(vm->mem);
    if (r < 0) {
        vm_free(vm);
        return r;
    }
    *ret = vm;
    return 0;
}

int vm_start(struct vm *vm, struct err *e)
{
    int r = vm->lazy ? lazymem_go(vm->lazy, vm->hook, e) : 0;

    if (r < 0)
        return r;
    r = pthread_create(&vm->io, NULL, io_main, vm);
    if (r)
        return err_errno(e, -r, "start the I/O thread");
    vm->io_started = true;
    for (unsigned i = 0; i < vm->n_cpus; i++) {
        r = pthread_create(&vm->cpu[i].thread, NULL, vcpu_main, &vm->cpu[i]);
        if (r)
            return err_errno(e, -r, "start the thread of CPU %u", i);
        vm->cpu[i].started = true;
    }
    return 0;
}

static void stop_threads(struct vm *vm)
{
    pthread_mutex_lock(&vm->ctl);
    vm->quit = true;
    pthread_cond_broadcast(&vm->ctl_cond);
    pthread_mutex_unlock(&vm->ctl);
    /* A device handler may be waiting in io_freeze(). */
    pthread_mutex_lock(&vm->lock);
    vm->frozen = false;
    pthread_cond_broadcast(&vm->io_cond);
    pthread_mutex_unlock(&vm->lock);
    for (unsigned i = 0; i < vm->n_cpus; i++) {
        if (!vm->cpu[i].started)
            continue;
        vm->engine->kick(vm->cpu[i].v);
        pthread_join(vm->cpu[i].thread, NULL);
        vm->cpu[i].started = false;
    }
    if (vm->io_started) {
        loop_stop(vm->loop);
        pthread_join(vm->io, NULL);
        vm->io_started = false;
    }
}

void vm_free(struct vm *vm)
{
    if (!vm)
        return;
    stop_threads(vm);
    lazymem_free(vm->lazy); /* no earlier: a thread may stand for a page */
    if (vm->board)
        board_drain(vm->board);
    devices_remove(vm);
    board_free(vm->board);
    devices_done(vm);
    vm_free_cpus(vm);
    loop_free(vm->loop);
    timerq_done(&vm->timers);
    mem_free(vm->mem);
    for (unsigned i = 0; i < VM_DISKS_MAX; i++)
        cleanup_fd(&vm->disk_fd[i]);
    shape_done(&vm->shape);
    free(vm->track.more);
    if (vm->end_fd >= 0)
        close(vm->end_fd);
    pthread_mutex_destroy(&vm->lock);
    pthread_cond_destroy(&vm->io_cond);
    pthread_mutex_destroy(&vm->ctl);
    pthread_cond_destroy(&vm->ctl_cond);
    free(vm);
}

unsigned vm_conf_fds(const struct vm_conf *c, int fd[VM_CONF_FDS_MAX])
{
    unsigned n = 0;

    fd[n++] = c->initrd_fd;
    fd[n++] = c->vsock_client > 0 ? c->vsock_client : -1;
    fd[n++] = c->vsock_listen > 0 ? c->vsock_listen : -1;
    for (unsigned i = 0; i < c->n_disks; i++) {
        if (c->disk[i].opened)
            fd[n++] = c->disk[i].fd;
        if (c->disk[i].vhost && !c->disk[i].vhost_socket)
            fd[n++] = c->disk[i].vhost_fd;
    }
    for (unsigned i = 0; i < c->n_shares; i++) {
        if (!c->share[i].opened)
            continue;
        fd[n++] = c->share[i].fd;
        fd[n++] = c->share[i].proc_fd;
    }
    for (unsigned i = 0; i < c->n_nets; i++) {
        const struct vm_net *w = &c->net[i];
        unsigned k = w->kind == VM_NET_TAP ? (w->pairs ? w->pairs : 1) : 1;

        if (w->kind == VM_NET_NONE || (w->kind == VM_NET_VHOST && w->vhost_socket))
            k = 0;
        for (unsigned q = 0; q < k; q++)
            fd[n++] = w->fd[q];
    }
    return n;
}

void vm_alone(struct vm *vm)
{
    if (vm->lazy)
        lazymem_hold(vm->lazy);
}

unsigned vm_fences(const struct vm *vm, struct vm_fence out[VM_SHARES_MAX])
{
    unsigned n = 0;

    for (unsigned i = 0; i < vm->shape.n_shares; i++) {
        const struct shape_share *s = &vm->shape.share[i];
        struct vm_fence *f = &out[n];

        if (!s->path)
            continue;
        *f = (struct vm_fence){.path = s->path, .read_only = s->read_only};
        fusefs_fds(vm->share[i], &f->fd, &f->proc_fd);
        n++;
    }
    return n;
}

const char *vm_disk_path(const struct vm *vm, unsigned i)
{
    return vm->shape.disk[i].path;
}

uint32_t vm_own_disks(const struct vm *vm)
{
    uint32_t own = 0;

    for (unsigned i = 0; i < vm->shape.n_disks; i++)
        own |= (uint32_t)shape_own_disk(&vm->shape.disk[i]) << i;
    return own;
}

const char *vm_engine(const struct vm *vm)
{
    return vm->engine->name;
}

struct mem *vm_mem(struct vm *vm)
{
    return vm->mem;
}

int vm_cpu_state(struct vm *vm, unsigned cpu, struct cpu_state *s, struct err *e)
{
    if (cpu >= vm->n_cpus)
        return err_set(e, -EINVAL, "no CPU %u", cpu);
    return vm->engine->get(vm->cpu[cpu].v, s, e);
}
