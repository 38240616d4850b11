#include "cpu/state.h"

#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "state/state.h"

enum {
    APIC_ID = 2,
    APIC_VERSION = 3,
    APIC_LDR = 13,
    APIC_DFR = 14,
    APIC_SVR = 15,
    APIC_LVT_FIRST = 50,
    APIC_LVT_LAST = 55,
    APIC_EXTD = 1 << 10,
};

static const struct x86_seg reset_data = {.limit = 0xffff, .attr = SEG_P | SEG_S | 3};

void cpu_lapic_reset(struct cpu_state *s, unsigned index)
{
    bool x2 = s->apic_base & APIC_EXTD;

    memset(s->lapic, 0, sizeof(s->lapic));
    s->lapic[APIC_ID] = x2 ? index : index << 24;
    s->lapic[APIC_VERSION] = 0x00050014;
    s->lapic[APIC_LDR] = x2 ? (index >> 4) << 16 | 1u << (index & 15) : 0;
    s->lapic[APIC_DFR] = UINT32_MAX;
    s->lapic[APIC_SVR] = 0xff;
    for (unsigned i = APIC_LVT_FIRST; i <= APIC_LVT_LAST; i++)
        s->lapic[i] = 1u << 16; /* masked */
    s->tsc_deadline = 0;
}

/* What neither INIT nor a warm reset leaves alone. */
static void reset_core(struct cpu_state *s, unsigned index)
{
    memset(s->gpr, 0, sizeof(s->gpr));
    s->gpr[RDX] = CPU_SIGNATURE;
    s->rip = 0xfff0;
    s->rflags = FL_FIXED;
    for (unsigned i = 0; i < SEGS; i++)
        s->seg[i] = reset_data;
    s->seg[SEG_CS] = (struct x86_seg){
        .sel = 0xf000, .base = 0xffff0000, .limit = 0xffff, .attr = SEG_P | SEG_S | 0xb};
    s->ldtr = (struct x86_seg){.limit = 0xffff, .attr = SEG_P | 2};
    s->tr = (struct x86_seg){.limit = 0xffff, .attr = SEG_P | 0xb};
    s->gdtr = s->idtr = (struct x86_table){.limit = 0xffff};
    s->cr0 = CR0_ET | CR0_NW | CR0_CD;
    s->cr2 = s->cr3 = s->cr4 = s->efer = 0;
    memset(s->dr, 0, sizeof(s->dr));
    s->dr[6] = 0xffff0ff0;
    s->dr[7] = 0x400;
    s->mp = index ? MP_WAIT_SIPI : MP_RUNNING;
    s->nmi_pending = s->nmi_masked = s->sti_shadow = s->ss_shadow = false;
    s->exc_pending = s->exc_has_error = s->irq_injecting = s->sipi_pending = false;
    s->exc_vector = s->irq_vector = s->sipi_vector = 0;
    s->exc_error = 0;
}

static void reset_power(struct cpu_state *s, unsigned index)
{
    memset(s, 0, sizeof(*s));
    s->apic_base = 0xfee00000 | 1u << 11 | (index ? 0 : 1u << 8);
    s->xcr0 = XCR0_X87;
    s->pat = 0x0007040600070406;
    s->misc_enable = 1u << 0 | 1u << 11 | 1u << 12; /* fast strings; no BTS, no PEBS */
    /* As firmware leaves it: enabled, everything write-back. */
    s->mtrr_def = 1u << 11 | 6;
    s->xsave[0] = 0x7f; /* FCW 0x37f */
    s->xsave[1] = 0x03;
    s->xsave[24] = 0x80; /* MXCSR 0x1f80 */
    s->xsave[25] = 0x1f;
    s->xsave[XSAVE_HDR] = XCR0_X87 | XCR0_SSE;
}

void cpu_state_reset(struct cpu_state *s, unsigned index, bool init)
{
    uint64_t cache = s->cr0 & (CR0_NW | CR0_CD);

    if (!init)
        reset_power(s, index);
    reset_core(s, index);
    if (init)
        s->cr0 = CR0_ET | cache;
    cpu_lapic_reset(s, index);
}

/* --- save and load --- */

static bool canonical(uint64_t a)
{
    return (uint64_t)((int64_t)(a << 16) >> 16) == a;
}

