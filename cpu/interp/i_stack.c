/* cpu/interp/i_stack.c - PUSH POP PUSHA POPA PUSHF POPF ENTER LEAVE. Source: SDM vol 2. */
#include "cpu/interp/operand.h"
#include "cpu/interp/pick.h"
#include "cpu/soft/segload.h"

static int push_r64(struct vcpu *v, const struct insn *i)
{
    return operand_push64(v, REG(64, v, i->ra));
}

static int push_i64(struct vcpu *v, const struct insn *i)
{
    return operand_push64(v, i->imm);
}

static int pop_r64(struct vcpu *v, const struct insn *i)
{
    uint64_t val;
    int rc = operand_peek64(v, &val);

    if (unlikely(rc))
        return rc;
    v->s.gpr[RSP] += 8;
    REG_PUT64(v, i->ra, val); /* after the increment: POP RSP takes the value */
    return SOFT_OK;
}

static int push_any(struct vcpu *v, const struct insn *i)
{
    uint64_t val = i->imm;

    if (i->flags & I_MEM) {
        int rc = operand_load(v, i, i->opsize, &val);

        if (rc)
            return rc;
    } else if (i->ra != NO_REG) {
        val = operand_reg(v, i->ra, i->opsize);
    }
    return operand_push(v, i->opsize, val);
}

static int pop_r(struct vcpu *v, const struct insn *i)
{
    uint64_t val;
    int rc = operand_pop(v, i->opsize, &val);

    if (!rc)
        operand_reg_put(v, i->ra, i->opsize, val);
    return rc;
}

/* An address that uses RSP is computed after the increment (SDM, POP). */
static int pop_m(struct vcpu *v, const struct insn *i)
{
    uint64_t val, rsp = v->s.gpr[RSP];
    int rc = operand_pop(v, i->opsize, &val);

    if (!rc)
        rc = operand_store(v, i, i->opsize, val);
    if (rc)
        v->s.gpr[RSP] = rsp;
    return rc;
}

/* The selector is written as the SDM allows: the whole slot, zero-extended. */
static int push_seg(struct vcpu *v, const struct insn *i)
{
    return operand_push(v, i->opsize, v->s.seg[i->a].sel);
}

static int pop_seg(struct vcpu *v, const struct insn *i)
{
    uint64_t val, sp = operand_sp(v);
    int rc = operand_stack_ld(v, sp, 2, &val);

    if (rc)
        return rc;
    /* The stack's address size is that before SS is loaded. */
    uint64_t rsp = v->s.gpr[RSP];
    operand_sp_put(v, sp + i->opsize);
    rc = seg_load(v, i->a, (uint16_t)val);
    if (rc) {
        v->s.gpr[RSP] = rsp;
        return rc;
    }
    v->s.rip = insn_next(v, i);
    if (i->a != SEG_SS)
        return SOFT_OK;
    v->s.ss_shadow = true;
    return SOFT_BREAK;
}

static int pusha(struct vcpu *v, const struct insn *i)
{
    uint64_t sp = operand_sp(v), top = sp - 8u * i->opsize;
    int rc;

    /* All or nothing: the last slot may fault after the first is written, which only a second run
     * would notice, and writes the same. */
    for (unsigned r = 0; r < 8; r++) {
        rc = operand_stack_st(v, sp - (r + 1) * i->opsize, i->opsize,
                              r == RSP ? sp : v->s.gpr[r] & operand_mask(i->opsize));
        if (rc)
            return rc;
    }
    operand_sp_put(v, top);
    return SOFT_OK;
}

static int popa(struct vcpu *v, const struct insn *i)
{
    uint64_t val[8], sp = operand_sp(v);

    for (unsigned r = 0; r < 8; r++) {
        int rc = operand_stack_ld(v, sp + (7 - r) * i->opsize, i->opsize, &val[r]);

        if (rc)
            return rc;
    }
    for (unsigned r = 0; r < 8; r++)
        if (r != RSP)
            operand_reg_put(v, r * 8, i->opsize, val[r]);
    operand_sp_put(v, sp + 8u * i->opsize);
    return SOFT_OK;
}

static int pushf(struct vcpu *v, const struct insn *i)
{
    return operand_push(v, i->opsize, v->s.rflags & ~(uint64_t)(FL_VM | FL_RF));
}

