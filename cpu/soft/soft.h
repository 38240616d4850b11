/* cpu/soft/soft.h - what the software engines (interp, bt) share: a CPU as the
 * SDM describes it, less the fetching and executing of instructions.
 *
 * soft.c      the vCPU object, requests, stop-the-world      softrun.c   the run loop
 * outside.c   MMIO and port accesses, replay
 * mmu.c       paging, the software TLB, guest-linear loads and stores
 * event.c     delivery of exceptions and interrupts; IRET
 * xfer.c      far CALL/JMP/RET, INT n, SYSCALL/SYSENTER and returns
 * segload.c   segment register loads, LDTR, TR, descriptor checks
 * sysreg.c    CR0..CR8, DR, XCR0 and EFER writes with their rules
 * msr.c       MSRs        lapic.c  local APIC      kvmclock.c  pvclock pages
 *
 * Conventions
 *  - Functions that can fault return 0 (done) or an enum soft_stop. On non-zero
 *    the caller returns it at once, having changed no architectural state; the run
 *    loop delivers v->exc or returns v->exit. RIP still points at the instruction.
 *  - v->s is always the whole truth between instructions; v->mode caches what
 *    follows from it and is refreshed by soft_mode_update().
 *  - An MMIO or port access in mid-instruction leaves with SOFT_EXIT; the instruction
 *    is run again and its accesses, writes too, answered from v->mmio in order (so it
 *    must make the same accesses in the same order when run again). One iteration of
 *    a REP counts as one instruction: call soft_insn_done() after each.
 *  - What changes EFLAGS.TF, AC or VM calls soft_mode_update(); what may set IF calls
 *    soft_irq_window(). STI and MOV/POP SS set s.sti_shadow, s.ss_shadow and return
 *    SOFT_BREAK. HLT sets s.mp and returns SOFT_BREAK. All with RIP moved on. */
#ifndef CPU_SOFT_SOFT_H
#define CPU_SOFT_SOFT_H

#include <pthread.h>
#include <stdatomic.h>

#include "cpu/cpu.h"

enum soft_stop {
    SOFT_OK = 0,
    SOFT_FAULT, /* v->exc holds an exception of the current instruction */
    SOFT_EXIT,  /* v->exit holds an exit; the instruction is run again (see above) */
    SOFT_BREAK, /* instruction finished; leave exec() so the run loop looks at requests */
    SOFT_SHUTDOWN,
    SOFT_STUCK, /* cannot be executed by this engine; v->stuck says what */
};

/* v->requests, set from any thread */
enum {
    REQ_KICK = 1u << 0,
    REQ_INTR = 1u << 1, /* LAPIC or ExtINT may have something */
    REQ_NMI = 1u << 2,
    REQ_INIT = 1u << 3,
    REQ_SIPI = 1u << 4,
    REQ_TIMER = 1u << 5, /* LAPIC timer expired */
    REQ_STOP = 1u << 6,  /* someone wants the world stopped: park */
    REQ_STEP = 1u << 7,  /* TF, shadows, or debug: one instruction at a time (own thread) */
    REQ_FLUSH = 1u << 8, /* flush TLB write rights */
    REQ_EOI = 1u << 9,   /* v->eoi has vectors to report (own thread) */
};

/* v->mode: what decoding and access checks depend on. Part of a block's key. */
enum {
    MODE_CS16 = 0, /* default operand/address size of CS */
    MODE_CS32 = 1,
    MODE_CS64 = 2,
    MODE_CS = 3,        /* mask */
    MODE_SS32 = 1 << 2, /* stack pointer is ESP (or RSP) */
    MODE_FLAT = 1 << 3, /* ES,CS,SS,DS have base 0, limit 4G: no segment arithmetic */
    MODE_CPL = 3 << 4,  /* shift 4 */
    MODE_PE = 1 << 6,   /* protected */
    MODE_LMA = 1 << 7,
    MODE_PG = 1 << 8,
    MODE_SMAP = 1 << 9,     /* CR4.SMAP and not EFLAGS.AC and CPL < 3: user pages barred */
    MODE_FPU_NM = 1 << 10,  /* x87 instruction gives #NM (CR0.EM or TS) */
    MODE_SSE_BAD = 1 << 11, /* SSE gives #UD or #NM: look at CR0, CR4 */
    MODE_AVX_BAD = 1 << 12, /* VEX gives #UD or #NM: look at CR0, CR4, XCR0 */
};

