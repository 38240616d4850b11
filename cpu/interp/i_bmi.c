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

#define FLAGS_CLEAR(v) ((v)->s.rflags &= ~(uint64_t)FL_ARITH)

static void flags_zs(struct vcpu *v, uint64_t val, unsigned size, bool carry)
{
    FLAGS_CLEAR(v);
    v->s.rflags |=
        (val ? 0 : FL_ZF) | (val >> (size * 8 - 1) & 1 ? FL_SF : 0) | (carry ? FL_CF : 0);
}

/* Run on the host, so that undefined flags are its own. A zero source leaves the destination. */
#define SCAN(op, bits, sfx)                                                  \
    static uint16_t op##bits(uint64_t *d, uint64_t s)                        \
    {                                                                        \
        uint##bits##_t dst = (uint##bits##_t) * d;                           \
        uint16_t f;                                                          \
                                                                             \
        __asm__("xorl %%eax, %%eax\n\t" #op sfx " %[src], %[dst]" HOST_FLAGS \
                : [dst] "+&r"(dst), "=&a"(f)                                 \
                : [src] "r"((uint##bits##_t)s)                               \
                : "cc");                                                     \
        *d = dst;                                                            \
        return f;                                                            \
    }
#define SCAN_SIZES(op) SCAN(op, 16, "w") SCAN(op, 32, "l") SCAN(op, 64, "q")
SCAN_SIZES(bsf)
SCAN_SIZES(bsr)

static int bit_scan(struct vcpu *v, const struct insn *i)
{
    static uint16_t (*const op[2][3])(uint64_t *, uint64_t) = {{bsf16, bsf32, bsf64},
                                                               {bsr16, bsr32, bsr64}};
    uint64_t src, dst = operand_reg(v, i->ra, i->opsize);
    uint16_t f;
    int rc = source(v, i, 1, i->opsize, &src);

    if (rc)
        return rc;
    f = op[i->op == ZYDIS_MNEMONIC_BSR][__builtin_ctz(i->opsize) - 1](&dst, src);
    /* With a zero source the whole register is left alone, upper half included. */
    if (src)
        operand_reg_put(v, i->ra, i->opsize, dst);
    operand_flags(v, f);
    return SOFT_OK;
}

static int count(struct vcpu *v, const struct insn *i)
{
    unsigned bits = i->opsize * 8u;
    uint64_t src, n;
    int rc = source(v, i, 1, i->opsize, &src);

    if (rc)
        return rc;
    switch (i->op) {
    case ZYDIS_MNEMONIC_POPCNT:
        n = (uint64_t)__builtin_popcountll(src);
        flags_zs(v, src, i->opsize, false);
        v->s.rflags &= ~(uint64_t)FL_SF;
        break;
    case ZYDIS_MNEMONIC_LZCNT:
        n = src ? (uint64_t)__builtin_clzll(src) - (64 - bits) : bits;
        flags_zs(v, n, i->opsize, !src);
        break;
    default: /* TZCNT */
        n = src ? (uint64_t)__builtin_ctzll(src) : bits;
        flags_zs(v, n, i->opsize, !src);
    }
    operand_reg_put(v, i->ra, i->opsize, n);
    return SOFT_OK;
}

/* BLSI BLSMSK BLSR: destination a, source r/m b. */
static int lowest_bit(struct vcpu *v, const struct insn *i)
{
    uint64_t src, val;
    int rc = source(v, i, 1, i->opsize, &src);

    if (rc)
        return rc;
    if (i->op == ZYDIS_MNEMONIC_BLSI)
        val = src & -src;
    else if (i->op == ZYDIS_MNEMONIC_BLSMSK)
        val = src ^ (src - 1);
    else
        val = src & (src - 1);
    val &= operand_mask(i->opsize);
    flags_zs(v, val, i->opsize, i->op == ZYDIS_MNEMONIC_BLSI ? src != 0 : src == 0);
    operand_reg_put(v, i->ra, i->opsize, val);
    return SOFT_OK;
}

/* ANDN a = ~b & r/m. */
static int andn(struct vcpu *v, const struct insn *i)
{
    uint64_t src, val;
    int rc = source(v, i, 2, i->opsize, &src);

    if (rc)
        return rc;
    val = ~operand_reg(v, i->rb, i->opsize) & src;
    flags_zs(v, val, i->opsize, false);
    operand_reg_put(v, i->ra, i->opsize, val);
    return SOFT_OK;
}

/* BEXTR, BZHI a, r/m, control: the control register is c with memory in the middle, c with
 * registers, too. */
static int extract(struct vcpu *v, const struct insn *i)
{
    unsigned bits = i->opsize * 8u;
    uint64_t src, val = 0, control = operand_reg(v, i->rc, i->opsize);
    unsigned start = control & 0xff, len = (control >> 8) & 0xff;
    int rc = source(v, i, 1, i->opsize, &src);

    if (rc)
        return rc;
    if (i->op == ZYDIS_MNEMONIC_BZHI) {
        val = start < bits ? src & ((1ull << start) - 1) : src;
        flags_zs(v, val, i->opsize, start >= bits);
    } else {
        if (start < bits)
            val = src >> start;
        if (len < 64)
            val &= (1ull << len) - 1;
        flags_zs(v, val, i->opsize, false);
        v->s.rflags &= ~(uint64_t)FL_SF;
    }
    operand_reg_put(v, i->ra, i->opsize, val);
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
    FLAGS_CLEAR(v);
    operand_flag_put(v, FL_CF, ok);
    return SOFT_OK;
}

int bmi_pick(struct pick *p)
{
    struct insn *i = p->i;

    i->opsize = (uint8_t)(p->op[0].size / 8);
    switch (p->z->mnemonic) {
    case ZYDIS_MNEMONIC_BSF:
    case ZYDIS_MNEMONIC_BSR:
        i->fn = bit_scan;
        break;
    case ZYDIS_MNEMONIC_POPCNT:
    case ZYDIS_MNEMONIC_LZCNT:
    case ZYDIS_MNEMONIC_TZCNT:
        i->fn = count;
        break;
    case ZYDIS_MNEMONIC_BLSI:
    case ZYDIS_MNEMONIC_BLSMSK:
    case ZYDIS_MNEMONIC_BLSR:
        i->fn = lowest_bit;
        break;
    case ZYDIS_MNEMONIC_ANDN:
        i->fn = andn;
        break;
    case ZYDIS_MNEMONIC_BEXTR:
    case ZYDIS_MNEMONIC_BZHI:
        i->fn = extract;
        break;
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
