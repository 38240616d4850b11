/* cpu/interp/i_alu.c - two-operand arithmetic: ADD OR ADC SBB AND SUB XOR CMP TEST.
 * Source: SDM vol 2. Each handler executes the very same instruction on the host, so results and
 * flags, undefined ones too, are this CPU's. */
#include "cpu/interp/operand.h"
#include "cpu/interp/pick.h"

/* One body for reg op reg, reg op imm, reg op mem: `d` the destination, `s` the source. */
#define COMPUTE(op, sfx, cf, d, s, f)               \
    __asm__(cf #op sfx " %[src], %[dst]" HOST_FLAGS \
            : [dst] "+r"(d), "=&a"(f)               \
            : [src] "r"(s), [fl] "r"(v->s.rflags)   \
            : "cc")
/* The same with the destination in memory: one host instruction, as the guest meant. */
#define COMPUTE_MEM(op, sfx, cf, lock, p, s, f)                   \
    __asm__ volatile(cf lock #op sfx " %[src], %[dst]" HOST_FLAGS \
                     : [dst] "+m"(*(p)), "=&a"(f)                 \
                     : [src] "r"(s), [fl] "r"(v->s.rflags)        \
                     : "cc")

#define ALU_REG(op, bits, sfx, cf, keep)                                    \
    static int op##_rr##bits(struct vcpu *v, const struct insn *i)          \
    {                                                                       \
        uint##bits##_t d = REG(bits, v, i->ra), s = REG(bits, v, i->rb);    \
        uint16_t f;                                                         \
                                                                            \
        COMPUTE(op, sfx, cf, d, s, f);                                      \
        if (keep)                                                           \
            REG_PUT##bits(v, i->ra, d);                                     \
        operand_flags(v, f);                                                \
        return SOFT_OK;                                                     \
    }                                                                       \
    static int op##_ri##bits(struct vcpu *v, const struct insn *i)          \
    {                                                                       \
        uint##bits##_t d = REG(bits, v, i->ra), s = (uint##bits##_t)i->imm; \
        uint16_t f;                                                         \
                                                                            \
        COMPUTE(op, sfx, cf, d, s, f);                                      \
        if (keep)                                                           \
            REG_PUT##bits(v, i->ra, d);                                     \
        operand_flags(v, f);                                                \
        return SOFT_OK;                                                     \
    }                                                                       \
    static int op##_rm##bits(struct vcpu *v, const struct insn *i)          \
    {                                                                       \
        uint##bits##_t d = REG(bits, v, i->ra), s;                          \
        uint16_t f;                                                         \
        int rc = operand_ld##bits(v, i, &s);                                \
                                                                            \
        if (unlikely(rc))                                                   \
            return rc;                                                      \
        COMPUTE(op, sfx, cf, d, s, f);                                      \
        if (keep)                                                           \
            REG_PUT##bits(v, i->ra, d);                                     \
        operand_flags(v, f);                                                \
        return SOFT_OK;                                                     \
    }

/* CMP and TEST with memory first: a load only. */
#define ALU_COMPARE_MEM(op, bits, sfx, kind, source)                   \
    static int op##_##kind##bits(struct vcpu *v, const struct insn *i) \
    {                                                                  \
        uint##bits##_t d, s = (uint##bits##_t)(source);                \
        uint16_t f;                                                    \
        int rc = operand_ld##bits(v, i, &d);                           \
                                                                       \
        if (unlikely(rc))                                              \
            return rc;                                                 \
        COMPUTE(op, sfx, "", d, s, f);                                 \
        operand_flags(v, f);                                           \
        return SOFT_OK;                                                \
    }

/* Memory is destination: in place when the TLB lets us write, else read, compute, write. */
#define ALU_MEM(op, bits, sfx, cf, kind, source)                            \
    static int op##_##kind##bits(struct vcpu *v, const struct insn *i)      \
    {                                                                       \
        uint##bits##_t s = (uint##bits##_t)(source);                        \
        uint64_t old;                                                       \
        gva_t lin;                                                          \
        uint16_t f;                                                         \
        int rc = operand_lin(v, i, bits / 8, true, &lin);                   \
                                                                            \
        if (unlikely(rc))                                                   \
            return rc;                                                      \
        mmu_u##bits *p = operand_fast_wr(v, lin, bits / 8);                 \
        if (likely(p)) {                                                    \
            COMPUTE_MEM(op, sfx, cf, "", p, s, f);                          \
        } else {                                                            \
            rc = operand_load_rmw(v, i, bits / 8, &lin, &old);              \
            if (rc)                                                         \
                return rc;                                                  \
            uint##bits##_t d = (uint##bits##_t)old;                         \
            COMPUTE(op, sfx, cf, d, s, f);                                  \
            rc = operand_store_at(v, i, lin, bits / 8, d);                  \
            if (rc)                                                         \
                return rc;                                                  \
        }                                                                   \
        operand_flags(v, f);                                                \
        return SOFT_OK;                                                     \
    }                                                                       \
    static int op##_lock_##kind##bits(struct vcpu *v, const struct insn *i) \
    {                                                                       \
        uint##bits##_t s = (uint##bits##_t)(source);                        \
        struct operand_locked l;                                            \
        uint16_t f;                                                         \
        int rc = operand_lock(v, i, bits / 8, &l);                          \
                                                                            \
        if (unlikely(rc))                                                   \
            return rc;                                                      \
        mmu_u##bits *p = l.p;                                               \
        COMPUTE_MEM(op, sfx, cf, "lock ", p, s, f);                         \
        rc = operand_unlock(v, i, &l);                                      \
        if (unlikely(rc))                                                   \
            return rc;                                                      \
        operand_flags(v, f);                                                \
        return SOFT_OK;                                                     \
    }

