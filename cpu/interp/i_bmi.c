/* cpu/interp/i_bmi.c - bit counting and scanning, BMI1, BMI2, ADX, CRC32, RDRAND, RDSEED. Source:
 * SDM vol 2. Flags of BSF and its kind follow this host's processor where the SDM leaves them
 * undefined and asking is cheap. */
#include <sys/random.h>

#include "cpu/interp/operand.h"
#include "cpu/interp/pick.h"

/* The r/m source: memory, or the register that is operand n (1 = b, 2 = c). */
static int source(struct vcpu *v, const struct insn *i, unsigned n, unsigned size, uint64_t *out)
{
    if (i->flags & I_MEM)
        return operand_load(v, i, size, out);
    *out = operand_reg(v, n == 1 ? i->rb : i->rc, size);
    return SOFT_OK;
}

/* Run on the host with the guest's flags loaded: d = op(a, b). What an instruction takes of the
 * three differs. */
typedef uint16_t (*host_op)(uint64_t *d, uint64_t a, uint64_t b, uint16_t f);

#define HOST_OP(name, insn, bits)                                                 \
    static uint16_t name##bits(uint64_t *dst, uint64_t a, uint64_t b, uint16_t f) \
    {                                                                             \
        uint##bits##_t d = (uint##bits##_t) * dst;                                \
                                                                                  \
        __asm__(GUEST_FLAGS insn HOST_FLAGS                                       \
                : [d] "+&r"(d), "+&a"(f)                                          \
                : [a] "r"((uint##bits##_t)a), [b] "r"((uint##bits##_t)b)          \
                : "cc");                                                          \
        *dst = d;                                                                 \
        return f;                                                                 \
    }
#define HOST_OP_16(name, insn) \
    HOST_OP(name, insn, 16) HOST_OP(name, insn, 32) HOST_OP(name, insn, 64)
#define HOST_OP_32(name, insn) HOST_OP(name, insn, 32) HOST_OP(name, insn, 64)
HOST_OP_16(bsf, "bsf %[a], %[d]")
HOST_OP_16(bsr, "bsr %[a], %[d]")
HOST_OP_16(popcnt, "popcnt %[a], %[d]")
HOST_OP_16(lzcnt, "lzcnt %[a], %[d]")
HOST_OP_16(tzcnt, "tzcnt %[a], %[d]")
HOST_OP_32(blsi, "blsi %[a], %[d]")
HOST_OP_32(blsmsk, "blsmsk %[a], %[d]")
HOST_OP_32(blsr, "blsr %[a], %[d]")
HOST_OP_32(andn, "andn %[b], %[a], %[d]")
HOST_OP_32(bextr, "bextr %[b], %[a], %[d]")
HOST_OP_32(bzhi, "bzhi %[b], %[a], %[d]")

/* x: index of the row. Only what CPUID offers gets here, so the host has it. */
enum {
    OP_BSF,
    OP_BSR,
    OP_POPCNT,
    OP_LZCNT,
    OP_TZCNT,
    OP_BLSI,
    OP_BLSMSK,
    OP_BLSR,
    OP_ANDN,
    OP_BEXTR,
    OP_BZHI
};
static const host_op host_ops[][3] = {
    [OP_BSF] = {bsf16, bsf32, bsf64},
    [OP_BSR] = {bsr16, bsr32, bsr64},
    [OP_POPCNT] = {popcnt16, popcnt32, popcnt64},
    [OP_LZCNT] = {lzcnt16, lzcnt32, lzcnt64},
    [OP_TZCNT] = {tzcnt16, tzcnt32, tzcnt64},
    [OP_BLSI] = {NULL, blsi32, blsi64},
    [OP_BLSMSK] = {NULL, blsmsk32, blsmsk64},
    [OP_BLSR] = {NULL, blsr32, blsr64},
    [OP_ANDN] = {NULL, andn32, andn64},
    [OP_BEXTR] = {NULL, bextr32, bextr64},
    [OP_BZHI] = {NULL, bzhi32, bzhi64},
};

static int count_bits(struct vcpu *v, const struct insn *i)
{
    uint64_t src, d = operand_reg(v, i->ra, i->opsize), b = 0;
    bool middle = i->x == OP_ANDN; /* r/m is the last operand, not the second */
    int rc = source(v, i, middle ? 2 : 1, i->opsize, &src);

    if (rc)
        return rc;
    if (middle) {
        b = src;
        src = operand_reg(v, i->rb, i->opsize);
    } else if (i->x >= OP_BEXTR) {
        b = operand_reg(v, i->rc, i->opsize);
    }
    operand_flags(v,
                  host_ops[i->x][__builtin_ctz(i->opsize) - 1](&d, src, b, operand_flags_image(v)));
    /* BSF and BSR of zero leave the whole register alone, its upper half included. */
    if (src || i->x > OP_BSR)
        operand_reg_put(v, i->ra, i->opsize, d);
    return SOFT_OK;
}

static uint64_t deposit(uint64_t src, uint64_t mask)
{
    uint64_t out = 0;

    for (; mask; mask &= mask - 1, src >>= 1)
        if (src & 1)
            out |= mask & -mask;
    return out;
}

static uint64_t collect(uint64_t src, uint64_t mask)
{
    uint64_t out = 0, bit = 1;

    for (; mask; mask &= mask - 1, bit <<= 1)
        if (src & mask & -mask)
            out |= bit;
    return out;
}

/* PDEP, PEXT a, b, r/m as mask. */
static int parallel(struct vcpu *v, const struct insn *i)
{
    uint64_t mask, src = operand_reg(v, i->rb, i->opsize);
    int rc = source(v, i, 2, i->opsize, &mask);

    if (rc)
        return rc;
    operand_reg_put(v, i->ra, i->opsize,
                    i->op == ZYDIS_MNEMONIC_PDEP ? deposit(src, mask) : collect(src, mask));
    return SOFT_OK;
}

/* ADCX and ADOX: an addition whose carry lives in CF or OF alone. */
static int add_carry(struct vcpu *v, const struct insn *i)
{
    uint64_t flag = i->op == ZYDIS_MNEMONIC_ADCX ? FL_CF : FL_OF;
    uint64_t src, old = operand_reg(v, i->ra, i->opsize);
    int rc = source(v, i, 1, i->opsize, &src);

    if (rc)
        return rc;
    unsigned __int128 sum = (unsigned __int128)old + src + !!(v->s.rflags & flag);
    operand_flag_put(v, flag, (sum >> (i->opsize * 8u)) & 1);
    operand_reg_put(v, i->ra, i->opsize, (uint64_t)sum);
    return SOFT_OK;
}

/* Polynomial 0x11edc6f41, reflected; the source has memlen or x bytes. */
static int crc32(struct vcpu *v, const struct insn *i)
{
    uint64_t src;
    uint32_t crc = REG(32, v, i->ra);
    int rc = source(v, i, 1, i->x, &src);

    if (rc)
        return rc;
    for (unsigned n = 0; n < i->x; n++) {
        crc ^= (uint8_t)(src >> (8 * n));
        for (unsigned k = 0; k < 8; k++)
            crc = (crc >> 1) ^ (crc & 1 ? 0x82f63b78u : 0);
    }
    REG_PUT64(v, i->ra, crc);
    return SOFT_OK;
}

/* The kernel's generator stands for the processor's: what matters is that it is unpredictable. */
static int random_number(struct vcpu *v, const struct insn *i)
{
    uint64_t val = 0;
    bool ok = getrandom(&val, sizeof(val), GRND_NONBLOCK) == sizeof(val);

    operand_reg_put(v, i->ra, i->opsize, ok ? val : 0);
    v->s.rflags &= ~(uint64_t)FL_ARITH;
    operand_flag_put(v, FL_CF, ok);
    return SOFT_OK;
}

static int pick_count(struct pick *p, unsigned op)
{
    p->i->x = (uint16_t)op;
    p->i->fn = count_bits;
    return 1;
}

int bmi_pick(struct pick *p)
{
    struct insn *i = p->i;

    i->opsize = (uint8_t)(p->op[0].size / 8);
    switch (p->z->mnemonic) {
    case ZYDIS_MNEMONIC_BSF:
        return pick_count(p, OP_BSF);
    case ZYDIS_MNEMONIC_BSR:
        return pick_count(p, OP_BSR);
    case ZYDIS_MNEMONIC_POPCNT:
        return pick_count(p, OP_POPCNT);
    case ZYDIS_MNEMONIC_LZCNT:
        return pick_count(p, OP_LZCNT);
    case ZYDIS_MNEMONIC_TZCNT:
        return pick_count(p, OP_TZCNT);
    case ZYDIS_MNEMONIC_BLSI:
        return pick_count(p, OP_BLSI);
    case ZYDIS_MNEMONIC_BLSMSK:
        return pick_count(p, OP_BLSMSK);
    case ZYDIS_MNEMONIC_BLSR:
        return pick_count(p, OP_BLSR);
    case ZYDIS_MNEMONIC_ANDN:
        return pick_count(p, OP_ANDN);
    case ZYDIS_MNEMONIC_BEXTR:
        return pick_count(p, OP_BEXTR);
    case ZYDIS_MNEMONIC_BZHI:
        return pick_count(p, OP_BZHI);
    case ZYDIS_MNEMONIC_PDEP:
    case ZYDIS_MNEMONIC_PEXT:
        i->fn = parallel;
        break;
    case ZYDIS_MNEMONIC_ADCX:
    case ZYDIS_MNEMONIC_ADOX:
        i->fn = add_carry;
        break;
    case ZYDIS_MNEMONIC_CRC32:
        i->x = p->op[1].size / 8;
        i->fn = crc32;
        break;
    default:
        i->fn = random_number;
    }
    return 1;
}
