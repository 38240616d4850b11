/* One block: decode, find out which flags live, emit.
 *
 * A block is straight-line code within one page. At its entry and at every exit all six arithmetic
 * flags count as live; inside, backward liveness says where a look-up (which clobbers EFLAGS) must
 * save them. `st` follows where the guest's flags are while emitting. */
#include <stdlib.h>

#include "cpu/bt/bt.h"
#include "cpu/bt/classify.h"
#include "cpu/soft/mmu.h"

#define CPU(field) ((uint32_t)offsetof(struct bt_cpu, field))
#define VCPU(field) ((uint32_t)offsetof(struct vcpu, field))

enum st { ST_EFLAGS, ST_MEMORY, ST_BOTH, ST_DEAD };
enum { COLD_MAX = 2 * BLOCK_INSNS_MAX + 8, DIV_COLD_MAX = BLOCK_INSNS_MAX };

enum { SOURCE_MAX = BLOCK_INSNS_MAX * 15 };

struct xlat {
    ZydisDecoder decoder;
    uint8_t source[SOURCE_MAX];
    struct xinsn in[BLOCK_INSNS_MAX];
    struct kind kind[BLOCK_INSNS_MAX];
    uint8_t live_in[BLOCK_INSNS_MAX + 1]; /* flags live before instruction i */
    uint16_t off[BLOCK_INSNS_MAX + 1];    /* offset in the page */
    unsigned n;
    struct lookup cold[COLD_MAX]; /* whose cold parts are still to be emitted */
    unsigned n_cold;
    struct {
        uint8_t *from[3];
        unsigned n;
        uint32_t site;
        const uint8_t *after;
    } div[DIV_COLD_MAX];
    unsigned n_div;
    enum st st;
    unsigned set; /* TLB set of the mode */
    struct emit *e;
    const struct bt_vm *b;
    struct block *k;
};

struct xlat *xlat_new(void)
{
    struct xlat *x = calloc(1, sizeof(*x));

    if (x)
        ZydisDecoderInit(&x->decoder, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64);
    return x;
}

void xlat_free(struct xlat *x)
{
    free(x);
}

/* --- decode --------------------------------------------------------------- */

static bool ends(enum way w)
{
    switch (w) {
    case WAY_INTERP_END:
    case WAY_CALL:
    case WAY_CALL_IND:
    case WAY_RET:
    case WAY_JMP:
    case WAY_JMP_IND:
    case WAY_JCC:
        return true;
    default:
        return false;
    }
}

/* Fills in[], kind[], off[] from source[], whose first byte lies at `off` in its page. */
static void decode(struct xlat *x, unsigned off, unsigned room, const struct cpu_model *m,
                   uint32_t mode)
{
    unsigned at = 0;

    x->n = 0;
    x->off[0] = (uint16_t)off;
    while (x->n < BLOCK_INSNS_MAX) {
        struct xinsn *i = &x->in[x->n];

        if (!ZYAN_SUCCESS(
                ZydisDecoderDecodeFull(&x->decoder, x->source + at, room - at, &i->z, i->op)))
            return; /* undefined, or it crosses the page: alone, by the interpreter */
        i->raw = x->source + at;
        classify(i, m, mode, &x->kind[x->n]);
        at += i->z.length;
        x->off[++x->n] = (uint16_t)(off + at);
        if (ends(x->kind[x->n - 1].way) || at == room)
            return;
    }
}

static void liveness(struct xlat *x)
{
    uint8_t live = KF_ALL;

    x->live_in[x->n] = live;
    for (unsigned i = x->n; i-- > 0;) {
        live = (uint8_t)((live & ~x->kind[i].kills) | x->kind[i].reads);
        x->live_in[i] = live;
    }
}

/* --- flags ----------------------------------------------------------------- */

/* EFLAGS to memory: LAHF and SETO through rax, T1 clobbered. EFLAGS stay. */
static void save_flags(struct emit *e)
{
    static const uint8_t take[] = {0x9f, 0x0f, 0x90, 0xc0}; /* lahf; seto al */

    emit_mov_rr(e, T1, H_AX);
    emit_bytes(e, take, sizeof(take));
    emit_gs(e, false, 0x89, H_AX, CPU(flags));
    emit_mov_rr(e, H_AX, T1);
}

