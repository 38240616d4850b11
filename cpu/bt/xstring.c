/* REP MOVS and REP STOS within a page: the host's own, after one look-up of each operand. All else
 * of the string instructions is the interpreter's, which works on whole pages. Source: SDM vol 2,
 * REP, MOVS, STOS. */
#include "cpu/bt/xlat_priv.h"

static unsigned element(const struct xlat *x, unsigned i)
{
    return x->in[i].z.operand_width / 8u;
}

/* lea reg, [base + rcx * element] */
static void behind(struct xlat *x, unsigned i, unsigned reg, unsigned base)
{
    emit_lea(x->e, true, reg, base, H_CX, element(x, i), 0);
}

/* T0 = host address of the first element at `reg`; slow if the last lies in another page. */
static struct lookup *operand(struct xlat *x, unsigned i, struct slow *s, unsigned reg, bool write)
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

void xstring_emit(struct xlat *x, unsigned i)
{
    bool movs =
        x->in[i].z.meta.category == ZYDIS_CATEGORY_STRINGOP && (x->in[i].z.opcode & 0xfe) == 0xa4;
    struct emit *e = x->e;
    struct lookup *from = NULL;

    xinsn_before_clobber(x, x->live_in[i + 1]);
    struct slow *s = xinsn_slow(x, i);
    emit_test8_gs(e, CPU(v.s.rflags) + 1, FL_DF >> 8);
    xinsn_slow_if(x, s, CC_NE);
    emit_rr(e, true, 0x85, H_CX, H_CX); /* test rcx, rcx */
    uint8_t *none = emit_jcc_fwd(e, CC_E);
    emit_alu_imm(e, true, 7, H_CX, MEM_PAGE / element(x, i));
    xinsn_slow_if(x, s, CC_A);
    struct lookup *to = operand(x, i, s, H_DI, true);
    if (movs) {
        emit_store_gs(e, T0, CPU(tmp[2]));
        from = operand(x, i, s, H_SI, false);
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
