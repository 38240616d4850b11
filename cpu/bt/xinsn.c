/* Instructions that compute: their operands' addresses, their registers, their flags. */
#include "cpu/bt/xlat_priv.h"

/* --- flags ----------------------------------------------------------------- */

/* EFLAGS to memory: LAHF and SETO through rax, T1 clobbered. EFLAGS stay. */
void xinsn_save_flags(struct emit *e)
{
    static const uint8_t take[] = {0x9f, 0x0f, 0x90, 0xc0}; /* lahf; seto al */

    emit_mov_rr(e, T1, H_AX);
    emit_bytes(e, take, sizeof(take));
    emit_gs(e, false, 0x89, H_AX, CPU(flags));
    emit_mov_rr(e, H_AX, T1);
}

void xinsn_load_flags(struct emit *e)
{
    static const uint8_t make[] = {0x04, 0x7f, 0x9e}; /* add al, 127; sahf */

    emit_mov_rr(e, T1, H_AX);
    emit_gs(e, false, 0x8b, H_AX, CPU(flags));
    emit_bytes(e, make, sizeof(make));
    emit_mov_rr(e, H_AX, T1);
}

/* What follows destroys EFLAGS; `live` are the flags still wanted. T1 clobbered. */
void xinsn_before_clobber(struct xlat *x, uint8_t live)
{
    if (!live) {
        x->st = ST_DEAD;
        return;
    }
    if (x->st == ST_EFLAGS) {
        xinsn_save_flags(x->e);
        x->held[1] = NO_REG;
    }
    x->st = ST_MEMORY;
}

/* What follows reads flags, or leaves some that are wanted later. T1 clobbered. */
void xinsn_want_eflags(struct xlat *x)
{
    if (x->st == ST_MEMORY) {
        xinsn_load_flags(x->e);
        x->held[1] = NO_REG;
        x->st = ST_BOTH;
    }
}

void xinsn_want_memory(struct xlat *x)
{
    if (x->st == ST_EFLAGS) {
        xinsn_save_flags(x->e);
        x->held[1] = NO_REG;
        x->st = ST_BOTH;
    }
}

/* --- registers ------------------------------------------------------------- */

bool xinsn_in_memory(unsigned g)
{
    return g >= R9 && g <= R11;
}

unsigned xinsn_host_reg(unsigned g)
{
    return g == RSP ? HOST_GUEST_RSP : g;
}

/* Guest register g into host register h (which is h itself when it lives in one). */
void xinsn_load_guest(struct emit *e, unsigned h, unsigned g)
{
    if (xinsn_in_memory(g))
        emit_load_gs(e, h, GPR(g));
    else
        emit_mov_rr(e, h, xinsn_host_reg(g));
}

static void hold_nothing(struct xlat *x)
{
    x->held[0] = x->held[1] = NO_REG;
}

/* Guest register g, which lives in memory, into T0 or T1, from the other one if that holds it. */
static void hold(struct xlat *x, unsigned temp, unsigned g)
{
    unsigned t = temp - T0;

    if (x->held[t] == g)
        return;
    if (x->held[!t] == g)
        emit_mov_rr(x->e, temp, temp == T0 ? T1 : T0);
    else
        emit_load_gs(x->e, temp, GPR(g));
    x->held[t] = (uint8_t)g;
}

/* A guest register living in memory that an instruction names outside of its memory operand. */
struct use {
    uint8_t g;
    bool read, written;
};
enum { USES_MAX = 4 };

