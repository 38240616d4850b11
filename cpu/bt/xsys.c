/* Flags as a word, interrupts on and off, segments: what a kernel does all the time, by translated
 * code itself. Whatever is not the usual case goes to the interpreter. Source: SDM vol 2. */
#include "cpu/bt/xlat_priv.h"

enum { /* of RFLAGS: what POPF may change here; RF and VM in the image read as 0 and 1 elsewhere */
       FL_QUIET = FL_ARITH | FL_IF | 1u << 1 | 1u << 3 | 1u << 5 | 1u << 15,
       FL_IMAGE = (1u << 22) - 1,
};

void xsys_flags_image(struct emit *e)
{
    static const uint8_t swap_shift[] = {0x86, 0xc4, 0xc0, 0xe4, 3}; /* xchg al, ah; shl ah, 3 */

    emit_store_gs(e, H_AX, CPU(tmp[2]));
    emit_load_gs(e, T1, CPU(v.s.rflags));
    emit_alu_imm(e, false, 4, T1, (uint32_t) ~(FL_ARITH | FL_RF | FL_VM));
    emit_gs(e, false, 0x8b, H_AX, CPU(flags));
    emit_bytes(e, swap_shift, sizeof(swap_shift));
    emit_alu_imm(e, false, 4, H_AX, FL_ARITH);
    emit_rr(e, false, 0x0b, T1, H_AX);
    emit_load_gs(e, H_AX, CPU(tmp[2]));
}

void xsys_split_image(struct emit *e)
{
    /* shr ah, 3; and ah, 1; xchg al, ah */
    static const uint8_t pack[] = {0xc0, 0xec, 3, 0x80, 0xe4, 1, 0x86, 0xc4};

    emit_mov_rr(e, T1, H_AX);
    emit_mov_rr(e, H_AX, T0);
    emit_bytes(e, pack, sizeof(pack));
    emit_gs(e, false, 0x89, H_AX, CPU(flags));
    emit_mov_rr(e, H_AX, T1);
}

/* PUSHFQ: the image is RFLAGS but RF and VM, with the arithmetic flags from where they are. */
static void pushf(struct xlat *x, unsigned i)
{
    xinsn_want_memory(x);
    struct place p = xinsn_push_slot(x, i, KF_ALL);
    xsys_flags_image(x->e);
    xinsn_store_t0(x->e, T1, p.disp);
    xinsn_rsp_add(x, -8);
    xinsn_done(x, &p);
}

/* POPFQ in ring 0, when it changes no more than IF and the arithmetic flags and no interrupt waits
 * for IF. */
static void popf(struct xlat *x, unsigned i)
{
    struct emit *e = x->e;

    emit_mov_rr(e, T0, HOST_GUEST_RSP);
    xinsn_before_clobber(x, 0);
    struct lookup *l = xinsn_look_up(x, i, false, 8, 0);
    struct slow *s = xinsn_slow(x, i);
    xinsn_load_t0(e, T0, 0);
    emit_load_gs(e, T1, CPU(v.s.rflags));
    emit_rr(e, false, 0x33, T1, T0);
    emit_alu_imm(e, false, 4, T1, FL_IMAGE & ~(uint32_t)FL_QUIET);
    xinsn_slow_if(x, s, CC_NE);
    emit_cmp8_gs(e, CPU(v.irq_maybe));
    xinsn_slow_if(x, s, CC_NE);
    xsys_split_image(e);
    emit_alu_imm(e, false, 4, T0, FL_IF);
    emit_gs_imm(e, 4, CPU(v.s.rflags), ~(uint32_t)FL_IF);
    emit_gs(e, false, 0x09, T0, CPU(v.s.rflags)); /* or dword gs:[], T0d */
    xinsn_rsp_add(x, 8);
    x->st = ST_MEMORY;
    l->after = s->after = emit_here(e);
}

/* STI without its shadow: the instruction behind it is in the block, and nothing looks for
 * interrupts before it. One that waits already needs the shadow. */
static void sti(struct xlat *x, unsigned i)
{
    xinsn_before_clobber(x, x->live_in[i + 1]);
    struct slow *s = xinsn_slow(x, i);
    emit_cmp8_gs(x->e, CPU(v.irq_maybe));
    xinsn_slow_if(x, s, CC_NE);
    emit_gs_imm(x->e, 1, CPU(v.s.rflags), FL_IF);
    s->after = emit_here(x->e);
}

static void clear_flag(struct xlat *x, unsigned i, uint32_t flag)
{
    xinsn_before_clobber(x, x->live_in[i + 1]);
    emit_gs_imm(x->e, 4, CPU(v.s.rflags), ~flag);
}

