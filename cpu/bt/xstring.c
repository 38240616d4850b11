/* MOVS, STOS and LODS, and REP of the first two within a page: the host's own, after one look-up of
 * each operand. All else of the string instructions is the interpreter's, which works on whole
 * pages. Source: SDM vol 2, REP, MOVS, STOS, LODS. */
#include "cpu/bt/xlat_priv.h"

enum { OP_MOVS = 0xa4, OP_STOS = 0xaa, OP_LODS = 0xac }; /* bit 0: not bytes */

static unsigned element(const struct xlat *x, unsigned i)
{
    return x->in[i].z.operand_width / 8u;
}

/* lea reg, [base + rcx * element] */
static void behind(struct xlat *x, unsigned i, unsigned reg, unsigned base)
{
    emit_lea(x->e, true, reg, base, H_CX, element(x, i), 0);
}

static bool is(const struct xlat *x, unsigned i, uint8_t opcode)
{
    return (x->in[i].z.opcode & 0xfe) == opcode;
}

/* Slow if addresses go down. */
static struct slow *upwards(struct xlat *x, unsigned i)
{
    struct slow *s = xinsn_slow(x, i);

    emit_test8_gs(x->e, CPU(v.s.rflags) + 1, FL_DF >> 8);
    xinsn_slow_if(x, s, CC_NE);
    return s;
}

/* T0 = host address of the first element at `reg`; slow if the last lies in another page. */
static struct lookup *whole_operand(struct xlat *x, unsigned i, struct slow *s, unsigned reg,
                                    bool write)
{
    struct emit *e = x->e;

    emit_mov_rr(e, T0, reg);
    struct lookup *l = xinsn_look_up(x, i, write, element(x, i), 0);
    emit_mov_rr(e, T1, reg);
    emit_alu_imm(e, false, 4, T1, MEM_PAGE - 1);
    behind(x, i, T1, T1);
    emit_alu_imm(e, true, 7, T1, MEM_PAGE);
    xinsn_slow_if(x, s, CC_A);
    return l;
}

void xstring_repeat(struct xlat *x, unsigned i)
{
    bool movs = is(x, i, OP_MOVS);
    struct emit *e = x->e;
    struct lookup *from = NULL;

    xinsn_before_clobber(x, x->live_in[i + 1]);
    struct slow *s = upwards(x, i);
    emit_rr(e, true, 0x85, H_CX, H_CX); /* test rcx, rcx */
    uint8_t *none = emit_jcc_fwd(e, CC_E);
    emit_alu_imm(e, true, 7, H_CX, MEM_PAGE / element(x, i));
    xinsn_slow_if(x, s, CC_A);
    struct lookup *to = whole_operand(x, i, s, H_DI, true);
    if (movs) {
        emit_store_gs(e, T0, CPU(tmp[2]));
        from = whole_operand(x, i, s, H_SI, false);
    }
    behind(x, i, T1, H_DI);
    emit_store_gs(e, T1, CPU(tmp[3]));
    if (movs) {
        behind(x, i, T1, H_SI);
        emit_mov_rr(e, H_SI, T0);
        emit_load_gs(e, H_DI, CPU(tmp[2]));
    } else {
        emit_mov_rr(e, H_DI, T0);
    }
    emit_1(e, 0xf3);
    if (element(x, i) == 2)
        emit_1(e, 0x66);
    emit_rex(e, element(x, i) == 8, 0, 0, 0);
    emit_1(e, (uint8_t)x->in[i].z.opcode);
    if (movs)
        emit_mov_rr(e, H_SI, T1);
    emit_load_gs(e, H_DI, CPU(tmp[3]));
    emit_patch(e, none);
    to->after = s->after = emit_here(e);
    if (from)
        from->after = s->after;
}

/* mov reg, [T0] or mov [T0], reg of the element's size. */
static void move(struct xlat *x, unsigned i, bool store, unsigned reg)
{
    unsigned size = element(x, i);

    if (size == 2)
        emit_1(x->e, 0x66);
    emit_rex(x->e, size == 8, reg, 0, T0);
    emit_1(x->e, (uint8_t)((store ? 0x88 : 0x8a) | (size > 1)));
    emit_1(x->e, (uint8_t)((reg & 7) << 3 | (T0 & 7)));
}

static struct lookup *one_operand(struct xlat *x, unsigned i, unsigned reg, bool write)
{
    emit_mov_rr(x->e, T0, reg);
    return xinsn_look_up(x, i, write, element(x, i), 0);
}

static void advance(struct xlat *x, unsigned i, unsigned reg)
{
    emit_lea(x->e, true, reg, reg, 0xff, 1, (int32_t)element(x, i));
}

void xstring_one(struct xlat *x, unsigned i)
{
    struct emit *e = x->e;
    struct lookup *from = NULL, *to = NULL;

    xinsn_before_clobber(x, x->live_in[i + 1]);
    struct slow *s = upwards(x, i);
    if (!is(x, i, OP_STOS)) {
        from = one_operand(x, i, H_SI, false);
        move(x, i, false, is(x, i, OP_LODS) ? H_AX : T1);
    }
    if (is(x, i, OP_MOVS))
        emit_store_gs(e, T1, CPU(tmp[2]));
    if (!is(x, i, OP_LODS)) {
        to = one_operand(x, i, H_DI, true);
        if (from)
            emit_load_gs(e, T1, CPU(tmp[2]));
        move(x, i, true, from ? T1 : H_AX);
        advance(x, i, H_DI);
    }
    if (from)
        advance(x, i, H_SI);
    s->after = emit_here(e);
    if (from)
        from->after = s->after;
    if (to)
        to->after = s->after;
}
