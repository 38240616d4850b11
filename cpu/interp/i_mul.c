/* cpu/interp/i_mul.c - MUL IMUL DIV IDIV MULX and BCD arithmetic (AAA AAS AAM AAD DAA DAS). Source:
 * SDM vol 2. */
#include "cpu/interp/operand.h"
#include "cpu/interp/pick.h"

/* The one r/m operand of MUL, DIV and relatives. */
static int source(struct vcpu *v, const struct insn *i, uint64_t *out)
{
    if (i->flags & I_MEM)
        return operand_load(v, i, i->opsize, out);
    *out = operand_reg(v, i->ra, i->opsize);
    return SOFT_OK;
}

/* MUL or DIV of RDX:RAX on the host, with its flags. RAX is taken, so the flags image comes and
 * goes through another register. */
#define WIDE(op, bits, sfx)                                                                \
    static uint16_t op##bits(uint64_t *a, uint64_t *d, uint64_t src, uint16_t f)           \
    {                                                                                      \
        uint64_t image = f, lo = *a, hi = *d;                                              \
                                                                                           \
        __asm__("xchgq %%rax, %[image]\n\t" GUEST_FLAGS "movq %[image], %%rax\n\t" #op sfx \
                " %[src]\n\tmovq %%rax, %[image]" HOST_FLAGS                               \
                : "+a"(lo), "+d"(hi), [image] "+&r"(image)                                 \
                : [src] "r"((uint##bits##_t)src)                                           \
                : "cc");                                                                   \
        *a = image;                                                                        \
        *d = hi;                                                                           \
        return (uint16_t)lo;                                                               \
    }
WIDE(mul, 8, "b")
WIDE(mul, 16, "w")
WIDE(mul, 32, "l")
WIDE(mul, 64, "q")
WIDE(imul, 8, "b")
WIDE(imul, 16, "w")
WIDE(imul, 32, "l")
WIDE(imul, 64, "q")
WIDE(div, 8, "b")
WIDE(div, 16, "w")
WIDE(div, 32, "l")
WIDE(div, 64, "q")
WIDE(idiv, 8, "b")
WIDE(idiv, 16, "w")
WIDE(idiv, 32, "l")
WIDE(idiv, 64, "q")

/* x: row. */
enum { OP_MUL, OP_IMUL, OP_DIV, OP_IDIV };
static uint16_t (*const wide[][4])(uint64_t *, uint64_t *, uint64_t, uint16_t) = {
    [OP_MUL] = {mul8, mul16, mul32, mul64},
    [OP_IMUL] = {imul8, imul16, imul32, imul64},
    [OP_DIV] = {div8, div16, div32, div64},
    [OP_IDIV] = {idiv8, idiv16, idiv32, idiv64},
};

/* Would the quotient not fit? Then, as with a zero divisor, #DE. */
static bool divide_error(const struct vcpu *v, const struct insn *i, uint64_t src)
{
    unsigned n = i->opsize;
    uint64_t lo = operand_reg(v, RAX * 8, n);
    uint64_t hi = n == 1 ? (v->s.gpr[RAX] >> 8) & 0xff : operand_reg(v, RDX * 8, n);

    if (!src || i->x == OP_DIV)
        return hi >= src;
    __int128 num = (__int128)operand_sext(hi, n) * ((__int128)1 << (8 * n)) + lo;
    int64_t den = operand_sext(src, n);
    /* The one quotient that does not fit even here is -2^127 / -1. */
    if (den == -1 && num == (__int128)((unsigned __int128)1 << 127))
        return true;
    if (n < 8 && den != -1) { /* quick, and INT64_MIN / -1 is not among them */
        int64_t quot = (int64_t)num / den;

        return quot != operand_sext((uint64_t)quot, n);
    }
    __int128 quot = num / den;
    return quot != operand_sext((uint64_t)quot, n);
}

static int wide_any(struct vcpu *v, const struct insn *i)
{
    uint64_t src, a = v->s.gpr[RAX], d = v->s.gpr[RDX];
    int rc = source(v, i, &src);

    if (rc)
        return rc;
    if (i->x >= OP_DIV && divide_error(v, i, src))
        return soft_exc(v, VEC_DE);
    operand_flags(v, wide[i->x][__builtin_ctz(i->opsize)](&a, &d, src, operand_flags_image(v)));
    v->s.gpr[RAX] = a;
    v->s.gpr[RDX] = d;
    return SOFT_OK;
}

/* IMUL with two or three operands: destination a, sources in y's terms: 0 = a * r/m, 1 = r/m * imm.
 */
#define TRUNCATED(bits, sfx)                                        \
    static int imul_r##bits(struct vcpu *v, const struct insn *i)   \
    {                                                               \
        uint##bits##_t d, s;                                        \
        uint16_t f = operand_flags_image(v);                        \
                                                                    \
        if (i->flags & I_MEM) {                                     \
            int rc = operand_ld##bits(v, i, &s);                    \
                                                                    \
            if (unlikely(rc))                                       \
                return rc;                                          \
        } else {                                                    \
            s = REG(bits, v, i->rb);                                \
        }                                                           \
        d = i->y ? (uint##bits##_t)i->imm : REG(bits, v, i->ra);    \
        __asm__(GUEST_FLAGS "imul" sfx " %[src], %[dst]" HOST_FLAGS \
                : [dst] "+r"(d), "+&a"(f)                           \
                : [src] "r"(s)                                      \
                : "cc");                                            \
        REG_PUT##bits(v, i->ra, d);                                 \
        operand_flags(v, f);                                        \
        return SOFT_OK;                                             \
    }
TRUNCATED(16, "w")
TRUNCATED(32, "l")
TRUNCATED(64, "q")

static int mulx(struct vcpu *v, const struct insn *i)
{
    unsigned n = i->opsize;
    uint64_t src;

    if (i->flags & I_MEM) {
        int rc = operand_load(v, i, n, &src);

        if (rc)
            return rc;
    } else {
        src = operand_reg(v, i->rc, n);
    }
    unsigned __int128 full = (unsigned __int128)operand_reg(v, RDX * 8, n) * src;
    operand_reg_put(v, i->rb, n, (uint64_t)full);
    operand_reg_put(v, i->ra, n, (uint64_t)(full >> (n * 8))); /* last: the high half wins */
    return SOFT_OK;
}

/* SF, ZF and PF of AL; CF and AF as given; OF cleared (undefined). */
static void bcd_flags(struct vcpu *v, bool cf, bool af)
{
    uint8_t al = (uint8_t)v->s.gpr[RAX];

    v->s.rflags &= ~(uint64_t)FL_ARITH;
    v->s.rflags |= (cf ? FL_CF : 0) | (af ? FL_AF : 0) | (al ? 0 : FL_ZF) | (al & FL_SF) |
                   (__builtin_parity(al) ? 0 : FL_PF);
}

static int decimal_adjust(struct vcpu *v, const struct insn *i)
{
    uint8_t al = (uint8_t)v->s.gpr[RAX], old = al;
    bool cf = v->s.rflags & FL_CF, af = v->s.rflags & FL_AF, was = cf;
    bool sub = i->op == ZYDIS_MNEMONIC_DAS;

    cf = false;
    if ((al & 15) > 9 || af) {
        cf = was || (sub ? al < 6 : al > 0xff - 6);
        al = (uint8_t)(sub ? al - 6 : al + 6);
        af = true;
    }
    if (old > 0x99 || was) {
        al = (uint8_t)(sub ? al - 0x60 : al + 0x60);
        cf = true;
    }
    REG_PUT8(v, RAX * 8, al);
    bcd_flags(v, cf, af);
    return SOFT_OK;
}

static int ascii_adjust(struct vcpu *v, const struct insn *i)
{
    uint16_t ax = (uint16_t)v->s.gpr[RAX];
    bool adjust = (ax & 15) > 9 || v->s.rflags & FL_AF;

    if (adjust)
        ax = (uint16_t)(i->op == ZYDIS_MNEMONIC_AAS ? ax - 0x106 : ax + 0x106);
    REG_PUT16(v, RAX * 8, ax & 0xff0f);
    bcd_flags(v, adjust, adjust);
    return SOFT_OK;
}

static int aam(struct vcpu *v, const struct insn *i)
{
    uint8_t al = (uint8_t)v->s.gpr[RAX], base = (uint8_t)i->imm;

    if (!base)
        return soft_exc(v, VEC_DE);
    REG_PUT16(v, RAX * 8, (al / base) << 8 | al % base);
    bcd_flags(v, false, false);
    return SOFT_OK;
}

static int aad(struct vcpu *v, const struct insn *i)
{
    uint16_t ax = (uint16_t)v->s.gpr[RAX];

    REG_PUT16(v, RAX * 8, (uint8_t)((ax & 0xff) + (ax >> 8) * (uint8_t)i->imm));
    bcd_flags(v, false, false);
    return SOFT_OK;
}

static int pick_wide(struct pick *p, unsigned op)
{
    p->i->x = (uint16_t)op;
    p->i->fn = wide_any;
    return 1;
}

static int pick_imul(struct pick *p)
{
    static const insn_fn op[4] = {NULL, imul_r16, imul_r32, imul_r64};
    unsigned n = p->z->operand_count_visible;

    if (p->op[n - 1].type == ZYDIS_OPERAND_TYPE_IMMEDIATE) {
        p->i->y = 1;
        n--;
    }
    if (n == 1)
        return pick_wide(p, OP_IMUL);
    p->i->fn = op[__builtin_ctz(p->i->opsize)];
    return p->i->fn != NULL;
}

int mul_pick(struct pick *p)
{
    struct insn *i = p->i;

    if (p->z->operand_count_visible)
        i->opsize = (uint8_t)(p->op[0].size / 8);
    switch (p->z->mnemonic) {
    case ZYDIS_MNEMONIC_IMUL:
        return pick_imul(p);
    case ZYDIS_MNEMONIC_MUL:
        return pick_wide(p, OP_MUL);
    case ZYDIS_MNEMONIC_DIV:
        return pick_wide(p, OP_DIV);
    case ZYDIS_MNEMONIC_IDIV:
        return pick_wide(p, OP_IDIV);
    case ZYDIS_MNEMONIC_MULX:
        i->fn = mulx;
        return 1;
    case ZYDIS_MNEMONIC_DAA:
    case ZYDIS_MNEMONIC_DAS:
        i->fn = decimal_adjust;
        return 1;
    case ZYDIS_MNEMONIC_AAA:
    case ZYDIS_MNEMONIC_AAS:
        i->fn = ascii_adjust;
        return 1;
    case ZYDIS_MNEMONIC_AAM:
        i->fn = aam;
        return 1;
    default:
        i->fn = aad;
        return 1;
    }
}