static void refuse_unless(struct state_io *io, bool ok, const char *what)
{
    if (state_loading(io) && !ok)
        state_fail(io, "CPU state: impossible %s", what);
}

static void visit_seg(struct state_io *io, uint16_t id, struct x86_seg *g)
{
    state_begin(io, id, "segment");
    state_u16(io, 1, &g->sel);
    state_u64(io, 2, &g->base);
    state_u32(io, 3, &g->limit);
    state_u32(io, 4, &g->attr);
    state_end(io);
    refuse_unless(io, !(g->attr & ~0x1f0ffu) && canonical(g->base), "segment");
}

static void visit_table(struct state_io *io, uint16_t id, struct x86_table *t)
{
    state_begin(io, id, "table");
    state_u64(io, 1, &t->base);
    state_u16(io, 2, &t->limit);
    state_end(io);
    refuse_unless(io, canonical(t->base), "descriptor table");
}

static void visit_regs(struct state_io *io, struct cpu_state *s)
{
    state_u64s(io, 1, s->gpr, GPRS);
    state_u64(io, 2, &s->rip);
    state_u64(io, 3, &s->rflags);
    for (unsigned i = 0; i < SEGS; i++)
        visit_seg(io, (uint16_t)(4 + i), &s->seg[i]);
    visit_seg(io, 10, &s->ldtr);
    visit_seg(io, 11, &s->tr);
    visit_table(io, 12, &s->gdtr);
    visit_table(io, 13, &s->idtr);
    state_u64(io, 14, &s->cr0);
    state_u64(io, 15, &s->cr2);
    state_u64(io, 16, &s->cr3);
    state_u64(io, 17, &s->cr4);
    state_u64s(io, 18, s->dr, 8);
    state_u64(io, 19, &s->xcr0);
}

static void visit_msrs(struct state_io *io, struct cpu_state *s)
{
    uint64_t *const one[] = {
        &s->efer,
        &s->star,
        &s->lstar,
        &s->cstar,
        &s->sfmask,
        &s->kernel_gs_base,
        &s->sysenter_cs,
        &s->sysenter_esp,
        &s->sysenter_eip,
        &s->pat,
        &s->misc_enable,
        &s->tsc_aux,
        &s->tsc_adjust,
        &s->tsc_off,
        &s->tsc_deadline,
        &s->apic_base,
        &s->spec_ctrl,
        &s->mtrr_def,
        &s->kvmclock_system,
        &s->kvmclock_wall,
        &s->kvm_poll_control,
        &s->kvm_async_pf,
    };

    for (unsigned i = 0; i < sizeof(one) / sizeof(one[0]); i++)
        state_u64(io, (uint16_t)(32 + i), one[i]);
    state_u64s(io, 64, s->mtrr_fix, 11);
    state_u64s(io, 65, s->mtrr_base, 8);
    state_u64s(io, 66, s->mtrr_mask, 8);
}

static void visit_events(struct state_io *io, struct cpu_state *s)
{
    uint8_t mp = (uint8_t)s->mp;

    state_u8(io, 82, &mp);
    refuse_unless(io, mp <= MP_WAIT_SIPI, "activity state");
    if (mp <= MP_WAIT_SIPI)
        s->mp = (enum mp_state)mp;
    state_bool(io, 83, &s->nmi_pending);
    state_bool(io, 84, &s->nmi_masked);
    state_bool(io, 85, &s->sti_shadow);
    state_bool(io, 86, &s->ss_shadow);
    state_bool(io, 87, &s->exc_pending);
    state_bool(io, 88, &s->exc_has_error);
    state_u8(io, 89, &s->exc_vector);
    state_u32(io, 90, &s->exc_error);
    state_bool(io, 91, &s->irq_injecting);
    state_u8(io, 92, &s->irq_vector);
    state_bool(io, 93, &s->sipi_pending);
    state_u8(io, 94, &s->sipi_vector);
    refuse_unless(io, s->exc_vector < 32, "exception vector");
}