#define FORMS(op, cf, bits, sfx)                        \
    ALU_REG(op, bits, sfx, cf, true)                    \
    ALU_MEM(op, bits, sfx, cf, mr, REG(bits, v, i->rb)) \
    ALU_MEM(op, bits, sfx, cf, mi, i->imm)
#define COMPARE_FORMS(op, bits, sfx)                        \
    ALU_REG(op, bits, sfx, "", false)                       \
    ALU_COMPARE_MEM(op, bits, sfx, mr, REG(bits, v, i->rb)) \
    ALU_COMPARE_MEM(op, bits, sfx, mi, i->imm)

#define ALL_SIZES(op, cf) \
    FORMS(op, cf, 8, "b") FORMS(op, cf, 16, "w") FORMS(op, cf, 32, "l") FORMS(op, cf, 64, "q")
#define COMPARE_SIZES(op)     \
    COMPARE_FORMS(op, 8, "b") \
    COMPARE_FORMS(op, 16, "w") COMPARE_FORMS(op, 32, "l") COMPARE_FORMS(op, 64, "q")

ALL_SIZES(add, "")
ALL_SIZES(or, "")
ALL_SIZES(and, "")
ALL_SIZES(sub, "")
ALL_SIZES(xor, "")
ALL_SIZES(adc, GUEST_CF)
ALL_SIZES(sbb, GUEST_CF)
COMPARE_SIZES(cmp)
COMPARE_SIZES(test)

enum form { RR, RI, RM, MR, MI, LOCK_MR, LOCK_MI, N_FORMS };

#define ROW(op, kind)                                                     \
    {                                                                     \
        op##_##kind##8, op##_##kind##16, op##_##kind##32, op##_##kind##64 \
    }
#define TABLE(op)                                                                          \
    {                                                                                      \
        ROW(op, rr), ROW(op, ri), ROW(op, rm), ROW(op, mr), ROW(op, mi), ROW(op, lock_mr), \
            ROW(op, lock_mi)                                                               \
    }
#define COMPARE_TABLE(op)                                               \
    {                                                                   \
        ROW(op, rr), ROW(op, ri), ROW(op, rm), ROW(op, mr), ROW(op, mi) \
    }

static const insn_fn add_table[N_FORMS][4] = TABLE(add), or_table[N_FORMS][4] = TABLE(or),
                     and_table[N_FORMS][4] = TABLE(and), sub_table[N_FORMS][4] = TABLE(sub),
                     xor_table[N_FORMS][4] = TABLE(xor), adc_table[N_FORMS][4] = TABLE(adc),
                     sbb_table[N_FORMS][4] = TABLE(sbb), cmp_table[N_FORMS][4] = COMPARE_TABLE(cmp),
                     test_table[N_FORMS][4] = COMPARE_TABLE(test);

static const insn_fn (*table_of(unsigned mnemonic))[4]
{
    switch (mnemonic) {
    case ZYDIS_MNEMONIC_ADD:
        return add_table;
    case ZYDIS_MNEMONIC_OR:
        return or_table;
    case ZYDIS_MNEMONIC_AND:
        return and_table;
    case ZYDIS_MNEMONIC_SUB:
        return sub_table;
    case ZYDIS_MNEMONIC_XOR:
        return xor_table;
    case ZYDIS_MNEMONIC_ADC:
        return adc_table;
    case ZYDIS_MNEMONIC_SBB:
        return sbb_table;
    case ZYDIS_MNEMONIC_CMP:
        return cmp_table;
    default:
        return test_table;
    }
}

int alu_pick(struct pick *p)
{
    bool imm = p->op[1].type == ZYDIS_OPERAND_TYPE_IMMEDIATE;
    enum form form;

    if (p->i->flags & I_MEM_IS_A)
        form = (imm ? MI : MR) + (p->i->flags & I_LOCK ? LOCK_MR - MR : 0);
    else if (p->i->flags & I_MEM)
        form = RM;
    else
        form = imm ? RI : RR;
    p->i->fn = table_of(p->z->mnemonic)[form][__builtin_ctz(p->op[0].size / 8)];
    return 1;
}
