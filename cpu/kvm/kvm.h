/* cpu/kvm/kvm.h - the kvm engine's own: its objects and what its files call of each other.
 *
 * kvm.c       the engine's table, the VM: memory slots, time    kvmvcpu.c   a vCPU: making, run,
 * kick kvmstate.c  struct cpu_state to and from the kernel           kvmirq.c    MSI routes,
 * eventfds, 8259 kvmemu.c    instructions that KVM cannot emulate              kvmprobe.c  does it
 * work, how fast
 *
 * The local APICs live in the kernel, IOAPIC, PIC and PIT do not (KVM_CAP_SPLIT_IRQCHIP).
 * Source: Linux Documentation/virt/kvm/api.rst; numbers there are "api 4.N" here.
 * Threads: as cpu/cpu.h says; `lock` guards the routes and the time of the VM. */
#ifndef CPU_KVM_KVM_H
#define CPU_KVM_KVM_H

#include <linux/kvm.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>

#include "cpu/cpu.h"

enum {
    KVM_EOI_ROUTES = 64,  /* GSIs reserved for level-triggered messages: they make EOI exits */
    KVM_MSI_ROUTES = 256, /* GSIs behind them, for irqfds */
    KVM_MSRS = 48,        /* most MSRs in one call */
};

struct kvm_cpu;

struct kvm_route {
    bool used;
    struct msi m;
    int fd; /* irqfd bound to it, borrowed; -1 = none */
};

struct kvm_vm {
    struct cpu_vm_conf c; /* its pointers borrowed */
    int sys, fd;          /* /dev/kvm, the VM; owned */
    size_t run_bytes;     /* size of a vCPU's mapping */
    struct kvm_cpu *cpu[CPUS_MAX];

    struct mem_region slot[MEM_REGIONS_MAX]; /* as the kernel knows them; size 0 = not there */
    bool slot_log;

    pthread_mutex_t lock;
    struct kvm_route eoi[KVM_EOI_ROUTES], gsi[KVM_MSI_ROUTES];
    unsigned eoi_next; /* slot the next new one takes */
    bool clock_known;
    ns_t clock_off; /* the machine clock's, when the kernel's kvmclock was last set */

    _Atomic bool extint;
    int (*pic_ack)(void *ctx);
    void *pic_ctx;
};

struct kvm_cpu {
    struct kvm_vm *vm; /* borrowed */
    unsigned index;
    int fd;              /* owned */
    struct kvm_run *run; /* owned mapping */

    _Atomic bool kicked;    /* kick(): to be answered by CPU_EXIT_KICKED */
    _Atomic bool in_kernel; /* a signal is needed to get it out */
    _Atomic int tid;        /* of the thread that runs it; 0 = none yet */

    bool mmio_open;      /* the last exit was a piece of run->mmio */
    unsigned mmio_pos;   /* bytes of it done before that piece */
    bool window_fresh;   /* run->ready_for_interrupt_injection speaks of now */
    uint64_t clock_off;  /* the machine clock's TSC offset the kernel's is in step with */
    uint64_t msr_absent; /* bit per row of kvmmsr.c's table: this KVM has no such MSR */

    struct kvmemu *emu; /* owned; NULL until needed */
    int eoi_due;        /* vector whose EOI is to be reported before anything runs; -1 = none */
    struct cpu_stats stats;
};

static inline struct kvm_cpu *kvm_cpu_of(struct vcpu *v)
{
    return (struct kvm_cpu *)v;
}

static inline struct kvm_vm *kvm_vm_of(struct cpu_vm *vm)
{
    return (struct kvm_vm *)vm;
}

/* kvm.c: ioctl() again while it says EINTR; 0 or more, or a negative errno. */
int kvm_ioctl(int fd, unsigned long req, void *arg);
/* Before a vCPU runs: guest time follows the machine's clock, which may have been stopped. */
int kvm_sync_time(struct kvm_cpu *v, struct err *e) MUST_CHECK;

/* kvmvcpu.c */
int kvmvcpu_new(struct kvm_vm *vm, unsigned index, struct kvm_cpu **ret, struct err *e) MUST_CHECK;
void kvmvcpu_free(struct kvm_cpu *v); /* may be NULL */
int kvmvcpu_run(struct kvm_cpu *v, struct cpu_exit *x, struct err *e) MUST_CHECK;
void kvmvcpu_kick(struct kvm_cpu *v);
/* Any thread: run() looks at what the VM asks of it (vm->extint), without an exit. */
void kvmvcpu_poke(struct kvm_cpu *v);
/* Make run->ready_for_interrupt_injection speak of now. */
void kvmvcpu_refresh_window(struct kvm_cpu *v);
/* What the kernel left in v->run, as an exit: 1 = *x is one; 0 = run on; -EIO. */
int kvmvcpu_exit(struct kvm_cpu *v, struct cpu_exit *x, struct err *e) MUST_CHECK;
/* The caller's answer to the exit before: 1 = *x is the rest of that access; 0 = all done. */
int kvmvcpu_answer(struct kvm_cpu *v, struct cpu_exit *x);

