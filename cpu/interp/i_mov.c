/* cpu/interp/i_mov.c - MOV, MOVZX, MOVSX, MOVSXD, MOVNTI, LEA, BSWAP, MOVBE and what does nothing
 * at all. Source: SDM vol 2. Moves to and from segment, control and debug registers are elsewhere.
 */
#include "cpu/interp/operand.h"
#include "cpu/interp/pick.h"

#define MOVES(bits)                                               \
    static int mov_rr##bits(struct vcpu *v, const struct insn *i) \
    {                                                             \
        REG_PUT##bits(v, i->ra, REG(bits, v, i->rb));             \
        return SOFT_OK;                                           \
    }                                                             \
    static int mov_ri##bits(struct vcpu *v, const struct insn *i) \
    {                                                             \
        REG_PUT##bits(v, i->ra, i->imm);                          \
        return SOFT_OK;                                           \
    }                                                             \
    static int mov_rm##bits(struct vcpu *v, const struct insn *i) \
    {                                                             \
        uint##bits##_t val;                                       \
        int rc = operand_ld##bits(v, i, &val);                    \
                                                                  \
        if (unlikely(rc))                                         \
            return rc;                                            \
        REG_PUT##bits(v, i->ra, val);                             \
        return SOFT_OK;                                           \
    }                                                             \
    static int mov_mr##bits(struct vcpu *v, const struct insn *i) \
    {                                                             \
        return operand_st##bits(v, i, REG(bits, v, i->rb));       \
    }                                                             \
    static int mov_mi##bits(struct vcpu *v, const struct insn *i) \
    {                                                             \
        return operand_st##bits(v, i, (uint##bits##_t)i->imm);    \
    }
MOVES(8)
MOVES(16)
MOVES(32)
MOVES(64)

/* `to` from `from`, through ext: the C type that says zero or sign extension. */
#define EXTEND(name, to, from, ext)                                     \
    static int name##_r##from##to(struct vcpu *v, const struct insn *i) \
    {                                                                   \
        REG_PUT##to(v, i->ra, (uint##to##_t)(ext)REG(from, v, i->rb));  \
        return SOFT_OK;                                                 \
    }                                                                   \
    static int name##_m##from##to(struct vcpu *v, const struct insn *i) \
    {                                                                   \
        uint##from##_t val;                                             \
        int rc = operand_ld##from(v, i, &val);                          \
                                                                        \
        if (unlikely(rc))                                               \
            return rc;                                                  \
        REG_PUT##to(v, i->ra, (uint##to##_t)(ext)val);                  \
        return SOFT_OK;                                                 \
    }
EXTEND(zx, 16, 8, uint8_t)
EXTEND(zx, 32, 8, uint8_t)
EXTEND(zx, 64, 8, uint8_t)
EXTEND(zx, 32, 16, uint16_t)
EXTEND(zx, 64, 16, uint16_t)
EXTEND(sx, 16, 8, int8_t)
EXTEND(sx, 32, 8, int8_t)
EXTEND(sx, 64, 8, int8_t)
EXTEND(sx, 32, 16, int16_t)
EXTEND(sx, 64, 16, int16_t)
EXTEND(sx, 64, 32, int32_t)

static int lea64(struct vcpu *v, const struct insn *i)
{
    REG_PUT64(v, i->ra, operand_ea(v, i));
    return SOFT_OK;
}

static int lea_any(struct vcpu *v, const struct insn *i)
{
    operand_reg_put(v, i->ra, i->opsize, operand_ea(v, i) & operand_mask(i->adsize));
    return SOFT_OK;
}

/* BSWAP of a 16-bit register is undefined; processors give zero. */
static int bswap(struct vcpu *v, const struct insn *i)
{
    if (i->opsize == 8)
        REG_PUT64(v, i->ra, __builtin_bswap64(REG(64, v, i->ra)));
    else if (i->opsize == 4)
        REG_PUT32(v, i->ra, __builtin_bswap32(REG(32, v, i->ra)));
    else
        REG_PUT16(v, i->ra, 0);
    return SOFT_OK;
}