/* All of them; more than USES_MAX if there are too many. */
static unsigned memory_regs(const struct xinsn *i, struct use u[USES_MAX])
{
    /* With a source of 0 they leave the destination alone. */
    bool keeps = i->z.mnemonic == ZYDIS_MNEMONIC_BSF || i->z.mnemonic == ZYDIS_MNEMONIC_BSR;
    unsigned n = 0;

    for (unsigned k = 0; k < i->z.operand_count; k++) {
        const ZydisDecodedOperand *o = &i->op[k];
        bool high;

        if (o->type != ZYDIS_OPERAND_TYPE_REGISTER)
            continue;
        int g = rewrite_gpr(o->reg.value, &high);
        if (g < 0 || high || !xinsn_in_memory((unsigned)g))
            continue;
        unsigned at = 0;
        while (at < n && u[at].g != g)
            at++;
        if (at == n) {
            if (n == USES_MAX)
                return USES_MAX + 1;
            u[n++] = (struct use){.g = (uint8_t)g};
        }
        /* A write of 8 or 16 bits, or on a condition, keeps the rest. */
        u[at].read |= keeps || o->actions != ZYDIS_OPERAND_ACTION_WRITE || o->size < 32;
        u[at].written |= (o->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE) != 0;
    }
    return n;
}

/* --- addresses ------------------------------------------------------------- */

/* The linear address of `o`, plus `by`, into T0; T1 may be clobbered; EFLAGS kept. False: not by
 * this way. */
bool xinsn_address(struct xlat *x, unsigned i, const ZydisDecodedOperand *o, int32_t by)
{
    struct emit *e = x->e;
    bool w = x->in[i].z.address_width == 64, high;
    unsigned base = 0xff, index = 0xff;
    /* SDM vol 2A, table 2-5: SIB base 101 with mod 00 is disp32, REX.B or not; the decoder names
     * R13. */
    const ZydisDecodedInstructionRaw *raw = &x->in[i].z.raw;
    bool no_base = raw->modrm.mod == 0 && raw->modrm.rm == 4 && raw->sib.base == 5;
    int64_t disp = no_base || o->mem.disp.has_displacement ? raw->disp.value : 0;

    disp += by;
    if (disp != (int32_t)disp)
        return false;

    if (o->mem.base == ZYDIS_REGISTER_RIP) {
        disp += x->off[i + 1];
        if (disp != (int32_t)disp)
            return false;
        emit_load_gs(e, T0, CPU(page_lin));
        emit_lea(e, true, T0, T0, 0xff, 1, (int32_t)disp);
    } else if (o->mem.base == ZYDIS_REGISTER_EIP) {
        return false;
    } else {
        if (o->mem.base != ZYDIS_REGISTER_NONE && !no_base) {
            base = (unsigned)rewrite_gpr(o->mem.base, &high);
            if (xinsn_in_memory(base))
                hold(x, T0, base);
            base = xinsn_in_memory(base) ? T0 : xinsn_host_reg(base);
        }
        if (o->mem.index != ZYDIS_REGISTER_NONE) {
            index = (unsigned)rewrite_gpr(o->mem.index, &high);
            if (xinsn_in_memory(index))
                hold(x, T1, index);
            index = xinsn_in_memory(index) ? T1 : xinsn_host_reg(index);
        }
        if (base == 0xff && index == 0xff)
            emit_mov_imm64(e, T0, w ? (uint64_t)disp : (uint32_t)disp);
        else
            emit_lea(e, w, T0, base, index, o->mem.scale ? o->mem.scale : 1, (int32_t)disp);
    }
    if (o->mem.segment == ZYDIS_REGISTER_FS || o->mem.segment == ZYDIS_REGISTER_GS) {
        unsigned s = o->mem.segment == ZYDIS_REGISTER_FS ? SEG_FS : SEG_GS;
        emit_load_gs(e, T1,
                     CPU(v.s.seg) + s * (uint32_t)sizeof(struct x86_seg) +
                         (uint32_t)offsetof(struct x86_seg, base));
        emit_lea(e, true, T0, T0, T1, 1, 0);
    }
    return true;
}

struct lookup *xinsn_look_up(struct xlat *x, unsigned i, bool write, unsigned bytes, unsigned align)
{
    struct lookup *l = &x->cold[x->n_cold++];

    l->leads = false;

    l->site = x->off[i] | (xflow_ends(x->kind[i].way) ? SITE_ENDS : 0);
    btmem_lookup(x->e, l, x->set, write, bytes, align);
    return l;
}

/* Where a window's host address is kept. */
static uint32_t slot(const struct access *a)
{
    return CPU(window) + 8u * (unsigned)a->window;
}

