/* cpu/cpu.h - one interface, several ways to run guest instructions.
 *
 * Charter: the seam between a machine and whatever executes its code. kvm/, bt/
 * and interp/ each export one `const struct cpu_engine`; above this line nobody
 * knows which is in use. An engine never calls a device: run() returns an exit
 * and the caller answers it. The local APIC belongs to the engine (KVM's lives in
 * the kernel); IOAPIC, PIC and PIT are the board's.
 *
 * Threads: one vCPU belongs to one thread. kick(), and the vm_ functions that say
 * so, may be called from any. */
#ifndef CPU_CPU_H
#define CPU_CPU_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "cpu/model.h"
#include "cpu/state.h"
#include "hw/clock.h"
#include "hw/irq.h"
#include "hw/timer.h"
#include "mem/mem.h"

struct vcpu;   /* engine-private */
struct cpu_vm; /* engine-private: what the vCPUs of one machine share */

enum { /* bt: bytes of generated code that are kept; more than it holds flushes it */
       CPU_CODE_CACHE_MIN = 1 << 20,
       CPU_CODE_CACHE_MAX = 1 << 30,
       CPU_CODE_CACHE_DEFAULT = 20 << 20,
};

struct cpu_vm_conf { /* all borrowed, outlive the cpu_vm */
    struct mem *mem;
    struct clock *clock;
    struct timerq *timers;
    const struct cpu_model *model; /* model->cpus = how many vCPUs may be made */
    uint64_t code_cache_bytes;     /* bt: CPU_CODE_CACHE_MIN..MAX; 0 = default */
    bool perf_map;                 /* bt: write /tmp/perf-PID.map */
    /* lockstep: what two engines did differently, in words, before it stops. vCPU's thread. */
    void (*differs)(void *ctx, const char *text);
    void *differs_ctx;
    bool count_insns; /* bt: count instructions, which costs time */
    int host_fd;      /* kvm: /dev/kvm, open (duplicated); 0 = it is opened */
};

enum cpu_exit_kind {
    CPU_EXIT_KICKED,   /* kick() was called; nothing to do */
    CPU_EXIT_MMIO,     /* u.mmio */
    CPU_EXIT_PIO,      /* u.pio */
    CPU_EXIT_EOI,      /* u.eoi.vector: EOI broadcast of a level-triggered interrupt */
    CPU_EXIT_SHUTDOWN, /* triple fault (SDM vol 3A, 6.15) */
    CPU_EXIT_STUCK,    /* the engine cannot go on (u.stuck.why says); the VM must stop */
};

struct cpu_exit {
    enum cpu_exit_kind kind;
    union {
        struct {
            gpa_t gpa;
            uint64_t val; /* write: zero-extended value; read: the answer goes here */
            uint8_t len;  /* bytes: 1, 2, 4 or 8 */
            bool write;
        } mmio;
        struct {
            uint16_t port;
            uint8_t len; /* bytes: 1, 2 or 4 */
            bool write;
            uint32_t count; /* items, more than 1 for INS/OUTS on kvm */
            void *data;     /* count items of len bytes, read or filled by the caller */
        } pio;
        struct {
            uint8_t vector;
        } eoi;
        struct {
            char why[160];
        } stuck;
    } u;
};

/* Counters since creation; what --stats prints. Sums over vCPUs by cpu_stats_add(); what vCPUs
 * share is counted by the first. All are uint64_t, and 0 where an engine does not count. */
struct cpu_stats {
    uint64_t insns;       /* guest instructions executed */
    uint64_t interpreted; /* of them, by the interpreter */
    uint64_t fallbacks;   /* instructions another engine gave to the interpreter, one by one */
    uint64_t exits[8];    /* by enum cpu_exit_kind */
    uint64_t tlb_misses;  /* of the engine's fastest look-up */
    uint64_t tlb_walks;   /* of the guest's page tables */
    uint64_t tlb_flushes;
    uint64_t blocks;                  /* decoded or translated */
    uint64_t guest_bytes, host_bytes; /* bt: of the blocks, and of what was made of them */
    uint64_t xlat_ns;                 /* bt: time it took */
    uint64_t flushes;                 /* of all blocks at once */
    uint64_t interrupts, exceptions, msr_faults;
    uint64_t vectors[32];            /* exceptions delivered, by vector */
    uint64_t compared, not_compared; /* lockstep: blocks */
};

/* *sum += *s */
void cpu_stats_add(struct cpu_stats *sum, const struct cpu_stats *s);

/* Kinds of instructions, as numbers below CPU_OPS, and their names in lower case. */
enum { CPU_OPS = 2048 };
const char *cpu_op_name(unsigned op);

