/* cpu/interp/i_shift.c - ROL ROR RCL RCR SHL SHR SAR SHLD SHRD, and BMI2's RORX SARX SHLX SHRX.
 * Source: SDM vol 2. A count of zero leaves every flag alone, so the host starts from the guest's
 * flags: whatever the host's instruction leaves untouched or undefined is then the guest's or this
 * CPU's. */
#include "cpu/interp/operand.h"
#include "cpu/interp/pick.h"

#define SHIFT(op, bits, sfx)                                                            \
    static void op##bits(struct vcpu *v, uint64_t *val, uint8_t count, uint16_t *flags) \
    {                                                                                   \
        uint##bits##_t d = (uint##bits##_t) * val;                                      \
        uint16_t f = operand_flags_image(v);                                            \
                                                                                        \
        __asm__(GUEST_FLAGS #op sfx " %%cl, %[dst]" HOST_FLAGS                          \
                : [dst] "+r"(d), "+&a"(f)                                               \
                : "c"(count)                                                            \
                : "cc");                                                                \
        *val = d;                                                                       \
        *flags = f;                                                                     \
    }
#define ALL_SIZES(op) SHIFT(op, 8, "b") SHIFT(op, 16, "w") SHIFT(op, 32, "l") SHIFT(op, 64, "q")
ALL_SIZES(rol)
ALL_SIZES(ror)
ALL_SIZES(rcl)
ALL_SIZES(rcr)
ALL_SIZES(shl)
ALL_SIZES(shr)
ALL_SIZES(sar)

typedef void (*shift_fn)(struct vcpu *v, uint64_t *val, uint8_t count, uint16_t *flags);

#define ROW(op)                       \
    {                                 \
        op##8, op##16, op##32, op##64 \
    }
enum { ROL, ROR, RCL, RCR, SHL, SHR, SAR, N_SHIFTS };
static const shift_fn shifts[N_SHIFTS][4] = {ROW(rol), ROW(ror), ROW(rcl), ROW(rcr),
                                             ROW(shl), ROW(shr), ROW(sar)};

/* x: index of the operation times 4 + size. imm: the count, unless it is CL (y set). */
static uint8_t count_of(const struct vcpu *v, const struct insn *i)
{
    return i->y ? (uint8_t)v->s.gpr[RCX] : (uint8_t)i->imm;
}

static int shift_r(struct vcpu *v, const struct insn *i)
{
    uint64_t val = operand_reg(v, i->ra, i->opsize);
    uint16_t f;

    shifts[i->x >> 2][i->x & 3](v, &val, count_of(v, i), &f);
    operand_reg_put(v, i->ra, i->opsize, val);
    operand_flags(v, f);
    return SOFT_OK;
}

static int shift_m(struct vcpu *v, const struct insn *i)
{
    uint64_t val;
    gva_t lin;
    uint16_t f;
    int rc = operand_load_rmw(v, i, i->opsize, &lin, &val);

    if (rc)
        return rc;
    shifts[i->x >> 2][i->x & 3](v, &val, count_of(v, i), &f);
    rc = operand_store_at(v, i, lin, i->opsize, val);
    if (rc)
        return rc;
    operand_flags(v, f);
    return SOFT_OK;
}

/* The common case by far: SHL, SHR, SAR of a 32- or 64-bit register by a constant (not zero). */
#define SHIFT_CONST(op, bits, sfx)                                         \
    static int op##_ri##bits(struct vcpu *v, const struct insn *i)         \
    {                                                                      \
        uint##bits##_t d = REG(bits, v, i->ra);                            \
        uint16_t f;                                                        \
                                                                           \
        __asm__("xorl %%eax, %%eax\n\t" #op sfx " %%cl, %[dst]" HOST_FLAGS \
                : [dst] "+r"(d), "=&a"(f)                                  \
                : "c"((uint8_t)i->imm)                                     \
                : "cc");                                                   \
        REG_PUT##bits(v, i->ra, d);                                        \
        operand_flags(v, f);                                               \
        return SOFT_OK;                                                    \
    }
SHIFT_CONST(shl, 32, "l")
SHIFT_CONST(shl, 64, "q")
SHIFT_CONST(shr, 32, "l")
SHIFT_CONST(shr, 64, "q")
SHIFT_CONST(sar, 32, "l")
SHIFT_CONST(sar, 64, "q")

/* SHLD, SHRD. A 16-bit count above 16 is undefined: the host's own answer is given. */
#define DOUBLE(op, bits, sfx)                                                         \
    static void op##bits(struct vcpu *v, uint64_t *val, uint64_t from, uint8_t count, \
                         uint16_t *flags)                                             \
    {                                                                                 \
        uint##bits##_t d = (uint##bits##_t) * val, s = (uint##bits##_t)from;          \
        uint16_t f = operand_flags_image(v);                                          \
                                                                                      \
        __asm__(GUEST_FLAGS #op sfx " %%cl, %[src], %[dst]" HOST_FLAGS                \
                : [dst] "+r"(d), "+&a"(f)                                             \
                : [src] "r"(s), "c"(count)                                            \
                : "cc");                                                              \
        *val = d;                                                                     \
        *flags = f;                                                                   \
    }
