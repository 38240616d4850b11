#include "cpu/soft/sysreg.h"

#include "cpu/soft/frame.h"
#include "cpu/soft/lapic.h"
#include "cpu/soft/mmu.h"

#define CR0_KNOWN                                                                               \
    ((uint64_t)CR0_PE | CR0_MP | CR0_EM | CR0_TS | CR0_ET | CR0_NE | CR0_WP | CR0_AM | CR0_NW | \
     CR0_CD | CR0_PG)
#define CR4_KNOWN                                                                                \
    ((uint64_t)CR4_VME | CR4_PVI | CR4_TSD | CR4_DE | CR4_PSE | CR4_PAE | CR4_MCE | CR4_PGE |    \
     CR4_PCE | CR4_OSFXSR | CR4_OSXMMEXCPT | CR4_UMIP | CR4_FSGSBASE | CR4_PCIDE | CR4_OSXSAVE | \
     CR4_SMEP | CR4_SMAP)

enum { /* SDM vol 3A, 17.2 */
       DR6_ONE = 0xffff0ff0u,
       DR6_SETTABLE = 0xe00fu,
       DR7_ONE = 1u << 10,
       DR7_ZERO = 0xd000u,
       DR7_GD = 1u << 13,
};

uint64_t sysreg_tsc(const struct vcpu *v)
{
    return clock_tsc(v->vm->c.clock) + v->s.tsc_off;
}

void sysreg_cpuid(struct vcpu *v, uint32_t leaf, uint32_t sub, uint32_t out[4])
{
    cpu_model_cpuid(v->vm->c.model, v->index, v->s.cr4, v->s.xcr0, leaf, sub, out);
}

static int gp(struct vcpu *v)
{
    return soft_exc_err(v, VEC_GP, 0);
}

/* --- CR0: SDM vol 3A, 2.5 and 9.8.5 --- */

static int write_cr0(struct vcpu *v, uint64_t val)
{
    struct cpu_state *s = &v->s;
    uint64_t old = s->cr0;
    bool long_code = (v->mode & MODE_CS) == MODE_CS64;

    if (val >> 32 || ((val & CR0_PG) && !(val & CR0_PE)) || ((val & CR0_NW) && !(val & CR0_CD)))
        return gp(v);
    val = (val & CR0_KNOWN) | CR0_ET;
    if ((val & CR0_PG) && !(old & CR0_PG)) {
        if (s->efer & EFER_LME) {
            if (!(s->cr4 & CR4_PAE) || (s->seg[SEG_CS].attr & SEG_L))
                return gp(v);
            s->efer |= EFER_LMA;
        }
    } else if (!(val & CR0_PG) && (old & CR0_PG)) {
        if ((s->cr4 & CR4_PCIDE) || long_code)
            return gp(v);
        s->efer &= ~(uint64_t)EFER_LMA;
    }
    s->cr0 = val;
    soft_switches_changed(v);
    soft_mode_update(v);
    if ((old ^ val) & (CR0_PG | CR0_WP | CR0_PE))
        mmu_flush_all(v);
    return SOFT_OK;
}

/* --- CR3, CR4 --- */

static int write_cr3(struct vcpu *v, uint64_t val)
{
    struct cpu_state *s = &v->s;
    bool keep = false;

    if (s->efer & EFER_LMA) {
        if (s->cr4 & CR4_PCIDE)
            keep = val >> 63;
        val &= ~(keep ? 1ull << 63 : 0);
        if (val >> v->vm->c.model->phys_bits)
            return gp(v);
    } else {
        val = (uint32_t)val;
    }
    s->cr3 = val;
    /* With bit 63 the old PCID's entries may stay; ours carry no PCID and must go. */
    mmu_flush_nonglobal(v);
    return SOFT_OK;
}

