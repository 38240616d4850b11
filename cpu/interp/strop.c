/* cpu/interp/strop.c - see strop.h. Source: SDM vol 2, REP. */
#include "cpu/interp/strop.h"

#include "cpu/soft/segload.h"

static int element(struct vcpu *v, const struct insn *i, unsigned seg, unsigned reg, bool write,
                   gva_t *lin)
{
    uint64_t ea = operand_reg(v, reg * 8, i->adsize);

    if ((v->mode & MODE_CS) != MODE_CS64)
        return seg_linear(v, seg, ea, i->opsize, write, lin);
    if (seg == SEG_FS || seg == SEG_GS)
        ea += v->s.seg[seg].base;
    if (unlikely(!operand_canonical(ea) || !operand_canonical(ea + i->opsize - 1)))
        return soft_exc_err(v, seg == SEG_SS ? VEC_SS : VEC_GP, 0);
    *lin = ea;
    return SOFT_OK;
}

int strop_source(struct vcpu *v, const struct insn *i, gva_t *lin)
{
    return element(v, i, i->seg, RSI, false, lin);
}

int strop_dest(struct vcpu *v, const struct insn *i, bool write, gva_t *lin)
{
    return element(v, i, SEG_ES, RDI, write, lin);
}

uint64_t strop_room(const struct vcpu *v, const struct insn *i, unsigned reg)
{
    uint64_t at = operand_reg(v, reg * 8, i->adsize);

    return (operand_mask(i->adsize) - at) / i->opsize;
}

/* Does REPE/REPNE of CMPS and SCAS end here? x: the condition matters. */
static bool ended(const struct vcpu *v, const struct insn *i)
{
    bool zf = v->s.rflags & FL_ZF;

    return i->x && (i->flags & I_REPNE ? zf : !zf);
}

/* May iterations be taken together? Not while stepping, replaying, going down, through segments
 * with limits, or where each must be aligned (#AC). */
static bool bulk_allowed(const struct vcpu *v)
{
    return !v->stop_after && !v->align_check && !v->mmio.n && !(v->s.rflags & FL_DF) &&
           v->mode & MODE_FLAT;
}

int strop_run(struct vcpu *v, const struct insn *i, strop_one one, strop_bulk bulk)
{
    uint64_t count, n;

    if (!(i->flags & (I_REP | I_REPNE)))
        return one(v, i);
    for (;;) {
        bool end = false;

        count = operand_reg(v, RCX * 8, i->adsize);
        if (!count)
            break;
        n = bulk && bulk_allowed(v) ? bulk(v, i, count, &end) : 0;
        if (!n) {
            int rc = one(v, i);

            if (rc)
                return rc;
            n = 1;
            end = ended(v, i);
        }
        operand_reg_put(v, RCX * 8, i->adsize, count - n);
        soft_insn_done(v);
        if (end || count == n)
            break;
        if (v->stop_after || atomic_load_explicit(&v->requests, memory_order_relaxed)) {
            v->s.rip = insn_rip(v, i);
            return SOFT_BREAK;
        }
    }
    v->s.rip = insn_next(v, i);
    return SOFT_OK;
}