DOUBLE(shld, 16, "w")
DOUBLE(shld, 32, "l")
DOUBLE(shld, 64, "q")
DOUBLE(shrd, 16, "w")
DOUBLE(shrd, 32, "l")
DOUBLE(shrd, 64, "q")

static int shift_double(struct vcpu *v, const struct insn *i)
{
    static void (*const op[2][3])(struct vcpu *, uint64_t *, uint64_t, uint8_t, uint16_t *) = {
        {shld16, shld32, shld64}, {shrd16, shrd32, shrd64}};
    bool mem = i->flags & I_MEM;
    uint64_t val;
    gva_t lin = 0;
    uint16_t f;

    if (mem) {
        int rc = operand_load_rmw(v, i, i->opsize, &lin, &val);

        if (rc)
            return rc;
    } else {
        val = operand_reg(v, i->ra, i->opsize);
    }
    op[i->op == ZYDIS_MNEMONIC_SHRD][__builtin_ctz(i->opsize) - 1](
        v, &val, operand_reg(v, i->rb, i->opsize), count_of(v, i), &f);
    if (mem) {
        int rc = operand_store_at(v, i, lin, i->opsize, val);

        if (rc)
            return rc;
    } else {
        operand_reg_put(v, i->ra, i->opsize, val);
    }
    operand_flags(v, f);
    return SOFT_OK;
}

/* dest = source (register b or memory) shifted by register c or imm; no flags. */
static int shift_x(struct vcpu *v, const struct insn *i)
{
    unsigned bits = i->opsize * 8u;
    uint64_t val;

    if (i->flags & I_MEM) {
        int rc = operand_load(v, i, i->opsize, &val);

        if (rc)
            return rc;
    } else {
        val = operand_reg(v, i->rb, i->opsize);
    }
    unsigned n = (i->op == ZYDIS_MNEMONIC_RORX ? (unsigned)i->imm : REG(8, v, i->rc)) & (bits - 1);
    switch (i->op) {
    case ZYDIS_MNEMONIC_RORX:
        val = n ? val >> n | val << (bits - n) : val;
        break;
    case ZYDIS_MNEMONIC_SARX:
        val = (uint64_t)(operand_sext(val, i->opsize) >> n);
        break;
    case ZYDIS_MNEMONIC_SHLX:
        val <<= n;
        break;
    default:
        val >>= n;
    }
    operand_reg_put(v, i->ra, i->opsize, val);
    return SOFT_OK;
}

static int pick_one(struct pick *p, unsigned op)
{
    struct insn *i = p->i;
    unsigned size = (unsigned)__builtin_ctz(i->opsize);
    unsigned count_mask = i->opsize == 8 ? 63 : 31;

    i->x = (uint16_t)(op << 2 | size);
    i->fn = i->flags & I_MEM ? shift_m : shift_r;
    if (i->y || i->flags & I_MEM || size < 2 || op < SHL || !(i->imm & count_mask))
        return 1;
    static const insn_fn hot[3][2] = {
        {shl_ri32, shl_ri64}, {shr_ri32, shr_ri64}, {sar_ri32, sar_ri64}};
    i->fn = hot[op - SHL][size - 2];
    return 1;
}

int shift_pick(struct pick *p)
{
    struct insn *i = p->i;

    i->opsize = (uint8_t)(p->op[0].size / 8);
    /* The count is the last operand: CL or a constant. */
    i->y = p->op[p->z->operand_count_visible - 1].type == ZYDIS_OPERAND_TYPE_REGISTER;
    switch (p->z->mnemonic) {
    case ZYDIS_MNEMONIC_ROL:
        return pick_one(p, ROL);
    case ZYDIS_MNEMONIC_ROR:
        return pick_one(p, ROR);
    case ZYDIS_MNEMONIC_RCL:
        return pick_one(p, RCL);
    case ZYDIS_MNEMONIC_RCR:
        return pick_one(p, RCR);
    case ZYDIS_MNEMONIC_SHL:
        return pick_one(p, SHL);
    case ZYDIS_MNEMONIC_SHR:
        return pick_one(p, SHR);
    case ZYDIS_MNEMONIC_SAR:
        return pick_one(p, SAR);
    case ZYDIS_MNEMONIC_SHLD:
    case ZYDIS_MNEMONIC_SHRD:
        i->fn = shift_double;
        return 1;
    default:
        i->fn = shift_x;
        return 1;
    }
}
