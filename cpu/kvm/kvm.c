#include "cpu/kvm/kvm.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include "base/cleanup.h"

/* Four pages below 4 GiB, in nobody's way: what KVM needs on Intel CPUs that cannot run real mode
 * by themselves (api 4.36, 4.41). */
#define IDENTITY_GPA 0xfffbc000ull
#define TSS_GPA 0xfffbd000ull

int kvm_ioctl(int fd, unsigned long req, void *arg)
{
    int r;

    do
        r = ioctl(fd, req, arg);
    while (r < 0 && errno == EINTR);
    return r < 0 ? -errno : r;
}

static int enable(struct kvm_vm *vm, unsigned cap, uint64_t arg)
{
    struct kvm_enable_cap c = {.cap = cap, .args = {arg}};

    return kvm_ioctl(vm->fd, KVM_ENABLE_CAP, &c);
}

/* --- memory slots -------------------------------------------------------- */

static int slot_put(struct kvm_vm *vm, unsigned i, const struct mem_region *g, bool log)
{
    struct kvm_userspace_memory_region m = {
        .slot = i,
        .flags = log ? KVM_MEM_LOG_DIRTY_PAGES : 0,
        .guest_phys_addr = g->gpa,
        .memory_size = g->size,
        .userspace_addr = (uintptr_t)g->hva,
    };

    return kvm_ioctl(vm->fd, KVM_SET_USER_MEMORY_REGION, &m);
}

static bool same_place(const struct mem_region *a, const struct mem_region *b)
{
    return a->gpa == b->gpa && a->size == b->size && a->hva == b->hva;
}

/* The kernel's slots become those of mem. One whose place changed goes first (api 4.35: a slot
 * cannot be moved to other memory). */
static int slots_put(struct kvm_vm *vm, bool log)
{
    struct mem_region now[MEM_REGIONS_MAX] = {0};
    unsigned n = mem_regions(vm->c.mem, now);
    int r;

    for (unsigned i = 0; i < MEM_REGIONS_MAX; i++) {
        bool had = vm->slot[i].size != 0, same = same_place(&vm->slot[i], &now[i]);

        if (had && !same) {
            struct mem_region none = {.gpa = vm->slot[i].gpa};

            r = slot_put(vm, i, &none, false);
            if (r < 0)
                return r;
            vm->slot[i].size = 0;
        }
        if (i < n && (!same || log != vm->slot_log)) {
            r = slot_put(vm, i, &now[i], log);
            if (r < 0)
                return r;
        }
        vm->slot[i] = now[i];
    }
    vm->slot_log = log;
    return 0;
}

static void kvm_mem_changed(struct cpu_vm *p, bool log)
{
    struct kvm_vm *vm = kvm_vm_of(p);

    /* The slots were accepted before; only a lack of kernel memory can refuse them now, and the
     * guest cannot run with half its memory. */
    BUG_ON(slots_put(vm, log) < 0);
}

static void add_dirty(struct mem *m, const struct mem_region *g, const uint64_t *bits)
{
    for (uint64_t page = 0; page < g->size >> MEM_PAGE_SHIFT; page++) {
        uint64_t word = bits[page / 64];

        if (!word)
            page |= 63;
        else if (word >> (page % 64) & 1)
            mem_mark_dirty(m, (int64_t)((g->offset >> MEM_PAGE_SHIFT) + page));
    }
}

static int kvm_dirty_sync(struct cpu_vm *p, struct err *e)
{
    struct kvm_vm *vm = kvm_vm_of(p);

    if (!vm->slot_log)
        return 0;
    for (unsigned i = 0; i < MEM_REGIONS_MAX; i++) {
        size_t words = ((vm->slot[i].size >> MEM_PAGE_SHIFT) + 63) / 64;

        if (!words)
            continue;
        CLEANUP(mem) uint64_t *bits = calloc(words, sizeof(*bits));
        if (!bits)
            return err_errno(e, -ENOMEM, "dirty log of %zu bytes", words * sizeof(*bits));
        struct kvm_dirty_log log = {.slot = i, .dirty_bitmap = bits};
        int r = kvm_ioctl(vm->fd, KVM_GET_DIRTY_LOG, &log);
        if (r < 0)
            return err_errno(e, r, "KVM_GET_DIRTY_LOG");
        add_dirty(vm->c.mem, &vm->slot[i], bits);
    }
    return 0;
}

