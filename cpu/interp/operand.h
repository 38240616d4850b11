/* cpu/interp/operand.h - what handlers are written with: registers, memory operands, the stack,
 * flags.
 *
 * Loads, stores and stack accesses return enum soft_stop. The fast path is inline: an address, a
 * TLB compare, a host access; everything unusual (segments that are not flat, non-canonical
 * addresses, page crossings, TLB misses) is in operand.c. */
#ifndef CPU_INTERP_OPERAND_H
#define CPU_INTERP_OPERAND_H

#include "cpu/interp/insn.h"
#include "cpu/soft/mmu.h"

#define likely(x) __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)

/* --- registers ----------------------------------------------------------- */

/* The register at byte offset `at` of struct vcpu (insn.ra and relatives), as an unsigned of that
 * many bits. */
#define REG(bits, v, at) (*(uint##bits##_t *)((char *)(v) + (at)))

/* Writing 32 bits clears the upper half (SDM vol 1, 3.4.1.1); 8 and 16 leave the rest. */
#define REG_PUT8(v, at, val) (REG(8, v, at) = (uint8_t)(val))
#define REG_PUT16(v, at, val) (REG(16, v, at) = (uint16_t)(val))
#define REG_PUT32(v, at, val) (REG(64, v, at) = (uint32_t)(val))
#define REG_PUT64(v, at, val) (REG(64, v, at) = (val))

static inline uint64_t operand_reg(const struct vcpu *v, unsigned at, unsigned size)
{
    const char *p = (const char *)v + at;

    switch (size) {
    case 1:
        return *(const uint8_t *)p;
    case 2:
        return *(const uint16_t *)p;
    case 4:
        return *(const uint32_t *)p;
    default:
        return *(const uint64_t *)p;
    }
}

static inline void operand_reg_put(struct vcpu *v, unsigned at, unsigned size, uint64_t val)
{
    switch (size) {
    case 1:
        REG_PUT8(v, at, val);
        break;
    case 2:
        REG_PUT16(v, at, val);
        break;
    case 4:
        REG_PUT32(v, at, val);
        break;
    default:
        REG_PUT64(v, at, val);
    }
}

/* All ones in `size` bytes. */
static inline uint64_t operand_mask(unsigned size)
{
    return ~0ull >> (64 - 8 * size);
}

static inline int64_t operand_sext(uint64_t val, unsigned size)
{
    unsigned sh = 64 - 8 * size;

    return (int64_t)(val << sh) >> sh;
}

/* --- flags --------------------------------------------------------------- */

/* Ends an asm statement whose last instruction set the host's flags: leaves SF ZF AF PF CF in AH,
 * OF in AL. Same ISA on both sides: the guest's flags are what this CPU computed. */
#define HOST_FLAGS "\n\tlahf\n\tseto %%al"
/* Starts one that reads the guest's CF, given as operand [fl]. */
#define GUEST_CF "btl $0, %k[fl]\n\t"

/* Starts one that may leave flags alone, or undefined: loads all the guest's, so that they are kept
 * or become what this CPU makes of them. AX enters as operand_flags_image(); OF is made by an
 * addition that overflows, the rest by SAHF. */
#define GUEST_FLAGS "addb $0x7f, %%al\n\tsahf\n\t"

static inline uint16_t operand_flags_image(const struct vcpu *v)
{
    return (uint16_t)((v->s.rflags & 0xff) << 8 | ((v->s.rflags >> 11) & 1));
}

static inline void operand_flags(struct vcpu *v, uint16_t ahal)
{
    v->s.rflags = (v->s.rflags & ~(uint64_t)FL_ARITH) | ((ahal >> 8) & (FL_ARITH & 0xff)) |
                  ((uint64_t)(ahal & 1) << 11);
}

static inline void operand_flag_put(struct vcpu *v, uint64_t flag, bool on)
{
    v->s.rflags = on ? v->s.rflags | flag : v->s.rflags & ~flag;
}

/* Condition code 0..15 as in the low nibble of Jcc (SDM vol 2, appendix B.1.4.7). */
static inline bool operand_cond(uint64_t f, unsigned cc)
{
    bool r = false;

    switch (cc >> 1) {
    case 0:
        r = f & FL_OF;
        break;
    case 1:
        r = f & FL_CF;
        break;
    case 2:
        r = f & FL_ZF;
        break;
    case 3:
        r = f & (FL_CF | FL_ZF);
        break;
    case 4:
        r = f & FL_SF;
        break;
    case 5:
        r = f & FL_PF;
        break;
    case 6:
        r = ((f >> 7) ^ (f >> 11)) & 1;
        break;
    default:
        r = (((f >> 7) ^ (f >> 11)) & 1) || (f & FL_ZF);
    }
    return r ^ (cc & 1);
}