static void load_flags(struct emit *e)
{
    static const uint8_t make[] = {0x04, 0x7f, 0x9e}; /* add al, 127; sahf */

    emit_mov_rr(e, T1, H_AX);
    emit_gs(e, false, 0x8b, H_AX, CPU(flags));
    emit_bytes(e, make, sizeof(make));
    emit_mov_rr(e, H_AX, T1);
}

/* What follows destroys EFLAGS; `live` are the flags still wanted. T1 clobbered. */
static void before_clobber(struct xlat *x, uint8_t live)
{
    if (!live) {
        x->st = ST_DEAD;
        return;
    }
    if (x->st == ST_EFLAGS)
        save_flags(x->e);
    x->st = ST_MEMORY;
}

/* What follows reads flags, or leaves some that are wanted later. T1 clobbered. */
static void want_eflags(struct xlat *x)
{
    if (x->st == ST_MEMORY) {
        load_flags(x->e);
        x->st = ST_BOTH;
    }
}

static void want_memory(struct xlat *x)
{
    if (x->st == ST_EFLAGS) {
        save_flags(x->e);
        x->st = ST_BOTH;
    }
}

/* --- registers ------------------------------------------------------------- */

static bool in_memory(unsigned g)
{
    return g >= R9 && g <= R11;
}

static unsigned host_reg(unsigned g)
{
    return g == RSP ? HOST_GUEST_RSP : g;
}

/* Guest register g into host register h (which is h itself when it lives in one). */
static void load_guest(struct emit *e, unsigned h, unsigned g)
{
    if (in_memory(g))
        emit_load_gs(e, h, CPU(mem_gpr) + 8 * (g - R9));
    else
        emit_mov_rr(e, h, host_reg(g));
}

/* Which guest registers living in memory an instruction names outside of its memory operand. */
static unsigned memory_regs(const struct xinsn *i, uint8_t out[4], bool written[4])
{
    unsigned n = 0;

    for (unsigned k = 0; k < i->z.operand_count; k++) {
        const ZydisDecodedOperand *o = &i->op[k];
        bool high;

        if (o->type != ZYDIS_OPERAND_TYPE_REGISTER)
            continue;
        int g = rewrite_gpr(o->reg.value, &high);
        if (g < 0 || high || !in_memory((unsigned)g))
            continue;
        unsigned at = 0;
        while (at < n && out[at] != g)
            at++;
        if (at == n) {
            if (n == 4)
                return 5;
            out[n] = (uint8_t)g;
            written[n++] = false;
        }
        written[at] |= (o->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE) != 0;
    }
    return n;
}

/* --- addresses ------------------------------------------------------------- */

/* The linear address of `o` into T0; T1 may be clobbered; EFLAGS kept. False: not by this way. */
static bool address(struct xlat *x, unsigned i, const ZydisDecodedOperand *o)
{
    struct emit *e = x->e;
    bool w = x->in[i].z.address_width == 64, high;
    unsigned base = 0xff, index = 0xff;
    int64_t disp = o->mem.disp.has_displacement ? o->mem.disp.value : 0;

    if (o->mem.base == ZYDIS_REGISTER_RIP) {
        disp += x->off[i + 1];
        if (disp != (int32_t)disp)
            return false;
        emit_load_gs(e, T0, CPU(page_lin));
        emit_lea(e, true, T0, T0, 0xff, 1, (int32_t)disp);
    } else if (o->mem.base == ZYDIS_REGISTER_EIP) {
        return false;
    } else {
        if (o->mem.base != ZYDIS_REGISTER_NONE) {
            base = (unsigned)rewrite_gpr(o->mem.base, &high);
            if (in_memory(base))
                load_guest(e, T0, base);
            base = in_memory(base) ? T0 : host_reg(base);
        }
        if (o->mem.index != ZYDIS_REGISTER_NONE) {
            index = (unsigned)rewrite_gpr(o->mem.index, &high);
            if (in_memory(index))
                load_guest(e, T1, index);
            index = in_memory(index) ? T1 : host_reg(index);
        }
        if (base == 0xff && index == 0xff)
            emit_mov_imm64(e, T0, w ? (uint64_t)disp : (uint32_t)disp);
        else
            emit_lea(e, w, T0, base, index, o->mem.scale ? o->mem.scale : 1, (int32_t)disp);
    }
    if (o->mem.segment == ZYDIS_REGISTER_FS || o->mem.segment == ZYDIS_REGISTER_GS) {
        unsigned s = o->mem.segment == ZYDIS_REGISTER_FS ? SEG_FS : SEG_GS;
        uint32_t at = VCPU(s.seg) + s * (uint32_t)sizeof(struct x86_seg) +
                      (uint32_t)offsetof(struct x86_seg, base);

        emit_load_gs(e, T1, CPU(v));
        emit_rex(e, true, T1, 0, T1); /* mov T1, [T1 + at] */
        emit_1(e, 0x8b);
        emit_1(e, (uint8_t)(0x80 | (T1 & 7) << 3 | (T1 & 7)));
        emit_4(e, at);
        emit_lea(e, true, T0, T0, T1, 1, 0);
    }
    return true;
}