struct place xinsn_reach(struct xlat *x, unsigned i, const ZydisDecodedOperand *o, int32_t by,
                         bool write, unsigned bytes, unsigned align, uint8_t live)
{
    const struct access *a = &x->access[i];
    const struct window *w = a->window >= 0 ? &x->window[a->window] : NULL;
    struct place p = {.ok = true};
    uint8_t *mark = x->e->p;

    if (w) {
        p.disp = a->at - w->low;
        by -= p.disp;
    }
    if (w && !a->leads) {
        emit_load_gs(x->e, T0, slot(a));
        x->held[0] = NO_REG;
        return p;
    }
    if (!o) {
        emit_lea(x->e, true, T0, HOST_GUEST_RSP, 0xff, 1, by);
    } else if (!xinsn_address(x, i, o, by)) {
        x->e->p = mark;
        BUG_ON(w); /* xwindow.c takes none of those */
        return (struct place){.ok = false};
    }
    hold_nothing(x);
    xinsn_before_clobber(x, live);
    p.l = xinsn_look_up(x, i, w ? w->write : write, w ? w->span : bytes, align);
    if (w) {
        p.l->site |= SITE_ENDS;
        p.l->leads = true;
        emit_store_gs(x->e, T0, slot(a));
    }
    return p;
}

/* --- one instruction ------------------------------------------------------- */

void xinsn_call_interp(struct xlat *x, uint32_t site)
{
    struct interp_site s = {(uint16_t)site};

    emit_call(x->e, x->b->stub_interp[x->vec]);
    emit_bytes(x->e, &s, sizeof(s));
}

void xinsn_interp(struct xlat *x, unsigned i)
{
    hold_nothing(x);
    xinsn_want_memory(x);
    xinsn_call_interp(x, x->off[i] | (xflow_ends(x->kind[i].way) ? SITE_ENDS : 0));
    x->st = ST_BOTH;
}

void xinsn_after(struct xlat *x, unsigned i)
{
    if (x->kind[i].writes)
        x->st = ST_EFLAGS;
}

/* Flags as instruction i must find them, after whatever clobbers. */
void xinsn_prepare_flags(struct xlat *x, unsigned i)
{
    const struct kind *k = &x->kind[i];
    uint8_t kept = x->live_in[i + 1] & (uint8_t)~k->kills;

    if (k->reads || (k->writes && kept))
        xinsn_want_eflags(x);
}

/* Copy instruction i with its registers; memory operand, if any, already at [T0]. False: nothing
 * emitted. */
static bool copy(struct xlat *x, unsigned i, int32_t disp)
{
    const struct xinsn *in = &x->in[i];
    struct use u[USES_MAX];
    unsigned n = memory_regs(in, u), temp[USES_MAX], first = x->kind[i].mem >= 0 ? T1 : T0;
    struct regmap m = {.disp = disp};

    for (unsigned g = 0; g < 16; g++)
        m.to[g] = (uint8_t)xinsn_host_reg(g);
    for (unsigned k = 0; k < n; k++) {
        temp[k] = n == 1 && x->held[1] == u[k].g ? T1 : first + k;
        if (n == 2 && x->held[1] == u[0].g) /* each where it is, if it is anywhere */
            temp[k] = k ? T0 : T1;
    }
    for (unsigned k = 0; k < n; k++) {
        m.to[u[k].g] = (uint8_t)temp[k];
        if (u[k].read)
            hold(x, temp[k], u[k].g);
    }
    if (!rewrite(x->e, in, &m))
        return false;
    for (unsigned k = 0; k < n; k++) {
        unsigned t = temp[k] - T0;

        x->held[t] = u[k].g;
        if (!u[k].written)
            continue;
        emit_store_gs(x->e, temp[k], GPR(u[k].g));
        if (x->held[!t] == u[k].g)
            x->held[!t] = NO_REG;
    }
    return true;
}