/* --- memory operands ------------------------------------------------------ */

static inline bool operand_canonical(gva_t a)
{
    return (gva_t)((int64_t)(a << 16) >> 16) == a;
}

/* Results of the slow halves travel in v->scratch: a local whose address is taken would cost every
 * handler a stack frame and its guard. operand_lin_other() leaves the linear address there. */
int operand_lin_other(struct vcpu *v, const struct insn *i, uint64_t ea, unsigned len, bool write);
int operand_ld_slow(struct vcpu *v, const struct insn *i, gva_t lin, void *dst, unsigned len,
                    unsigned access);
int operand_st_slow(struct vcpu *v, const struct insn *i, gva_t lin, const void *src, unsigned len);

/* Effective address, not yet cut to the address size. */
static inline uint64_t operand_ea(const struct vcpu *v, const struct insn *i)
{
    return REG(64, v, i->base_at) + (REG(64, v, i->index_at) << i->shift) + (uint64_t)i->disp;
}

/* Linear address. Canonical form is checked where the fast path is left. */
static inline int operand_lin(struct vcpu *v, const struct insn *i, unsigned len, bool write,
                              gva_t *lin)
{
    uint64_t ea = operand_ea(v, i);

    if (likely(i->flags & I_LIN)) {
        *lin = ea;
        return SOFT_OK;
    }
    int rc = operand_lin_other(v, i, ea, len, write);

    *lin = v->scratch;
    return rc;
}

/* Host address of [lin, lin+len) if the TLB allows access at once, else NULL. */
static inline void *operand_fast_rd(const struct vcpu *v, gva_t lin, unsigned len)
{
    const struct tlb_entry *t = mmu_slot(v, lin);
    unsigned off = lin & (MEM_PAGE - 1);

    return likely(t->rd == lin - off && off <= MEM_PAGE - len) ? (void *)(lin + t->addend) : NULL;
}

static inline void *operand_fast_wr(const struct vcpu *v, gva_t lin, unsigned len)
{
    const struct tlb_entry *t = mmu_slot(v, lin);
    unsigned off = lin & (MEM_PAGE - 1);

    return likely(t->wr == lin - off && off <= MEM_PAGE - len) ? (void *)(lin + t->addend) : NULL;
}