static struct lookup *look_up(struct xlat *x, unsigned i, bool write, unsigned bytes,
                              unsigned align)
{
    struct lookup *l = &x->cold[x->n_cold++];

    l->site = x->off[i] | (ends(x->kind[i].way) ? SITE_ENDS : 0);
    btmem_lookup(x->e, l, x->set, write, bytes, align);
    return l;
}

/* --- leaving --------------------------------------------------------------- */

static void leave_with_t0(struct xlat *x)
{
    emit_store_gs(x->e, T0, CPU(exit_rip));
    emit_mov_imm32(x->e, T1, 0);
    emit_store_gs(x->e, T1, CPU(exit_link));
    emit_jmp(x->e, x->b->stub_leave);
}

/* To the linear address in T0, flags in memory: by the jump cache, else to the dispatcher. */
static void jump_t0(struct xlat *x)
{
    struct emit *e = x->e;
    uint32_t jc = CPU(jc) + x->k->mode * (uint32_t)sizeof(((struct bt_cpu *)0)->jc[0]);

    emit_mov32_rr(e, T1, T0);
    emit_alu_imm(e, false, 4, T1, JC_SIZE - 1);
    emit_rex(e, false, 0, 0, T1); /* shl T1d, 4 */
    emit_1(e, 0xc1);
    emit_1(e, 0xe0 | (T1 & 7));
    emit_1(e, 4);
    emit_gs(e, true, 0x33, T0, CPU(epoch_xor));
    emit_gs_base(e, true, 0x3b, T0, T1, jc + (uint32_t)offsetof(struct jc_entry, rip));
    uint8_t *miss = emit_jcc_fwd(e, CC_NE);
    emit_gs(e, true, 0x33, T0, CPU(epoch_xor));
    emit_alu_imm(e, true, 4, T0, ~(MEM_PAGE - 1));
    emit_store_gs(e, T0, CPU(page_lin));
    emit_gs_base(e, false, 0xff, 4, T1, jc + (uint32_t)offsetof(struct jc_entry, entry)); /* jmp */
    emit_patch(e, miss);
    emit_gs(e, true, 0x33, T0, CPU(epoch_xor));
    leave_with_t0(x);
}

/* The jump of link n starts here; it goes to the code that leaves for the page's offset `off` until
 * linked. The field that is patched must not cross 4 bytes. */
static void link_jump(struct xlat *x, unsigned n, int cc)
{
    struct emit *e = x->e;
    unsigned opcode = cc < 0 ? 1 : 2;

    while (((uintptr_t)e->p + opcode) & 3)
        emit_1(e, 0x90);
    if (cc < 0) {
        emit_1(e, 0xe9);
    } else {
        emit_1(e, 0x0f);
        emit_1(e, (uint8_t)(0x80 | cc));
    }
    x->k->link[n].rel32 = e->p;
    x->k->link[n].flags_in_memory = x->st != ST_EFLAGS;
    emit_4(e, 0);
}

