/* cpu/interp/i_string.c - MOVS CMPS STOS LODS SCAS. Source: SDM vol 2.
 * Repeated ones work on as much of a page at a time as both operands have: host copies, fills and
 * searches. */
#include "cpu/interp/pick.h"
#include "cpu/interp/strop.h"

/* SF ZF AF PF CF OF of a - b in `size` bytes. */
static void compare(struct vcpu *v, uint64_t a, uint64_t b, unsigned size)
{
    unsigned sh = 64 - size * 8;
    uint16_t f, low;

    /* Moved to the top, everything but AF and PF is right; those come from the low byte. */
    __asm__("cmpq %2, %1" HOST_FLAGS : "=&a"(f) : "r"(a << sh), "r"(b << sh) : "cc");
    __asm__("cmpb %2, %1" HOST_FLAGS : "=&a"(low) : "q"((uint8_t)a), "q"((uint8_t)b) : "cc");
    f = (uint16_t)((f & ~((FL_AF | FL_PF) << 8)) | (low & ((FL_AF | FL_PF) << 8)));
    operand_flags(v, f);
}

static int load(struct vcpu *v, const struct insn *i, gva_t lin, uint64_t *val)
{
    const void *p = operand_fast_rd(v, lin, i->opsize);

    *val = 0;
    if (likely(p)) {
        memcpy(val, p, i->opsize);
        return SOFT_OK;
    }
    return mmu_read_slow(v, lin, val, i->opsize, MMU_READ);
}

static int movs_one(struct vcpu *v, const struct insn *i)
{
    gva_t from, to;
    uint64_t val;
    int rc = strop_source(v, i, &from);

    if (!rc)
        rc = load(v, i, from, &val);
    if (!rc)
        rc = strop_dest(v, i, true, &to);
    if (!rc)
        rc = mmu_write_slow(v, to, &val, i->opsize, MMU_WRITE);
    if (rc)
        return rc;
    strop_move(v, i, RSI, 1);
    strop_move(v, i, RDI, 1);
    return SOFT_OK;
}

static int stos_one(struct vcpu *v, const struct insn *i)
{
    gva_t to;
    int rc = strop_dest(v, i, true, &to);

    if (!rc)
        rc = mmu_write_slow(v, to, &v->s.gpr[RAX], i->opsize, MMU_WRITE);
    if (!rc)
        strop_move(v, i, RDI, 1);
    return rc;
}

static int lods_one(struct vcpu *v, const struct insn *i)
{
    gva_t from;
    uint64_t val;
    int rc = strop_source(v, i, &from);

    if (!rc)
        rc = load(v, i, from, &val);
    if (rc)
        return rc;
    operand_reg_put(v, RAX * 8, i->opsize, val);
    strop_move(v, i, RSI, 1);
    return SOFT_OK;
}

static int scas_one(struct vcpu *v, const struct insn *i)
{
    gva_t at;
    uint64_t val;
    int rc = strop_dest(v, i, false, &at);

    if (!rc)
        rc = load(v, i, at, &val);
    if (rc)
        return rc;
    compare(v, operand_reg(v, RAX * 8, i->opsize), val, i->opsize);
    strop_move(v, i, RDI, 1);
    return SOFT_OK;
}

static int cmps_one(struct vcpu *v, const struct insn *i)
{
    gva_t a, b;
    uint64_t x, y;
    int rc = strop_source(v, i, &a);

    if (!rc)
        rc = load(v, i, a, &x);
    if (!rc)
        rc = strop_dest(v, i, false, &b);
    if (!rc)
        rc = load(v, i, b, &y);
    if (rc)
        return rc;
    compare(v, x, y, i->opsize);
    strop_move(v, i, RSI, 1);
    strop_move(v, i, RDI, 1);
    return SOFT_OK;
}

/* --- in bulk ------------------------------------------------------------- */

/* Host address and room (in elements) at RSI or RDI; 0 elements where only one at a time will do.
 */
static uint64_t run_of(struct vcpu *v, const struct insn *i, unsigned reg, unsigned access,
                       uint64_t max, uint8_t **hva)
{
    uint64_t n = strop_room(v, i, reg);
    unsigned room;
    gva_t lin;
    int rc = reg == RSI ? strop_source(v, i, &lin) : strop_dest(v, i, access == MMU_WRITE, &lin);

    if (rc || mmu_span(v, lin, access, hva, &room) || !*hva)
        return 0; /* the fault is met again by the one that goes alone */
    if (n > room / i->opsize)
        n = room / i->opsize;
    return n < max ? n : max;
}

/* Forward copy as the guest's CPU does it: a destination shortly after its source repeats the
 * pattern. */
static void copy_forward(uint8_t *to, const uint8_t *from, size_t len, unsigned size)
{
    size_t gap = (size_t)(to - from);

    if (to <= from || gap >= len) {
        memmove(to, from, len);
        return;
    }
    if (gap < size) { /* elements overlap themselves: one at a time */
        for (; len; len -= size, to += size, from += size) {
            uint64_t val;

            memcpy(&val, from, size);
            memcpy(to, &val, size);
        }
        return;
    }
    for (gap -= gap % size; len > gap; len -= gap, to += gap, from += gap)
        memmove(to, from, gap);
    memmove(to, from, len);
}