/* --- TLB ---------------------------------------------------------------- */
enum { TLB_BITS = 10, TLB_SIZE = 1 << TLB_BITS };
#define TLB_INVALID 1ull /* never equal to a page address */

struct tlb_entry {       /* one page; tags are page-aligned linear addresses */
    uint64_t rd, wr, ex; /* == page: allowed on the fast path */
    uintptr_t addend;    /* hva = gva + addend; valid when rd or wr or ex is */
    gpa_t gpa;           /* page; valid when any tag is; also MMIO pages */
    uint16_t flags;      /* TLBE_* */
    uint8_t shift;       /* log2 of the size of the page it is part of */
};
enum {
    TLBE_GLOBAL = 1,
    TLBE_WOK = 2, /* writable, but on the slow path only: the page holds code */
};

enum { /* index into vcpu.tlb: privilege of the access */
       TLB_USER = 0,
       TLB_KERNEL = 1,      /* supervisor, SMAP not enforced (AC=1 or implicit) */
       TLB_KERNEL_SMAP = 2, /* supervisor explicit with SMAP enforced */
       TLB_SETS = 3,
};

struct mmio_log { /* accesses of the instruction under way */
    struct {
        gpa_t gpa;
        uint64_t val;
        uint8_t len;
        bool write, pio;
    } a[16];
    uint8_t n, next; /* answered so far; replayed so far */
};

struct soft_exc {
    uint8_t vector;
    bool has_error;
    uint32_t error;
    uint64_t cr2; /* #PF */
    uint64_t dr6; /* #DB: bits to set */
    bool trap;    /* reported after the instruction: RIP already moved on */
};

struct soft_vm;
struct overlay;

struct lapic_timer {
    struct timer t;
    ns_t expiry;     /* machine ns, 0 = not running */
    uint64_t period; /* ns, 0 = one-shot */
};

struct vcpu {
    struct cpu_state s;
    uint64_t zero;    /* always 0: what a missing base or index register reads as */
    uint64_t scratch; /* what a slow path hands back to its inline fast path */
    uint32_t mode;
    uint32_t switches; /* changes of what SYSCALL, SYSRET, STAC and CLAC lead to: STAR, SFMASK,
                        * EFER, CR0, CR4; never 0 */
    unsigned index;
    struct soft_vm *vm;              /* borrowed */
    const struct tlb_entry *cur_tlb; /* set for explicit accesses at the current mode */
    bool align_check;                /* CR0.AM, EFLAGS.AC, CPL 3: accesses take the slow path */
    bool watch;                      /* a breakpoint register is set on data: likewise */
    struct overlay *overlay;         /* borrowed while stores are pretended: overlay.h */
    uint64_t watch_hit;              /* DR6 bits of those met by the instruction under way */
    struct tlb_entry tlb[TLB_SETS][TLB_SIZE];
    uint64_t tlb_local[TLB_SETS][TLB_SIZE / 64]; /* slots that a CR3 load must drop */
    uint64_t fetched[2][16]; /* lower, upper half; hashed: pages code was fetched from since
                              * ops->flush() */
    bool tlb_large[2];       /* pages above 4 KiB were filled: lower, upper half */

    _Atomic uint32_t requests; /* also the futex a halted vCPU sleeps on */
    _Atomic uint32_t waiting;  /* asleep there: requests must wake it */
    _Atomic int in_world;      /* executing guest code: stop-the-world waits for 0 */
    bool step;                 /* TF or a breakpoint register is on: REQ_STEP stays set */
    bool irq_maybe;            /* an interrupt may be pending that was not deliverable */
    bool in_delivery;          /* delivering an event: accesses outside RAM make no exits */
    bool tf_after;   /* the instruction just done: its own TF change decides (INT n, SYSCALL) */
    uint64_t eoi[4]; /* bit per vector: EOI broadcasts to report (CPU_EXIT_EOI) */

    struct soft_exc exc;
    struct cpu_exit *exit; /* where SOFT_EXIT stores the exit; the caller's */
    bool exit_pending;     /* last run() returned an access whose answer comes now */
    struct mmio_log mmio;
    uint32_t pio_data; /* of the port access under way: cpu_exit.u.pio.data points here */
    char stuck[160];

