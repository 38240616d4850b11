/* MSRs by table. SDM vol 4; KVM's own: Linux Documentation/virt/kvm/x86/msr.rst. */
#include "cpu/soft/sysreg.h"

#include <stddef.h>

#include "cpu/soft/frame.h"
#include "cpu/soft/lapic.h"
#include "cpu/soft/mmu.h"

enum {
    MSR_TSC = 0x10,
    MSR_PLATFORM_ID = 0x17,
    MSR_APIC_BASE = 0x1b,
    MSR_FEATURE_CONTROL = 0x3a,
    MSR_TSC_ADJUST = 0x3b,
    MSR_SPEC_CTRL = 0x48,
    MSR_PRED_CMD = 0x49,
    MSR_BIOS_UPDT = 0x79,
    MSR_BIOS_SIGN = 0x8b,
    MSR_PLATFORM_INFO = 0xce,
    MSR_MTRR_CAP = 0xfe,
    MSR_ARCH_CAPABILITIES = 0x10a,
    MSR_FLUSH_CMD = 0x10b,
    MSR_MISC_FEATURES = 0x140,
    MSR_SYSENTER_CS = 0x174,
    MSR_SYSENTER_ESP = 0x175,
    MSR_SYSENTER_EIP = 0x176,
    MSR_MCG_CAP = 0x179,
    MSR_MCG_STATUS = 0x17a,
    MSR_PERF_STATUS = 0x198,
    MSR_MISC_ENABLE = 0x1a0,
    MSR_DEBUGCTL = 0x1d9,
    MSR_MTRR_BASE0 = 0x200, /* base, mask pairs */
    MSR_MTRR_FIX64K = 0x250,
    MSR_MTRR_FIX16K = 0x258,
    MSR_MTRR_FIX4K = 0x268,
    MSR_PAT = 0x277,
    MSR_MTRR_DEF = 0x2ff,
    MSR_TSC_DEADLINE = 0x6e0,
    MSR_X2APIC = 0x800,
    MSR_EFER = 0xc0000080,
    MSR_STAR = 0xc0000081,
    MSR_LSTAR = 0xc0000082,
    MSR_CSTAR = 0xc0000083,
    MSR_SFMASK = 0xc0000084,
    MSR_FS_BASE = 0xc0000100,
    MSR_GS_BASE = 0xc0000101,
    MSR_KERNEL_GS = 0xc0000102,
    MSR_TSC_AUX = 0xc0000103,
    MSR_KVM_WALL_OLD = 0x11,
    MSR_KVM_SYSTEM_OLD = 0x12,
    MSR_KVM_WALL = 0x4b564d00,
    MSR_KVM_SYSTEM = 0x4b564d01,
    MSR_KVM_ASYNC_PF = 0x4b564d02,
    MSR_KVM_POLL = 0x4b564d05,
};

enum { MTRR_VARIABLE = 8 };

/* ARCH_CAPABILITIES: no fault below speaks of us, so a guest needs no costly defence. RDCL_NO,
 * IBRS_ALL, SKIP_L1DFL, SSB_NO, MDS_NO, PSCHANGE_MC_NO, TAA_NO, SBDR_SSDP_NO, FBSDP_NO, PSDP_NO,
 * BHI_NO, PBRSB_NO, GDS_NO, RFDS_NO, ITS_NO. */
static const uint64_t arch_capabilities = 1u << 0 | 1u << 1 | 1u << 3 | 1u << 4 | 1u << 5 |
                                          1u << 6 | 1u << 8 | 1u << 13 | 1u << 14 | 1u << 15 |
                                          1u << 20 | 1u << 24 | 1u << 26 | 1u << 27 | 1ull << 62;

/* MSRs that are a field of the state, or a constant. */
enum row_kind { FIELD, CANONICAL, CONSTANT, IGNORED };
struct row {
    uint32_t idx;
    uint8_t kind;      /* enum row_kind; CANONICAL: a field that holds an address */
    uint16_t off;      /* of the field */
    uint64_t writable; /* FIELD: bits that may be set; others fault */
    uint64_t value;    /* CONSTANT, IGNORED: reads so */
};

#define F(i, f, w)                                                                       \
    {                                                                                    \
        .idx = (i), .kind = FIELD, .off = offsetof(struct cpu_state, f), .writable = (w) \
    }
#define A(i, f)                                                             \
    {                                                                       \
        .idx = (i), .kind = CANONICAL, .off = offsetof(struct cpu_state, f) \
    }
#define C(i, val)                                    \
    {                                                \
        .idx = (i), .kind = CONSTANT, .value = (val) \
    } /* writes fault */
#define I(i, val)                                   \
    {                                               \
        .idx = (i), .kind = IGNORED, .value = (val) \
    } /* writes are swallowed */

