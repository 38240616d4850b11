#include "cpu/kvm/kvm.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"

/* --- getting a vCPU out of the kernel -------------------------------------
 *
 * immediate_exit stops the next KVM_RUN, a signal the one under way (api 5). The signal must have a
 * handler, or it would end the process or be ignored; this one does nothing. It is a real-time
 * signal, which nobody else uses by accident, and is sent to one thread only. */

static int kick_signal(void)
{
    return SIGRTMIN + 1;
}

static void on_kick(int sig)
{
    (void)sig;
}

static void install_handler(void)
{
    struct sigaction now, sa = {.sa_handler = on_kick, .sa_flags = SA_RESTART};

    if (sigaction(kick_signal(), NULL, &now) == 0 && now.sa_handler == SIG_DFL)
        (void)sigaction(kick_signal(), &sa, NULL);
}

static pthread_once_t handler_once = PTHREAD_ONCE_INIT;

static void set_immediate_exit(struct kvm_cpu *v, uint8_t val)
{
    __atomic_store_n(&v->run->immediate_exit, val, __ATOMIC_SEQ_CST);
}

void kvmvcpu_poke(struct kvm_cpu *v)
{
    set_immediate_exit(v, 1);
    if (atomic_load(&v->in_kernel))
        (void)syscall(SYS_tgkill, getpid(), atomic_load(&v->tid), kick_signal());
}

void kvmvcpu_kick(struct kvm_cpu *v)
{
    atomic_store(&v->kicked, true);
    kvmvcpu_poke(v);
}

/* The thread that calls run() takes the signal. */
static void own_thread(struct kvm_cpu *v)
{
    int tid = (int)syscall(SYS_gettid);

    if (atomic_load(&v->tid) == tid)
        return;
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, kick_signal());
    pthread_sigmask(SIG_UNBLOCK, &set, NULL);
    atomic_store(&v->tid, tid);
}

/* KVM_RUN: 0 or a negative errno. Whoever sets immediate_exit before in_kernel is seen is seen by
 * the kernel's first look at it; whoever comes later sees in_kernel and signals. */
static int enter(struct kvm_cpu *v)
{
    atomic_store(&v->in_kernel, true);
    int r = ioctl(v->fd, KVM_RUN, NULL) < 0 ? -errno : 0;
    atomic_store(&v->in_kernel, false);
    return r;
}

/* Was it a kick? One that comes after immediate_exit is cleared sets it again. */
static bool take_kick(struct kvm_cpu *v)
{
    set_immediate_exit(v, 0);
    return atomic_exchange(&v->kicked, false);
}

/* ready_for_interrupt_injection is of the last return from KVM_RUN; after state was set, entering
 * and leaving at once renews it. */
void kvmvcpu_refresh_window(struct kvm_cpu *v)
{
    if (v->window_fresh)
        return;
    set_immediate_exit(v, 1);
    (void)enter(v);
    set_immediate_exit(v, 0);
    if (atomic_load(&v->kicked))
        set_immediate_exit(v, 1);
    v->window_fresh = true;
}

/* --- exits --------------------------------------------------------------- */

/* The next piece of run->mmio, of a length the bus knows: KVM splits an access that crosses a page
 * into any two lengths. */
static int mmio_piece(struct kvm_cpu *v, struct cpu_exit *x)
{
    const __typeof__(v->run->mmio) *m = &v->run->mmio;
    unsigned left = m->len - v->mmio_pos, len = 8;

    while (len > left)
        len /= 2;
    x->kind = CPU_EXIT_MMIO;
    x->u.mmio.gpa = m->phys_addr + v->mmio_pos;
    x->u.mmio.len = (uint8_t)len;
    x->u.mmio.write = m->is_write;
    x->u.mmio.val = 0;
    if (m->is_write)
        memcpy(&x->u.mmio.val, m->data + v->mmio_pos, len);
    v->mmio_open = true;
    return 1;
}

int kvmvcpu_answer(struct kvm_cpu *v, struct cpu_exit *x)
{
    if (!v->mmio_open)
        return 0;
    if (!v->run->mmio.is_write)
        memcpy(v->run->mmio.data + v->mmio_pos, &x->u.mmio.val, x->u.mmio.len);
    v->mmio_pos += x->u.mmio.len;
    v->mmio_open = false;
    return v->mmio_pos < v->run->mmio.len ? mmio_piece(v, x) : 0;
}

static int pio(struct kvm_cpu *v, struct cpu_exit *x)
{
    const __typeof__(v->run->io) *io = &v->run->io;

    x->kind = CPU_EXIT_PIO;
    x->u.pio.port = io->port;
    x->u.pio.len = io->size;
    x->u.pio.write = io->direction == KVM_EXIT_IO_OUT;
    x->u.pio.count = io->count;
    x->u.pio.data = (uint8_t *)v->run + io->data_offset;
    return 1;
}

