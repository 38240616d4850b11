/* cpu/bt/bt.h - the binary translator's own structures. See docs/translator.md.
 *
 * Host registers while translated code runs
 *   rax rcx rdx rbx rbp rsi rdi r8 r12..r15   the guest's registers of the same name
 *   r9                                        the guest's RSP
 *   r10, r11                                  scratch; guest r9, r10, r11: v.s.gpr
 *   rsp                                       the host's stack
 *   gs: base                                  struct bt_cpu
 *   EFLAGS                                    the guest's arithmetic flags
 *
 * bt.c       exec loop, what code calls       btengine.c  the engine object
 * btcache.c  code memory, blocks, links       btstub.c    entry, exit and call-out stubs
 * btmem.c    the inline TLB                   rewrite.c   one instruction with other registers
 * btperf.c   names for perf                   classify.c  which way an instruction goes
 * xlat.c     one block                        xwindow.c   which accesses share a look-up
 * xinsn.c    instructions that compute        xstring.c   MOVS, STOS, LODS
 * xflow.c    ... that jump                    xswitch.c   SYSCALL, SYSRET, STAC, CLAC
 * xsys.c     flags words, IF, selectors, bits */
#ifndef CPU_BT_BT_H
#define CPU_BT_BT_H

#include <stdatomic.h>
#include <stddef.h>

#include "cpu/bt/emit.h"
#include "cpu/soft/soft.h"

enum {
    BTLB_BITS = 14,
    BTLB_SIZE = 1 << BTLB_BITS,
    BTLB_SHIFT = 5, /* bytes of an entry: 32 */
    JC_BITS = 13,
    JC_SIZE = 1 << JC_BITS, /* entries of a jump cache */
    MODES_MAX = 8,          /* distinct modes that may have blocks at a time */
    BLOCK_INSNS_MAX = 48,
    BLOCK_BYTES_MAX = 16384, /* of code one block may need */
    BLOCK_LINKS = 2,
    WINDOWS_MAX = 16,
    CROSSED_SIZE = 4096,
    CROSSED_MAX = 8,
};

struct btlb_entry {
    uint64_t rtag, wtag; /* linear page when allowed, else btlb_invalid(index) */
    uint64_t page;       /* host address of the page */
    uint64_t in;         /* BTLB_* */
};
_Static_assert(sizeof(struct btlb_entry) == 1 << BTLB_SHIFT, "the index is made by a shift");

enum {
    BTLB_GLOBAL = 1,
    BTLB_IN_LOCAL = 2,
    BTLB_IN_GLOBAL = 4
}; /* of a global page; in which lists */

/* A page that is never looked up at index i: 0 where that is not page 0's own place, so that a
 * table of zeroes has no valid entry. */
static inline uint64_t btlb_invalid(unsigned i)
{
    return i ? 0 : MEM_PAGE;
}

struct jc_entry {
    uint64_t rip;      /* linear, XOR the epoch of its privilege */
    const void *entry; /* of a block; flags in memory */
};

/* Where a rip's entry is: the product's upper bits. The multiplier is 2^32 / golden ratio. */
enum { JC_FACTOR = 0x9e3779b1u, JC_SHIFT = 32 - JC_BITS };
static inline unsigned jc_index(uint64_t rip)
{
    return (uint32_t)rip * JC_FACTOR >> JC_SHIFT;
}

/* Where the guest's flags are when a link is taken. */
enum link_flags { LINK_EFLAGS, LINK_MEMORY, LINK_ANY /* in both, or nobody reads them */ };

/* There are as many blocks as code has room for: what points to one, or into code, is 32 bits. */
typedef uint32_t block_ref; /* index in bt_vm.blocks + 1; 0 = none */
typedef uint32_t link_ref;  /* block's index << 1 | link's number, + 1; 0 = none */
typedef uint32_t code_ref;  /* offset in the code area */

/* A direct jump that leaves a block within its page. */
struct link {
    code_ref rel32;    /* 4-byte aligned; 0 = none */
    code_ref unlinked; /* the code that leaves to the dispatcher */
    block_ref to;      /* linked to */
    link_ref next_in;  /* next in its .incoming */
};