static const struct row rows[] = {
    C(MSR_PLATFORM_ID, 0),
    C(MSR_FEATURE_CONTROL, 1),          /* locked, nothing on */
    F(MSR_SPEC_CTRL, spec_ctrl, 0x407), /* IBRS, STIBP, SSBD, BHI_DIS_S: no effect */
    I(MSR_PRED_CMD, 0),
    I(MSR_BIOS_UPDT, 0),
    I(MSR_BIOS_SIGN, 0x100000000ull), /* microcode revision 1 in the upper half */
    C(MSR_MTRR_CAP, 1u << 10 | 1u << 8 | MTRR_VARIABLE),
    C(MSR_ARCH_CAPABILITIES, arch_capabilities),
    I(MSR_FLUSH_CMD, 0),
    I(MSR_MISC_FEATURES, 0),
    F(MSR_SYSENTER_CS, sysenter_cs, UINT32_MAX),
    A(MSR_SYSENTER_ESP, sysenter_esp),
    A(MSR_SYSENTER_EIP, sysenter_eip),
    C(MSR_MCG_CAP, 0),
    I(MSR_MCG_STATUS, 0),
    C(MSR_PERF_STATUS, 0),
    F(MSR_MISC_ENABLE, misc_enable, UINT64_MAX),
    I(MSR_DEBUGCTL, 0),
    F(MSR_STAR, star, UINT64_MAX),
    A(MSR_LSTAR, lstar),
    A(MSR_CSTAR, cstar),
    F(MSR_SFMASK, sfmask, UINT32_MAX),
    A(MSR_FS_BASE, seg[SEG_FS].base),
    A(MSR_GS_BASE, seg[SEG_GS].base),
    A(MSR_KERNEL_GS, kernel_gs_base),
    F(MSR_TSC_AUX, tsc_aux, UINT32_MAX),
    F(MSR_KVM_POLL, kvm_poll_control, 1),
    F(MSR_KVM_ASYNC_PF, kvm_async_pf, 0), /* not offered by CPUID: only 0 */
};

static uint64_t *field(struct vcpu *v, const struct row *r)
{
    return (uint64_t *)(void *)((uint8_t *)&v->s + r->off);
}

static const struct row *find(uint32_t idx)
{
    for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        if (rows[i].idx == idx)
            return &rows[i];
    return NULL;
}

static int gp(struct vcpu *v)
{
    v->stats.msr_faults++;
    return soft_exc_err(v, VEC_GP, 0);
}

/* --- MTRRs: held and given back, all guest memory is write-back (SDM vol 3A, 11.11) --- */

static uint64_t *mtrr(struct vcpu *v, uint32_t idx)
{
    struct cpu_state *s = &v->s;

    if (idx >= MSR_MTRR_BASE0 && idx < MSR_MTRR_BASE0 + 2 * MTRR_VARIABLE) {
        unsigned i = (idx - MSR_MTRR_BASE0) / 2;

        return idx & 1 ? &s->mtrr_mask[i] : &s->mtrr_base[i];
    }
    if (idx == MSR_MTRR_FIX64K)
        return &s->mtrr_fix[0];
    if (idx == MSR_MTRR_FIX16K || idx == MSR_MTRR_FIX16K + 1)
        return &s->mtrr_fix[1 + idx - MSR_MTRR_FIX16K];
    if (idx >= MSR_MTRR_FIX4K && idx < MSR_MTRR_FIX4K + 8)
        return &s->mtrr_fix[3 + idx - MSR_MTRR_FIX4K];
    return idx == MSR_MTRR_DEF ? &s->mtrr_def : NULL;
}

static bool memory_type(unsigned t)
{
    return t == 0 || t == 1 || (t >= 4 && t <= 6);
}

static bool all_types(uint64_t val, bool pat)
{
    for (unsigned i = 0; i < 8; i++) {
        unsigned t = val >> (8 * i) & 0xff;

        if (!memory_type(t) && !(pat && t == 7))
            return false;
    }
    return true;
}

static int write_mtrr(struct vcpu *v, uint32_t idx, uint64_t *reg, uint64_t val)
{
    uint64_t high = ~((1ull << v->vm->c.model->phys_bits) - 1);

    if (idx == MSR_MTRR_DEF) {
        if ((val & ~0xcffull) || !memory_type(val & 0xff))
            return gp(v);
    } else if (idx < MSR_MTRR_FIX64K) {
        if (val & high || (idx & 1 ? val & 0x7ff : (val & 0xf00) || !memory_type(val & 0xff)))
            return gp(v);
    } else if (!all_types(val, false)) {
        return gp(v);
    }
    *reg = val;
    return SOFT_OK;
}

/* --- those with effects --- */