static int write_cr4(struct vcpu *v, uint64_t val)
{
    struct cpu_state *s = &v->s;
    uint64_t old = s->cr4;
    bool lma = s->efer & EFER_LMA;

    if ((val & ~CR4_KNOWN) || (lma && !(val & CR4_PAE)))
        return gp(v);
    if ((val & CR4_PCIDE) && !(old & CR4_PCIDE) && (!lma || (s->cr3 & 0xfff)))
        return gp(v);
    if ((val & CR4_OSXSAVE) && !cpu_model_has(v->vm->c.model, 1, 0, 2, 26))
        return gp(v);
    s->cr4 = val;
    soft_switches_changed(v);
    soft_mode_update(v);
    if ((old ^ val) & (CR4_PSE | CR4_PAE | CR4_PGE | CR4_PCIDE | CR4_SMEP | CR4_SMAP))
        mmu_flush_all(v);
    return SOFT_OK;
}

int sysreg_write_cr(struct vcpu *v, unsigned cr, uint64_t val)
{
    if ((v->mode & MODE_CS) != MODE_CS64)
        val = (uint32_t)val;
    switch (cr) {
    case 0:
        return write_cr0(v, val);
    case 2:
        v->s.cr2 = val;
        return SOFT_OK;
    case 3:
        return write_cr3(v, val);
    case 4:
        return write_cr4(v, val);
    case 8:
        if (val > 15)
            return gp(v);
        lapic_set_tpr(v, (uint8_t)(val << 4));
        return SOFT_OK;
    default:
        return soft_exc(v, VEC_UD);
    }
}

int sysreg_read_cr(struct vcpu *v, unsigned cr, uint64_t *val)
{
    switch (cr) {
    case 0:
        *val = v->s.cr0;
        return SOFT_OK;
    case 2:
        *val = v->s.cr2;
        return SOFT_OK;
    case 3:
        *val = v->s.cr3;
        return SOFT_OK;
    case 4:
        *val = v->s.cr4;
        return SOFT_OK;
    case 8:
        *val = v->s.lapic[8] >> 4 & 15;
        return SOFT_OK;
    default:
        return soft_exc(v, VEC_UD);
    }
}

int sysreg_lmsw(struct vcpu *v, uint16_t val)
{
    uint64_t low = CR0_PE | CR0_MP | CR0_EM | CR0_TS;
    uint64_t keep = v->s.cr0 & CR0_PE; /* LMSW cannot clear PE */

    return write_cr0(v, (v->s.cr0 & ~low) | (val & low) | keep);
}

/* --- debug registers --- */

/* DR4 and DR5 alias DR6 and DR7 unless CR4.DE; GD makes any access a fault. */
static int dr_index(struct vcpu *v, unsigned *dr)
{
    if (*dr == 4 || *dr == 5) {
        if (v->s.cr4 & CR4_DE)
            return soft_exc(v, VEC_UD);
        *dr += 2;
    }
    if (v->s.dr[7] & DR7_GD) {
        v->exc = (struct soft_exc){.vector = VEC_DB, .dr6 = DR7_GD}; /* BD is the same bit */
        return SOFT_FAULT;
    }
    return SOFT_OK;
}

int sysreg_write_dr(struct vcpu *v, unsigned dr, uint64_t val)
{
    int r = dr_index(v, &dr);

    if (r)
        return r;
    if ((v->mode & MODE_CS) != MODE_CS64)
        val = (uint32_t)val;
    if (dr >= 6 && val >> 32)
        return gp(v);
    if (dr == 6)
        val = (val & DR6_SETTABLE) | DR6_ONE;
    if (dr == 7)
        val = (val & ~(uint64_t)DR7_ZERO) | DR7_ONE;
    v->s.dr[dr] = val;
    if (dr == 7)
        soft_mode_update(v);
    return SOFT_OK;
}

int sysreg_read_dr(struct vcpu *v, unsigned dr, uint64_t *val)
{
    int r = dr_index(v, &dr);

    if (!r)
        *val = v->s.dr[dr];
    return r;
}

/* --- XCR0: SDM vol 2, XSETBV --- */

int sysreg_xsetbv(struct vcpu *v, uint32_t idx, uint64_t val)
{
    uint64_t known = XCR0_X87 | XCR0_SSE | (v->vm->c.model->avx ? XCR0_AVX : 0);

    if (idx != 0 || (val & ~known) || !(val & XCR0_X87))
        return gp(v);
    if ((val & XCR0_AVX) && !(val & XCR0_SSE))
        return gp(v);
    v->s.xcr0 = val;
    soft_mode_update(v);
    return SOFT_OK;
}