struct cpu_engine {
    const char *name; /* "kvm", "bt", "interp": what --engine takes */

    /* Can it run here? 0, or -errno and the sentence that tells what to mend. Cheap
     * (<= 2 ms). *hw: true when ring 0 runs at hardware speed (as measured). */
    int (*probe)(bool *hw, struct err *e);

    int (*vm_new)(const struct cpu_vm_conf *c, struct cpu_vm **ret, struct err *e);
    void (*vm_free)(struct cpu_vm *vm); /* after its vCPUs; may be NULL */

    /* kvm: /dev/kvm, borrowed, for a machine in a process that cannot open it. NULL: there is
     * nothing of that kind. */
    int (*vm_host_fd)(const struct cpu_vm *vm);
    /* Any thread. Deliver a message interrupt to the local APICs. */
    void (*vm_msi)(struct cpu_vm *vm, struct msi m);
    /* Any thread. Level of the 8259's INTR pin; when the CPU takes it the engine
     * calls ack (under no lock of its own) on the vCPU's thread for the vector. */
    void (*vm_extint)(struct cpu_vm *vm, bool level);
    void (*vm_set_pic_ack)(struct cpu_vm *vm, int (*ack)(void *ctx), void *ctx);
    /* A write of `len` bytes at `gpa` (any value if !match) signals eventfd `fd`
     * and makes no exit. -ENOTSUP: the caller will see an MMIO exit instead. */
    int (*vm_ioeventfd)(struct cpu_vm *vm, gpa_t gpa, unsigned len, bool match, uint64_t val,
                        int fd, bool add);
    /* Signalling `fd` sends `m`. m NULL = remove. -ENOTSUP: use vm_msi. */
    int (*vm_irqfd)(struct cpu_vm *vm, unsigned gsi, const struct msi *m, int fd);
    /* All vCPUs paused: mem's dirty log was started, fetched or stopped. */
    void (*vm_mem_changed)(struct cpu_vm *vm, bool dirty_log);
    /* kvm: add the kernel's dirty pages to mem's log. Others: nothing to do. */
    int (*vm_dirty_sync)(struct cpu_vm *vm, struct err *e);

    /* No vCPU runs. Keep what was made of code in pages that are not set in `written` (a bit a
     * page; NULL = none is), for machines that begin with the same RAM: vm_code_load() before their
     * first run. NULL: nothing is worth keeping. Errors of load: -ESTALE, -EBADMSG; the machine is
     * as before.
     */
    int (*vm_code_save)(struct cpu_vm *vm, const uint64_t *written, int fd, struct err *e);
    int (*vm_code_load)(struct cpu_vm *vm, int fd, struct err *e);

    /* vCPU `index` in its power-on state. */
    int (*vcpu_new)(struct cpu_vm *vm, unsigned index, struct vcpu **ret, struct err *e);
    void (*vcpu_free)(struct vcpu *v); /* may be NULL */

    /* Run until something needs the caller. Fills *x; the answer of a read exit is
     * stored in *x (mmio.val, pio.data) and the SAME x passed to the next run().
     * HLT waits inside. Errors: -EIO and a sentence: the engine is broken. */
    int (*run)(struct vcpu *v, struct cpu_exit *x, struct err *e);
    /* Any thread, async-signal-safe, sticky: the current or next run() returns
     * CPU_EXIT_KICKED soon. */
    void (*kick)(struct vcpu *v);

    /* On the vCPU's thread, between runs, and not while an MMIO or PIO exit, a write
     * too, is unfinished: kick and run() until it says CPU_EXIT_KICKED. */
    int (*get)(struct vcpu *v, struct cpu_state *s, struct err *e);
    int (*set)(struct vcpu *v, const struct cpu_state *s, struct err *e);

    void (*stats)(struct vcpu *v, struct cpu_stats *out);
    /* Add cpu_stats.fallbacks by kind of instruction to count[CPU_OPS]. May be NULL. */
    void (*fallbacks)(struct vcpu *v, uint64_t *count);
};

extern const struct cpu_engine cpu_kvm, cpu_bt, cpu_interp;
/* bt and interp together, one vCPU, to compare them: for developers, and not among cpu_engines().
 */
extern const struct cpu_engine cpu_lockstep;

/* By name; "auto" measures (kvm if hardware, else the fastest software engine).
 * Errors: -EINVAL unknown name, or probe's. */
int cpu_engine_pick(const char *name, const struct cpu_engine **ret, struct err *e) MUST_CHECK;
/* That of this name, without trying it out; NULL = there is none. */
const struct cpu_engine *cpu_engine_named(const char *name);
/* All engines built in, fastest first; NULL-terminated. */
const struct cpu_engine *const *cpu_engines(void);

#endif