/* Can copy() succeed? Asked before anything is emitted. */
bool xinsn_copyable(const struct xlat *x, unsigned i)
{
    uint8_t room[64]; /* never read: rewrite() only measures here */
    struct use u[USES_MAX];
    struct emit trial = {.p = room, .end = room + sizeof(room)};
    struct regmap m = {0};

    if (memory_regs(&x->in[i], u) > (x->kind[i].mem >= 0 ? 1u : 2u))
        return false;
    for (unsigned g = 0; g < 16; g++)
        m.to[g] = (uint8_t)(xinsn_in_memory(g) ? T1 : xinsn_host_reg(g));
    return rewrite(&trial, &x->in[i], &m);
}

static void do_mem(struct xlat *x, unsigned i)
{
    const struct kind *k = &x->kind[i];
    struct place p = {0};

    if (xinsn_copyable(x, i))
        p = xinsn_reach(x, i, &x->in[i].op[k->mem], 0, k->mem_write, k->mem_bytes, k->align,
                        k->reads | (x->live_in[i + 1] & (uint8_t)~k->kills));
    if (!p.ok) {
        xinsn_interp(x, i);
        return;
    }
    xinsn_prepare_flags(x, i);
    copy(x, i, p.disp);
    xinsn_after(x, i);
    xinsn_done(x, &p);
    if (p.l) /* when it was interpreted, T1 is anything */
        hold_nothing(x);
}

static void do_regs(struct xlat *x, unsigned i)
{
    if (!xinsn_copyable(x, i)) {
        xinsn_interp(x, i);
        return;
    }
    xinsn_prepare_flags(x, i);
    copy(x, i, 0);
    xinsn_after(x, i);
}

/* LEA with nothing but registers that are the host's is one. */
static bool lea_in_place(struct xlat *x, const struct xinsn *in)
{
    const ZydisDecodedOperand *o = &in->op[1];
    bool high;
    int to = rewrite_gpr(in->op[0].reg.value, &high), base = rewrite_gpr(o->mem.base, &high),
        index = rewrite_gpr(o->mem.index, &high);

    if (xinsn_in_memory((unsigned)to) || base < 0 || xinsn_in_memory((unsigned)base) ||
        (index >= 0 && xinsn_in_memory((unsigned)index)) || in->z.address_width != 64 ||
        (in->z.raw.modrm.mod == 0 && in->z.raw.modrm.rm == 4 && in->z.raw.sib.base == 5))
        return false;
    emit_lea(x->e, in->z.operand_width == 64, xinsn_host_reg((unsigned)to),
             xinsn_host_reg((unsigned)base), index < 0 ? 0xff : xinsn_host_reg((unsigned)index),
             o->mem.scale ? o->mem.scale : 1,
             o->mem.disp.has_displacement ? (int32_t)in->z.raw.disp.value : 0);
    return true;
}

static void do_lea(struct xlat *x, unsigned i)
{
    const struct xinsn *in = &x->in[i];
    ZydisDecodedOperand o = in->op[1];
    uint8_t *mark = x->e->p;
    bool high;
    unsigned g = (unsigned)rewrite_gpr(in->op[0].reg.value, &high);

    o.mem.segment = ZYDIS_REGISTER_DS; /* LEA has no segment */
    if (in->z.operand_width >= 32 && lea_in_place(x, in))
        return;
    if (in->z.operand_width == 16 || !xinsn_address(x, i, &o, 0)) {
        x->e->p = mark;
        hold_nothing(x);
        xinsn_interp(x, i);
        return;
    }
    if (in->z.operand_width == 32)
        emit_mov32_rr(x->e, T0, T0);
    hold_nothing(x);
    if (xinsn_in_memory(g)) {
        emit_store_gs(x->e, T0, GPR(g));
        x->held[0] = (uint8_t)g;
    } else {
        emit_mov_rr(x->e, xinsn_host_reg(g), T0);
    }
}

void xinsn_rsp_add(struct xlat *x, int32_t n)
{
    emit_lea(x->e, true, HOST_GUEST_RSP, HOST_GUEST_RSP, 0xff, 1, n);
}