/* The code an unlinked link goes to. */
static void link_cold(struct xlat *x, unsigned n, uint32_t off)
{
    struct emit *e = x->e;
    struct link *l = &x->k->link[n];

    emit_patch(e, l->rel32);
    l->unlinked = emit_here(e);
    if (!l->flags_in_memory)
        save_flags(e);
    emit_load_gs(e, T0, CPU(page_lin));
    emit_lea(e, true, T0, T0, 0xff, 1, (int32_t)off);
    emit_store_gs(e, T0, CPU(exit_rip));
    emit_mov_imm64(e, T1, (uint64_t)(uintptr_t)l);
    emit_store_gs(e, T1, CPU(exit_link));
    emit_jmp(e, x->b->stub_leave);
}

/* Unconditionally to `off` relative to the page (which may lie outside of it). */
static void go(struct xlat *x, unsigned n, int64_t off)
{
    if (off >= 0 && off < MEM_PAGE) {
        link_jump(x, n, -1);
        link_cold(x, n, (uint32_t)off);
        return;
    }
    want_memory(x);
    emit_load_gs(x->e, T0, CPU(page_lin));
    emit_lea(x->e, true, T0, T0, 0xff, 1, (int32_t)off);
    jump_t0(x);
}

/* --- one instruction ------------------------------------------------------- */

static void call_interp(struct xlat *x, unsigned i)
{
    static const uint8_t nop5[] = {0x0f, 0x1f, 0x44, 0x00, 0x00};

    want_memory(x);
    emit_mov_imm32(x->e, T1, x->off[i] | (ends(x->kind[i].way) ? SITE_ENDS : 0));
    emit_call(x->e, x->b->stub_interp);
    emit_bytes(x->e, nop5, sizeof(nop5)); /* the stub returns behind it */
    x->st = ST_BOTH;
}

static void after_insn(struct xlat *x, unsigned i)
{
    if (x->kind[i].writes)
        x->st = ST_EFLAGS;
}

/* Flags as instruction i must find them, after whatever clobbers. */
static void prepare_flags(struct xlat *x, unsigned i)
{
    const struct kind *k = &x->kind[i];
    uint8_t kept = x->live_in[i + 1] & (uint8_t)~k->kills;

    if (k->reads || (k->writes && kept))
        want_eflags(x);
}

/* Copy instruction i with its registers; memory operand, if any, already at [T0]. False: nothing
 * emitted. */
static bool copy(struct xlat *x, unsigned i)
{
    static const uint8_t temps_reg[] = {T0, T1}, temps_mem[] = {T1};
    const struct xinsn *in = &x->in[i];
    bool mem = x->kind[i].mem >= 0;
    const uint8_t *temps = mem ? temps_mem : temps_reg;
    uint8_t regs[4];
    bool written[4];
    unsigned n = memory_regs(in, regs, written);
    struct regmap m;
    struct emit *e = x->e;

    for (unsigned g = 0; g < 16; g++)
        m.to[g] = (uint8_t)host_reg(g);
    for (unsigned k = 0; k < n; k++) {
        m.to[regs[k]] = temps[k];
        load_guest(e, temps[k], regs[k]);
    }
    if (!rewrite(e, in, &m))
        return false;
    for (unsigned k = 0; k < n; k++) {
        if (written[k])
            emit_store_gs(e, temps[k], CPU(mem_gpr) + 8 * (regs[k] - R9));
    }
    return true;
}

/* Can copy() succeed? Asked before anything is emitted. */
static bool copyable(const struct xlat *x, unsigned i)
{
    static uint8_t room[64]; /* never read: rewrite() only measures here */
    uint8_t regs[4];
    bool written[4];
    unsigned n = memory_regs(&x->in[i], regs, written);
    struct emit trial = {.p = room, .end = room + sizeof(room)};
    struct regmap m;

    if (n > (x->kind[i].mem >= 0 ? 1u : 2u))
        return false;
    for (unsigned g = 0; g < 16; g++)
        m.to[g] = (uint8_t)(in_memory(g) ? T1 : host_reg(g));
    return rewrite(&trial, &x->in[i], &m);
}

static void do_mem(struct xlat *x, unsigned i)
{
    const struct kind *k = &x->kind[i];
    uint8_t *mark = x->e->p;

    if (!copyable(x, i) || !address(x, i, &x->in[i].op[k->mem])) {
        x->e->p = mark;
        call_interp(x, i);
        return;
    }
    before_clobber(x, k->reads | (x->live_in[i + 1] & (uint8_t)~k->kills));
    struct lookup *l = look_up(x, i, k->mem_write, k->mem_bytes, k->align);
    prepare_flags(x, i);
    copy(x, i);
    after_insn(x, i);
    l->after = emit_here(x->e);
}