/* kvmstate.c. put: groups of fields equal to those of `was` (what the kernel holds) are left
 * alone; was NULL = all. Errors: -EINVAL, and which part the kernel refuses. */
int kvmstate_get(struct kvm_cpu *v, struct cpu_state *s, struct err *e) MUST_CHECK;
int kvmstate_put(struct kvm_cpu *v, const struct cpu_state *s, const struct cpu_state *was,
                 struct err *e) MUST_CHECK;

/* kvmmsr.c: as kvmstate_get() and _put(), their part. */
int kvmmsr_get(struct kvm_cpu *v, struct cpu_state *s, struct err *e) MUST_CHECK;
int kvmmsr_put(struct kvm_cpu *v, const struct cpu_state *s, const struct cpu_state *was,
               struct err *e) MUST_CHECK;
/* Guest TSC minus host TSC, as the kernel holds it. */
int kvmmsr_tsc_offset(struct kvm_cpu *v, uint64_t *off) MUST_CHECK;
int kvmmsr_set_tsc_offset(struct kvm_cpu *v, uint64_t off) MUST_CHECK;
/* Add to it; an armed TSC deadline stays at the guest time it had. */
int kvmmsr_shift_tsc(struct kvm_cpu *v, uint64_t by) MUST_CHECK;

/* kvmirq.c: the functions of struct cpu_engine. */
int kvmirq_init(struct kvm_vm *vm, struct err *e) MUST_CHECK;
void kvmirq_msi(struct kvm_vm *vm, struct msi m);
void kvmirq_extint(struct kvm_vm *vm, bool level);
int kvmirq_ioeventfd(struct kvm_vm *vm, gpa_t gpa, unsigned len, bool match, uint64_t val, int fd,
                     bool add);
int kvmirq_irqfd(struct kvm_vm *vm, unsigned gsi, const struct msi *m, int fd);
/* The EOI of this level-triggered message shall make an exit. */
void kvmirq_want_eoi(struct kvm_vm *vm, struct msi m);
/* vm->extint is set: hand the 8259's vector to the vCPU, or ask for an exit when it can take it.
 * On its own thread, just before it enters. */
int kvmirq_offer_extint(struct kvm_cpu *v, struct err *e) MUST_CHECK;

/* kvmemu.c: KVM gave up on the instruction at RIP: the interpreter executes it. 1 = *x is an exit,
 * call kvmemu_one() again with its answer; 0 = done; -EIO. */
int kvmemu_one(struct kvm_cpu *v, struct cpu_exit *x, struct err *e) MUST_CHECK;
/* What that needs, made while memory can still become code (jail/jail.h). -ENOMEM. */
int kvmemu_ready(struct kvm_cpu *v, struct err *e) MUST_CHECK;
/* An exit of kvmemu_one() is to be answered. */
bool kvmemu_open(const struct kvm_cpu *v);
void kvmemu_free(struct kvmemu *m); /* may be NULL */

/* kvmapic.c: is `gpa` in the page of an APIC in xAPIC mode? The access of an MMIO exit to it: fills
 * the answer of a read. */
bool kvmapic_claims(const struct cpu_state *s, gpa_t gpa);
int kvmapic_access(struct kvm_cpu *v, struct cpu_exit *x, struct err *e) MUST_CHECK;

/* kvmprobe.c */
struct kvmprobe_sys {                         /* the system calls it makes; a test has others */
    int (*open)(const char *path, int flags); /* descriptor or negative errno */
    int (*check)(int fd, unsigned cap);       /* KVM_CHECK_EXTENSION */
    int (*version)(int fd);                   /* KVM_GET_API_VERSION */
    /* Time of one iteration of a two-instruction loop in ring 0, picoseconds. */
    int (*measure)(int fd, uint64_t *ps);
};
extern const struct kvmprobe_sys kvmprobe_host;
int kvmprobe_with(const struct kvmprobe_sys *sys, bool *hw, struct err *e) MUST_CHECK;
int kvmprobe(bool *hw, struct err *e) MUST_CHECK;
/* Open /dev/kvm and check all that the engine needs. Descriptor, or the sentence with the fix. */
int kvmprobe_open(const struct kvmprobe_sys *sys, struct err *e) MUST_CHECK;
/* As kvmprobe_with(), telling the loop's time too: for `kiln check`. */
int kvmprobe_speed(const struct kvmprobe_sys *sys, uint64_t *ps, struct err *e) MUST_CHECK;
/* Above this the KVM emulates ring 0 in software. */
enum { KVMPROBE_HW_PS = 20000 };

#endif
