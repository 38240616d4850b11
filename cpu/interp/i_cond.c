/* cpu/interp/i_cond.c - SETcc, CMOVcc, single flags, LAHF and SAHF, CBW and relatives. Source: SDM
 * vol 2. */
#include "cpu/interp/operand.h"
#include "cpu/interp/pick.h"

/* The condition is i->x. */
static int set_r(struct vcpu *v, const struct insn *i)
{
    REG_PUT8(v, i->ra, operand_cond(v->s.rflags, i->x));
    return SOFT_OK;
}

static int set_m(struct vcpu *v, const struct insn *i)
{
    return operand_st8(v, i, operand_cond(v->s.rflags, i->x));
}

/* The destination is written in any case: a 32-bit CMOV that does not move still clears the upper
 * half. */
#define CMOV(bits)                                                                            \
    static int cmov_r##bits(struct vcpu *v, const struct insn *i)                             \
    {                                                                                         \
        uint##bits##_t old = REG(bits, v, i->ra), val = REG(bits, v, i->rb);                  \
                                                                                              \
        REG_PUT##bits(v, i->ra, operand_cond(v->s.rflags, i->x) ? val : old);                 \
        return SOFT_OK;                                                                       \
    }                                                                                         \
    static int cmov_m##bits(struct vcpu *v, const struct insn *i)                             \
    {                                                                                         \
        uint##bits##_t val;                                                                   \
        int rc = operand_ld##bits(v, i, &val);                                                \
                                                                                              \
        if (unlikely(rc))                                                                     \
            return rc;                                                                        \
        REG_PUT##bits(v, i->ra, operand_cond(v->s.rflags, i->x) ? val : REG(bits, v, i->ra)); \
        return SOFT_OK;                                                                       \
    }
CMOV(16)
CMOV(32)
CMOV(64)

static int flag_op(struct vcpu *v, const struct insn *i)
{
    switch (i->op) {
    case ZYDIS_MNEMONIC_CLC:
    case ZYDIS_MNEMONIC_STC:
        operand_flag_put(v, FL_CF, i->op == ZYDIS_MNEMONIC_STC);
        break;
    case ZYDIS_MNEMONIC_CMC:
        v->s.rflags ^= FL_CF;
        break;
    case ZYDIS_MNEMONIC_CLD:
    case ZYDIS_MNEMONIC_STD:
        operand_flag_put(v, FL_DF, i->op == ZYDIS_MNEMONIC_STD);
        break;
    case ZYDIS_MNEMONIC_LAHF:
        REG_PUT8(v, RAX * 8 + 1, (v->s.rflags & 0xd5) | FL_FIXED);
        break;
    case ZYDIS_MNEMONIC_SAHF:
        v->s.rflags = (v->s.rflags & ~0xd5ull) | (REG(8, v, RAX * 8 + 1) & 0xd5);
        break;
    case ZYDIS_MNEMONIC_SALC:
        REG_PUT8(v, RAX * 8, v->s.rflags & FL_CF ? 0xff : 0);
        break;
    default:
        BUG("not a flag instruction");
    }
    return SOFT_OK;
}

static int convert(struct vcpu *v, const struct insn *i)
{
    uint64_t *a = &v->s.gpr[RAX];

    switch (i->op) {
    case ZYDIS_MNEMONIC_CBW:
        REG_PUT16(v, RAX * 8, (uint16_t)(int8_t)*a);
        break;
    case ZYDIS_MNEMONIC_CWDE:
        *a = (uint32_t)(int16_t)*a;
        break;
    case ZYDIS_MNEMONIC_CDQE:
        *a = (uint64_t)(int32_t)*a;
        break;
    case ZYDIS_MNEMONIC_CWD:
        REG_PUT16(v, RDX * 8, (int16_t)*a < 0 ? 0xffff : 0);
        break;
    case ZYDIS_MNEMONIC_CDQ:
        v->s.gpr[RDX] = (int32_t)*a < 0 ? UINT32_MAX : 0;
        break;
    default: /* CQO */
        v->s.gpr[RDX] = (uint64_t)((int64_t)*a >> 63);
    }
    return SOFT_OK;
}

/* Zydis numbers conditions by name; the opcode's low nibble is the condition itself. */
int cond_pick(struct pick *p)
{
    static const insn_fn cmov[4][2] = {
        {NULL, NULL}, {cmov_r16, cmov_m16}, {cmov_r32, cmov_m32}, {cmov_r64, cmov_m64}};
    struct insn *i = p->i;
    uint8_t opcode = p->z->opcode;
    bool mem = i->flags & I_MEM;

    i->x = opcode & 15;
    if (p->z->opcode_map == ZYDIS_OPCODE_MAP_0F && (opcode & 0xf0) == 0x90)
        i->fn = mem ? set_m : set_r;
    else if (p->z->opcode_map == ZYDIS_OPCODE_MAP_0F && (opcode & 0xf0) == 0x40)
        i->fn = cmov[__builtin_ctz(p->op[0].size / 8)][mem];
    else if (opcode == 0x98 || opcode == 0x99)
        i->fn = convert;
    else
        i->fn = flag_op;
    return 1;
}