/* --- time ---------------------------------------------------------------- */

static int sync_tsc(struct kvm_cpu *v, struct err *e)
{
    const struct clock *c = v->vm->c.clock;

    if (c->tsc_off == v->clock_off)
        return 0;
    int r = kvmmsr_shift_tsc(v, c->tsc_off - v->clock_off);
    if (r < 0)
        return err_errno(e, r, "cpu %u: TSC offset", v->index);
    v->clock_off = c->tsc_off;
    return 0;
}

int kvm_sync_time(struct kvm_cpu *v, struct err *e)
{
    struct kvm_vm *vm = v->vm;
    const struct clock *c = vm->c.clock;
    int r = sync_tsc(v, e);

    if (r < 0)
        return r;
    pthread_mutex_lock(&vm->lock);
    if (!vm->clock_known || vm->clock_off != c->ns_off) {
        struct kvm_clock_data d = {.clock = clock_ns(c)};

        r = kvm_ioctl(vm->fd, KVM_SET_CLOCK, &d);
        vm->clock_off = c->ns_off;
        vm->clock_known = true;
    }
    pthread_mutex_unlock(&vm->lock);
    return r < 0 ? err_errno(e, r, "KVM_SET_CLOCK") : 0;
}

/* --- the VM -------------------------------------------------------------- */

static void kvm_vm_free(struct cpu_vm *p)
{
    struct kvm_vm *vm = kvm_vm_of(p);

    if (!vm)
        return;
    if (vm->fd >= 0)
        close(vm->fd);
    if (vm->sys >= 0)
        close(vm->sys);
    pthread_mutex_destroy(&vm->lock);
    free(vm);
}

/* Order matters: the interrupt chip before any vCPU and before routes (api 7.5). */
static int vm_setup(struct kvm_vm *vm, struct err *e)
{
    uint64_t identity = IDENTITY_GPA;
    int r = kvm_ioctl(vm->sys, KVM_GET_VCPU_MMAP_SIZE, NULL);

    if (r < 0)
        return err_errno(e, r, "KVM_GET_VCPU_MMAP_SIZE");
    vm->run_bytes = (size_t)r;
    vm->fd = kvm_ioctl(vm->sys, KVM_CREATE_VM, NULL);
    if (vm->fd < 0)
        return err_errno(e, vm->fd, "KVM_CREATE_VM");
    r = kvm_ioctl(vm->fd, KVM_SET_IDENTITY_MAP_ADDR, &identity);
    if (r < 0)
        return err_errno(e, r, "KVM_SET_IDENTITY_MAP_ADDR");
    r = kvm_ioctl(vm->fd, KVM_SET_TSS_ADDR, (void *)(uintptr_t)TSS_GPA);
    if (r < 0)
        return err_errno(e, r, "KVM_SET_TSS_ADDR");
    r = enable(vm, KVM_CAP_SPLIT_IRQCHIP, KVM_EOI_ROUTES);
    if (r < 0)
        return err_errno(e, r, "KVM_CAP_SPLIT_IRQCHIP");
    r = enable(vm, KVM_CAP_X2APIC_API,
               KVM_X2APIC_API_USE_32BIT_IDS | KVM_X2APIC_API_DISABLE_BROADCAST_QUIRK);
    if (r < 0)
        return err_errno(e, r, "KVM_CAP_X2APIC_API");
    /* Else only ring 0 exits, with a #UD queued that kvmemu.c takes away again. */
    (void)enable(vm, KVM_CAP_EXIT_ON_EMULATION_FAILURE, 1);
    r = slots_put(vm, false);
    if (r < 0)
        return err_errno(e, r, "KVM_SET_USER_MEMORY_REGION");
    return kvmirq_init(vm, e);
}