    _Atomic uint32_t sipi;         /* 0x100 | vector when a SIPI is pending */
    _Atomic uint32_t irr[8];       /* posted by others; folded into s.lapic by the owner */
    _Atomic uint32_t irr_level[8]; /* trigger mode of the posted ones */
    _Atomic uint64_t route;        /* what others need to know of the LAPIC (lapicreg.h) */
    uint32_t esr;                  /* LAPIC errors since ESR was last written */
    struct lapic_timer timer;
    bool stop_after; /* exec() runs one instruction, whatever v->requests says */

    struct cpu_stats stats;
    uint64_t *op_count; /* [CPU_OPS], owned by the engine: instructions run singly; may be NULL */
    uint64_t insns;     /* executed, counted per block */
    void *engine;       /* owned by the engine (block cache, code cache) */
    void *raw;          /* what this struct lies in, to be freed */
    bool bare;          /* no LAPIC, no interrupts: serves another engine */
};

/* What ops->flush() is to forget. */
enum soft_flush {
    FLUSH_ALL,
    FLUSH_LOCAL,    /* CR3 load: everything but what global pages gave */
    FLUSH_CODE,     /* where instructions lie; data stay */
    FLUSH_CODE_LOW, /* the same, of the lower half of the address space */
};

/* How a software engine executes. */
struct soft_engine_ops {
    size_t
        vcpu_bytes; /* of the engine's struct that begins with struct vcpu; 0 = no more than it */
    int (*vcpu_init)(struct vcpu *v, struct err *e);
    void (*vcpu_done)(struct vcpu *v);
    /* Execute from v->s.rip until v->requests is non-zero (checked before each block:
     * then SOFT_BREAK) or something stops it. With v->stop_after: exactly one instruction (one
     * iteration of a REP), requests unseen, then SOFT_BREAK if it finished.
     * Returns an enum soft_stop, never SOFT_OK. */
    int (*exec)(struct vcpu *v);
    /* Code in these chunks (mem_chunks) of page `page` (mem_page) was written (any thread, or
     * the world stopped). code_gen was bumped already. */
    void (*code_written)(struct soft_vm *vm, int64_t page, uint64_t chunks);
    /* Forget everything derived from linear addresses. What is derived anew afterwards must come
     * from mmu_fetch_page(), page by page: INVLPG of a page not fetched from since is not told. */
    void (*flush)(struct vcpu *v, enum soft_flush what);
    /* INVLPG: forget where data of this page lies; `all`: of every page (large pages are about).
     * May be NULL when the engine keeps no such thing. */
    void (*flush_page)(struct vcpu *v, gva_t gva, bool all);
    /* Forget fast-path write rights: to the RAM page at host address `page` (it became code), or
     * NULL: to all (the dirty log started). May be NULL. */
    void (*drop_write)(struct vcpu *v, const uint8_t *page);
};

struct soft_vm {
    struct cpu_vm_conf c;
    const struct soft_engine_ops *ops;
    void *engine; /* owned by the engine, per VM */
    void *around; /* owned by an engine that wraps that one */
    struct vcpu *vcpu[CPUS_MAX];
    unsigned n;
    _Atomic uint32_t *code_gen; /* [ram pages] bumped when code in the page changed */
    _Atomic uint8_t *mixed;     /* [ram pages] 1: stores go there beside code, mmu_write_beside() */
    _Atomic unsigned marking;   /* pages just marked as code that some vCPU may still write fast */
    pthread_mutex_t world_lock; /* stop-the-world: one at a time */
    pthread_cond_t world_cond;
    _Atomic int world_stop;
    _Atomic uint32_t world_stops; /* how often it was */
    _Atomic bool extint;
    int (*pic_ack)(void *ctx);
    void *pic_ctx;
};

/* The cpu_engine functions of a software engine are these, with its ops. */
int soft_vm_new(const struct cpu_vm_conf *c, const struct soft_engine_ops *ops,
                struct soft_vm **ret, struct err *e) MUST_CHECK;
