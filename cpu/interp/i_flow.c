/* cpu/interp/i_flow.c - near branches: JMP CALL RET Jcc LOOP JCXZ. Source: SDM vol 2.
 * A direct branch keeps its target as a distance from the block's start (imm), the way past it in
 * y. In 64-bit mode near branches are always 64 bits wide, as Intel has it. */
#include "cpu/interp/operand.h"
#include "cpu/interp/pick.h"

static int go(struct vcpu *v, uint64_t target)
{
    int rc = operand_check_ip(v, target);

    if (rc)
        return rc;
    v->s.rip = target;
    return SOFT_OK;
}

/* Cut to the operand size: a 16-bit branch leaves a 16-bit IP. */
static uint64_t cut(const struct insn *i, uint64_t target)
{
    return i->opsize == 8 ? target : target & operand_mask(i->opsize);
}

static inline int go64(struct vcpu *v, uint64_t target)
{
    if (unlikely(!operand_canonical(target)))
        return soft_exc_err(v, VEC_GP, 0);
    v->s.rip = target;
    return SOFT_OK;
}

static int jmp64(struct vcpu *v, const struct insn *i)
{
    return go64(v, v->s.rip + i->imm);
}

static int jmp_any(struct vcpu *v, const struct insn *i)
{
    return go(v, cut(i, v->s.rip + i->imm));
}

#define JCC(name, cond)                                         \
    static int jcc_##name(struct vcpu *v, const struct insn *i) \
    {                                                           \
        uint64_t f = v->s.rflags;                               \
                                                                \
        return go64(v, v->s.rip + ((cond) ? i->imm : i->y));    \
    }
#define SIGNED_LESS ((f ^ (f >> 4)) & FL_SF) /* SF differs from OF */
JCC(o, f &FL_OF)
JCC(no, !(f & FL_OF))
JCC(b, f &FL_CF)
JCC(nb, !(f & FL_CF))
JCC(z, f &FL_ZF)
JCC(nz, !(f & FL_ZF))
JCC(be, f &(FL_CF | FL_ZF))
JCC(nbe, !(f & (FL_CF | FL_ZF)))
JCC(s, f &FL_SF)
JCC(ns, !(f & FL_SF))
JCC(p, f &FL_PF)
JCC(np, !(f & FL_PF))
JCC(l, SIGNED_LESS)
JCC(nl, !SIGNED_LESS)
JCC(le, (f & FL_ZF) || SIGNED_LESS)
JCC(nle, !(f & FL_ZF) && !SIGNED_LESS)

static int jcc_any(struct vcpu *v, const struct insn *i)
{
    if (operand_cond(v->s.rflags, i->x))
        return go(v, cut(i, v->s.rip + i->imm));
    v->s.rip = insn_next(v, i);
    return SOFT_OK;
}

/* LOOP, LOOPE, LOOPNE, JCXZ: the counter has the address size. */
static int loop_any(struct vcpu *v, const struct insn *i)
{
    uint64_t count = operand_reg(v, RCX * 8, i->adsize);
    bool taken;
    int rc = SOFT_OK;

    switch (i->op) {
    case ZYDIS_MNEMONIC_LOOP:
        taken = --count & operand_mask(i->adsize);
        break;
    case ZYDIS_MNEMONIC_LOOPE:
        taken = (--count & operand_mask(i->adsize)) && v->s.rflags & FL_ZF;
        break;
    case ZYDIS_MNEMONIC_LOOPNE:
        taken = (--count & operand_mask(i->adsize)) && !(v->s.rflags & FL_ZF);
        break;
    default:
        taken = !count;
    }
    if (taken)
        rc = go(v, cut(i, v->s.rip + i->imm));
    else
        v->s.rip = insn_next(v, i);
    if (!rc && i->x)
        operand_reg_put(v, RCX * 8, i->adsize, count);
    return rc;
}

static int call64(struct vcpu *v, const struct insn *i)
{
    uint64_t target = v->s.rip + i->imm;
    int rc;

    if (unlikely(!operand_canonical(target)))
        return soft_exc_err(v, VEC_GP, 0);
    rc = operand_push64(v, v->s.rip + i->y);
    if (unlikely(rc))
        return rc;
    v->s.rip = target;
    return SOFT_OK;
}

