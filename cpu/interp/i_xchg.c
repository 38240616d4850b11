/* cpu/interp/i_xchg.c - XCHG XADD CMPXCHG CMPXCHG8B CMPXCHG16B XLAT. Source: SDM vol 2.
 * XCHG with memory is locked whatever its prefix. The others are only with LOCK, but doing them
 * atomically always is allowed, cheap and one path less: so all memory forms here are host atomics.
 */
#include "cpu/interp/operand.h"
#include "cpu/interp/pick.h"

static int xchg_rr(struct vcpu *v, const struct insn *i)
{
    uint64_t a = operand_reg(v, i->ra, i->opsize), b = operand_reg(v, i->rb, i->opsize);

    operand_reg_put(v, i->ra, i->opsize, b);
    operand_reg_put(v, i->rb, i->opsize, a);
    return SOFT_OK;
}

#define XCHG_MEM(bits, sfx)                                                                  \
    static int xchg_m##bits(struct vcpu *v, const struct insn *i)                            \
    {                                                                                        \
        unsigned reg = i->flags & I_MEM_IS_A ? i->rb : i->ra;                                \
        uint##bits##_t val = REG(bits, v, reg);                                              \
        struct operand_locked l;                                                             \
        int rc = operand_lock(v, i, bits / 8, &l);                                           \
                                                                                             \
        if (unlikely(rc))                                                                    \
            return rc;                                                                       \
        mmu_u##bits *p = l.p;                                                                \
        __asm__ volatile("xchg" sfx " %0, %1" : "+r"(val), "+m"(*p)::"memory");              \
        rc = operand_unlock(v, i, &l);                                                       \
        if (unlikely(rc))                                                                    \
            return rc;                                                                       \
        REG_PUT##bits(v, reg, val);                                                          \
        return SOFT_OK;                                                                      \
    }                                                                                        \
    static int xadd_r##bits(struct vcpu *v, const struct insn *i)                            \
    {                                                                                        \
        uint##bits##_t d = REG(bits, v, i->ra), s = REG(bits, v, i->rb);                     \
        uint16_t f;                                                                          \
                                                                                             \
        __asm__("xadd" sfx " %1, %0" HOST_FLAGS : "+r"(d), "+r"(s), "=&a"(f)::"cc");         \
        REG_PUT##bits(v, i->rb, s);                                                          \
        REG_PUT##bits(v, i->ra, d); /* last: it wins when both are one */                    \
        operand_flags(v, f);                                                                 \
        return SOFT_OK;                                                                      \
    }                                                                                        \
    static int xadd_m##bits(struct vcpu *v, const struct insn *i)                            \
    {                                                                                        \
        uint##bits##_t s = REG(bits, v, i->rb);                                              \
        struct operand_locked l;                                                             \
        uint16_t f;                                                                          \
        int rc = operand_lock(v, i, bits / 8, &l);                                           \
                                                                                             \
        if (unlikely(rc))                                                                    \
            return rc;                                                                       \
        mmu_u##bits *p = l.p;                                                                \
        __asm__ volatile("lock xadd" sfx " %1, %0" HOST_FLAGS                                \
                         : "+m"(*p), "+r"(s), "=&a"(f)::"cc", "memory");                     \
        rc = operand_unlock(v, i, &l);                                                       \
        if (unlikely(rc))                                                                    \
            return rc;                                                                       \
        REG_PUT##bits(v, i->rb, s);                                                          \
        operand_flags(v, f);                                                                 \
        return SOFT_OK;                                                                      \
    }                                                                                        \
    /* RAX is the host's RAX here, so flags come back as SETcc of a compare done again. */   \
    static int cmpxchg_m##bits(struct vcpu *v, const struct insn *i)                         \
    {                                                                                        \
        uint##bits##_t acc = REG(bits, v, RAX * 8), expected = acc, s = REG(bits, v, i->rb); \
        struct operand_locked l;                                                             \
        uint16_t f;                                                                          \
        int rc = operand_lock(v, i, bits / 8, &l);                                           \
                                                                                             \
        if (unlikely(rc))                                                                    \
            return rc;                                                                       \
        mmu_u##bits *p = l.p;                                                                \
        __asm__ volatile("lock cmpxchg" sfx " %2, %1"                                        \
                         : "+a"(acc), "+m"(*p)                                               \
                         : "r"(s)                                                            \
                         : "cc", "memory");                                                  \
        rc = operand_unlock(v, i, &l);                                                       \
        if (unlikely(rc))                                                                    \
            return rc;                                                                       \
        __asm__("cmp" sfx " %2, %1" HOST_FLAGS : "=&a"(f) : "r"(expected), "r"(acc) : "cc"); \
        if (acc != expected)                                                                 \
            REG_PUT##bits(v, RAX * 8, acc);                                                  \
        operand_flags(v, f);                                                                 \
        return SOFT_OK;                                                                      \
    }                                                                                        \
    static int cmpxchg_r##bits(struct vcpu *v, const struct insn *i)                         \
    {                                                                                        \
        uint##bits##_t acc = REG(bits, v, RAX * 8), d = REG(bits, v, i->ra);                 \
        uint##bits##_t s = REG(bits, v, i->rb);                                              \
        uint16_t f;                                                                          \
                                                                                             \
        __asm__("cmp" sfx " %2, %1" HOST_FLAGS : "=&a"(f) : "r"(acc), "r"(d) : "cc");        \
        if (acc == d)                                                                        \
            REG_PUT##bits(v, i->ra, s);                                                      \
        else                                                                                 \
            REG_PUT##bits(v, RAX * 8, d);                                                    \
        operand_flags(v, f);                                                                 \
        return SOFT_OK;                                                                      \
    }