void soft_vm_free(struct soft_vm *vm);
void soft_vm_extint(struct soft_vm *vm, bool level); /* as cpu_engine.vm_extint */
void soft_vm_set_pic_ack(struct soft_vm *vm, int (*ack)(void *ctx), void *ctx);
int soft_vcpu_new(struct soft_vm *vm, unsigned index, struct vcpu **ret, struct err *e) MUST_CHECK;
void soft_vcpu_free(struct vcpu *v);
int soft_run(struct vcpu *v, struct cpu_exit *x, struct err *e);
void soft_kick(struct vcpu *v);
int soft_get(struct vcpu *v, struct cpu_state *s, struct err *e);
int soft_set(struct vcpu *v, const struct cpu_state *s, struct err *e);

/* Guest memory was replaced or dirty logging switched, the dirty log fetched: no vCPU runs. */
void soft_vm_mem_changed(struct soft_vm *vm);

/* Set a request and wake the vCPU if it waits. Any thread. */
void soft_request(struct vcpu *v, uint32_t req);

/* Between the two, no other vCPU executes guest code or touches guest memory by its
 * TLB. Called on v's thread, in mid-instruction; nests not. */
void soft_world_stop(struct vcpu *v);
void soft_world_start(struct vcpu *v);

/* --- between soft.c, softrun.c and outside.c --- */
void soft_wait(struct vcpu *v);        /* sleep until there is a request */
void soft_world_enter(struct vcpu *v); /* waits while the world is stopped */
void soft_world_leave(struct vcpu *v);
void soft_answered(struct vcpu *v, const struct cpu_exit *x); /* append to the replay log */

/* Recompute v->mode and v->cur_tlb from v->s. After any change of CS, SS, DS, ES, CR0,
 * CR4, EFER, CPL, EFLAGS.AC/VM, XCR0. */
void soft_mode_update(struct vcpu *v);
static inline unsigned soft_cpl(const struct vcpu *v)
{
    return (v->mode & MODE_CPL) >> 4;
}

static inline void soft_switches_changed(struct vcpu *v)
{
    if (!++v->switches)
        v->switches = 1;
}

/* Record an exception of the current instruction; all return SOFT_FAULT. */
static inline int soft_exc(struct vcpu *v, unsigned vector)
{
    v->exc = (struct soft_exc){.vector = (uint8_t)vector};
    return SOFT_FAULT;
}
static inline int soft_exc_err(struct vcpu *v, unsigned vector, uint32_t error)
{
    v->exc = (struct soft_exc){.vector = (uint8_t)vector, .has_error = true, .error = error};
    return SOFT_FAULT;
}
static inline int soft_exc_pf(struct vcpu *v, gva_t addr, uint32_t error)
{
    v->exc = (struct soft_exc){.vector = VEC_PF, .has_error = true, .error = error, .cr2 = addr};
    return SOFT_FAULT;
}
/* A debug trap after the current (finished) instruction, e.g. TF: DR6.BS. */
static inline int soft_exc_db_trap(struct vcpu *v, uint64_t dr6_bits)
{
    v->exc = (struct soft_exc){.vector = VEC_DB, .dr6 = dr6_bits, .trap = true};
    return SOFT_FAULT;
}

/* One access outside RAM (1, 2, 4 or 8 bytes): the local APIC's page, or an exit. The value is
 * zero-extended. SOFT_OK or SOFT_EXIT. */
int soft_mmio(struct vcpu *v, gpa_t gpa, unsigned len, bool write, uint64_t *val);

/* Port I/O, by the same replay rule as MMIO. IOPL/bitmap are checked here. */
/* The permission alone: SOFT_OK or SOFT_FAULT. */
int soft_port_allowed(struct vcpu *v, uint16_t port, unsigned len);
int soft_in(struct vcpu *v, uint16_t port, unsigned len, uint32_t *val);
int soft_out(struct vcpu *v, uint16_t port, unsigned len, uint32_t val);

/* EFLAGS.IF was set or TPR fell: leave exec() soon if an interrupt waits for that. */
static inline void soft_irq_window(struct vcpu *v)
{
    if (v->irq_maybe && (v->s.rflags & FL_IF))
        atomic_fetch_or_explicit(&v->requests, REQ_INTR, memory_order_relaxed);
}

/* The instruction finished: forget the replay log. */
static inline void soft_insn_done(struct vcpu *v)
{
    v->mmio.n = v->mmio.next = 0;
}

#endif