struct block {
    gpa_t gpa;       /* of the first byte */
    uint64_t chunks; /* of the page, that it was made from: mem_chunks() */
    block_ref hash_next, page_next;
    link_ref incoming;
    code_ref entry_m, entry_f; /* flags in memory; in EFLAGS */
    code_ref body;             /* where both lead: 8 bytes that can be turned into a jump */
    code_ref cold_exit;        /* where it goes when the block is dead */
    uint32_t born;             /* TSC >> BORN_SHIFT */
    uint16_t insns, bytes;     /* guest's */
    uint8_t mode;              /* index into bt_vm.modes */
    bool dead;
    bool interpreted; /* one instruction, by the interpreter */
    bool straddles; /* one instruction, whose rest lies in another page: that of the next block, */
    bool second;    /* which is only there to die with that page, and has no code */
    uint8_t link_flags[BLOCK_LINKS]; /* enum link_flags */
    struct link link[BLOCK_LINKS];
};
_Static_assert(sizeof(struct block) <= 96, "there are a hundred thousand of them");
enum { BORN_SHIFT = 10 };

/* What an instruction that changes the privilege leads to, as the interpreter once found it: one
 * for each mode it is executed in. */
struct bt_switch {
    struct x86_seg cs, ss;
    uint64_t cur_tlb, jc; /* vcpu.cur_tlb; offset of the mode's part of the jump cache */
    uint32_t mode;
    uint32_t when; /* vcpu.switches then: else it must be found anew; 0 = never found */
};
enum switch_kind { SWITCH_SYSCALL, SWITCH_SYSRET, SWITCH_STAC, SWITCH_CLAC, SWITCHES };

/* One vCPU and what generated code reaches by gs: beside it. */
struct bt_cpu {
    struct vcpu v; /* first: a pointer to one points to the other */
    struct bt_cpu *self;
    uint64_t page_lin;     /* linear address of the page the running block lies in */
    uint64_t flags;        /* al = OF, ah = SF ZF AF PF CF as LAHF has them */
    uint64_t epoch_xor[2]; /* jump cache's epoch << 48: of user code, of the supervisor's */
    uint64_t tmp[4];
    uint64_t window[WINDOWS_MAX]; /* host addresses of the running block's windows */
    uint64_t host_rsp;            /* in the entry stub's frame, to leave from anywhere */
    uint64_t vec_live;            /* 1: the guest's vector and x87 registers are in the host's */
    const uint8_t *exit_site; /* struct exit_site by which code left; NULL: a jump to exit_rip */
    uint64_t exit_rip;        /* linear */
    uint32_t exit_branch;     /* of an indirect jump: its site, and RSP's undo << 16 */
    uint64_t insns;           /* guest instructions executed, by whole blocks; if counted */
    uint32_t host_mxcsr, pad;
    struct bt_switch sw[MODES_MAX][SWITCHES];
    struct jc_entry jc[MODES_MAX][JC_SIZE];
    struct btlb_entry tlb[TLB_SETS][BTLB_SIZE];
    /* not reached by generated code */
    struct bt_vm *bv;
    uint16_t touched[TLB_SETS][2]
                    [BTLB_SIZE]; /* entries filled since the last flush: local, global */
    unsigned n_touched[TLB_SETS][2];
    bool super_local;      /* supervisor code outside of global pages is in the jump cache */
    uint64_t mode_known;   /* v->mode + 1 that mode_index is for; 0 = none */
    uint64_t mode_flushes; /* bt_vm.flushes then */
    uint32_t mode_index;
    struct xlat *xlat;   /* owned: the translator's scratch */
    int stop;            /* enum soft_stop of the call-out that left */
    bool called_out;     /* code was left by a call-out: v->s is whole */
    uint64_t stub_calls; /* instructions interpreted from inside of blocks */
    uint64_t xlat_ns;    /* spent translating */
};

#define CPU(field) ((uint32_t)offsetof(struct bt_cpu, field)) /* for gs: */
#define GPR(n) (CPU(v.s.gpr) + 8 * (n))

/* A page whose blocks die young, again and again: those parts are interpreted, instruction by
 * instruction, and not watched, until enough was executed that a new try pays. */
struct smc {
    uint64_t hot;           /* mem_chunks() */
    uint32_t kills;         /* times that blocks of the page died young, up to SMC_KILLS; less those
                             * that they died old */
    _Atomic uint32_t steps; /* instructions interpreted since it became hot; by any vCPU */
};
enum { SMC_KILLS = 8, SMC_AGAIN = 2, SMC_STEPS = 4096, SMC_YOUNG = 50 /* 1024 TSC cycles */ };

enum { AREA_PAGE = 4096 };