static int kvm_vm_new(const struct cpu_vm_conf *c, struct cpu_vm **ret, struct err *e)
{
    struct kvm_vm *vm = calloc(1, sizeof(*vm));
    int r;

    if (!vm)
        return err_errno(e, -ENOMEM, "kvm");
    vm->c = *c;
    vm->fd = -1;
    pthread_mutex_init(&vm->lock, NULL);
    vm->sys =
        c->host_fd > 0 ? fcntl(c->host_fd, F_DUPFD_CLOEXEC, 0) : kvmprobe_open(&kvmprobe_host, e);
    r = vm->sys < 0 ? vm->sys : vm_setup(vm, e);
    if (r < 0) {
        kvm_vm_free((struct cpu_vm *)vm);
        return r;
    }
    *ret = (struct cpu_vm *)vm;
    return 0;
}

static void kvm_set_pic_ack(struct cpu_vm *p, int (*ack)(void *ctx), void *ctx)
{
    struct kvm_vm *vm = kvm_vm_of(p);

    vm->pic_ack = ack;
    vm->pic_ctx = ctx;
}

/* --- the seam: cpu.h's opaque types to this engine's ---------------------- */

static int eng_host_fd(const struct cpu_vm *vm)
{
    return ((const struct kvm_vm *)vm)->sys;
}

static void eng_msi(struct cpu_vm *vm, struct msi m)
{
    kvmirq_msi(kvm_vm_of(vm), m);
}

static void eng_extint(struct cpu_vm *vm, bool level)
{
    kvmirq_extint(kvm_vm_of(vm), level);
}

static int eng_ioeventfd(struct cpu_vm *vm, gpa_t gpa, unsigned len, bool match, uint64_t val,
                         int fd, bool add)
{
    return kvmirq_ioeventfd(kvm_vm_of(vm), gpa, len, match, val, fd, add);
}

static int eng_irqfd(struct cpu_vm *vm, unsigned gsi, const struct msi *m, int fd)
{
    return kvmirq_irqfd(kvm_vm_of(vm), gsi, m, fd);
}

static int eng_vcpu_new(struct cpu_vm *vm, unsigned index, struct vcpu **ret, struct err *e)
{
    struct kvm_cpu *v;
    int r = kvmvcpu_new(kvm_vm_of(vm), index, &v, e);

    if (r == 0)
        *ret = (struct vcpu *)v;
    return r;
}

static void eng_vcpu_free(struct vcpu *v)
{
    kvmvcpu_free(kvm_cpu_of(v));
}

static int eng_run(struct vcpu *v, struct cpu_exit *x, struct err *e)
{
    return kvmvcpu_run(kvm_cpu_of(v), x, e);
}

static void eng_kick(struct vcpu *v)
{
    kvmvcpu_kick(kvm_cpu_of(v));
}

static int eng_get(struct vcpu *v, struct cpu_state *s, struct err *e)
{
    return kvmstate_get(kvm_cpu_of(v), s, e);
}

static int eng_set(struct vcpu *v, const struct cpu_state *s, struct err *e)
{
    return kvmstate_put(kvm_cpu_of(v), s, NULL, e);
}

static void eng_stats(struct vcpu *v, struct cpu_stats *out)
{
    *out = kvm_cpu_of(v)->stats;
}

const struct cpu_engine cpu_kvm = {
    .name = "kvm",
    .probe = kvmprobe,
    .vm_new = kvm_vm_new,
    .vm_free = kvm_vm_free,
    .vm_msi = eng_msi,
    .vm_extint = eng_extint,
    .vm_set_pic_ack = kvm_set_pic_ack,
    .vm_ioeventfd = eng_ioeventfd,
    .vm_irqfd = eng_irqfd,
    .vm_mem_changed = kvm_mem_changed,
    .vm_dirty_sync = kvm_dirty_sync,
    .vm_host_fd = eng_host_fd,
    .vcpu_new = eng_vcpu_new,
    .vcpu_free = eng_vcpu_free,
    .run = eng_run,
    .kick = eng_kick,
    .get = eng_get,
    .set = eng_set,
    .stats = eng_stats,
};