static uint64_t swap_bytes(uint64_t val, unsigned size)
{
    return __builtin_bswap64(val) >> (64 - 8 * size);
}

static int movbe_load(struct vcpu *v, const struct insn *i)
{
    uint64_t val;
    int rc = operand_load(v, i, i->opsize, &val);

    if (rc)
        return rc;
    operand_reg_put(v, i->ra, i->opsize, swap_bytes(val, i->opsize));
    return SOFT_OK;
}

static int movbe_store(struct vcpu *v, const struct insn *i)
{
    return operand_store(v, i, i->opsize, swap_bytes(operand_reg(v, i->rb, i->opsize), i->opsize));
}

static int nothing(struct vcpu *v, const struct insn *i)
{
    return SOFT_OK;
}

static int mov_form(struct pick *p)
{
#define ROW(kind)                                                     \
    {                                                                 \
        mov_##kind##8, mov_##kind##16, mov_##kind##32, mov_##kind##64 \
    }
    static const insn_fn form[5][4] = {ROW(rr), ROW(ri), ROW(rm), ROW(mr), ROW(mi)};
#undef ROW
    bool imm = p->op[1].type == ZYDIS_OPERAND_TYPE_IMMEDIATE;
    unsigned k = p->i->flags & I_MEM_IS_A ? 3 + imm : p->i->flags & I_MEM ? 2 : imm;

    p->i->fn = form[k][__builtin_ctz(p->op[0].size / 8)];
    return 1;
}

static int extend_form(struct pick *p, bool sign)
{
    /* [sign][from 8, 16, 32][to 16, 32, 64][memory] */
    static const insn_fn form[2][3][3][2] = {
        {{{zx_r816, zx_m816}, {zx_r832, zx_m832}, {zx_r864, zx_m864}},
         {{mov_rr16, mov_rm16}, {zx_r1632, zx_m1632}, {zx_r1664, zx_m1664}}},
        {{{sx_r816, sx_m816}, {sx_r832, sx_m832}, {sx_r864, sx_m864}},
         {{mov_rr16, mov_rm16}, {sx_r1632, sx_m1632}, {sx_r1664, sx_m1664}},
         {{mov_rr16, mov_rm16}, {mov_rr32, mov_rm32}, {sx_r3264, sx_m3264}}},
    };
    unsigned from = (unsigned)__builtin_ctz(p->op[1].size / 8);
    unsigned to = (unsigned)__builtin_ctz(p->op[0].size / 8) - 1;

    if (from > 2 || to > 2)
        return 0;
    /* MOVSXD without REX.W reads no more than it writes. */
    if (from > to + 1)
        from = to + 1;
    p->i->fn = form[sign][from][to][!!(p->i->flags & I_MEM)];
    return p->i->fn != NULL;
}

int mov_pick(struct pick *p)
{
    struct insn *i = p->i;

    if (p->z->operand_count_visible)
        i->opsize = (uint8_t)(p->op[0].size / 8);
    switch (p->z->mnemonic) {
    case ZYDIS_MNEMONIC_MOV:
    case ZYDIS_MNEMONIC_MOVNTI:
        return mov_form(p);
    case ZYDIS_MNEMONIC_MOVZX:
        return extend_form(p, false);
    case ZYDIS_MNEMONIC_MOVSX:
    case ZYDIS_MNEMONIC_MOVSXD:
        return extend_form(p, true);
    case ZYDIS_MNEMONIC_LEA:
        i->fn = i->opsize == 8 && i->adsize == 8 ? lea64 : lea_any;
        return 1;
    case ZYDIS_MNEMONIC_BSWAP:
        i->fn = bswap;
        return 1;
    case ZYDIS_MNEMONIC_MOVBE:
        i->fn = i->flags & I_MEM_IS_A ? movbe_store : movbe_load;
        return 1;
    default:
        i->fn = nothing;
        return 1;
    }
}
