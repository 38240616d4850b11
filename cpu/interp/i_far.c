/* cpu/interp/i_far.c - far branches, INT and relatives, IRET, SYSCALL, SYSENTER, BOUND, UD. Source:
 * SDM vol 2. What they do to CS, stacks and gates is cpu/soft's. */
#include "cpu/interp/operand.h"
#include "cpu/interp/pick.h"
#include "cpu/soft/event.h"
#include "cpu/soft/xfer.h"

/* Selector and offset: from the instruction (imm, x) or from memory, offset first. */
static int pointer(struct vcpu *v, const struct insn *i, uint16_t *sel, uint64_t *off)
{
    uint8_t raw[10];
    gva_t lin;

    if (!(i->flags & I_MEM)) {
        *sel = i->x;
        *off = i->imm;
        return SOFT_OK;
    }
    int rc = operand_lin(v, i, i->opsize + 2u, false, &lin);
    if (!rc)
        rc = operand_ld_slow(v, i, lin, raw, i->opsize + 2u, MMU_READ);
    if (rc)
        return rc;
    *off = 0;
    memcpy(off, raw, i->opsize);
    memcpy(sel, raw + i->opsize, 2);
    return SOFT_OK;
}

static int jmp_far(struct vcpu *v, const struct insn *i)
{
    uint16_t sel;
    uint64_t off;
    int rc = pointer(v, i, &sel, &off);

    return rc ? rc : xfer_far_jmp(v, sel, off, i->opsize);
}

static int call_far(struct vcpu *v, const struct insn *i)
{
    uint16_t sel;
    uint64_t off;
    int rc = pointer(v, i, &sel, &off);

    return rc ? rc : xfer_far_call(v, sel, off, i->opsize, insn_next(v, i));
}

static int ret_far(struct vcpu *v, const struct insn *i)
{
    return xfer_far_ret(v, i->opsize, (uint16_t)i->imm);
}

static int int_n(struct vcpu *v, const struct insn *i)
{
    return event_int_n(v, (uint8_t)i->imm, insn_next(v, i), EVENT_INT_N);
}

static int int1(struct vcpu *v, const struct insn *i)
{
    return event_int_n(v, VEC_DB, insn_next(v, i), EVENT_INT1);
}

static int into(struct vcpu *v, const struct insn *i)
{
    if (v->s.rflags & FL_OF)
        return event_int_n(v, VEC_OF, insn_next(v, i), EVENT_INT_N);
    v->s.rip = insn_next(v, i);
    return SOFT_OK;
}

static int iret(struct vcpu *v, const struct insn *i)
{
    return event_iret(v, i->opsize);
}

static int syscall_insn(struct vcpu *v, const struct insn *i)
{
    return xfer_syscall(v, insn_next(v, i));
}

static int sysret(struct vcpu *v, const struct insn *i)
{
    return xfer_sysret(v, i->opsize);
}

static int sysenter(struct vcpu *v, const struct insn *i)
{
    return xfer_sysenter(v);
}

static int sysexit(struct vcpu *v, const struct insn *i)
{
    return xfer_sysexit(v, i->opsize);
}

/* Signed index against a pair of bounds in memory, lower first. */
static int bound(struct vcpu *v, const struct insn *i)
{
    unsigned n = i->opsize;
    uint64_t pair = 0;
    gva_t lin;
    int rc = operand_lin(v, i, 2 * n, false, &lin);

    if (!rc)
        rc = operand_ld_slow(v, i, lin, &pair, 2 * n, MMU_READ);
    if (rc)
        return rc;
    int64_t index = operand_sext(operand_reg(v, i->ra, n), n);
    if (index < operand_sext(pair & operand_mask(n), n) || index > operand_sext(pair >> (8 * n), n))
        return soft_exc(v, VEC_BR);
    return SOFT_OK;
}

static int undefined(struct vcpu *v, const struct insn *i)
{
    return soft_exc(v, VEC_UD);
}

static int pick_branch(struct pick *p)
{
    struct insn *i = p->i;

    if (p->z->mnemonic == ZYDIS_MNEMONIC_RET) {
        i->fn = ret_far;
        return 1;
    }
    if (p->op[0].type == ZYDIS_OPERAND_TYPE_POINTER) {
        i->x = p->op[0].ptr.segment;
        i->imm = p->op[0].ptr.offset;
    } else if (p->op[0].type != ZYDIS_OPERAND_TYPE_MEMORY) {
        return 0;
    }
    i->fn = p->z->mnemonic == ZYDIS_MNEMONIC_CALL ? call_far : jmp_far;
    return 1;
}

int far_pick(struct pick *p)
{
    struct insn *i = p->i;

    i->flags |= I_ENDS;
    i->opsize = p->z->operand_width / 8;
    switch (p->z->mnemonic) {
    case ZYDIS_MNEMONIC_JMP:
    case ZYDIS_MNEMONIC_CALL:
    case ZYDIS_MNEMONIC_RET:
        return pick_branch(p);
    case ZYDIS_MNEMONIC_INT3:
        i->imm = VEC_BP;
        i->fn = int_n;
        return 1;
    case ZYDIS_MNEMONIC_INT:
        i->fn = int_n;
        return 1;
    case ZYDIS_MNEMONIC_INT1:
        i->fn = int1;
        return 1;
    case ZYDIS_MNEMONIC_INTO:
        i->fn = into;
        return 1;
    case ZYDIS_MNEMONIC_IRET:
    case ZYDIS_MNEMONIC_IRETD:
    case ZYDIS_MNEMONIC_IRETQ:
        i->fn = iret;
        return 1;
    case ZYDIS_MNEMONIC_SYSCALL:
        i->fn = syscall_insn;
        return 1;
    case ZYDIS_MNEMONIC_SYSRET:
        i->opsize = p->z->raw.rex.W ? 8 : 4;
        i->fn = sysret;
        return 1;
    case ZYDIS_MNEMONIC_SYSENTER:
        i->fn = sysenter;
        return 1;
    case ZYDIS_MNEMONIC_SYSEXIT:
        i->opsize = p->z->raw.rex.W ? 8 : 4;
        i->fn = sysexit;
        return 1;
    case ZYDIS_MNEMONIC_BOUND:
        i->flags &= (uint16_t)~I_ENDS;
        i->fn = bound;
        return 1;
    default: /* UD0 UD1 UD2 */
        i->fn = undefined;
        return 1;
    }
}