__attribute__((format(printf, 3, 4))) static int stuck(struct kvm_cpu *v, struct cpu_exit *x,
                                                       const char *fmt, ...)
{
    struct kvm_regs r = {0};
    va_list ap;

    x->kind = CPU_EXIT_STUCK;
    va_start(ap, fmt);
    int n = vsnprintf(x->u.stuck.why, sizeof(x->u.stuck.why), fmt, ap);
    va_end(ap);
    if (n > 0 && (size_t)n < sizeof(x->u.stuck.why) && kvm_ioctl(v->fd, KVM_GET_REGS, &r) == 0)
        snprintf(x->u.stuck.why + n, sizeof(x->u.stuck.why) - (size_t)n, " at rip %#llx", r.rip);
    return 1;
}

int kvmvcpu_exit(struct kvm_cpu *v, struct cpu_exit *x, struct err *e)
{
    const struct kvm_run *run = v->run;

    switch (run->exit_reason) {
    case KVM_EXIT_IO:
        return pio(v, x);
    case KVM_EXIT_MMIO:
        v->mmio_pos = 0;
        return mmio_piece(v, x);
    case KVM_EXIT_IOAPIC_EOI:
        x->kind = CPU_EXIT_EOI;
        x->u.eoi.vector = run->eoi.vector;
        return 1;
    case KVM_EXIT_SHUTDOWN:
        x->kind = CPU_EXIT_SHUTDOWN;
        return 1;
    case KVM_EXIT_INTR:
    case KVM_EXIT_IRQ_WINDOW_OPEN:
        return 0;
    case KVM_EXIT_INTERNAL_ERROR:
        if (run->internal.suberror == KVM_INTERNAL_ERROR_EMULATION)
            return kvmemu_one(v, x, e);
        return stuck(v, x, "kvm: internal error, suberror %u", run->internal.suberror);
    case KVM_EXIT_FAIL_ENTRY:
        return stuck(v, x, "kvm: the CPU refuses to enter the guest, reason %#llx",
                     run->fail_entry.hardware_entry_failure_reason);
    default:
        return stuck(v, x, "kvm: exit reason %u is not known", run->exit_reason);
    }
}

/* Enter once. 1 = *x is an exit; 0 = again. */
static int step(struct kvm_cpu *v, struct cpu_exit *x, struct err *e)
{
    int r;

    if (v->eoi_due >= 0) {
        x->kind = CPU_EXIT_EOI;
        x->u.eoi.vector = (uint8_t)v->eoi_due;
        v->eoi_due = -1;
        return 1;
    }
    if (atomic_load(&v->vm->extint)) {
        r = kvmirq_offer_extint(v, e);
        if (r < 0)
            return r;
    } else {
        v->run->request_interrupt_window = 0;
    }
    r = enter(v);
    v->window_fresh = true;
    if (r == 0)
        return kvmvcpu_exit(v, x, e);
    if (r != -EINTR && r != -EAGAIN)
        return err_errno(e, -EIO, "cpu %u: KVM_RUN: %s", v->index, strerror(-r));
    if (!take_kick(v))
        return 0;
    x->kind = CPU_EXIT_KICKED;
    return 1;
}

int kvmvcpu_run(struct kvm_cpu *v, struct cpu_exit *x, struct err *e)
{
    own_thread(v);
    int r = kvm_sync_time(v, e);
    if (r == 0)
        r = kvmemu_open(v) ? kvmemu_one(v, x, e) : kvmvcpu_answer(v, x);
    while (r == 0)
        r = step(v, x, e);
    if (r < 0)
        return r;
    v->stats.exits[x->kind]++;
    return 0;
}

/* --- making one ---------------------------------------------------------- */

/* The bits of a feature leaf that only work if KVM knows of them (control register bits, MSRs,
 * instructions it emulates); the model may offer more than a KVM in software has. */
static uint32_t *feature_words(struct kvm_cpuid_entry2 *d, unsigned n, uint32_t leaf, uint32_t sub)
{
    for (unsigned i = 0; i < n; i++) {
        if (d[i].function == leaf && d[i].index == sub)
            return &d[i].eax;
    }
    return NULL;
}

static const struct {
    uint32_t leaf, sub, ours[4]; /* eax..edx: bits that KVM's table does not decide */
    bool mask[4];
} feature_leaf[] = {
    /* x2APIC, TSC deadline, OSXSAVE, hypervisor: the LAPIC's, or of the moment */
    {1, 0, {0, 0, 1u << 21 | 1u << 24 | 1u << 27 | 1u << 31, 0}, {false, false, true, true}},
    {7, 0, {0}, {false, true, true, true}},
    {0xd, 1, {0}, {true, false, false, false}},
    {0x80000001, 0, {0}, {false, false, true, true}},
    {0x40000001, 0, {0}, {true, false, false, false}},
};

