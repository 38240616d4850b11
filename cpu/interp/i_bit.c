/* cpu/interp/i_bit.c - BT BTS BTR BTC. Source: SDM vol 2.
 * With a register as bit offset and memory as bit base the offset is signed and reaches beyond the
 * operand. */
#include "cpu/interp/operand.h"
#include "cpu/interp/pick.h"

enum { BT, BTS, BTR, BTC };

static uint64_t offset_of(const struct vcpu *v, const struct insn *i)
{
    return i->y ? i->imm : operand_reg(v, i->rb, i->opsize);
}

/* CF is the bit; the other flags stay (documented as undefined, OF ZF..; processors leave them). */
static uint64_t change(uint64_t val, uint64_t bit, unsigned op)
{
    switch (op) {
    case BTS:
        return val | bit;
    case BTR:
        return val & ~bit;
    case BTC:
        return val ^ bit;
    default:
        return val;
    }
}

static int bit_r(struct vcpu *v, const struct insn *i)
{
    unsigned bits = i->opsize * 8u;
    uint64_t val = operand_reg(v, i->ra, i->opsize);
    uint64_t bit = 1ull << (offset_of(v, i) & (bits - 1));

    operand_flag_put(v, FL_CF, val & bit);
    if (i->x != BT)
        operand_reg_put(v, i->ra, i->opsize, change(val, bit, i->x));
    return SOFT_OK;
}

/* The operand moved to the word that holds the bit. */
static struct insn at_bit(const struct vcpu *v, const struct insn *i, uint64_t *bit)
{
    unsigned bits = i->opsize * 8u;
    uint64_t off = offset_of(v, i);
    struct insn at = *i;

    if (!i->y)
        at.disp += (operand_sext(off, i->opsize) >> __builtin_ctz(bits)) * i->opsize;
    *bit = 1ull << (off & (bits - 1));
    return at;
}

static int bit_m(struct vcpu *v, const struct insn *i)
{
    uint64_t bit, val;
    struct insn at = at_bit(v, i, &bit);
    gva_t lin;
    int rc;

    if (i->x == BT) {
        rc = operand_load(v, &at, i->opsize, &val);
    } else {
        rc = operand_load_rmw(v, &at, i->opsize, &lin, &val);
        if (!rc)
            rc = operand_store_at(v, &at, lin, i->opsize, change(val, bit, i->x));
    }
    if (!rc)
        operand_flag_put(v, FL_CF, val & bit);
    return rc;
}

static bool locked_bit(void *p, unsigned size, unsigned op, uint64_t bit)
{
    mmu_u16 *p16 = p;
    mmu_u32 *p32 = p;
    mmu_u64 *p64 = p;
    bool c;

#define LOCKED(name, sfx, at, type)                    \
    __asm__ volatile("lock " #name sfx " %2, %1"       \
                     : "=@ccc"(c), "+m"(*(at))         \
                     : "r"((type)__builtin_ctzll(bit)) \
                     : "memory")
#define BY_SIZE(name)                         \
    do {                                      \
        if (size == 2)                        \
            LOCKED(name, "w", p16, uint16_t); \
        else if (size == 4)                   \
            LOCKED(name, "l", p32, uint32_t); \
        else                                  \
            LOCKED(name, "q", p64, uint64_t); \
    } while (0)
    if (op == BTS)
        BY_SIZE(bts);
    else if (op == BTR)
        BY_SIZE(btr);
    else
        BY_SIZE(btc);
    return c;
}

static int bit_locked(struct vcpu *v, const struct insn *i)
{
    uint64_t bit;
    struct insn at = at_bit(v, i, &bit);
    struct operand_locked l;
    int rc = operand_lock(v, &at, i->opsize, &l);

    if (rc)
        return rc;
    bool c = locked_bit(l.p, i->opsize, i->x, bit);
    rc = operand_unlock(v, &at, &l);
    if (!rc)
        operand_flag_put(v, FL_CF, c);
    return rc;
}

int bit_pick(struct pick *p)
{
    struct insn *i = p->i;

    i->opsize = (uint8_t)(p->op[0].size / 8);
    i->y = p->op[1].type == ZYDIS_OPERAND_TYPE_IMMEDIATE;
    switch (p->z->mnemonic) {
    case ZYDIS_MNEMONIC_BT:
        i->x = BT;
        break;
    case ZYDIS_MNEMONIC_BTS:
        i->x = BTS;
        break;
    case ZYDIS_MNEMONIC_BTR:
        i->x = BTR;
        break;
    default:
        i->x = BTC;
    }
    i->fn = i->flags & I_LOCK ? bit_locked : i->flags & I_MEM ? bit_m : bit_r;
    return 1;
}
