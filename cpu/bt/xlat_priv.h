/* cpu/bt/xlat_priv.h - a block under translation, shared by xlat.c (the block), xinsn.c (computing
 * instructions) and xflow.c (jumps, calls, ways out). Nobody else includes it. */
#ifndef CPU_BT_XLAT_PRIV_H
#define CPU_BT_XLAT_PRIV_H

#include "cpu/bt/bt.h"
#include "cpu/bt/classify.h"

enum { NO_REG = 0xff };

/* Where the guest's flags are. */
enum st { ST_EFLAGS, ST_MEMORY, ST_BOTH, ST_DEAD };
enum { COLD_MAX = 2 * BLOCK_INSNS_MAX + 8 };

/* Cases of an instruction that are left to the interpreter: the branches that lead there. */
struct slow {
    uint8_t *from[4];
    unsigned n;
    uint32_t site;
    enum switch_kind kind; /* SWITCHES: not of xswitch.c */
    const uint8_t *after;
};

enum { STRADDLE_MAX = ZYDIS_MAX_INSTRUCTION_LENGTH - 1 };

struct window {    /* see xwindow.c */
    int32_t low;   /* relative to the base */
    unsigned span; /* bytes */
    bool write;
};

struct access {    /* of an instruction */
    int8_t window; /* that it belongs to, -1 = none */
    bool leads;
    int32_t at; /* as window.low */
};

struct part { /* a page that the block is made from */
    gpa_t gpa;
    int64_t page; /* mem_page */
    const uint8_t *bytes;
    uint64_t hot;    /* struct smc */
    uint64_t chunks; /* that the block depends on: mem_chunks() */
    uint32_t gen;    /* soft_vm.code_gen */
};

struct xlat {
    ZydisDecoder decoder;
    const struct cpu_model *model;
    uint32_t mode; /* enum MODE_* */
    uint8_t source[MEM_PAGE +
                   STRADDLE_MAX]; /* the page's bytes, and the next one's first, copied once */
    unsigned end;                 /* bytes of it that are there */
    struct part part[2];          /* [1]: of an instruction that straddles */
    unsigned n_parts;
    struct xinsn in[BLOCK_INSNS_MAX];
    struct kind kind[BLOCK_INSNS_MAX];
    uint8_t live_in[BLOCK_INSNS_MAX + 1]; /* flags live before instruction i */
    uint8_t need[BLOCK_LINKS];            /* flags that are read where link n goes */
    uint16_t off[BLOCK_INSNS_MAX + 1];    /* offset in the page */
    unsigned n;
    struct lookup cold[COLD_MAX]; /* whose cold parts are still to be emitted */
    unsigned n_cold;
    struct slow slow[BLOCK_INSNS_MAX];
    unsigned n_slow;
    struct access access[BLOCK_INSNS_MAX];
    struct window window[WINDOWS_MAX];
    unsigned n_windows;
    uint8_t *poll[BLOCK_LINKS]; /* branch of the poll before link n, NULL = none */
    enum st st;
    uint8_t held[2]; /* guest register that lives in memory and whose value T0, T1 hold; NO_REG */
    bool vec;        /* the block uses vector registers */
    unsigned set;    /* TLB set of the mode */
    bool apart;      /* bt_vm_apart() */
    struct emit *e;
    const struct bt_vm *b;
    struct block *k;
};

static inline code_ref emit_ref(const struct bt_vm *b, const struct emit *e)
{
    return (code_ref)(e->p - b->code.rw);
}

/* --- xinsn.c. Instruction i of x->in. */

/* EFLAGS to memory and back; T1 clobbered; EFLAGS stay. */
void xinsn_save_flags(struct emit *e);
void xinsn_load_flags(struct emit *e);
/* What follows destroys EFLAGS; `live` are the flags still wanted. T1 clobbered. */
void xinsn_before_clobber(struct xlat *x, uint8_t live);
/* What follows reads flags, or leaves some that are wanted later. T1 clobbered. */
void xinsn_want_eflags(struct xlat *x);
void xinsn_want_memory(struct xlat *x);
/* Guest register g into host register h (which is h itself when it lives in one). */
void xinsn_load_guest(struct emit *e, unsigned h, unsigned g);
/* The linear address of `o`, plus `by`, into T0; T1 may be clobbered; EFLAGS kept. False: not by
 * this way. */