/* Bits that MOV CR, WRMSR and POPF would never have let in. */
static void check_control(struct state_io *io, const struct cpu_state *s)
{
    const uint64_t cr0 = CR0_PE | CR0_MP | CR0_EM | CR0_TS | CR0_ET | CR0_NE | CR0_WP | CR0_AM |
                         CR0_NW | CR0_CD | (uint64_t)CR0_PG;
    const uint64_t cr4 = CR4_VME | CR4_PVI | CR4_TSD | CR4_DE | CR4_PSE | CR4_PAE | CR4_MCE |
                         CR4_PGE | CR4_PCE | CR4_OSFXSR | CR4_OSXMMEXCPT | CR4_UMIP | CR4_FSGSBASE |
                         CR4_PCIDE | CR4_OSXSAVE | CR4_SMEP | CR4_SMAP;
    const uint64_t flags = FL_ARITH | FL_FIXED | FL_TF | FL_IF | FL_DF | FL_IOPL | FL_NT | FL_RF |
                           FL_AC | FL_VIF | FL_VIP | FL_ID;
    bool pg = s->cr0 & CR0_PG, lma = s->efer & EFER_LMA;

    refuse_unless(io,
                  !(s->cr0 & ~cr0) && (!pg || (s->cr0 & CR0_PE)) &&
                      (!(s->cr0 & CR0_NW) || (s->cr0 & CR0_CD)),
                  "CR0");
    refuse_unless(io, !(s->cr4 & ~cr4) && !(s->cr3 >> 52), "CR3 or CR4");
    refuse_unless(io,
                  !(s->efer & ~(uint64_t)(EFER_SCE | EFER_LME | EFER_LMA | EFER_NXE)) &&
                      lma == (pg && (s->efer & EFER_LME)) && (!lma || (s->cr4 & CR4_PAE)) &&
                      (lma || !(s->cr4 & CR4_PCIDE)),
                  "EFER");
    refuse_unless(io, !(s->rflags & ~flags) && (s->rflags & FL_FIXED), "RFLAGS");
    refuse_unless(io,
                  (s->xcr0 & XCR0_X87) && !(s->xcr0 & ~(uint64_t)XCR0_ALL) &&
                      (!(s->xcr0 & XCR0_AVX) || (s->xcr0 & XCR0_SSE)),
                  "XCR0");
    bool l = s->seg[SEG_CS].attr & SEG_L, d = s->seg[SEG_CS].attr & SEG_DB;
    refuse_unless(io, !lma || !l || !d, "CS");
    refuse_unless(io, lma && l ? canonical(s->rip) : !(s->rip >> 32), "RIP");
    refuse_unless(io, !(s->dr[6] >> 32) && !(s->dr[7] >> 32), "debug register");
}

static bool pat_ok(uint64_t pat)
{
    for (unsigned i = 0; i < 8; i++) {
        unsigned t = pat >> (8 * i) & 0xff;

        if (t > 7 || t == 2 || t == 3)
            return false;
    }
    return true;
}

static void check_msrs(struct state_io *io, const struct cpu_state *s)
{
    const uint64_t addr[] = {s->lstar, s->cstar, s->kernel_gs_base, s->sysenter_esp,
                             s->sysenter_eip};

    for (unsigned i = 0; i < sizeof(addr) / sizeof(addr[0]); i++)
        refuse_unless(io, canonical(addr[i]), "address in an MSR");
    refuse_unless(io, !(s->sfmask >> 32) && !(s->tsc_aux >> 32) && !(s->sysenter_cs >> 32), "MSR");
    refuse_unless(io, pat_ok(s->pat), "PAT");
    bool en = s->apic_base & 1u << 11, extd = s->apic_base & 1u << 10;
    refuse_unless(io, !(s->apic_base >> 52) && (en || !extd), "APIC base");
    /* What XRSTOR would refuse: SDM vol 1, 13.8.1 */
    bool header = true;
    for (unsigned i = 1; i < 64; i++)
        header &= s->xsave[XSAVE_HDR + i] == 0;
    refuse_unless(io, header && !(s->xsave[XSAVE_HDR] & ~XCR0_ALL), "XSAVE header");
    refuse_unless(io, !s->xsave[26] && !s->xsave[27], "MXCSR");
}

void cpu_state_visit(struct cpu_state *s, struct state_io *io)
{
    visit_regs(io, s);
    visit_msrs(io, s);
    state_bytes(io, 80, s->xsave, XSAVE_BYTES);
    state_u32s(io, 81, s->lapic, LAPIC_REGS);
    visit_events(io, s);
    check_control(io, s);
    check_msrs(io, s);
}