static void do_regs(struct xlat *x, unsigned i)
{
    if (!copyable(x, i)) {
        call_interp(x, i);
        return;
    }
    prepare_flags(x, i);
    copy(x, i);
    after_insn(x, i);
}

static void do_lea(struct xlat *x, unsigned i)
{
    const struct xinsn *in = &x->in[i];
    ZydisDecodedOperand o = in->op[1];
    uint8_t *mark = x->e->p;
    bool high;
    unsigned g = (unsigned)rewrite_gpr(in->op[0].reg.value, &high);

    o.mem.segment = ZYDIS_REGISTER_DS; /* LEA has no segment */
    if (in->z.operand_width == 16 || !address(x, i, &o)) {
        x->e->p = mark;
        call_interp(x, i);
        return;
    }
    if (in->z.operand_width == 32)
        emit_mov32_rr(x->e, T0, T0);
    if (in_memory(g))
        emit_store_gs(x->e, T0, CPU(mem_gpr) + 8 * (g - R9));
    else
        emit_mov_rr(x->e, host_reg(g), T0);
}

static void rsp_add(struct xlat *x, int32_t n)
{
    emit_lea(x->e, true, HOST_GUEST_RSP, HOST_GUEST_RSP, 0xff, 1, n);
}

/* mov [T0], reg  /  mov reg, [T0] */
static void store_t0(struct emit *e, unsigned reg)
{
    emit_rex(e, true, reg, 0, T0);
    emit_1(e, 0x89);
    emit_1(e, (uint8_t)((reg & 7) << 3 | (T0 & 7)));
}

static void load_t0(struct emit *e, unsigned reg)
{
    emit_rex(e, true, reg, 0, T0);
    emit_1(e, 0x8b);
    emit_1(e, (uint8_t)((reg & 7) << 3 | (T0 & 7)));
}

static struct lookup *push_slot(struct xlat *x, unsigned i, uint8_t live)
{
    emit_lea(x->e, true, T0, HOST_GUEST_RSP, 0xff, 1, -8);
    before_clobber(x, live);
    return look_up(x, i, true, 8, 0);
}

static void do_push(struct xlat *x, unsigned i)
{
    const ZydisDecodedOperand *o = &x->in[i].op[0];
    struct lookup *l = push_slot(x, i, x->live_in[i + 1]);

    if (o->type == ZYDIS_OPERAND_TYPE_IMMEDIATE) {
        emit_rex(x->e, true, 0, 0, T0); /* mov qword [T0], imm32 */
        emit_1(x->e, 0xc7);
        emit_1(x->e, T0 & 7);
        emit_4(x->e, (uint32_t)o->imm.value.u);
    } else {
        bool high;
        unsigned g = (unsigned)rewrite_gpr(o->reg.value, &high);

        if (in_memory(g))
            load_guest(x->e, T1, g);
        store_t0(x->e, in_memory(g) ? T1 : host_reg(g));
    }
    rsp_add(x, -8);
    l->after = emit_here(x->e);
}

static void do_pop(struct xlat *x, unsigned i)
{
    bool high;
    unsigned g = (unsigned)rewrite_gpr(x->in[i].op[0].reg.value, &high);

    emit_mov_rr(x->e, T0, HOST_GUEST_RSP);
    before_clobber(x, x->live_in[i + 1]);
    struct lookup *l = look_up(x, i, false, 8, 0);
    rsp_add(x, 8);
    if (in_memory(g)) {
        load_t0(x->e, T1);
        emit_store_gs(x->e, T1, CPU(mem_gpr) + 8 * (g - R9));
    } else {
        load_t0(x->e, host_reg(g));
    }
    l->after = emit_here(x->e);
}