/* Which flags POPF may change depends on CPL and IOPL (SDM vol 2, POPF, table 4-15). */
static int popf(struct vcpu *v, const struct insn *i)
{
    uint64_t val, may = FL_ARITH | FL_TF | FL_DF | FL_NT | FL_AC | FL_ID, old = v->s.rflags;
    unsigned cpl = soft_cpl(v);
    int rc = operand_pop(v, i->opsize, &val);

    if (rc)
        return rc;
    if (cpl == 0)
        may |= FL_IOPL;
    if (cpl <= (old & FL_IOPL) >> 12)
        may |= FL_IF;
    if (i->opsize == 2)
        may &= 0xffff;
    v->s.rflags = (old & ~may & ~(uint64_t)FL_RF) | (val & may) | FL_FIXED;
    v->s.rip = insn_next(v, i);
    if ((old ^ v->s.rflags) & (FL_AC | FL_TF))
        soft_mode_update(v);
    soft_irq_window(v);
    return SOFT_OK;
}

/* Frame pointer and nesting: SDM vol 2, ENTER. imm = size, x = level. */
static int enter(struct vcpu *v, const struct insn *i)
{
    unsigned n = i->opsize, level = i->x;
    uint64_t sp = operand_sp(v), bp = v->s.gpr[RBP], frame, val;
    int rc;

    sp -= n;
    rc = operand_stack_st(v, sp, n, bp & operand_mask(n));
    if (rc)
        return rc;
    frame = sp;
    for (unsigned k = 1; k < level; k++) {
        bp -= n;
        rc = operand_stack_ld(v, bp, n, &val);
        if (rc)
            return rc;
        sp -= n;
        rc = operand_stack_st(v, sp, n, val);
        if (rc)
            return rc;
    }
    if (level) {
        sp -= n;
        rc = operand_stack_st(v, sp, n, frame & operand_mask(n));
        if (rc)
            return rc;
    }
    sp -= i->imm;
    /* The final stack pointer must be writable, or the instruction faults as a whole. */
    rc = operand_stack_probe(v, sp, n);
    if (rc)
        return rc;
    operand_reg_put(v, RBP * 8, n, frame);
    operand_sp_put(v, sp);
    return SOFT_OK;
}

static int leave(struct vcpu *v, const struct insn *i)
{
    uint64_t val, sp = v->s.gpr[RBP];
    int rc = operand_stack_ld(v, sp, i->opsize, &val);

    if (rc)
        return rc;
    operand_sp_put(v, sp + i->opsize);
    operand_reg_put(v, RBP * 8, i->opsize, val);
    return SOFT_OK;
}

static int pick_push(struct pick *p)
{
    struct insn *i = p->i;
    const ZydisDecodedOperand *o = &p->op[0];

    i->fn = push_any;
    if (o->type == ZYDIS_OPERAND_TYPE_REGISTER && o->reg.value >= ZYDIS_REGISTER_ES &&
        o->reg.value <= ZYDIS_REGISTER_GS)
        i->fn = push_seg;
    else if (i->opsize == 8 && o->type == ZYDIS_OPERAND_TYPE_REGISTER)
        i->fn = push_r64;
    else if (i->opsize == 8 && o->type == ZYDIS_OPERAND_TYPE_IMMEDIATE)
        i->fn = push_i64;
    return 1;
}

static int pick_pop(struct pick *p)
{
    struct insn *i = p->i;
    const ZydisDecodedOperand *o = &p->op[0];

    if (i->flags & I_MEM) {
        i->fn = pop_m;
    } else if (o->reg.value >= ZYDIS_REGISTER_ES && o->reg.value <= ZYDIS_REGISTER_GS) {
        i->fn = pop_seg;
        i->flags |= I_ENDS;
    } else {
        i->fn = i->opsize == 8 ? pop_r64 : pop_r;
    }
    return 1;
}

int stack_pick(struct pick *p)
{
    struct insn *i = p->i;

    switch (p->z->mnemonic) {
    case ZYDIS_MNEMONIC_PUSH:
        return pick_push(p);
    case ZYDIS_MNEMONIC_POP:
        return pick_pop(p);
    case ZYDIS_MNEMONIC_PUSHA:
    case ZYDIS_MNEMONIC_PUSHAD:
        i->fn = pusha;
        return 1;
    case ZYDIS_MNEMONIC_POPA:
    case ZYDIS_MNEMONIC_POPAD:
        i->fn = popa;
        return 1;
    case ZYDIS_MNEMONIC_PUSHF:
    case ZYDIS_MNEMONIC_PUSHFD:
    case ZYDIS_MNEMONIC_PUSHFQ:
        i->fn = pushf;
        return 1;
    case ZYDIS_MNEMONIC_POPF:
    case ZYDIS_MNEMONIC_POPFD:
    case ZYDIS_MNEMONIC_POPFQ:
        i->flags |= I_ENDS;
        i->fn = popf;
        return 1;
    case ZYDIS_MNEMONIC_ENTER:
        i->imm = p->op[0].imm.value.u & 0xffff;
        i->x = p->op[1].imm.value.u & 31;
        i->fn = enter;
        return 1;
    default:
        i->fn = leave;
        return 1;
    }
}
