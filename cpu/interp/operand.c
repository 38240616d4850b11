/* cpu/interp/operand.c - the slow halves of operand.h. */
#include "cpu/interp/operand.h"

#include "cpu/soft/segload.h"

/* SDM vol 3A, 3.3.7.1: a non-canonical address is #SS(0) through the stack segment, else #GP(0). */
static int check_canonical(struct vcpu *v, unsigned seg, gva_t lin, unsigned len)
{
    if ((v->mode & MODE_CS) != MODE_CS64)
        return SOFT_OK;
    if (likely(operand_canonical(lin) && operand_canonical(lin + len - 1)))
        return SOFT_OK;
    return soft_exc_err(v, seg == SEG_SS ? VEC_SS : VEC_GP, 0);
}

int operand_lin_other(struct vcpu *v, const struct insn *i, uint64_t ea, unsigned len, bool write)
{
    if (i->flags & I_LINSEG) {
        v->scratch = ea + v->s.seg[i->seg].base;
        return SOFT_OK;
    }
    if (i->adsize < 8)
        ea &= operand_mask(i->adsize);
    if (v->mode & MODE_FLAT && i->seg < SEG_FS && (v->mode & MODE_CS) != MODE_CS64 &&
        !(write && i->seg == SEG_CS) && ea <= UINT32_MAX - (len - 1)) {
        v->scratch = ea;
        return SOFT_OK;
    }
    return seg_linear(v, i->seg, ea, len, write, &v->scratch);
}

int insn_lin(struct vcpu *v, const struct insn *i, bool write, gva_t *lin)
{
    unsigned len = i->memlen ? i->memlen : 1;
    int rc = operand_lin(v, i, len, write, lin);

    return rc ? rc : check_canonical(v, i->seg, *lin, len);
}

int operand_ld_slow(struct vcpu *v, const struct insn *i, gva_t lin, void *dst, unsigned len,
                    unsigned access)
{
    int rc = check_canonical(v, i->seg, lin, len);

    return rc ? rc : mmu_read_slow(v, lin, dst, len, access);
}

int operand_st_slow(struct vcpu *v, const struct insn *i, gva_t lin, const void *src, unsigned len)
{
    int rc = check_canonical(v, i->seg, lin, len);

    return rc ? rc : mmu_write_slow(v, lin, src, len, MMU_WRITE);
}

int operand_load(struct vcpu *v, const struct insn *i, unsigned size, uint64_t *out)
{
    gva_t lin;
    uint64_t val = 0;
    int rc = operand_lin(v, i, size, false, &lin);

    if (!rc)
        rc = operand_ld_slow(v, i, lin, &val, size, MMU_READ);
    if (!rc)
        *out = val;
    return rc;
}

int operand_store_at(struct vcpu *v, const struct insn *i, gva_t lin, unsigned size, uint64_t val)
{
    return operand_st_slow(v, i, lin, &val, size);
}

int operand_store(struct vcpu *v, const struct insn *i, unsigned size, uint64_t val)
{
    gva_t lin;
    int rc = operand_lin(v, i, size, true, &lin);

    return rc ? rc : operand_store_at(v, i, lin, size, val);
}

int operand_load_rmw(struct vcpu *v, const struct insn *i, unsigned size, gva_t *lin, uint64_t *out)
{
    uint64_t val = 0;
    int rc = operand_lin(v, i, size, true, lin);

    if (!rc)
        rc = operand_ld_slow(v, i, *lin, &val, size, MMU_RMW);
    if (!rc)
        *out = val;
    return rc;
}

int operand_lock(struct vcpu *v, const struct insn *i, unsigned len, struct operand_locked *l)
{
    uint8_t *hva;
    int rc = operand_lin(v, i, len, true, &l->lin);

    l->len = len;
    l->stopped = false;
    if (rc || (rc = check_canonical(v, i->seg, l->lin, len)))
        return rc;
    l->p = operand_fast_wr(v, l->lin, len);
    if (likely(l->p))
        return SOFT_OK;
    rc = mmu_rmw_ptr(v, l->lin, len, &hva);
    if (rc)
        return rc;
    l->p = hva;
    if (hva)
        return SOFT_OK;
    soft_world_stop(v);
    rc = mmu_read_slow(v, l->lin, l->copy, len, MMU_RMW);
    if (rc) {
        soft_world_start(v);
        return rc;
    }
    l->p = l->copy;
    l->stopped = true;
    return SOFT_OK;
}

int operand_unlock(struct vcpu *v, const struct insn *i, struct operand_locked *l)
{
    int rc;

    if (likely(!l->stopped))
        return SOFT_OK;
    rc = mmu_write_slow(v, l->lin, l->copy, l->len, MMU_WRITE);
    soft_world_start(v);
    return rc;
}

int operand_ld_stack_slow(struct vcpu *v, gva_t lin, void *dst, unsigned len)
{
    int rc = check_canonical(v, SEG_SS, lin, len);

    return rc ? rc : mmu_read_slow(v, lin, dst, len, MMU_READ);
}

int operand_st_stack_slow(struct vcpu *v, gva_t lin, const void *src, unsigned len)
{
    int rc = check_canonical(v, SEG_SS, lin, len);

    return rc ? rc : mmu_write_slow(v, lin, src, len, MMU_WRITE);
}

static int stack_lin(struct vcpu *v, uint64_t sp, unsigned size, bool write, gva_t *lin)
{
    if ((v->mode & MODE_CS) == MODE_CS64) {
        *lin = sp;
        return SOFT_OK;
    }
    sp &= v->mode & MODE_SS32 ? UINT32_MAX : UINT16_MAX;
    return seg_linear(v, SEG_SS, sp, size, write, lin);
}

int operand_stack_ld(struct vcpu *v, uint64_t sp, unsigned size, uint64_t *out)
{
    gva_t lin;
    uint64_t val = 0;
    int rc = stack_lin(v, sp, size, false, &lin);

    if (!rc)
        rc = operand_ld_stack_slow(v, lin, &val, size);
    if (!rc)
        *out = val;
    return rc;
}

int operand_stack_st(struct vcpu *v, uint64_t sp, unsigned size, uint64_t val)
{
    gva_t lin;
    int rc = stack_lin(v, sp, size, true, &lin);

    return rc ? rc : operand_st_stack_slow(v, lin, &val, size);
}

int operand_stack_probe(struct vcpu *v, uint64_t sp, unsigned size)
{
    gva_t lin;
    int rc = stack_lin(v, sp, size, true, &lin);

    if (!rc)
        rc = check_canonical(v, SEG_SS, lin, size);
    return rc ? rc : mmu_probe(v, lin, size, MMU_WRITE);
}

int operand_push(struct vcpu *v, unsigned size, uint64_t val)
{
    uint64_t sp = operand_sp(v) - size;
    int rc = operand_stack_st(v, sp, size, val);

    if (!rc)
        operand_sp_put(v, sp);
    return rc;
}

int operand_pop(struct vcpu *v, unsigned size, uint64_t *out)
{
    uint64_t sp = operand_sp(v);
    int rc = operand_stack_ld(v, sp, size, out);

    if (!rc)
        operand_sp_put(v, sp + size);
    return rc;
}

int operand_check_ip(struct vcpu *v, uint64_t target)
{
    if ((v->mode & MODE_CS) == MODE_CS64 ? operand_canonical(target)
                                         : target <= v->s.seg[SEG_CS].limit)
        return SOFT_OK;
    return soft_exc_err(v, VEC_GP, 0);
}