static void do_leave(struct xlat *x, unsigned i)
{
    emit_mov_rr(x->e, T0, H_BP);
    before_clobber(x, x->live_in[i + 1]);
    struct lookup *l = look_up(x, i, false, 8, 0);
    emit_lea(x->e, true, HOST_GUEST_RSP, H_BP, 0xff, 1, 8);
    load_t0(x->e, H_BP);
    l->after = emit_here(x->e);
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
    struct lookup *l = NULL;
    uint8_t *mark = e->p;

    if (k->mem >= 0) {
        if (!address(x, i, &in->op[k->mem])) {
            e->p = mark;
            call_interp(x, i);
            return;
        }
        before_clobber(x, 0);
        l = look_up(x, i, false, k->mem_bytes, 0);
        emit_rex(e, w, T1, 0, T0); /* mov T1, [T0] */
        emit_1(e, 0x8b);
        emit_1(e, (uint8_t)((T1 & 7) << 3 | (T0 & 7)));
    } else {
        unsigned g = (unsigned)rewrite_gpr(in->op[0].reg.value, &high);

        if (in_memory(g))
            load_guest(e, T1, g);
        else
            d = host_reg(g);
        before_clobber(x, 0);
    }
    unsigned c = x->n_div++;
    x->div[c].n = 0;
    if (is_signed) {
        emit_rr(e, w, 0x8b, T0, H_AX); /* mov T0, rax; sar T0, 63; cmp T0, rdx */
        emit_rex(e, w, 0, 0, T0);
        emit_1(e, 0xc1);
        emit_1(e, (uint8_t)(0xf8 | (T0 & 7)));
        emit_1(e, w ? 63 : 31);
        emit_rr(e, w, 0x3b, T0, H_DX);
        x->div[c].from[x->div[c].n++] = emit_jcc_fwd(e, CC_NE);
        emit_lea(e, w, T0, d, 0xff, 1, 1);
        emit_alu_imm(e, w, 7, T0, 1);
        x->div[c].from[x->div[c].n++] = emit_jcc_fwd(e, CC_BE);
    } else {
        emit_rr(e, w, 0x3b, H_DX, d);
        x->div[c].from[x->div[c].n++] = emit_jcc_fwd(e, CC_AE);
    }
    emit_rex(e, w, 0, 0, d);
    emit_1(e, 0xf7);
    emit_1(e, (uint8_t)(0xc0 | ext << 3 | (d & 7)));
    x->st = ST_EFLAGS;
    x->div[c].site = x->off[i];
    x->div[c].after = emit_here(e);
    if (l)
        l->after = emit_here(e);
}

/* --- control flow ---------------------------------------------------------- */

static int64_t target(const struct xlat *x, unsigned i)
{
    return (int64_t)x->off[i + 1] + x->in[i].op[0].imm.value.s;
}

static void push_return(struct xlat *x, unsigned i)
{
    struct lookup *l = push_slot(x, i, KF_ALL);

    emit_load_gs(x->e, T1, CPU(page_lin));
    emit_lea(x->e, true, T1, T1, 0xff, 1, x->off[i + 1]);
    store_t0(x->e, T1);
    rsp_add(x, -8);
    l->after = emit_here(x->e); /* never used: the call-out leaves */
}

static void do_call(struct xlat *x, unsigned i)
{
    push_return(x, i);
    go(x, 0, target(x, i));
}

/* Target of an indirect jump or call into tmp[3]. False: by interpretation. */
static bool indirect_target(struct xlat *x, unsigned i)
{
    const ZydisDecodedOperand *o = &x->in[i].op[0];
    struct emit *e = x->e;
    bool high;

    if (o->type == ZYDIS_OPERAND_TYPE_REGISTER) {
        load_guest(e, T0, (unsigned)rewrite_gpr(o->reg.value, &high));
        before_clobber(x, KF_ALL);
    } else {
        if (!address(x, i, o))
            return false;
        before_clobber(x, KF_ALL);
        struct lookup *l = look_up(x, i, false, 8, 0);
        load_t0(e, T0);
        l->after = emit_here(e);
    }
    emit_store_gs(e, T0, CPU(tmp[3]));
    return true;
}

static void do_indirect(struct xlat *x, unsigned i)
{
    uint8_t *mark = x->e->p;

    if (!indirect_target(x, i)) {
        x->e->p = mark;
        call_interp(x, i);
        return;
    }
    if (x->kind[i].way == WAY_CALL_IND)
        push_return(x, i);
    emit_load_gs(x->e, T0, CPU(tmp[3]));
    jump_t0(x);
}