void xinsn_store_t0(struct emit *e, unsigned reg, int32_t disp)
{
    emit_rex(e, true, reg, 0, T0);
    emit_1(e, 0x89);
    emit_modrm_disp(e, reg, T0, disp);
}

void xinsn_load_t0(struct emit *e, unsigned reg, int32_t disp)
{
    emit_rex(e, true, reg, 0, T0);
    emit_1(e, 0x8b);
    emit_modrm_disp(e, reg, T0, disp);
}

struct place xinsn_push_slot(struct xlat *x, unsigned i, uint8_t live)
{
    return xinsn_reach(x, i, NULL, -8, true, 8, 0, live);
}

static void do_push(struct xlat *x, unsigned i)
{
    const ZydisDecodedOperand *o = &x->in[i].op[0];
    struct place p = xinsn_push_slot(x, i, x->live_in[i + 1]);

    if (o->type == ZYDIS_OPERAND_TYPE_IMMEDIATE) {
        emit_rex(x->e, true, 0, 0, T0); /* mov qword [T0 + disp], imm32 */
        emit_1(x->e, 0xc7);
        emit_modrm_disp(x->e, 0, T0, p.disp);
        emit_4(x->e, (uint32_t)o->imm.value.u);
    } else {
        bool high;
        unsigned g = (unsigned)rewrite_gpr(o->reg.value, &high);

        if (xinsn_in_memory(g))
            xinsn_load_guest(x->e, T1, g);
        xinsn_store_t0(x->e, xinsn_in_memory(g) ? T1 : xinsn_host_reg(g), p.disp);
    }
    xinsn_rsp_add(x, -8);
    xinsn_done(x, &p);
}

/* PUSH of memory: the value is read before RSP moves, and stays in tmp[2] over the second look-up.
 */
static void do_push_mem(struct xlat *x, unsigned i)
{
    struct place from = xinsn_reach(x, i, &x->in[i].op[0], 0, false, 8, 0, x->live_in[i + 1]);

    if (!from.ok) {
        xinsn_interp(x, i);
        return;
    }
    xinsn_load_t0(x->e, T1, 0);
    emit_store_gs(x->e, T1, CPU(tmp[2]));
    struct place to = xinsn_push_slot(x, i, x->live_in[i + 1]);
    emit_load_gs(x->e, T1, CPU(tmp[2]));
    xinsn_store_t0(x->e, T1, 0);
    xinsn_rsp_add(x, -8);
    xinsn_done(x, &from);
    xinsn_done(x, &to);
}

static void do_pop(struct xlat *x, unsigned i)
{
    bool high;
    unsigned g = (unsigned)rewrite_gpr(x->in[i].op[0].reg.value, &high);
    struct place p = xinsn_reach(x, i, NULL, 0, false, 8, 0, x->live_in[i + 1]);

    xinsn_rsp_add(x, 8);
    if (xinsn_in_memory(g)) {
        xinsn_load_t0(x->e, T1, p.disp);
        emit_store_gs(x->e, T1, GPR(g));
    } else {
        xinsn_load_t0(x->e, xinsn_host_reg(g), p.disp);
    }
    xinsn_done(x, &p);
}

static void do_leave(struct xlat *x, unsigned i)
{
    ZydisDecodedOperand o = {.type = ZYDIS_OPERAND_TYPE_MEMORY};

    o.mem.base = ZYDIS_REGISTER_RBP;
    struct place p = xinsn_reach(x, i, &o, 0, false, 8, 0, x->live_in[i + 1]);
    emit_lea(x->e, true, HOST_GUEST_RSP, H_BP, 0xff, 1, 8);
    xinsn_load_t0(x->e, H_BP, p.disp);
    xinsn_done(x, &p);
}

struct slow *xinsn_slow(struct xlat *x, unsigned i)
{
    struct slow *s = &x->slow[x->n_slow++];

    s->n = 0;
    s->site = x->off[i];
    s->kind = SWITCHES;
    return s;
}

/* DIV and IDIV after a check that no #DE can come; what the check does not pass is interpreted, and
 * raises #DE there or not. IDIV passes when the dividend is a sign extension and the divisor
 * neither 0 nor -1. */