/* One memory mapped more than once; never writable and executable in one mapping. Code executes in
 * `rx`: that memory, but for pages that lie in a file, which other machines execute, too. They are
 * replaced by copies of the machine's own before anything is written to them. */
struct code_area {
    uint8_t *rw;
    const uint8_t *rx;     /* what is executed, and read */
    const uint8_t *own_rx; /* the same memory as rw; where own pages of rx come from; NULL as long
                            * as all are */
    uint64_t *shared;      /* a bit a page: in a file */
    size_t size;
    struct emit e; /* the cursor */
};

enum { BLOCK_HASH_BITS = 16 };

struct bt_vm {
    struct soft_vm *vm;
    pthread_mutex_t lock; /* translating, linking, invalidating */
    struct code_area code;
    uint8_t *after_stubs;
    const void *stub_enter, *stub_vecload;
    const void *stub_exit[2]; /* by a link; [1]: flags are in EFLAGS */
    const void *stub_jump[2]; /* by an indirect jump that the jump cache misses; [1]: supervisor */
    /* [vec]: 1 for blocks that use vector registers, which are live again behind it */
    const void *stub_miss[TLB_SETS][2][2]; /* [set][write][vec] */
    const void *stub_interp[2];            /* [vec] */
    const void *stub_switch;
    const void *stub_go[2]; /* to T0 in another mode, T1 = bt_switch.jc; [1]: supervisor */
    bool count;             /* instructions, for statistics */
    bool apart;             /* bt_vm_apart() */
    uint32_t modes[MODES_MAX];
    unsigned n_modes;
    block_ref *hash;    /* [1 << BLOCK_HASH_BITS] */
    block_ref *by_page; /* [ram pages], lazily touched */
    struct smc *smc;    /* the same */
    _Atomic uint8_t
        crossed[CROSSED_SIZE]; /* hashed by the leading instruction's address: how often a
                                * window crossed a page, up to CROSSED_MAX: no window */
    struct block *blocks;      /* arena */
    unsigned n_blocks, max_blocks;
    struct bt_cpu *cpu[CPUS_MAX]; /* owned, by vCPU index */
    uint64_t kills;               /* counts deaths of blocks: code under execution may be stale */
    uint64_t translated, flushes; /* blocks; of the whole cache */
    uint64_t guest_bytes, host_bytes;
    int perf_fd; /* btperf.h; -1 = none */
};

/* What a call-out is told: offset of the instruction in its page, kind of access. */
enum {
    SITE_OFF = 0xfff,
    SITE_WRITE = 1 << 12,
    SITE_SET_SHIFT = 13, /* TLB set, 2 bits */
    SITE_ENDS = 1 << 15, /* the instruction ends its block: leave when it is done */
};

/* Call-outs are calls that these bytes follow; the address the call pushed says where they are. */
struct miss_site { /* stub_miss: T0 = linear address ^ tag, T1 = index */
    uint16_t site;
    int16_t retry, found; /* relative to this struct: the look-up; where it has led to T0 */
    int16_t after;        /* behind the instruction */
    uint8_t bytes, align; /* of the access; 0: at any address */
    bool leads;           /* a window */
} __attribute__((packed));
struct interp_site { /* stub_interp goes on behind it */
    uint16_t site;
} __attribute__((packed));
struct switch_site { /* stub_switch: interpreted, remembered, left */
    uint16_t site;
    uint8_t mode, kind; /* of bt_cpu.sw */
} __attribute__((packed));
struct exit_site { /* stub_exit */
    uint16_t off;  /* in the page: where to go on */
    link_ref link;
} __attribute__((packed));
enum { EXIT_DIRECT = SITE_OFF + 1 }; /* exit_branch of a direct jump: its target is canonical */

/* btstub.c */
void btstub_emit(struct bt_vm *b);
typedef void bt_enter_fn(const void *entry);

/* btmem.c. The linear address is in T0 (in and clobbered); afterwards T0 is the host address. T1
 * clobbered, EFLAGS clobbered. `miss` and `retry`: places for the cold part. */
struct lookup {
    uint8_t *to_cold[2]; /* forward branches to the cold part */
    unsigned n_cold;
    const uint8_t *retry; /* executable address of the look-up */
    const uint8_t *found; /* and of its end */
    uint8_t bytes, align;
    bool leads;
    const uint8_t *after; /* executable address behind the instruction */
    uint32_t site;
};
/* Offset in bt_cpu of the tags of a set, for index 0. */
static inline uint32_t btmem_tag(unsigned set, bool write)
{
    return CPU(tlb) + set * (uint32_t)sizeof(((struct bt_cpu *)0)->tlb[0]) +
           (uint32_t)(write ? offsetof(struct btlb_entry, wtag)
                            : offsetof(struct btlb_entry, rtag));
}
void btmem_lookup(struct emit *e, struct lookup *l, unsigned set, bool write, unsigned bytes,
                  unsigned align);