static void do_ret(struct xlat *x, unsigned i)
{
    const ZydisDecodedOperand *o = &x->in[i].op[0];
    int32_t more = x->in[i].z.operand_count_visible && o->type == ZYDIS_OPERAND_TYPE_IMMEDIATE
                       ? (int32_t)(o->imm.value.u & 0xffff)
                       : 0;

    emit_mov_rr(x->e, T0, HOST_GUEST_RSP);
    before_clobber(x, KF_ALL);
    struct lookup *l = look_up(x, i, false, 8, 0);
    load_t0(x->e, T0);
    rsp_add(x, 8 + more);
    l->after = emit_here(x->e);
    jump_t0(x);
}

static void do_jcc(struct xlat *x, unsigned i)
{
    int64_t to = target(x, i), next = x->off[i + 1];
    int cc = x->in[i].raw[x->in[i].z.raw.prefix_count] == 0x0f
                 ? x->in[i].raw[x->in[i].z.raw.prefix_count + 1] & 15
                 : x->in[i].raw[x->in[i].z.raw.prefix_count] & 15;

    want_eflags(x);
    if (to >= 0 && to < MEM_PAGE) {
        link_jump(x, 0, cc);
        enum st st = x->st;
        go(x, 1, next);
        x->st = st;
        link_cold(x, 0, (uint32_t)to);
        return;
    }
    uint8_t *taken = emit_jcc_fwd(x->e, (enum cc)cc);
    enum st st = x->st;
    go(x, 1, next);
    x->st = st;
    emit_patch(x->e, taken);
    go(x, 0, to);
}

static void emit_insn(struct xlat *x, unsigned i)
{
    switch (x->kind[i].way) {
    case WAY_INTERP:
    case WAY_INTERP_END:
        call_interp(x, i);
        break;
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
    case WAY_CALL:
        do_call(x, i);
        break;
    case WAY_JMP:
        go(x, 0, target(x, i));
        break;
    case WAY_CALL_IND:
    case WAY_JMP_IND:
        do_indirect(x, i);
        break;
    case WAY_RET:
        do_ret(x, i);
        break;
    case WAY_JCC:
        do_jcc(x, i);
        break;
    case WAY_NOP:
        break;
    }
}

/* --- the block ------------------------------------------------------------- */

/* Two entries. With flags in EFLAGS: save them if the block wants any, fall into the other. With
 * flags in memory: 8 aligned bytes that can be turned into a jump when the block dies; count; look
 * at the requests; have the vector registers live if they are used. */
static uint8_t *prologue(struct xlat *x, bool vec)
{
    struct emit *e = x->e;
    static const uint8_t nop8[] = {0x0f, 0x1f, 0x84, 0, 0, 0, 0, 0};

    x->k->entry_f = emit_here(e);
    if (x->live_in[0])
        save_flags(e);
    while ((uintptr_t)e->p & 7)
        emit_1(e, 0x90);
    if (!x->live_in[0])
        x->k->entry_f = emit_here(e);
    x->k->entry_m = emit_here(e);
    x->k->patch = e->p;
    emit_bytes(e, nop8, sizeof(nop8));
    emit_1(e, 0x65); /* add qword gs:[insns], n */
    emit_1(e, 0x48);
    emit_1(e, 0x83);
    emit_1(e, 0x04);
    emit_1(e, 0x25);
    emit_4(e, CPU(insns));
    emit_1(e, (uint8_t)x->n);
    emit_load_gs(e, T0, CPU(requests));
    emit_1(e, 0x41); /* cmp dword [T0], 0 */
    emit_1(e, 0x83);
    emit_1(e, 0x38 | (T0 & 7));
    emit_1(e, 0);
    uint8_t *requested = emit_jcc_fwd(e, CC_NE);
    if (vec) {
        emit_load_gs(e, T1, CPU(vec_live));
        emit_rr(e, true, 0x85, T1, T1);
        uint8_t *live = emit_jcc_fwd(e, CC_NE);
        emit_call(e, x->b->stub_vecload);
        emit_patch(e, live);
    }
    x->st = x->live_in[0] ? ST_MEMORY : ST_DEAD;
    return requested;
}