XCHG_MEM(8, "b")
XCHG_MEM(16, "w")
XCHG_MEM(32, "l")
XCHG_MEM(64, "q")

static int cmpxchg8b(struct vcpu *v, const struct insn *i)
{
    uint64_t acc = (v->s.gpr[RDX] << 32) | (uint32_t)v->s.gpr[RAX];
    uint64_t val = (v->s.gpr[RCX] << 32) | (uint32_t)v->s.gpr[RBX];
    uint64_t expected = acc;
    struct operand_locked l;
    int rc = operand_lock(v, i, 8, &l);

    if (rc)
        return rc;
    mmu_u64 *p = l.p;
    __asm__ volatile("lock cmpxchgq %2, %1" : "+a"(acc), "+m"(*p) : "r"(val) : "cc", "memory");
    rc = operand_unlock(v, i, &l);
    if (rc)
        return rc;
    operand_flag_put(v, FL_ZF, acc == expected);
    if (acc != expected) {
        v->s.gpr[RAX] = (uint32_t)acc;
        v->s.gpr[RDX] = acc >> 32;
    }
    return SOFT_OK;
}

/* Needs 16-byte alignment: #GP(0) otherwise. */
static int cmpxchg16b(struct vcpu *v, const struct insn *i)
{
    uint64_t a = v->s.gpr[RAX], d = v->s.gpr[RDX];
    struct operand_locked l;
    gva_t lin;
    bool equal;
    int rc = operand_lin(v, i, 16, true, &lin);

    if (rc)
        return rc;
    if (lin & 15)
        return soft_exc_err(v, VEC_GP, 0);
    rc = operand_lock(v, i, 16, &l);
    if (rc)
        return rc;
    struct {
        uint64_t half[2];
    } volatile __attribute__((aligned(1), may_alias)) *p = l.p;
    _Alignas(16) uint8_t copy[16];
    if (l.stopped) { /* the copy need not be aligned, the host's instruction wants it */
        memcpy(copy, l.copy, 16);
        p = (void *)copy;
    }
    __asm__ volatile("lock cmpxchg16b %3"
                     : "=@ccz"(equal), "+a"(a), "+d"(d), "+m"(*p)
                     : "b"(v->s.gpr[RBX]), "c"(v->s.gpr[RCX])
                     : "memory");
    if (l.stopped)
        memcpy(l.copy, copy, 16);
    rc = operand_unlock(v, i, &l);
    if (rc)
        return rc;
    operand_flag_put(v, FL_ZF, equal);
    if (!equal) {
        v->s.gpr[RAX] = a;
        v->s.gpr[RDX] = d;
    }
    return SOFT_OK;
}

/* Memory operand [rbx + al], filled in by the picker as base RBX; AL is added here. */
static int xlat(struct vcpu *v, const struct insn *i)
{
    struct insn at = *i;
    uint8_t val;
    int rc;

    at.disp += (uint8_t)v->s.gpr[RAX];
    rc = operand_ld8(v, &at, &val);
    if (rc)
        return rc;
    REG_PUT8(v, RAX * 8, val);
    return SOFT_OK;
}

#define ROW(name)                             \
    {                                         \
        name##8, name##16, name##32, name##64 \
    }

int xchg_pick(struct pick *p)
{
    static const insn_fn xchg_m[4] = ROW(xchg_m), xadd_r[4] = ROW(xadd_r), xadd_m[4] = ROW(xadd_m),
                         cmpxchg_r[4] = ROW(cmpxchg_r), cmpxchg_m[4] = ROW(cmpxchg_m);
    struct insn *i = p->i;
    bool mem = i->flags & I_MEM;
    unsigned size = 0;

    if (p->z->operand_count_visible && p->op[0].size >= 8 && p->op[0].size <= 64)
        size = (unsigned)__builtin_ctz(p->op[0].size / 8);
    switch (p->z->mnemonic) {
    case ZYDIS_MNEMONIC_XCHG:
        i->opsize = (uint8_t)(p->op[0].size / 8);
        i->fn = mem ? xchg_m[size] : xchg_rr;
        return 1;
    case ZYDIS_MNEMONIC_XADD:
        i->fn = mem ? xadd_m[size] : xadd_r[size];
        return 1;
    case ZYDIS_MNEMONIC_CMPXCHG:
        i->fn = mem ? cmpxchg_m[size] : cmpxchg_r[size];
        return 1;
    case ZYDIS_MNEMONIC_CMPXCHG8B:
        i->fn = cmpxchg8b;
        return 1;
    case ZYDIS_MNEMONIC_CMPXCHG16B:
        i->fn = cmpxchg16b;
        return 1;
    default:
        i->fn = xlat;
        return 1;
    }
}