#define OPERAND_ACCESS(bits)                                                                      \
    static inline int operand_ld##bits##_at(struct vcpu *v, const struct insn *i, gva_t lin,      \
                                            uint##bits##_t *out)                                  \
    {                                                                                             \
        const mmu_u##bits *p = operand_fast_rd(v, lin, bits / 8);                                 \
                                                                                                  \
        if (unlikely(!p)) {                                                                       \
            int rc = operand_ld_slow(v, i, lin, &v->scratch, bits / 8, MMU_READ);                 \
                                                                                                  \
            *out = (uint##bits##_t)v->scratch;                                                    \
            return rc;                                                                            \
        }                                                                                         \
        *out = *p;                                                                                \
        return SOFT_OK;                                                                           \
    }                                                                                             \
    static inline int operand_st##bits##_at(struct vcpu *v, const struct insn *i, gva_t lin,      \
                                            uint##bits##_t val)                                   \
    {                                                                                             \
        mmu_u##bits *p = operand_fast_wr(v, lin, bits / 8);                                       \
                                                                                                  \
        if (unlikely(!p)) {                                                                       \
            v->scratch = val;                                                                     \
            return operand_st_slow(v, i, lin, &v->scratch, bits / 8);                             \
        }                                                                                         \
        *p = val;                                                                                 \
        return SOFT_OK;                                                                           \
    }                                                                                             \
    static inline int operand_ld##bits(struct vcpu *v, const struct insn *i, uint##bits##_t *out) \
    {                                                                                             \
        gva_t lin;                                                                                \
        int rc = operand_lin(v, i, bits / 8, false, &lin);                                        \
                                                                                                  \
        return unlikely(rc) ? rc : operand_ld##bits##_at(v, i, lin, out);                         \
    }                                                                                             \
    static inline int operand_st##bits(struct vcpu *v, const struct insn *i, uint##bits##_t val)  \
    {                                                                                             \
        gva_t lin;                                                                                \
        int rc = operand_lin(v, i, bits / 8, true, &lin);                                         \
                                                                                                  \
        return unlikely(rc) ? rc : operand_st##bits##_at(v, i, lin, val);                         \
    }
OPERAND_ACCESS(8)
OPERAND_ACCESS(16)
OPERAND_ACCESS(32)
OPERAND_ACCESS(64)
#undef OPERAND_ACCESS

/* The same for a size known only when run; zero-extends. For instructions that are not hot. */
int operand_load(struct vcpu *v, const struct insn *i, unsigned size, uint64_t *out);
int operand_store(struct vcpu *v, const struct insn *i, unsigned size, uint64_t val);
/* Load for a read-modify-write whose write follows at *lin: faults as the write would. */
int operand_load_rmw(struct vcpu *v, const struct insn *i, unsigned size, gva_t *lin,
                     uint64_t *out);
int operand_store_at(struct vcpu *v, const struct insn *i, gva_t lin, unsigned size, uint64_t val);

/* Register or memory: operand n of the instruction (0 = a), as decoded. */
static inline bool operand_is_mem(const struct insn *i, unsigned n)
{
    return (i->flags & I_MEM) && (n == 0) == !!(i->flags & I_MEM_IS_A);
}

/* --- locked read-modify-write ------------------------------------------------- */

/* Where a LOCKed instruction works: the guest's memory itself, or a copy while the world stands
 * still. */
struct operand_locked {
    void *p; /* len bytes, to be used with host atomics */
    uint8_t copy[16];
    gva_t lin;
    unsigned len;
    bool stopped;
};
int operand_lock(struct vcpu *v, const struct insn *i, unsigned len, struct operand_locked *l);
/* Write the copy back if there was one (`wrote` false: value unchanged, but hardware writes all the
 * same). */
int operand_unlock(struct vcpu *v, const struct insn *i, struct operand_locked *l);

/* --- the stack ------------------------------------------------------------------ */

/* Stack pointer cut to the stack's address size, and its replacement. */
static inline uint64_t operand_sp(const struct vcpu *v)
{
    if ((v->mode & MODE_CS) == MODE_CS64)
        return v->s.gpr[RSP];
    return v->mode & MODE_SS32 ? (uint32_t)v->s.gpr[RSP] : (uint16_t)v->s.gpr[RSP];
}

static inline void operand_sp_put(struct vcpu *v, uint64_t sp)
{
    if ((v->mode & MODE_CS) == MODE_CS64)
        v->s.gpr[RSP] = sp;
    else if (v->mode & MODE_SS32)
        v->s.gpr[RSP] = (uint32_t)sp;
    else
        REG_PUT16(v, RSP * 8, sp);
}

/* Memory at stack offset `sp`; no register changes. */
int operand_stack_ld(struct vcpu *v, uint64_t sp, unsigned size, uint64_t *out);
int operand_stack_st(struct vcpu *v, uint64_t sp, unsigned size, uint64_t val);
/* Would a store there fault? */
int operand_stack_probe(struct vcpu *v, uint64_t sp, unsigned size);
/* Store or load, then move the stack pointer. */
int operand_push(struct vcpu *v, unsigned size, uint64_t val);
int operand_pop(struct vcpu *v, unsigned size, uint64_t *out);

int operand_ld_stack_slow(struct vcpu *v, gva_t lin, void *dst, unsigned len);
int operand_st_stack_slow(struct vcpu *v, gva_t lin, const void *src, unsigned len);

/* 64-bit mode, 64-bit operand: nearly every push and pop there is. */
static inline int operand_push64(struct vcpu *v, uint64_t val)
{
    gva_t lin = v->s.gpr[RSP] - 8;
    mmu_u64 *p = operand_fast_wr(v, lin, 8);

    if (likely(p)) {
        *p = val;
    } else {
        v->scratch = val;
        int rc = operand_st_stack_slow(v, lin, &v->scratch, 8);

        if (rc)
            return rc;
    }
    v->s.gpr[RSP] = lin;
    return SOFT_OK;
}

static inline int operand_peek64(struct vcpu *v, uint64_t *out)
{
    gva_t lin = v->s.gpr[RSP];
    const mmu_u64 *p = operand_fast_rd(v, lin, 8);

    if (unlikely(!p)) {
        int rc = operand_ld_stack_slow(v, lin, &v->scratch, 8);

        *out = v->scratch;
        return rc;
    }
    *out = *p;
    return SOFT_OK;
}

/* --- near branches ------------------------------------------------------------------ */

/* Is `target` a legal RIP here? #GP(0) if not: non-canonical, or beyond the limit of CS. */
int operand_check_ip(struct vcpu *v, uint64_t target);

#endif
