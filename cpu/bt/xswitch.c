/* SYSCALL, SYSRET, STAC and CLAC by translated code. What they lead to is known from the last time
 * the interpreter did one in the same mode (struct bt_switch), as long as nothing it depends on has
 * changed since. Source: SDM vol 2. */
#include "cpu/bt/xlat_priv.h"

enum {
    KEPT = FL_ARITH | FL_IF | FL_ID
}; /* of R11 by SYSRET here; with others set it is interpreted */

static uint32_t field(const struct xlat *x, enum switch_kind kind, size_t off)
{
    return CPU(sw) + (x->k->mode * SWITCHES + kind) * (uint32_t)sizeof(struct bt_switch) +
           (uint32_t)off;
}
#define SW(member) field(x, kind, offsetof(struct bt_switch, member))

static void copy(struct emit *e, uint32_t to, uint32_t from, unsigned bytes)
{
    for (unsigned k = 0; k < bytes; k += 8) {
        emit_load_gs(e, T1, from + k);
        emit_store_gs(e, T1, to + k);
    }
}
_Static_assert(sizeof(struct x86_seg) % 8 == 0, "copied by eights");

/* Slow unless what the instruction leads to is known. */
static struct slow *known(struct xlat *x, unsigned i, enum switch_kind kind)
{
    struct slow *s = xinsn_slow(x, i);

    s->kind = kind;
    emit_gs(x->e, false, 0x8b, T0, CPU(v.switches));
    emit_gs(x->e, false, 0x3b, T0, SW(when));
    xinsn_slow_if(x, s, CC_NE);
    return s;
}

/* The new mode, and on to T0 in it. */
static void go(struct xlat *x, enum switch_kind kind, bool super)
{
    struct emit *e = x->e;

    emit_gs(e, false, 0x8b, T1, SW(mode));
    emit_gs(e, false, 0x89, T1, CPU(v.mode));
    copy(e, CPU(v.cur_tlb), SW(cur_tlb), 8);
    emit_load_gs(e, T1, SW(jc));
    emit_jmp(e, x->b->stub_go[super]);
}

static void segments(struct xlat *x, enum switch_kind kind)
{
    uint32_t seg = CPU(v.s.seg);

    copy(x->e, seg + SEG_CS * (uint32_t)sizeof(struct x86_seg), SW(cs), sizeof(struct x86_seg));
    copy(x->e, seg + SEG_SS * (uint32_t)sizeof(struct x86_seg), SW(ss), sizeof(struct x86_seg));
}

static void next_rip(struct xlat *x, unsigned i)
{
    emit_load_gs(x->e, T0, CPU(page_lin));
    emit_lea(x->e, true, T0, T0, 0xff, 1, x->off[i + 1]);
}

/* not T0 */
static void emit_not_t0(struct emit *e)
{
    emit_rex(e, true, 0, 0, T0);
    emit_1(e, 0xf7);
    emit_1(e, 0xd0 | (T0 & 7));
}

static void do_syscall(struct xlat *x, unsigned i)
{
    enum switch_kind kind = SWITCH_SYSCALL;
    struct emit *e = x->e;

    struct slow *s = known(x, i, kind);
    xsys_flags_image(e);
    emit_store_gs(e, T1, GPR(R11));
    next_rip(x, i);
    emit_mov_rr(e, H_CX, T0);
    emit_load_gs(e, T0, CPU(v.s.sfmask));
    emit_not_t0(e);
    emit_rr(e, true, 0x23, T0, T1);
    emit_alu_imm(e, false, 1, T0, FL_FIXED);
    xsys_split_image(e);
    emit_store_gs(e, T0, CPU(v.s.rflags));
    segments(x, kind);
    emit_load_gs(e, T0, CPU(v.s.lstar));
    go(x, kind, true);
    s->after = emit_here(e);
}

/* To a target in the lower half, with no flag but KEPT set in R11, and no interrupt that waits for
 * IF. */
static void do_sysret(struct xlat *x, unsigned i)
{
    enum switch_kind kind = SWITCH_SYSRET;
    struct emit *e = x->e;

    struct slow *s = known(x, i, kind);
    emit_load_gs(e, T0, GPR(R11));
    emit_mov_rr(e, T1, T0);
    emit_alu_imm(e, false, 4, T1, FL_TF | FL_DF | FL_IOPL | FL_NT | FL_AC | FL_VIF | FL_VIP);
    xinsn_slow_if(x, s, CC_NE);
    emit_cmp8_gs(e, CPU(v.irq_maybe));
    xinsn_slow_if(x, s, CC_NE);
    emit_mov_rr(e, T1, H_CX);
    emit_shr_imm(e, true, T1, 47);
    xinsn_slow_if(x, s, CC_NE);
    emit_alu_imm(e, false, 4, T0, KEPT);
    emit_alu_imm(e, false, 1, T0, FL_FIXED);
    xsys_split_image(e);
    emit_store_gs(e, T0, CPU(v.s.rflags));
    segments(x, kind);
    emit_mov_rr(e, T0, H_CX);
    go(x, kind, false);
    s->after = emit_here(e);
}

static void do_ac(struct xlat *x, unsigned i, bool set)
{
    enum switch_kind kind = set ? SWITCH_STAC : SWITCH_CLAC;

    struct slow *s = known(x, i, kind);
    emit_gs_imm(x->e, set ? 1 : 4, CPU(v.s.rflags), set ? FL_AC : ~(uint32_t)FL_AC);
    next_rip(x, i);
    go(x, kind, true);
    s->after = emit_here(x->e);
}

void xswitch_emit(struct xlat *x, unsigned i)
{
    xinsn_want_memory(x);
    x->st = ST_MEMORY;
    switch (x->kind[i].way) {
    case WAY_SYSCALL:
        do_syscall(x, i);
        break;
    case WAY_SYSRET:
        do_sysret(x, i);
        break;
    default:
        do_ac(x, i, x->kind[i].way == WAY_STAC);
        break;
    }
}

void xswitch_slow(struct xlat *x, const struct slow *s)
{
    struct switch_site w = {(uint16_t)(s->site | SITE_ENDS), (uint8_t)x->k->mode, (uint8_t)s->kind};

    emit_call(x->e, x->b->stub_switch);
    emit_bytes(x->e, &w, sizeof(w));
}
