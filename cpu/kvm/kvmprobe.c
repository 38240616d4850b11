#include "cpu/kvm/kvm.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>

#include "base/cleanup.h"

/* What the engine cannot do without, and since when Linux has it. */
static const struct {
    unsigned cap;
    const char *name, *since;
} needs[] = {
    {KVM_CAP_USER_MEMORY, "KVM_CAP_USER_MEMORY", "2.6.25"},
    {KVM_CAP_EXT_CPUID, "KVM_CAP_EXT_CPUID", "2.6.26"},
    {KVM_CAP_MP_STATE, "KVM_CAP_MP_STATE", "2.6.26"},
    {KVM_CAP_IRQ_ROUTING, "KVM_CAP_IRQ_ROUTING", "2.6.30"},
    {KVM_CAP_IRQFD, "KVM_CAP_IRQFD", "2.6.32"},
    {KVM_CAP_IOEVENTFD, "KVM_CAP_IOEVENTFD", "2.6.32"},
    {KVM_CAP_ADJUST_CLOCK, "KVM_CAP_ADJUST_CLOCK", "2.6.33"},
    {KVM_CAP_VCPU_EVENTS, "KVM_CAP_VCPU_EVENTS", "2.6.33"},
    {KVM_CAP_DEBUGREGS, "KVM_CAP_DEBUGREGS", "2.6.35"},
    {KVM_CAP_XSAVE, "KVM_CAP_XSAVE", "2.6.36"},
    {KVM_CAP_XCRS, "KVM_CAP_XCRS", "2.6.36"},
    {KVM_CAP_SIGNAL_MSI, "KVM_CAP_SIGNAL_MSI", "3.5"},
    {KVM_CAP_SPLIT_IRQCHIP, "KVM_CAP_SPLIT_IRQCHIP", "4.4"},
    {KVM_CAP_X2APIC_API, "KVM_CAP_X2APIC_API", "4.8"},
    {KVM_CAP_IMMEDIATE_EXIT, "KVM_CAP_IMMEDIATE_EXIT", "4.13"},
};

static int open_err(int r, struct err *e)
{
    switch (r) {
    case -ENOENT:
        return err_set(e, r,
                       "/dev/kvm: not there: load the module kvm_intel or kvm_amd, and switch on "
                       "virtualization in the firmware (in a virtual machine: nested "
                       "virtualization on its host)");
    case -EACCES:
    case -EPERM:
        return err_set(e, r,
                       "/dev/kvm: permission denied: add yourself to group kvm "
                       "(`usermod -aG kvm USER`, then log in again)");
    case -ENODEV:
    case -ENXIO:
        return err_set(e, r,
                       "/dev/kvm: no device behind it: load the module kvm_intel or kvm_amd, or "
                       "pass the device into this container");
    default:
        return err_errno(e, r, "/dev/kvm: open");
    }
}

int kvmprobe_open(const struct kvmprobe_sys *sys, struct err *e)
{
    CLEANUP(fd) int fd = -1;
    int r = sys->open("/dev/kvm", O_RDWR | O_CLOEXEC);

    if (r < 0)
        return open_err(r, e);
    fd = r;
    r = sys->version(fd);
    if (r != KVM_API_VERSION)
        return err_set(e, -ENOTSUP, "/dev/kvm: API version is %d, not %d: not a Linux KVM", r,
                       KVM_API_VERSION);
    for (size_t i = 0; i < ARRAY_LEN(needs); i++) {
        if (sys->check(fd, needs[i].cap) <= 0)
            return err_set(e, -ENOTSUP, "/dev/kvm: lacks %s: boot a kernel of Linux %s or later",
                           needs[i].name, needs[i].since);
    }
    return take_fd(&fd);
}

int kvmprobe_speed(const struct kvmprobe_sys *sys, uint64_t *ps, struct err *e)
{
    CLEANUP(fd) int fd = kvmprobe_open(sys, e);

    if (fd < 0)
        return fd;
    int r = sys->measure(fd, ps);
    if (r < 0)
        return err_errno(e, r, "/dev/kvm: a first loop in a guest failed");
    return 0;
}

int kvmprobe_with(const struct kvmprobe_sys *sys, bool *hw, struct err *e)
{
    uint64_t ps;
    int r = kvmprobe_speed(sys, &ps, e);

    if (r < 0)
        return r;
    *hw = ps < KVMPROBE_HW_PS;
    return 0;
}

int kvmprobe(bool *hw, struct err *e)
{
    return kvmprobe_with(&kvmprobe_host, hw, e);
}

/* --- the host's own ------------------------------------------------------ */

static int host_open(const char *path, int flags)
{
    int fd = open(path, flags);

    return fd < 0 ? -errno : fd;
}

static int host_check(int fd, unsigned cap)
{
    return kvm_ioctl(fd, KVM_CHECK_EXTENSION, (void *)(uintptr_t)cap);
}

static int host_version(int fd)
{
    return kvm_ioctl(fd, KVM_GET_API_VERSION, NULL);
}