void btmem_cold(struct emit *e, const struct bt_vm *b, bool vec, const struct lookup *l);
/* Fill from the soft MMU. False: not to be had this way; the instruction must be interpreted. */
bool btmem_fill(struct bt_cpu *c, unsigned set, uint64_t lin, bool write);
void btmem_flush(struct bt_cpu *c);
void btmem_flush_local(struct bt_cpu *c); /* all but what global pages gave */
/* Forget write rights to the page at this host address; 0: to all. */
void btmem_drop_write(struct bt_cpu *c, uint64_t page);
void btmem_flush_page(struct bt_cpu *c, uint64_t lin);

/* btarea.c. init: own memory all over. share: the pages from offset `at` on, `bytes` of them, are
 * those of file `fd` at `from`; multiples of AREA_PAGE. Errors: what mmap(2) says; it is as it was.
 */
int btarea_init(struct code_area *a, size_t bytes, struct err *e) MUST_CHECK;
void btarea_done(struct code_area *a);
int btarea_share(struct code_area *a, size_t at, size_t bytes, int fd, uint64_t from) MUST_CHECK;
/* The page at this offset is about to be written. */
void btarea_own(struct code_area *a, size_t at);
void btarea_own_all(struct code_area *a, bool copy); /* without `copy`: nothing in it counts */

/* btcache.c */
int btcache_init(struct bt_vm *b, size_t bytes, struct err *e) MUST_CHECK;
void btcache_done(struct bt_vm *b);
/* Needs no lock: chains are changed by single stores, and blocks lie still while anybody runs. */
struct block *btcache_find(struct bt_vm *b, gpa_t gpa, uint32_t mode);
struct block *btcache_new(struct bt_vm *b); /* NULL: full */
void btcache_insert(struct bt_vm *b, struct block *k);
/* The block made last dies with code in these chunks of the page at gpa2, too. There is room for a
 * block more. */
void btcache_insert2(struct bt_vm *b, struct block *k, gpa_t gpa2, uint64_t chunks);
void btcache_to_page(struct bt_vm *b, struct block *k); /* a part of both */
/* The link of a ref, NULL for 0. */
struct link *btcache_link_of(struct bt_vm *b, link_ref r);
static inline const void *btcache_code(const struct bt_vm *b, code_ref r)
{
    return b->code.rx + r;
}
void btcache_kill_one(struct bt_vm *b, struct block *k);
void btcache_link(struct bt_vm *b, struct link *l, struct block *to);
void btcache_kill(struct bt_vm *b, int64_t page, uint64_t chunks); /* blocks made from them */
void btcache_flush(struct bt_vm *b);                               /* the world is stopped */

/* A window that the instruction at gpa leads crossed a page: after some times there is none. */
void btcache_crossed(struct bt_vm *b, gpa_t gpa);
bool btcache_crosses(const struct bt_vm *b, gpa_t gpa);

/* Is the code at gpa, of RAM page `page`, in a hot part? */
bool btcache_hot(struct bt_vm *b, int64_t page, gpa_t gpa);

/* xlat.c: translate at (gpa, mode), `page` being the page's bytes. NULL: no room (xlat_full), the
 * code changed meanwhile (try again), or *alone: the instruction there must be interpreted by
 * itself. Takes the lock. */
struct block *xlat_block(struct bt_cpu *c, gpa_t gpa, const uint8_t *page, uint32_t mode,
                         bool *alone);
bool xlat_full(const struct bt_vm *b);
struct xlat *xlat_new(void);
void xlat_free(struct xlat *x);

/* bt.c, called by stubs. The executable address to go on at, or NULL: leave, v.s is whole. */
const uint8_t *bt_on_miss(struct bt_cpu *c, uint64_t lin, const uint8_t *site);
const uint8_t *bt_on_interp(struct bt_cpu *c, uint64_t unused, const uint8_t *site);
const uint8_t *bt_on_switch(struct bt_cpu *c, uint64_t unused, const uint8_t *site);
void bt_forget(struct bt_cpu *c); /* everything derived from linear addresses */

#endif