static void epilogue(struct xlat *x, uint8_t *requested)
{
    struct emit *e = x->e;

    for (unsigned i = 0; i < x->n_cold; i++)
        btmem_cold(e, x->b, &x->cold[i]);
    for (unsigned i = 0; i < x->n_div; i++) {
        static const uint8_t nop5[] = {0x0f, 0x1f, 0x44, 0x00, 0x00};

        for (unsigned k = 0; k < x->div[i].n; k++)
            emit_patch(e, x->div[i].from[k]);
        emit_mov_imm32(e, T1, x->div[i].site);
        emit_call(e, x->b->stub_interp);
        emit_bytes(e, nop5, sizeof(nop5));
        emit_jmp(e, x->div[i].after);
    }
    /* Somebody wants the vCPU, or the block is dead: leave before its first instruction. The count
     * is taken back. */
    emit_patch(e, requested);
    emit_1(e, 0x65); /* sub qword gs:[insns], n */
    emit_1(e, 0x48);
    emit_1(e, 0x83);
    emit_1(e, 0x2c);
    emit_1(e, 0x25);
    emit_4(e, CPU(insns));
    emit_1(e, (uint8_t)x->n);
    x->k->cold_exit = emit_here(e);
    emit_load_gs(e, T0, CPU(page_lin));
    emit_lea(e, true, T0, T0, 0xff, 1, x->off[0]);
    leave_with_t0(x);
}

bool xlat_full(const struct bt_vm *b)
{
    return b->code.e.end - b->code.e.p < BLOCK_BYTES_MAX || b->n_blocks == b->max_blocks;
}

/* Under the lock. */
static struct block *emit_block(struct xlat *x, struct bt_vm *b, gpa_t gpa, uint32_t mode)
{
    uint32_t m = b->modes[mode];
    bool vec = false;

    if (xlat_full(b))
        return NULL;
    struct block *k = btcache_new(b);
    k->gpa = gpa;
    k->mode = mode;
    x->e = &b->code.e;
    x->b = b;
    x->k = k;
    x->n_cold = x->n_div = 0;
    x->set = (m & MODE_CPL) == MODE_CPL ? TLB_USER : m & MODE_SMAP ? TLB_KERNEL_SMAP : TLB_KERNEL;
    for (unsigned i = 0; i < x->n; i++)
        vec |= x->kind[i].vec;
    uint8_t *requested = prologue(x, vec);
    for (unsigned i = 0; i < x->n; i++)
        emit_insn(x, i);
    if (!ends(x->kind[x->n - 1].way))
        go(x, 0, x->off[x->n]);
    epilogue(x, requested);
    BUG_ON(b->code.e.full); /* BLOCK_BYTES_MAX is more than any block can need */
    b->translated++;
    b->insns_translated += x->n;
    btcache_insert(b, k);
    return k;
}

/* The bytes are copied and decoded first, then marked as code, then compared: who writes them after
 * the comparison finds the mark, bumps the generation, and we see it under the lock. */
struct block *xlat_block(struct bt_cpu *c, gpa_t gpa, const uint8_t *page, uint32_t mode,
                         bool *alone)
{
    struct bt_vm *b = c->bv;
    struct xlat *x = c->xlat;
    unsigned off = (unsigned)(gpa & (MEM_PAGE - 1));
    unsigned room = MEM_PAGE - off < SOURCE_MAX ? MEM_PAGE - off : SOURCE_MAX;
    _Atomic uint32_t *gen = &b->vm->code_gen[mem_page(b->vm->c.mem, gpa)];

    memcpy(x->source, page + off, room);
    decode(x, off, room, b->vm->c.model, b->modes[mode]);
    *alone = x->n == 0;
    if (*alone)
        return NULL;
    liveness(x);
    unsigned len = x->off[x->n] - x->off[0];
    uint32_t before = atomic_load(gen);
    mmu_mark_code(c->v, gpa, len);
    if (memcmp(x->source, page + off, len) != 0)
        return NULL;
    pthread_mutex_lock(&b->lock);
    struct block *k = btcache_find(b, gpa, mode);
    if (!k && atomic_load(gen) == before)
        k = emit_block(x, b, gpa, mode);
    pthread_mutex_unlock(&b->lock);
    return k;
}