static uint32_t segment(unsigned s, size_t field)
{
    return CPU(v.s.seg) + s * (uint32_t)sizeof(struct x86_seg) + (uint32_t)field;
}

static void swapgs(struct xlat *x)
{
    uint32_t base = segment(SEG_GS, offsetof(struct x86_seg, base));

    emit_load_gs(x->e, T0, base);
    emit_load_gs(x->e, T1, CPU(v.s.kernel_gs_base));
    emit_store_gs(x->e, T1, base);
    emit_store_gs(x->e, T0, CPU(v.s.kernel_gs_base));
}

/* MOV r32/64, Sreg: the selector, zero-extended. */
static void from_segment(struct xlat *x, unsigned i)
{
    const ZydisDecodedOperand *o = x->in[i].op;
    unsigned s = (unsigned)(o[1].reg.value - ZYDIS_REGISTER_ES);
    bool high;
    unsigned g = (unsigned)rewrite_gpr(o[0].reg.value, &high);
    unsigned h = xinsn_in_memory(g) ? T0 : xinsn_host_reg(g);

    emit_1(x->e, 0x65); /* movzx h, word gs:[sel] */
    emit_rex(x->e, false, h, 0, 0);
    emit_1(x->e, 0x0f);
    emit_1(x->e, 0xb7);
    emit_1(x->e, (uint8_t)(0x04 | (h & 7) << 3));
    emit_1(x->e, 0x25);
    emit_4(x->e, segment(s, offsetof(struct x86_seg, sel)));
    if (h == T0)
        emit_store_gs(x->e, T0, GPR(g));
}

/* BT, BTS, BTR, BTC with memory and a register: the bit may lie anywhere from the operand. Here the
 * address takes the offset's upper part, in operands, and the instruction its lower. */
static void bitmem(struct xlat *x, unsigned i)
{
    const struct xinsn *in = &x->in[i];
    const struct kind *k = &x->kind[i];
    bool w = in->z.operand_width == 64, high;
    unsigned g = (unsigned)rewrite_gpr(in->op[1].reg.value, &high);
    struct emit *e = x->e;
    struct regmap m = {0};
    uint8_t *mark = e->p;

    if (!xinsn_address(x, i, &in->op[0], 0)) {
        e->p = mark;
        xinsn_interp(x, i);
        return;
    }
    xinsn_before_clobber(x, k->reads | (x->live_in[i + 1] & (uint8_t)~k->kills));
    xinsn_load_guest(e, T1, g);
    if (!w) { /* movsxd T1, T1d */
        emit_rex(e, true, T1, 0, T1);
        emit_1(e, 0x63);
        emit_1(e, (uint8_t)(0xc0 | (T1 & 7) << 3 | (T1 & 7)));
    }
    emit_rex(e, true, 0, 0, T1); /* sar T1, 6 or 5 */
    emit_1(e, 0xc1);
    emit_1(e, (uint8_t)(0xf8 | (T1 & 7)));
    emit_1(e, w ? 6 : 5);
    emit_lea(e, true, T0, T0, T1, w ? 8 : 4, 0);
    struct lookup *l = xinsn_look_up(x, i, k->mem_write, k->mem_bytes, 0);
    xinsn_load_guest(e, T1, g);
    emit_alu_imm(e, false, 4, T1, w ? 63 : 31);
    emit_store_gs(e, T1, CPU(tmp[2]));
    xinsn_prepare_flags(x, i);
    emit_load_gs(e, T1, CPU(tmp[2]));
    for (unsigned r = 0; r < 16; r++)
        m.to[r] = T1;
    bool done = rewrite(e, in, &m);
    BUG_ON(!done); /* 0F AB and its kin with 32 or 64 bits can always be encoded */
    xinsn_after(x, i);
    l->after = emit_here(e);
}

void xsys_emit(struct xlat *x, unsigned i)
{
    switch (x->kind[i].way) {
    case WAY_PUSHF:
        pushf(x, i);
        break;
    case WAY_POPF:
        popf(x, i);
        break;
    case WAY_STI:
        if (i + 1 < x->n)
            sti(x, i);
        else
            xinsn_interp(x, i);
        break;
    case WAY_CLI:
        clear_flag(x, i, FL_IF);
        break;
    case WAY_CLD:
        clear_flag(x, i, FL_DF);
        break;
    case WAY_SWAPGS:
        swapgs(x);
        break;
    case WAY_FROM_SEG:
        from_segment(x, i);
        break;
    default:
        bitmem(x, i);
        break;
    }
}