static int write_efer(struct vcpu *v, uint64_t val)
{
    struct cpu_state *s = &v->s;
    uint64_t old = s->efer;

    if (val & ~(uint64_t)(EFER_SCE | EFER_LME | EFER_LMA | EFER_NXE))
        return gp(v);
    if (((old ^ val) & EFER_LME) && (s->cr0 & CR0_PG))
        return gp(v);
    s->efer = (val & ~(uint64_t)EFER_LMA) | (old & EFER_LMA);
    soft_switches_changed(v);
    soft_mode_update(v);
    if ((old ^ val) & EFER_NXE)
        mmu_flush_all(v);
    return SOFT_OK;
}

/* Writing the TSC moves TSC_ADJUST with it: SDM vol 3B, 18.17.3. */
static void move_tsc(struct vcpu *v, uint64_t by)
{
    v->s.tsc_off += by;
    lapic_tsc_moved(v);
    kvmclock_update_system(v);
}

static int special_read(struct vcpu *v, uint32_t idx, uint64_t *val)
{
    const struct cpu_state *s = &v->s;

    switch (idx) {
    case MSR_TSC:
        *val = sysreg_tsc(v);
        return SOFT_OK;
    case MSR_APIC_BASE:
        *val = s->apic_base;
        return SOFT_OK;
    case MSR_TSC_ADJUST:
        *val = s->tsc_adjust;
        return SOFT_OK;
    case MSR_PLATFORM_INFO: /* the ratio to a 100 MHz bus clock, in bits 15:8 */
        *val = (v->vm->c.clock->tsc_khz / 100000 & 0xff) << 8;
        return SOFT_OK;
    case MSR_PAT:
        *val = s->pat;
        return SOFT_OK;
    case MSR_TSC_DEADLINE:
        *val = s->tsc_deadline;
        return SOFT_OK;
    case MSR_EFER:
        *val = s->efer;
        return SOFT_OK;
    case MSR_KVM_WALL_OLD:
    case MSR_KVM_WALL:
        *val = s->kvmclock_wall;
        return SOFT_OK;
    case MSR_KVM_SYSTEM_OLD:
    case MSR_KVM_SYSTEM:
        *val = s->kvmclock_system;
        return SOFT_OK;
    default:
        return gp(v);
    }
}

static int special_write(struct vcpu *v, uint32_t idx, uint64_t val)
{
    struct cpu_state *s = &v->s;

    switch (idx) {
    case MSR_TSC: {
        uint64_t by = val - sysreg_tsc(v);

        s->tsc_adjust += by;
        move_tsc(v, by);
        return SOFT_OK;
    }
    case MSR_APIC_BASE:
        return lapic_set_base(v, val);
    case MSR_TSC_ADJUST: {
        uint64_t by = val - s->tsc_adjust;

        s->tsc_adjust = val;
        move_tsc(v, by);
        return SOFT_OK;
    }
    case MSR_PAT:
        if (!all_types(val, true))
            return gp(v);
        s->pat = val;
        return SOFT_OK;
    case MSR_TSC_DEADLINE:
        return lapic_set_deadline(v, val);
    case MSR_EFER:
        return write_efer(v, val);
    case MSR_KVM_WALL_OLD:
    case MSR_KVM_WALL:
        s->kvmclock_wall = val;
        kvmclock_update_wall(v);
        return SOFT_OK;
    case MSR_KVM_SYSTEM_OLD:
    case MSR_KVM_SYSTEM:
        s->kvmclock_system = val;
        kvmclock_update_system(v);
        return SOFT_OK;
    default:
        return gp(v);
    }
}

int msr_read(struct vcpu *v, uint32_t idx, uint64_t *val)
{
    const struct row *r;
    uint64_t *reg;

    if (idx >= MSR_X2APIC && idx < MSR_X2APIC + 0x100)
        return lapic_msr_read(v, idx, val);
    reg = mtrr(v, idx);
    if (reg) {
        *val = *reg;
        return SOFT_OK;
    }
    r = find(idx);
    if (!r)
        return special_read(v, idx, val);
    *val = r->kind == FIELD || r->kind == CANONICAL ? *field(v, r) : r->value;
    return SOFT_OK;
}

int msr_write(struct vcpu *v, uint32_t idx, uint64_t val)
{
    const struct row *r;
    uint64_t *reg;

    if (idx >= MSR_X2APIC && idx < MSR_X2APIC + 0x100)
        return lapic_msr_write(v, idx, val);
    reg = mtrr(v, idx);
    if (reg)
        return write_mtrr(v, idx, reg, val);
    r = find(idx);
    if (!r)
        return special_write(v, idx, val);
    switch (r->kind) {
    case FIELD:
        if (val & ~r->writable)
            return gp(v);
        *field(v, r) = val;
        if (idx == MSR_STAR || idx == MSR_SFMASK)
            soft_switches_changed(v);
        return SOFT_OK;
    case CANONICAL:
        if (!frame_canonical(val))
            return gp(v);
        *field(v, r) = val;
        return SOFT_OK;
    case IGNORED:
        return SOFT_OK;
    default:
        return gp(v);
    }
}