bool xinsn_address(struct xlat *x, unsigned i, const ZydisDecodedOperand *o, int32_t by);
/* T0 = linear address, then host address. */
struct lookup *xinsn_look_up(struct xlat *x, unsigned i, bool write, unsigned bytes,
                             unsigned align);
/* Host address of an access of instruction i: T0 + .disp; by a window if it has one. `o`: the
 * operand, or NULL: RSP + by. `live`: flags that are wanted behind the look-up, if one is made. T1
 * clobbered. .ok false: not by this way, nothing emitted. */
struct place {
    bool ok;
    int32_t disp;
    struct lookup *l; /* NULL: none was needed */
};
struct place xinsn_reach(struct xlat *x, unsigned i, const ZydisDecodedOperand *o, int32_t by,
                         bool write, unsigned bytes, unsigned align, uint8_t live);
static inline void xinsn_done(struct xlat *x, const struct place *p) /* behind the instruction */
{
    if (p->l)
        p->l->after = emit_here(x->e);
}
/* Looked-up place below the stack pointer. */
struct place xinsn_push_slot(struct xlat *x, unsigned i, uint8_t live);
bool xinsn_copyable(const struct xlat *x, unsigned i); /* can it be copied? */
void xinsn_rsp_add(struct xlat *x, int32_t n);
void xinsn_store_t0(struct emit *e, unsigned reg, int32_t disp); /* mov [T0 + disp], reg */
void xinsn_load_t0(struct emit *e, unsigned reg, int32_t disp);  /* mov reg, [T0 + disp] */
void xinsn_interp(struct xlat *x, unsigned i);                   /* call out to the interpreter */
void xinsn_call_interp(struct xlat *x, uint32_t site); /* the call alone; flags in memory */
/* Cases for the interpreter: xinsn_slow(), then slow_if() wherever one is found, and `after` behind
 * the instruction. Flags, if live, are in memory there; RSP and memory are as before it. */
struct slow *xinsn_slow(struct xlat *x, unsigned i);
static inline void xinsn_slow_if(struct xlat *x, struct slow *s, enum cc cc)
{
    s->from[s->n++] = emit_jcc_fwd(x->e, cc);
}
/* Put flags in memory back into EFLAGS if instruction i wants some from before. */
void xinsn_prepare_flags(struct xlat *x, unsigned i);
void xinsn_after(struct xlat *x, unsigned i); /* it left its flags in EFLAGS */
unsigned xinsn_host_reg(unsigned g);          /* of a guest register that has one */
bool xinsn_in_memory(unsigned g);
void xinsn_emit(struct xlat *x, unsigned i);

/* T1 = byte offset of T0's entry in a mode's jump cache. */
void xflow_hash(struct emit *e);

/* --- xswitch.c */
void xswitch_emit(struct xlat *x, unsigned i);
void xswitch_slow(struct xlat *x, const struct slow *s); /* interpreted, and remembered */

/* --- xstring.c */
void xstring_one(struct xlat *x, unsigned i);
void xstring_repeat(struct xlat *x, unsigned i);

/* --- xsys.c */
/* T1 = RFLAGS as PUSHF makes them, flags being in memory; EFLAGS and tmp[2] clobbered. */
void xsys_flags_image(struct emit *e);
/* The arithmetic flags of the image in T0 to memory; T1 and EFLAGS clobbered. */
void xsys_split_image(struct emit *e);
void xsys_emit(struct xlat *x, unsigned i);

/* --- xlat.c: does the instruction at `off` reach into the next page? */
bool xlat_straddles(struct xlat *x, int64_t off);

/* --- xwindow.c */
void xwindow_plan(struct xlat *x, const struct bt_vm *b);

/* --- xflow.c */
bool xflow_ends(enum way w); /* the instruction ends its block */
/* Offset in the page that the direct branch `i`, which ends at `next`, goes to. */
int64_t xflow_target(const struct xinsn *i, unsigned next);
static inline bool xflow_in_page(int64_t off)
{
    return off >= 0 && off < MEM_PAGE;
}
/* Unconditionally to `off` relative to the page (which may lie outside of it), by link n. */
void xflow_go(struct xlat *x, unsigned n, int64_t off);
/* Leave for `off` in the page; `link`: exit_site.link. */
void xflow_exit(struct xlat *x, bool eflags, unsigned off, uint32_t link);
void xflow_emit(struct xlat *x, unsigned i);

#endif
