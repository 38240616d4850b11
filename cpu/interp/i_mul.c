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

/* RDX:RAX = RAX * src, run on the host for its flags; `a` enters as RAX and leaves as the low half.
 */
#define WIDE(op, bits, sfx)                                                \
    static uint16_t op##bits(uint64_t *a, uint64_t *d, uint64_t src)       \
    {                                                                      \
        uint##bits##_t lo = (uint##bits##_t) * a, hi;                      \
        bool o, c;                                                         \
        uint16_t f;                                                        \
                                                                           \
        __asm__(#op sfx " %[src]"                                          \
                : "+a"(lo), "=d"(hi), "=@cco"(o), "=@ccc"(c)               \
                : [src] "r"((uint##bits##_t)src));                         \
        __asm__("test %1, %1" HOST_FLAGS : "=&a"(f) : "r"(lo) : "cc");     \
        *a = lo;                                                           \
        *d = hi;                                                           \
        return (uint16_t)((f & ~(FL_CF << 8)) | (c ? FL_CF << 8 : 0) | o); \
    }
WIDE(mul, 16, "w")
WIDE(mul, 32, "l")
WIDE(mul, 64, "q")
WIDE(imul, 16, "w")
WIDE(imul, 32, "l")
WIDE(imul, 64, "q")

static uint16_t wide8(uint64_t *a, uint64_t src, bool sign)
{
    int full = sign ? (int8_t)*a * (int8_t)src : (uint8_t)*a * (uint8_t)src;
    bool over = sign ? full != (int8_t)full : full > UINT8_MAX;
    uint16_t f;

    __asm__("testb %1, %1" HOST_FLAGS : "=&a"(f) : "r"((uint8_t)full) : "cc");
    *a = (uint16_t)full;
    return (uint16_t)((f & ~(FL_CF << 8)) | (over ? FL_CF << 8 | 1 : 0));
}

static int mul_wide(struct vcpu *v, const struct insn *i)
{
    static uint16_t (*const op[2][3])(uint64_t *, uint64_t *,
                                      uint64_t) = {{mul16, mul32, mul64}, {imul16, imul32, imul64}};
    bool sign = i->op == ZYDIS_MNEMONIC_IMUL;
    uint64_t src, a = v->s.gpr[RAX], d = 0;
    uint16_t f;
    int rc = source(v, i, &src);

    if (rc)
        return rc;
    if (i->opsize == 1) {
        f = wide8(&a, src, sign);
        REG_PUT16(v, RAX * 8, a);
    } else {
        f = op[sign][__builtin_ctz(i->opsize) - 1](&a, &d, src);
        operand_reg_put(v, RAX * 8, i->opsize, a);
        operand_reg_put(v, RDX * 8, i->opsize, d);
    }
    operand_flags(v, f);
    return SOFT_OK;
}

/* IMUL with two or three operands: destination a, sources in y's terms: 0 = a * r/m, 1 = r/m * imm.
 */
#define TRUNCATED(bits, sfx)                                      \
    static int imul_r##bits(struct vcpu *v, const struct insn *i) \
    {                                                             \
        uint##bits##_t d, s;                                      \
        uint16_t f;                                               \
                                                                  \
        if (i->flags & I_MEM) {                                   \
            int rc = operand_ld##bits(v, i, &s);                  \
                                                                  \
            if (unlikely(rc))                                     \
                return rc;                                        \
        } else {                                                  \
            s = REG(bits, v, i->rb);                              \
        }                                                         \
        d = i->y ? (uint##bits##_t)i->imm : REG(bits, v, i->ra);  \
        __asm__("imul" sfx " %[src], %[dst]" HOST_FLAGS           \
                : [dst] "+r"(d), "=&a"(f)                         \
                : [src] "r"(s)                                    \
                : "cc");                                          \
        REG_PUT##bits(v, i->ra, d);                               \
        operand_flags(v, f);                                      \
        return SOFT_OK;                                           \
    }
TRUNCATED(16, "w")
TRUNCATED(32, "l")
TRUNCATED(64, "q")

/* A quotient that does not fit is #DE like a zero divisor. Flags are undefined; processors leave
 * them. */
static int div_any(struct vcpu *v, const struct insn *i)
{
    unsigned n = i->opsize, bits = n * 8;
    uint64_t src, q, r;
    int rc = source(v, i, &src);

    if (rc)
        return rc;
    uint64_t lo = operand_reg(v, RAX * 8, n);
    uint64_t hi = n == 1 ? REG(8, v, RAX * 8 + 1) : operand_reg(v, RDX * 8, n);
    if (i->op == ZYDIS_MNEMONIC_DIV) {
        if (!src || hi >= src)
            return soft_exc(v, VEC_DE);
        if (n == 8) {
            __asm__("divq %[src]" : "=a"(q), "=d"(r) : [src] "r"(src), "a"(lo), "d"(hi) : "cc");
        } else {
            uint64_t num = hi << bits | lo;

            q = num / src;
            r = num % src;
        }
    } else {
        __int128 num = (__int128)operand_sext(hi, n) * ((__int128)1 << bits) + lo;
        int64_t den = operand_sext(src, n);
        __int128 quot;

        if (!den)
            return soft_exc(v, VEC_DE);
        /* The one quotient that does not fit even here is -2^127 / -1. */
        if (den == -1 && num == (__int128)((unsigned __int128)1 << 127))
            return soft_exc(v, VEC_DE);
        quot = num / den;
        if (quot != (__int128)operand_sext((uint64_t)quot, n))
            return soft_exc(v, VEC_DE);
        q = (uint64_t)quot;
        r = (uint64_t)(num % den);
    }
    operand_reg_put(v, RAX * 8, n, q);
    operand_reg_put(v, n == 1 ? RAX * 8 + 1 : RDX * 8, n, r);
    return SOFT_OK;
}

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

static int pick_imul(struct pick *p)
{
    static const insn_fn op[4] = {NULL, imul_r16, imul_r32, imul_r64};
    unsigned n = p->z->operand_count_visible;

    if (p->op[n - 1].type == ZYDIS_OPERAND_TYPE_IMMEDIATE) {
        p->i->y = 1;
        n--;
    }
    p->i->fn = n == 1 ? mul_wide : op[__builtin_ctz(p->i->opsize)];
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
        i->fn = mul_wide;
        return 1;
    case ZYDIS_MNEMONIC_DIV:
    case ZYDIS_MNEMONIC_IDIV:
        i->fn = div_any;
        return 1;
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