/* A machine of one page: mov ecx, N in the registers; dec ecx; jnz; hlt. Flat protected mode, since
 * CPUs without "unrestricted guest" have their real mode emulated, which says nothing of Linux. */
struct tiny {
    int vm, vcpu;
    void *page;
    struct kvm_run *run;
    int run_bytes;
};

enum { TINY_GPA = 0x1000, LOOP_SHORT = 250, LOOP_LONG = 60000, SLOW_PS = 400000 };

static void cleanup_tiny(struct tiny *t)
{
    if (t->run != MAP_FAILED)
        munmap(t->run, (size_t)t->run_bytes);
    if (t->vcpu >= 0)
        close(t->vcpu);
    if (t->vm >= 0)
        close(t->vm);
    if (t->page != MAP_FAILED)
        munmap(t->page, MEM_PAGE);
}

static int tiny_regs(struct tiny *t)
{
    struct kvm_sregs s;
    int r = kvm_ioctl(t->vcpu, KVM_GET_SREGS, &s);

    if (r < 0)
        return r;
    s.cs = (struct kvm_segment){
        .limit = 0xffffffff, .selector = 8, .type = 11, .present = 1, .db = 1, .s = 1, .g = 1};
    s.ds = (struct kvm_segment){
        .limit = 0xffffffff, .selector = 16, .type = 3, .present = 1, .db = 1, .s = 1, .g = 1};
    s.es = s.ss = s.fs = s.gs = s.ds;
    s.cr0 |= CR0_PE;
    return kvm_ioctl(t->vcpu, KVM_SET_SREGS, &s);
}

static int tiny_new(int sys, struct tiny *t)
{
    static const uint8_t code[] = {0x49, 0x75, 0xfd, 0xf4}; /* dec ecx; jnz -3; hlt */
    struct kvm_userspace_memory_region m = {.guest_phys_addr = TINY_GPA, .memory_size = MEM_PAGE};
    int r;

    t->page = mmap(NULL, MEM_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (t->page == MAP_FAILED)
        return -errno;
    memcpy(t->page, code, sizeof(code));
    t->vm = kvm_ioctl(sys, KVM_CREATE_VM, NULL);
    if (t->vm < 0)
        return t->vm;
    m.userspace_addr = (uintptr_t)t->page;
    r = kvm_ioctl(t->vm, KVM_SET_USER_MEMORY_REGION, &m);
    if (r < 0)
        return r;
    t->vcpu = kvm_ioctl(t->vm, KVM_CREATE_VCPU, NULL);
    if (t->vcpu < 0)
        return t->vcpu;
    t->run_bytes = kvm_ioctl(sys, KVM_GET_VCPU_MMAP_SIZE, NULL);
    if (t->run_bytes < 0)
        return t->run_bytes;
    t->run = mmap(NULL, (size_t)t->run_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, t->vcpu, 0);
    if (t->run == MAP_FAILED)
        return -errno;
    return tiny_regs(t);
}

/* ns that `n` iterations and one exit take. */
static int tiny_loop(struct tiny *t, unsigned n, uint64_t *ns)
{
    struct kvm_regs regs = {.rip = TINY_GPA, .rflags = FL_FIXED, .rcx = n};
    struct timespec a, b;
    int r = kvm_ioctl(t->vcpu, KVM_SET_REGS, &regs);

    if (r < 0)
        return r;
    clock_gettime(CLOCK_MONOTONIC, &a);
    r = kvm_ioctl(t->vcpu, KVM_RUN, NULL);
    clock_gettime(CLOCK_MONOTONIC, &b);
    if (r < 0)
        return r;
    if (t->run->exit_reason != KVM_EXIT_HLT)
        return -EIO;
    *ns = (uint64_t)((b.tv_sec - a.tv_sec) * 1000000000 + b.tv_nsec - a.tv_nsec);
    return 0;
}

/* The exit's own cost (tens of us when nested) is taken off: a loop of one iteration against a
 * short one, and if that was quick against a long one, so that noise cannot decide. */
static int host_measure(int sys, uint64_t *ps)
{
    __attribute__((cleanup(cleanup_tiny))) struct tiny t = {
        .vm = -1, .vcpu = -1, .page = MAP_FAILED, .run = MAP_FAILED};
    uint64_t one, n_ns;
    int r = tiny_new(sys, &t);

    if (r == 0)
        r = tiny_loop(&t, 1, &one); /* the first touch of everything */
    if (r == 0)
        r = tiny_loop(&t, 1, &one);
    for (unsigned n = LOOP_SHORT; r == 0; n = LOOP_LONG) {
        r = tiny_loop(&t, n, &n_ns);
        if (r < 0)
            break;
        *ps = n_ns > one ? (n_ns - one) * 1000 / n : 0;
        if (n == LOOP_LONG || *ps > SLOW_PS)
            break;
    }
    return r;
}

const struct kvmprobe_sys kvmprobe_host = {
    .open = host_open, .check = host_check, .version = host_version, .measure = host_measure};