static int call_to(struct vcpu *v, const struct insn *i, uint64_t target)
{
    int rc = operand_check_ip(v, target);

    if (!rc)
        rc = operand_push(v, i->opsize, insn_next(v, i));
    if (!rc)
        v->s.rip = target;
    return rc;
}

static int call_any(struct vcpu *v, const struct insn *i)
{
    return call_to(v, i, cut(i, v->s.rip + i->imm));
}

static int target_of(struct vcpu *v, const struct insn *i, uint64_t *target)
{
    if (i->flags & I_MEM)
        return operand_load(v, i, i->opsize, target);
    *target = operand_reg(v, i->ra, i->opsize);
    return SOFT_OK;
}

static int jmp_indirect(struct vcpu *v, const struct insn *i)
{
    uint64_t target;
    int rc = target_of(v, i, &target);

    return rc ? rc : go(v, target);
}

static int call_indirect(struct vcpu *v, const struct insn *i)
{
    uint64_t target;
    int rc = target_of(v, i, &target);

    return rc ? rc : call_to(v, i, target);
}

static int ret64(struct vcpu *v, const struct insn *i)
{
    uint64_t target;
    int rc = operand_peek64(v, &target);

    if (unlikely(rc))
        return rc;
    rc = go64(v, target);
    if (likely(!rc))
        v->s.gpr[RSP] += 8 + i->imm;
    return rc;
}

static int ret_any(struct vcpu *v, const struct insn *i)
{
    uint64_t target, sp = operand_sp(v);
    int rc = operand_stack_ld(v, sp, i->opsize, &target);

    if (!rc)
        rc = go(v, target);
    if (!rc)
        operand_sp_put(v, sp + i->opsize + i->imm);
    return rc;
}

/* imm: bytes from the end of the instruction, as decoded; made relative to the block. */
static void relative(struct insn *i)
{
    i->y = (uint64_t)i->off + i->len;
    i->imm += i->y;
}

static int pick_jmp_call(struct pick *p, bool call)
{
    struct insn *i = p->i;

    if (p->op[0].type != ZYDIS_OPERAND_TYPE_IMMEDIATE) {
        i->opsize = (uint8_t)(p->op[0].size / 8);
        i->fn = call ? call_indirect : jmp_indirect;
        return 1;
    }
    relative(i);
    if (i->opsize == 8)
        i->fn = call ? call64 : jmp64;
    else
        i->fn = call ? call_any : jmp_any;
    return 1;
}

static int pick_jcc(struct pick *p)
{
    static const insn_fn jcc[16] = {jcc_o, jcc_no, jcc_b, jcc_nb, jcc_z, jcc_nz, jcc_be, jcc_nbe,
                                    jcc_s, jcc_ns, jcc_p, jcc_np, jcc_l, jcc_nl, jcc_le, jcc_nle};
    struct insn *i = p->i;

    i->x = p->z->opcode & 15; /* 7x, or 0F 8x: the condition */
    relative(i);
    i->fn = i->opsize == 8 ? jcc[i->x] : jcc_any;
    return 1;
}

int flow_pick(struct pick *p)
{
    struct insn *i = p->i;

    if (p->z->meta.branch_type == ZYDIS_BRANCH_TYPE_FAR)
        return far_pick(p);
    i->flags |= I_ENDS;
    i->opsize =
        p->z->machine_mode == ZYDIS_MACHINE_MODE_LONG_64 ? 8 : (uint8_t)(p->z->operand_width / 8);
    switch (p->z->mnemonic) {
    case ZYDIS_MNEMONIC_JMP:
        return pick_jmp_call(p, false);
    case ZYDIS_MNEMONIC_CALL:
        return pick_jmp_call(p, true);
    case ZYDIS_MNEMONIC_RET:
        i->fn = i->opsize == 8 ? ret64 : ret_any;
        return 1;
    case ZYDIS_MNEMONIC_LOOP:
    case ZYDIS_MNEMONIC_LOOPE:
    case ZYDIS_MNEMONIC_LOOPNE:
    case ZYDIS_MNEMONIC_JCXZ:
    case ZYDIS_MNEMONIC_JECXZ:
    case ZYDIS_MNEMONIC_JRCXZ:
        i->x = i->op >= ZYDIS_MNEMONIC_LOOP && i->op <= ZYDIS_MNEMONIC_LOOPNE; /* counts down */
        relative(i);
        i->fn = loop_any;
        return 1;
    default:
        return pick_jcc(p);
    }
}