static void mask_features(struct kvm_cpuid2 *t, struct kvm_cpuid2 *host)
{
    for (size_t i = 0; i < ARRAY_LEN(feature_leaf); i++) {
        uint32_t *w = feature_words(t->entries, t->nent, feature_leaf[i].leaf, feature_leaf[i].sub);
        const uint32_t *h =
            feature_words(host->entries, host->nent, feature_leaf[i].leaf, feature_leaf[i].sub);

        for (unsigned j = 0; w && j < 4; j++) {
            if (feature_leaf[i].mask[j])
                w[j] &= (h ? h[j] : 0) | feature_leaf[i].ours[j];
        }
    }
}

static int set_cpuid(struct kvm_cpu *v, struct err *e)
{
    enum { HOST_ROWS = 256 };
    const struct cpu_model *m = v->vm->c.model;
    CLEANUP(mem)
    struct kvm_cpuid2 *host = calloc(1, sizeof(*host) + HOST_ROWS * sizeof(host->entries[0]));
    CLEANUP(mem)
    struct kvm_cpuid2 *t = calloc(1, sizeof(*t) + CPUID_ROWS_MAX * sizeof(t->entries[0]));

    if (!host || !t)
        return err_errno(e, -ENOMEM, "CPUID");
    host->nent = HOST_ROWS;
    int r = kvm_ioctl(v->vm->sys, KVM_GET_SUPPORTED_CPUID, host);
    if (r < 0)
        return err_errno(e, r, "KVM_GET_SUPPORTED_CPUID");
    for (unsigned i = 0; i < m->n; i++) {
        const struct cpuid_row *row = &m->row[i];
        uint32_t out[4];

        cpu_model_cpuid(m, v->index, 0, XCR0_X87, row->leaf, row->sub, out);
        t->entries[t->nent++] = (struct kvm_cpuid_entry2){
            .function = row->leaf,
            .index = row->sub,
            .flags = row->has_sub ? KVM_CPUID_FLAG_SIGNIFCANT_INDEX : 0,
            .eax = out[0],
            .ebx = out[1],
            .ecx = out[2],
            .edx = out[3],
        };
    }
    mask_features(t, host);
    r = kvm_ioctl(v->fd, KVM_SET_CPUID2, t);
    return r < 0 ? err_errno(e, r, "cpu %u: KVM_SET_CPUID2", v->index) : 0;
}

static int set_tsc(struct kvm_cpu *v, struct err *e)
{
    const struct clock *c = v->vm->c.clock;
    int r;

    if (c->tsc_khz != c->src.tsc_khz) {
        r = kvm_ioctl(v->fd, KVM_SET_TSC_KHZ, (void *)(uintptr_t)c->tsc_khz);
        if (r < 0)
            return err_set(e, -ENOTSUP,
                           "the machine's TSC runs at %llu kHz, this host's at %llu, and its KVM "
                           "does not scale: take --engine interp",
                           (unsigned long long)c->tsc_khz, (unsigned long long)c->src.tsc_khz);
    }
    r = kvmmsr_set_tsc_offset(v, c->tsc_off);
    if (r < 0)
        return err_errno(e, r, "cpu %u: TSC offset", v->index);
    v->clock_off = c->tsc_off;
    return 0;
}

int kvmvcpu_new(struct kvm_vm *vm, unsigned index, struct kvm_cpu **ret, struct err *e)
{
    BUG_ON(index >= CPUS_MAX || vm->cpu[index]);
    struct kvm_cpu *v = calloc(1, sizeof(*v));
    int r;

    if (!v)
        return err_errno(e, -ENOMEM, "cpu %u", index);
    pthread_once(&handler_once, install_handler);
    v->vm = vm;
    v->index = index;
    v->eoi_due = -1;
    v->run = MAP_FAILED;
    v->fd = kvm_ioctl(vm->fd, KVM_CREATE_VCPU, (void *)(uintptr_t)index);
    if (v->fd < 0) {
        r = err_errno(e, v->fd, "KVM_CREATE_VCPU %u", index);
    } else {
        v->run = mmap(NULL, vm->run_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, v->fd, 0);
        r = v->run == MAP_FAILED ? err_errno(e, -errno, "cpu %u: mmap", index) : set_cpuid(v, e);
    }
    if (r == 0)
        r = set_tsc(v, e);
    if (r == 0)
        r = kvmemu_ready(v, e);
    if (r < 0) {
        kvmvcpu_free(v);
        return r;
    }
    vm->cpu[index] = v;
    *ret = v;
    return 0;
}

void kvmvcpu_free(struct kvm_cpu *v)
{
    if (!v)
        return;
    if (v->vm->cpu[v->index] == v)
        v->vm->cpu[v->index] = NULL;
    kvmemu_free(v->emu);
    if (v->run != MAP_FAILED)
        munmap(v->run, v->vm->run_bytes);
    if (v->fd >= 0)
        close(v->fd);
    free(v);
}
