/* Ways out of a block: links within the page, the jump cache, calls and returns. */
#include "cpu/bt/xlat_priv.h"

bool xflow_ends(enum way w)
{
    switch (w) {
    case WAY_INTERP_END:
    case WAY_SYSCALL:
    case WAY_SYSRET:
    case WAY_STAC:
    case WAY_CLAC:
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

/* --- leaving --------------------------------------------------------------- */

void xflow_exit(struct xlat *x, bool eflags, unsigned off, uint32_t link)
{
    struct exit_site s = {(uint16_t)off, link};

    emit_call(x->e, x->b->stub_exit[eflags]);
    emit_bytes(x->e, &s, sizeof(s));
}

/* T0 is what an indirect call is about to go to. One that is not canonical is the call's own #GP
 * (SDM vol 2, CALL), before memory changes: the interpreter raises it. T1 clobbered. */
static void only_canonical(struct xlat *x, unsigned i)
{
    struct emit *e = x->e;

    emit_mov_rr(e, T1, T0);
    for (unsigned ext = 4; ext <= 7; ext += 3) { /* shl T1, 16; sar T1, 16 */
        emit_rex(e, true, 0, 0, T1);
        emit_1(e, 0xc1);
        emit_1(e, (uint8_t)(0xc0 | ext << 3 | (T1 & 7)));
        emit_1(e, 16);
    }
    emit_rr(e, true, 0x3b, T1, T0);
    uint8_t *good = emit_jcc_fwd(e, CC_E);
    xinsn_call_interp(x, x->off[i] | SITE_ENDS); /* does not come back */
    emit_patch(e, good);
}

void xflow_hash(struct emit *e)
{
    emit_rex(e, false, T1, 0, T0); /* imul T1d, T0d, JC_FACTOR */
    emit_1(e, 0x69);
    emit_1(e, (uint8_t)(0xc0 | (T1 & 7) << 3 | (T0 & 7)));
    emit_4(e, JC_FACTOR);
    emit_shr_imm(e, false, T1, JC_SHIFT - 4);
    emit_alu_imm(e, false, 4, T1, (JC_SIZE - 1) << 4);
}

/* To the linear address in T0, flags in memory: by the jump cache, else, or if somebody wants the
 * vCPU, to the dispatcher. */
static void jump_t0(struct xlat *x, uint32_t exit_branch)
{
    struct emit *e = x->e;
    bool super = x->set != TLB_USER;
    uint32_t jc = CPU(jc) + x->k->mode * (uint32_t)sizeof(((struct bt_cpu *)0)->jc[0]);
    uint32_t epoch = CPU(epoch_xor) + 8 * super;

    xflow_hash(e);
    emit_gs(e, true, 0x33, T0, epoch);
    emit_gs_base(e, true, 0x3b, T0, T1, jc + (uint32_t)offsetof(struct jc_entry, rip));
    uint8_t *miss = emit_jcc_fwd(e, CC_NE);
    emit_cmp_gs(e, CPU(v.requests), 0);
    uint8_t *requested = emit_jcc_fwd(e, CC_NE);
    emit_gs(e, true, 0x33, T0, epoch);
    emit_alu_imm(e, true, 4, T0, ~(MEM_PAGE - 1));
    emit_store_gs(e, T0, CPU(page_lin));
    emit_gs_base(e, false, 0xff, 4, T1, jc + (uint32_t)offsetof(struct jc_entry, entry)); /* jmp */
    emit_patch(e, miss);
    emit_patch(e, requested);
    emit_mov_imm32(e, T1, exit_branch);
    emit_jmp(e, x->b->stub_jump[super]);
}
_Static_assert(sizeof(struct jc_entry) == 16, "the index is made by a shift");

static enum link_flags link_flags(const struct xlat *x, unsigned n)
{
    if (!x->need[n] || x->st == ST_BOTH || x->st == ST_DEAD)
        return LINK_ANY;
    return x->st == ST_EFLAGS ? LINK_EFLAGS : LINK_MEMORY;
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
    x->k->link[n].rel32 = emit_ref(x->b, e);
    x->k->link_flags[n] = (uint8_t)link_flags(x, n);
    emit_4(e, 0);
}

/* The code an unlinked link goes to, and a poll that found something. */
static void link_cold(struct xlat *x, unsigned n, uint32_t off)
{
    struct emit *e = x->e;
    struct link *l = &x->k->link[n];

    emit_patch(e, x->b->code.rw + l->rel32);
    if (x->poll[n])
        emit_patch(e, x->poll[n]);
    l->unlinked = emit_ref(x->b, e);
    xflow_exit(x, x->k->link_flags[n] == LINK_EFLAGS, off,
               ((uint32_t)(x->k - x->b->blocks) << 1 | n) + 1);
}

/* Does somebody want the vCPU? Before every jump that goes back. EFLAGS are kept when link n needs
 * them from there: then JRCXZ, which reads no flags. */
static void poll(struct xlat *x, unsigned n)
{
    static const uint8_t jrcxz[] = {0xe3, 8}; /* over the 3 + 5 bytes that follow */
    struct emit *e = x->e;

    if (x->st != ST_EFLAGS || !x->need[n]) {
        emit_cmp_gs(e, CPU(v.requests), 0);
        x->poll[n] = emit_jcc_fwd(e, CC_NE);
        if (x->st == ST_BOTH)
            x->st = ST_MEMORY;
        return;
    }
    emit_mov_rr(e, T1, H_CX);
    emit_gs(e, false, 0x8b, H_CX, CPU(v.requests));
    emit_bytes(e, jrcxz, sizeof(jrcxz));
    emit_mov_rr(e, H_CX, T1);
    x->poll[n] = emit_jmp_fwd(e);
    emit_mov_rr(e, H_CX, T1);
}

/* By link n to `off` in the page; `cc`: on this condition, or -1. */
static void link_to(struct xlat *x, unsigned n, uint32_t off, int cc)
{
    if (off <= x->off[x->n - 1])
        poll(x, n);
    link_jump(x, n, cc);
}

/* A block whose instruction straddles must be looked up each time: what the second page's linear
 * address leads to is not this page's matter. */
static bool linkable(struct xlat *x, int64_t off)
{
    return xflow_in_page(off) && !xlat_straddles(x, off);
}

/* Unconditionally to `off` relative to the page (which may lie outside of it). */
void xflow_go(struct xlat *x, unsigned n, int64_t off)
{
    if (linkable(x, off)) {
        link_to(x, n, (uint32_t)off, -1);
        link_cold(x, n, (uint32_t)off);
        return;
    }
    xinsn_want_memory(x);
    emit_load_gs(x->e, T0, CPU(page_lin));
    emit_lea(x->e, true, T0, T0, 0xff, 1, (int32_t)off);
    jump_t0(x, EXIT_DIRECT);
}

/* --- control flow ---------------------------------------------------------- */

int64_t xflow_target(const struct xinsn *i, unsigned next)
{
    return (int64_t)next + i->op[0].imm.value.s;
}

static int64_t target(const struct xlat *x, unsigned i)
{
    return xflow_target(&x->in[i], x->off[i + 1]);
}

static void push_return(struct xlat *x, unsigned i)
{
    struct place p = xinsn_push_slot(x, i, x->live_in[i + 1]);

    emit_load_gs(x->e, T1, CPU(page_lin));
    emit_lea(x->e, true, T1, T1, 0xff, 1, x->off[i + 1]);
    xinsn_store_t0(x->e, T1, p.disp);
    xinsn_rsp_add(x, -8);
    xinsn_done(x, &p); /* never used: the call-out leaves */
}

static void do_call(struct xlat *x, unsigned i)
{
    push_return(x, i);
    xflow_go(x, 0, target(x, i));
}

/* Target of an indirect jump or call into T0. False: by interpretation. */
static bool indirect_target(struct xlat *x, unsigned i)
{
    const ZydisDecodedOperand *o = &x->in[i].op[0];
    struct emit *e = x->e;
    bool high;

    if (o->type == ZYDIS_OPERAND_TYPE_REGISTER) {
        xinsn_load_guest(e, T0, (unsigned)rewrite_gpr(o->reg.value, &high));
        xinsn_before_clobber(x, KF_ALL);
    } else {
        struct place p = xinsn_reach(x, i, o, 0, false, 8, 0, KF_ALL);
        if (!p.ok)
            return false;
        xinsn_load_t0(e, T0, 0);
        xinsn_done(x, &p);
    }
    return true;
}

static void do_indirect(struct xlat *x, unsigned i)
{
    uint8_t *mark = x->e->p;

    if (!indirect_target(x, i)) {
        x->e->p = mark;
        xinsn_interp(x, i);
        return;
    }
    if (x->kind[i].way == WAY_CALL_IND) {
        only_canonical(x, i);
        emit_store_gs(x->e, T0, CPU(tmp[3]));
        push_return(x, i);
        emit_load_gs(x->e, T0, CPU(tmp[3]));
    }
    jump_t0(x, x->off[i]);
}

static void do_ret(struct xlat *x, unsigned i)
{
    const ZydisDecodedOperand *o = &x->in[i].op[0];
    int32_t more = x->in[i].z.operand_count_visible && o->type == ZYDIS_OPERAND_TYPE_IMMEDIATE
                       ? (int32_t)(o->imm.value.u & 0xffff)
                       : 0;

    struct place p = xinsn_reach(x, i, NULL, 0, false, 8, 0, KF_ALL);
    xinsn_load_t0(x->e, T0, p.disp);
    xinsn_rsp_add(x, 8 + more);
    xinsn_done(x, &p);
    xinsn_want_memory(x);
    jump_t0(x, x->off[i] | (uint32_t)(8 + more) << 16);
}

static void do_jcc(struct xlat *x, unsigned i)
{
    int64_t to = target(x, i), next = x->off[i + 1];
    int cc = x->in[i].raw[x->in[i].z.raw.prefix_count] == 0x0f
                 ? x->in[i].raw[x->in[i].z.raw.prefix_count + 1] & 15
                 : x->in[i].raw[x->in[i].z.raw.prefix_count] & 15;

    xinsn_want_eflags(x);
    enum st st = x->st;
    if (linkable(x, to) && to > x->off[i]) {
        link_jump(x, 0, cc);
        xflow_go(x, 1, next);
        link_cold(x, 0, (uint32_t)to);
        return;
    }
    uint8_t *not_taken = emit_jcc_fwd(x->e, (enum cc)(cc ^ 1));
    xflow_go(x, 0, to);
    emit_patch(x->e, not_taken);
    x->st = st;
    xflow_go(x, 1, next);
}

void xflow_emit(struct xlat *x, unsigned i)
{
    switch (x->kind[i].way) {
    case WAY_CALL:
        do_call(x, i);
        break;
    case WAY_JMP:
        xflow_go(x, 0, target(x, i));
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
    case WAY_SYSCALL:
    case WAY_SYSRET:
    case WAY_STAC:
    case WAY_CLAC:
        xswitch_emit(x, i);
        break;
    default:
        BUG("not a jump");
    }
}