/* --- first difference --- */

struct span {
    const char *name;
    uint16_t off, size, n; /* bytes of one, how many */
    bool time;
};
#define ONE(f)                                                                          \
    {                                                                                   \
#f, offsetof(struct cpu_state, f), sizeof(((struct cpu_state *)0)->f), 1, false \
    }
#define TIME(f)                                                                        \
    {                                                                                  \
#f, offsetof(struct cpu_state, f), sizeof(((struct cpu_state *)0)->f), 1, true \
    }
#define MANY(f)                                                                               \
    {                                                                                         \
#f, offsetof(struct cpu_state, f), sizeof(((struct cpu_state *)0)->f[0]),             \
            sizeof(((struct cpu_state *)0)->f) / sizeof(((struct cpu_state *)0)->f[0]), false \
    }
#define SEGMENT(f) ONE(f.sel), ONE(f.base), ONE(f.limit), ONE(f.attr)

static const struct span spans[] = {
    ONE(rip),
    MANY(gpr),
    ONE(rflags),
    SEGMENT(seg[SEG_ES]),
    SEGMENT(seg[SEG_CS]),
    SEGMENT(seg[SEG_SS]),
    SEGMENT(seg[SEG_DS]),
    SEGMENT(seg[SEG_FS]),
    SEGMENT(seg[SEG_GS]),
    SEGMENT(ldtr),
    SEGMENT(tr),
    ONE(gdtr.base),
    ONE(gdtr.limit),
    ONE(idtr.base),
    ONE(idtr.limit),
    ONE(cr0),
    ONE(cr2),
    ONE(cr3),
    ONE(cr4),
    MANY(dr),
    ONE(xcr0),
    ONE(efer),
    ONE(star),
    ONE(lstar),
    ONE(cstar),
    ONE(sfmask),
    ONE(kernel_gs_base),
    ONE(sysenter_cs),
    ONE(sysenter_esp),
    ONE(sysenter_eip),
    ONE(pat),
    ONE(misc_enable),
    ONE(tsc_aux),
    TIME(tsc_adjust),
    TIME(tsc_off),
    TIME(tsc_deadline),
    ONE(apic_base),
    ONE(spec_ctrl),
    ONE(mtrr_def),
    MANY(mtrr_fix),
    MANY(mtrr_base),
    MANY(mtrr_mask),
    ONE(kvmclock_system),
    ONE(kvmclock_wall),
    ONE(kvm_poll_control),
    ONE(kvm_async_pf),
    MANY(xsave),
    MANY(lapic),
    ONE(mp),
    ONE(nmi_pending),
    ONE(nmi_masked),
    ONE(sti_shadow),
    ONE(ss_shadow),
    ONE(exc_pending),
    ONE(exc_has_error),
    ONE(exc_vector),
    ONE(exc_error),
    ONE(irq_injecting),
    ONE(irq_vector),
    ONE(sipi_pending),
    ONE(sipi_vector),
};

enum { LAPIC_TMCCT = 57 };

static uint64_t load(const struct cpu_state *s, const struct span *p, unsigned i)
{
    uint64_t x = 0;

    memcpy(&x, (const uint8_t *)s + p->off + (size_t)i * p->size, p->size);
    return x;
}

const char *cpu_state_diff(const struct cpu_state *a, const struct cpu_state *b, bool ignore_time,
                           char *buf, unsigned len)
{
    for (unsigned k = 0; k < sizeof(spans) / sizeof(spans[0]); k++) {
        const struct span *p = &spans[k];

        if (p->time && ignore_time)
            continue;
        for (unsigned i = 0; i < p->n; i++) {
            uint64_t x = load(a, p, i), y = load(b, p, i);

            if (x == y ||
                (ignore_time && p->off == offsetof(struct cpu_state, lapic) && i == LAPIC_TMCCT))
                continue;
            if (p->n > 1)
                snprintf(buf, len, "%s[%u]: %#" PRIx64 " / %#" PRIx64, p->name, i, x, y);
            else
                snprintf(buf, len, "%s: %#" PRIx64 " / %#" PRIx64, p->name, x, y);
            return buf;
        }
    }
    return NULL;
}