static void do_div(struct xlat *x, unsigned i)
{
    const struct xinsn *in = &x->in[i];
    const struct kind *k = &x->kind[i];
    struct emit *e = x->e;
    bool w = in->z.operand_width == 64, is_signed = in->z.mnemonic == ZYDIS_MNEMONIC_IDIV, high;
    unsigned d = T1, ext = is_signed ? 7 : 6;
    struct place p = {.ok = true};

    if (k->mem >= 0) {
        p = xinsn_reach(x, i, &in->op[k->mem], 0, false, k->mem_bytes, 0, 0);
        if (!p.ok) {
            xinsn_interp(x, i);
            return;
        }
        xinsn_before_clobber(x, 0);
        emit_rex(e, w, T1, 0, T0); /* mov T1, [T0 + disp] */
        emit_1(e, 0x8b);
        emit_modrm_disp(e, T1, T0, p.disp);
    } else {
        unsigned g = (unsigned)rewrite_gpr(in->op[0].reg.value, &high);

        if (xinsn_in_memory(g))
            xinsn_load_guest(e, T1, g);
        else
            d = xinsn_host_reg(g);
        xinsn_before_clobber(x, 0);
    }
    struct slow *s = xinsn_slow(x, i);
    if (is_signed) {
        emit_rr(e, w, 0x8b, T0, H_AX); /* mov T0, rax; sar T0, 63; cmp T0, rdx */
        emit_rex(e, w, 0, 0, T0);
        emit_1(e, 0xc1);
        emit_1(e, (uint8_t)(0xf8 | (T0 & 7)));
        emit_1(e, w ? 63 : 31);
        emit_rr(e, w, 0x3b, T0, H_DX);
        xinsn_slow_if(x, s, CC_NE);
        emit_lea(e, w, T0, d, 0xff, 1, 1);
        emit_alu_imm(e, w, 7, T0, 1);
        xinsn_slow_if(x, s, CC_BE);
    } else {
        emit_rr(e, w, 0x3b, H_DX, d);
        xinsn_slow_if(x, s, CC_AE);
    }
    emit_rex(e, w, 0, 0, d);
    emit_1(e, 0xf7);
    emit_1(e, (uint8_t)(0xc0 | ext << 3 | (d & 7)));
    x->st = ST_EFLAGS;
    s->after = emit_here(e);
    xinsn_done(x, &p);
}

void xinsn_emit(struct xlat *x, unsigned i)
{
    bool holds = x->kind[i].way == WAY_REGS || x->kind[i].way == WAY_MEM ||
                 x->kind[i].way == WAY_LEA || x->kind[i].way == WAY_NOP;

    if (!holds)
        hold_nothing(x);
    switch (x->kind[i].way) {
    case WAY_REGS:
        do_regs(x, i);
        break;
    case WAY_MEM:
        do_mem(x, i);
        break;
    case WAY_LEA:
        do_lea(x, i);
        break;
    case WAY_PUSH:
        do_push(x, i);
        break;
    case WAY_POP:
        do_pop(x, i);
        break;
    case WAY_LEAVE:
        do_leave(x, i);
        break;
    case WAY_DIV:
        do_div(x, i);
        break;
    case WAY_NOP:
        break;
    case WAY_STRING:
        xstring_one(x, i);
        break;
    case WAY_REPEAT:
        xstring_repeat(x, i);
        break;
    case WAY_PUSHMEM:
        do_push_mem(x, i);
        break;
    case WAY_PUSHF:
    case WAY_POPF:
    case WAY_CLI:
    case WAY_STI:
    case WAY_CLD:
    case WAY_SWAPGS:
    case WAY_FROM_SEG:
    case WAY_BITMEM:
        xsys_emit(x, i);
        break;
    case WAY_INTERP:
    case WAY_INTERP_END:
        xinsn_interp(x, i);
        break;
    default:
        xflow_emit(x, i);
        break;
    }
    if (!holds)
        hold_nothing(x);
}
