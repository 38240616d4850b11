/* cpu/interp/i_unary.c - INC DEC NEG NOT on a register or memory. Source: SDM vol 2.
 * INC and DEC leave CF alone: the host starts with the guest's. */
#include "cpu/interp/operand.h"
#include "cpu/interp/pick.h"

#define UNARY(op, bits, sfx, flags)                                    \
    static int op##_r##bits(struct vcpu *v, const struct insn *i)      \
    {                                                                  \
        uint##bits##_t d = REG(bits, v, i->ra);                        \
        uint16_t f;                                                    \
                                                                       \
        __asm__(GUEST_CF #op sfx " %[dst]" HOST_FLAGS                  \
                : [dst] "+r"(d), "=&a"(f)                              \
                : [fl] "r"(v->s.rflags)                                \
                : "cc");                                               \
        REG_PUT##bits(v, i->ra, d);                                    \
        if (flags)                                                     \
            operand_flags(v, f);                                       \
        return SOFT_OK;                                                \
    }                                                                  \
    static int op##_m##bits(struct vcpu *v, const struct insn *i)      \
    {                                                                  \
        uint64_t old;                                                  \
        gva_t lin;                                                     \
        uint16_t f;                                                    \
        int rc = operand_load_rmw(v, i, bits / 8, &lin, &old);         \
                                                                       \
        if (rc)                                                        \
            return rc;                                                 \
        uint##bits##_t d = (uint##bits##_t)old;                        \
        __asm__(GUEST_CF #op sfx " %[dst]" HOST_FLAGS                  \
                : [dst] "+r"(d), "=&a"(f)                              \
                : [fl] "r"(v->s.rflags)                                \
                : "cc");                                               \
        rc = operand_st##bits##_at(v, i, lin, d);                      \
        if (rc)                                                        \
            return rc;                                                 \
        if (flags)                                                     \
            operand_flags(v, f);                                       \
        return SOFT_OK;                                                \
    }                                                                  \
    static int op##_lock##bits(struct vcpu *v, const struct insn *i)   \
    {                                                                  \
        struct operand_locked l;                                       \
        uint16_t f;                                                    \
        int rc = operand_lock(v, i, bits / 8, &l);                     \
                                                                       \
        if (unlikely(rc))                                              \
            return rc;                                                 \
        mmu_u##bits *p = l.p;                                          \
        __asm__ volatile(GUEST_CF "lock " #op sfx " %[dst]" HOST_FLAGS \
                         : [dst] "+m"(*p), "=&a"(f)                    \
                         : [fl] "r"(v->s.rflags)                       \
                         : "cc");                                      \
        rc = operand_unlock(v, i, &l);                                 \
        if (rc)                                                        \
            return rc;                                                 \
        if (flags)                                                     \
            operand_flags(v, f);                                       \
        return SOFT_OK;                                                \
    }

#define ALL_SIZES(op, flags) \
    UNARY(op, 8, "b", flags) \
    UNARY(op, 16, "w", flags) UNARY(op, 32, "l", flags) UNARY(op, 64, "q", flags)

ALL_SIZES(inc, true)
ALL_SIZES(dec, true)
ALL_SIZES(neg, true)
ALL_SIZES(not, false)

#define ROW(op, kind)                                                     \
    {                                                                     \
        op##_##kind##8, op##_##kind##16, op##_##kind##32, op##_##kind##64 \
    }
#define TABLE(op)                             \
    {                                         \
        ROW(op, r), ROW(op, m), ROW(op, lock) \
    }

int unary_pick(struct pick *p)
{
    static const insn_fn inc[3][4] = TABLE(inc), dec[3][4] = TABLE(dec), neg[3][4] = TABLE(neg),
                         not [3][4] = TABLE(not );
    unsigned form = p->i->flags & I_LOCK ? 2 : p->i->flags & I_MEM ? 1 : 0;
    unsigned size = (unsigned)__builtin_ctz(p->op[0].size / 8);

    switch (p->z->mnemonic) {
    case ZYDIS_MNEMONIC_INC:
        p->i->fn = inc[form][size];
        break;
    case ZYDIS_MNEMONIC_DEC:
        p->i->fn = dec[form][size];
        break;
    case ZYDIS_MNEMONIC_NEG:
        p->i->fn = neg[form][size];
        break;
    default:
        p->i->fn = not [form][size];
    }
    return 1;
}