static uint64_t movs_bulk(struct vcpu *v, const struct insn *i, uint64_t max, bool *end)
{
    uint8_t *from, *to;
    uint64_t n = run_of(v, i, RSI, MMU_READ, max, &from);

    n = n ? run_of(v, i, RDI, MMU_WRITE, n, &to) : 0;
    if (!n)
        return 0;
    copy_forward(to, from, n * i->opsize, i->opsize);
    strop_move(v, i, RSI, n);
    strop_move(v, i, RDI, n);
    return n;
}

/* The host's own string instruction of each element size; DF is clear in C. */
#define BY_SIZE(size, op, ...)                      \
    do {                                            \
        switch (size) {                             \
        case 1:                                     \
            __asm__ volatile(op "b" : __VA_ARGS__); \
            break;                                  \
        case 2:                                     \
            __asm__ volatile(op "w" : __VA_ARGS__); \
            break;                                  \
        case 4:                                     \
            __asm__ volatile(op "l" : __VA_ARGS__); \
            break;                                  \
        default:                                    \
            __asm__ volatile(op "q" : __VA_ARGS__); \
        }                                           \
    } while (0)

static uint64_t stos_bulk(struct vcpu *v, const struct insn *i, uint64_t max, bool *end)
{
    uint8_t *to;
    uint64_t n = run_of(v, i, RDI, MMU_WRITE, max, &to), left = n;

    if (!n)
        return 0;
    BY_SIZE(i->opsize, "rep stos", "+D"(to), "+c"(left) : "a"(v->s.gpr[RAX]) : "memory");
    strop_move(v, i, RDI, n);
    return n;
}

static uint64_t element_at(const uint8_t *p, uint64_t k, unsigned size)
{
    uint64_t val = 0;

    memcpy(&val, p + k * size, size);
    return val;
}

static uint64_t scas_bulk(struct vcpu *v, const struct insn *i, uint64_t max, bool *end)
{
    uint64_t acc = operand_reg(v, RAX * 8, i->opsize);
    bool until_equal = i->flags & I_REPNE;
    uint8_t *at;
    uint64_t n = run_of(v, i, RDI, MMU_READ, max, &at), left = n;

    if (!n)
        return 0;
    const uint8_t *p = at;
    if (until_equal)
        BY_SIZE(i->opsize, "repne scas", "+D"(p), "+c"(left) : "a"(acc) : "memory", "cc");
    else
        BY_SIZE(i->opsize, "repe scas", "+D"(p), "+c"(left) : "a"(acc) : "memory", "cc");
    n -= left;
    uint64_t val = element_at(at, n - 1, i->opsize);
    *end = (val == acc) == until_equal;
    compare(v, acc, val, i->opsize);
    strop_move(v, i, RDI, n);
    return n;
}

static uint64_t cmps_bulk(struct vcpu *v, const struct insn *i, uint64_t max, bool *end)
{
    bool until_equal = i->flags & I_REPNE;
    uint8_t *a, *b;
    uint64_t n = run_of(v, i, RSI, MMU_READ, max, &a);

    n = n ? run_of(v, i, RDI, MMU_READ, n, &b) : 0;
    if (!n)
        return 0;
    const uint8_t *p = a, *q = b;
    uint64_t left = n;
    if (until_equal)
        BY_SIZE(i->opsize, "repne cmps", "+S"(p), "+D"(q), "+c"(left) : : "memory", "cc");
    else
        BY_SIZE(i->opsize, "repe cmps", "+S"(p), "+D"(q), "+c"(left) : : "memory", "cc");
    n -= left;
    uint64_t x = element_at(a, n - 1, i->opsize), y = element_at(b, n - 1, i->opsize);
    *end = (x == y) == until_equal;
    compare(v, x, y, i->opsize);
    strop_move(v, i, RSI, n);
    strop_move(v, i, RDI, n);
    return n;
}

static int movs(struct vcpu *v, const struct insn *i)
{
    return strop_run(v, i, movs_one, movs_bulk);
}

static int stos(struct vcpu *v, const struct insn *i)
{
    return strop_run(v, i, stos_one, stos_bulk);
}

static int lods(struct vcpu *v, const struct insn *i)
{
    return strop_run(v, i, lods_one, NULL);
}

static int scas(struct vcpu *v, const struct insn *i)
{
    return strop_run(v, i, scas_one, scas_bulk);
}

static int cmps(struct vcpu *v, const struct insn *i)
{
    return strop_run(v, i, cmps_one, cmps_bulk);
}

int string_pick(struct pick *p)
{
    struct insn *i = p->i;

    i->opsize = p->z->operand_width / 8;
    if (i->flags & (I_REP | I_REPNE))
        i->flags |= I_ENDS;
    switch (p->z->opcode & 0xfe) {
    case 0xa4:
        i->fn = movs;
        return 1;
    case 0xa6:
        i->x = 1;
        i->fn = cmps;
        return 1;
    case 0xaa:
        i->fn = stos;
        return 1;
    case 0xac:
        i->fn = lods;
        return 1;
    case 0xae:
        i->x = 1;
        i->fn = scas;
        return 1;
    default:
        return 0;
    }
}
