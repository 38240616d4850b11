#include "cpu/kvm/kvm.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>

#include "base/cleanup.h"

/* --- general registers, segments, control registers ---------------------- */

/* struct kvm_regs names them; cpu/state.h numbers them as instructions do. */
static const size_t gpr_at[GPRS] = {
    [RAX] = offsetof(struct kvm_regs, rax), [RCX] = offsetof(struct kvm_regs, rcx),
    [RDX] = offsetof(struct kvm_regs, rdx), [RBX] = offsetof(struct kvm_regs, rbx),
    [RSP] = offsetof(struct kvm_regs, rsp), [RBP] = offsetof(struct kvm_regs, rbp),
    [RSI] = offsetof(struct kvm_regs, rsi), [RDI] = offsetof(struct kvm_regs, rdi),
    [R8] = offsetof(struct kvm_regs, r8),   [R9] = offsetof(struct kvm_regs, r9),
    [R10] = offsetof(struct kvm_regs, r10), [R11] = offsetof(struct kvm_regs, r11),
    [R12] = offsetof(struct kvm_regs, r12), [R13] = offsetof(struct kvm_regs, r13),
    [R14] = offsetof(struct kvm_regs, r14), [R15] = offsetof(struct kvm_regs, r15),
};

static void regs_of(const struct cpu_state *s, struct kvm_regs *k)
{
    *k = (struct kvm_regs){.rip = s->rip, .rflags = s->rflags};
    for (unsigned i = 0; i < GPRS; i++)
        memcpy((uint8_t *)k + gpr_at[i], &s->gpr[i], 8);
}

static void regs_to(const struct kvm_regs *k, struct cpu_state *s)
{
    s->rip = k->rip;
    s->rflags = k->rflags;
    for (unsigned i = 0; i < GPRS; i++)
        memcpy(&s->gpr[i], (const uint8_t *)k + gpr_at[i], 8);
}

static struct kvm_segment seg_of(const struct x86_seg *g)
{
    return (struct kvm_segment){
        .base = g->base,
        .limit = g->limit,
        .selector = g->sel,
        .type = g->attr & SEG_TYPE,
        .s = !!(g->attr & SEG_S),
        .dpl = g->attr >> SEG_DPL_SHIFT & 3,
        .present = !!(g->attr & SEG_P),
        .avl = !!(g->attr & SEG_AVL),
        .l = !!(g->attr & SEG_L),
        .db = !!(g->attr & SEG_DB),
        .g = !!(g->attr & SEG_G),
        .unusable = !!(g->attr & SEG_UNUSABLE),
    };
}

static struct x86_seg seg_to(const struct kvm_segment *k)
{
    return (struct x86_seg){
        .base = k->base,
        .limit = k->limit,
        .sel = k->selector,
        .attr = (k->type & SEG_TYPE) | (k->s ? SEG_S : 0) | (k->dpl & 3u) << SEG_DPL_SHIFT |
                (k->present ? SEG_P : 0) | (k->avl ? SEG_AVL : 0) | (k->l ? SEG_L : 0) |
                (k->db ? SEG_DB : 0) | (k->g ? SEG_G : 0) | (k->unusable ? SEG_UNUSABLE : 0),
    };
}

enum {
    LAPIC_TPR = 0x80 / 16,
    LAPIC_ISR = 0x100 / 16,
    LAPIC_TMR = 0x180 / 16,
    LAPIC_IRR = 0x200 / 16
};

static void sregs_of(const struct cpu_state *s, struct kvm_sregs *k)
{
    *k = (struct kvm_sregs){
        .cs = seg_of(&s->seg[SEG_CS]),
        .ds = seg_of(&s->seg[SEG_DS]),
        .es = seg_of(&s->seg[SEG_ES]),
        .fs = seg_of(&s->seg[SEG_FS]),
        .gs = seg_of(&s->seg[SEG_GS]),
        .ss = seg_of(&s->seg[SEG_SS]),
        .tr = seg_of(&s->tr),
        .ldt = seg_of(&s->ldtr),
        .gdt = {.base = s->gdtr.base, .limit = s->gdtr.limit},
        .idt = {.base = s->idtr.base, .limit = s->idtr.limit},
        .cr0 = s->cr0,
        .cr2 = s->cr2,
        .cr3 = s->cr3,
        .cr4 = s->cr4,
        .cr8 = s->lapic[LAPIC_TPR] >> 4 & 15,
        .efer = s->efer,
        .apic_base = s->apic_base,
    };
}

static void sregs_to(const struct kvm_sregs *k, struct cpu_state *s)
{
    s->seg[SEG_CS] = seg_to(&k->cs);
    s->seg[SEG_DS] = seg_to(&k->ds);
    s->seg[SEG_ES] = seg_to(&k->es);
    s->seg[SEG_FS] = seg_to(&k->fs);
    s->seg[SEG_GS] = seg_to(&k->gs);
    s->seg[SEG_SS] = seg_to(&k->ss);
    s->tr = seg_to(&k->tr);
    s->ldtr = seg_to(&k->ldt);
    s->gdtr = (struct x86_table){.base = k->gdt.base, .limit = k->gdt.limit};
    s->idtr = (struct x86_table){.base = k->idt.base, .limit = k->idt.limit};
    s->cr0 = k->cr0;
    s->cr2 = k->cr2;
    s->cr3 = k->cr3;
    s->cr4 = k->cr4;
    s->efer = k->efer;
    s->apic_base = k->apic_base;
}

static void debug_of(const struct cpu_state *s, struct kvm_debugregs *k)
{
    *k = (struct kvm_debugregs){.dr6 = s->dr[6], .dr7 = s->dr[7]};
    for (unsigned i = 0; i < 4; i++)
        k->db[i] = s->dr[i];
}

static void debug_to(const struct kvm_debugregs *k, struct cpu_state *s)
{
    for (unsigned i = 0; i < 4; i++)
        s->dr[i] = k->db[i];
    s->dr[6] = k->dr6;
    s->dr[7] = k->dr7;
}

/* --- x87, SSE, AVX: the standard XSAVE format on both sides, SDM vol 1, 13.4 --- */

enum { XS_FCW = 0, XS_MXCSR = 24, XS_LEGACY_REGS = 32, FCW_INIT = 0x37f, XSAVE_YMMH_END = 832 };

/* A component whose XSTATE_BV bit is clear is in its initial state, whatever its bytes: write that
 * out, so that all of them can be handed over. */
static void xsave_of(const struct cpu_state *s, struct kvm_xsave *k)
{
    uint8_t *p = (uint8_t *)k->region;
    uint64_t bv;

    memset(k, 0, sizeof(*k));
    memcpy(&bv, s->xsave + XSAVE_HDR, sizeof(bv));
    memcpy(p, s->xsave, XSAVE_BYTES);
    memset(p + XSAVE_HDR, 0, XSAVE_YMMH - XSAVE_HDR);
    if (!(bv & XCR0_X87)) {
        memset(p, 0, XS_MXCSR);
        memset(p + XS_LEGACY_REGS, 0, XSAVE_XMM - XS_LEGACY_REGS);
        p[XS_FCW] = FCW_INIT & 0xff;
        p[XS_FCW + 1] = FCW_INIT >> 8;
    }
    if (!(bv & XCR0_SSE))
        memset(p + XSAVE_XMM, 0, XSAVE_HDR - XSAVE_XMM);
    if (!(bv & XCR0_AVX))
        memset(p + XSAVE_YMMH, 0, XSAVE_YMMH_END - XSAVE_YMMH);
    p[XSAVE_HDR] = XCR0_X87 | XCR0_SSE | (bv & XCR0_AVX);
}

static void xsave_to(const struct kvm_xsave *k, struct cpu_state *s)
{
    memcpy(s->xsave, k->region, XSAVE_BYTES);
    memset(s->xsave + XSAVE_HDR + 1, 0, XSAVE_YMMH - XSAVE_HDR - 1);
    s->xsave[XSAVE_HDR] &= XCR0_ALL;
}

/* --- events and run state ------------------------------------------------- */

static void events_of(const struct cpu_state *s, struct kvm_vcpu_events *k)
{
    *k = (struct kvm_vcpu_events){
        .flags = KVM_VCPUEVENT_VALID_NMI_PENDING | KVM_VCPUEVENT_VALID_SHADOW |
                 (s->sipi_pending ? KVM_VCPUEVENT_VALID_SIPI_VECTOR : 0),
        .exception = {.injected = s->exc_pending,
                      .nr = s->exc_pending ? s->exc_vector : 0,
                      .has_error_code = s->exc_pending && s->exc_has_error,
                      .error_code = s->exc_pending && s->exc_has_error ? s->exc_error : 0},
        .interrupt = {.injected = s->irq_injecting,
                      .nr = s->irq_injecting ? s->irq_vector : 0,
                      .shadow = (s->sti_shadow ? KVM_X86_SHADOW_INT_STI : 0) |
                                (s->ss_shadow ? KVM_X86_SHADOW_INT_MOV_SS : 0)},
        .nmi = {.pending = s->nmi_pending, .masked = s->nmi_masked},
        .sipi_vector = s->sipi_pending ? s->sipi_vector : 0,
    };
}

static void events_to(const struct kvm_vcpu_events *k, struct cpu_state *s)
{
    s->exc_pending = k->exception.injected;
    s->exc_vector = k->exception.injected ? k->exception.nr : 0;
    s->exc_has_error = k->exception.injected && k->exception.has_error_code;
    s->exc_error = s->exc_has_error ? k->exception.error_code : 0;
    /* A software interrupt in delivery is the INT instruction itself: RIP stands on it. */
    s->irq_injecting = k->interrupt.injected && !k->interrupt.soft;
    s->irq_vector = s->irq_injecting ? k->interrupt.nr : 0;
    s->sti_shadow = k->interrupt.shadow & KVM_X86_SHADOW_INT_STI;
    s->ss_shadow = k->interrupt.shadow & KVM_X86_SHADOW_INT_MOV_SS;
    /* One in delivery has set the mask already, though its handler has not begun. */
    s->nmi_pending = k->nmi.pending || k->nmi.injected;
    s->nmi_masked = k->nmi.masked && !k->nmi.injected;
}

static struct kvm_mp_state mp_of(const struct cpu_state *s)
{
    switch (s->mp) {
    case MP_HALTED:
        return (struct kvm_mp_state){KVM_MP_STATE_HALTED};
    case MP_WAIT_SIPI:
        return (struct kvm_mp_state){s->sipi_pending ? KVM_MP_STATE_SIPI_RECEIVED
                                                     : KVM_MP_STATE_INIT_RECEIVED};
    case MP_RUNNING:
        break;
    }
    return (struct kvm_mp_state){KVM_MP_STATE_RUNNABLE};
}

static void mp_to(const struct kvm_mp_state *k, struct cpu_state *s)
{
    s->sipi_pending = k->mp_state == KVM_MP_STATE_SIPI_RECEIVED;
    switch (k->mp_state) {
    case KVM_MP_STATE_HALTED:
        s->mp = MP_HALTED;
        break;
    case KVM_MP_STATE_UNINITIALIZED:
    case KVM_MP_STATE_INIT_RECEIVED:
    case KVM_MP_STATE_SIPI_RECEIVED:
        s->mp = MP_WAIT_SIPI;
        break;
    default:
        s->mp = MP_RUNNING;
        break;
    }
}

/* --- all of it ------------------------------------------------------------ */

static int call(struct kvm_cpu *v, unsigned long req, const char *name, void *arg, struct err *e)
{
    int r = kvm_ioctl(v->fd, req, arg);

    return r < 0 ? err_errno(e, r, "cpu %u: %s", v->index, name) : 0;
}
#define CALL(v, req, arg, e) call(v, req, #req, arg, e)

static int lapic_get(struct kvm_cpu *v, struct cpu_state *s, struct err *e)
{
    struct kvm_lapic_state k;
    int r = CALL(v, KVM_GET_LAPIC, &k, e);

    if (r < 0)
        return r;
    for (unsigned i = 0; i < LAPIC_REGS; i++)
        memcpy(&s->lapic[i], k.regs + 16 * i, sizeof(s->lapic[i]));
    return 0;
}

/* Level-triggered vectors on their way or in service will be ended by an EOI that the board must
 * hear of; the message that brought them was sent on another engine. */
static void expect_eois(struct kvm_cpu *v, const struct cpu_state *s)
{
    for (unsigned n = 0; n < 256; n++) {
        unsigned w = n / 32;

        if ((s->lapic[LAPIC_TMR + w] & (s->lapic[LAPIC_ISR + w] | s->lapic[LAPIC_IRR + w])) >>
                (n % 32) &
            1)
            kvmirq_want_eoi(v->vm, (struct msi){.addr = 0xfee00000 | v->index << 12,
                                                .data = n | 1u << 14 | 1u << 15});
    }
}

static int lapic_put(struct kvm_cpu *v, const struct cpu_state *s, struct err *e)
{
    struct kvm_lapic_state k = {0};

    for (unsigned i = 0; i < LAPIC_REGS; i++)
        memcpy(k.regs + 16 * i, &s->lapic[i], sizeof(s->lapic[i]));
    int r = CALL(v, KVM_SET_LAPIC, &k, e);
    if (r == 0)
        expect_eois(v, s);
    return r;
}

static int xcr_put(struct kvm_cpu *v, const struct cpu_state *s, struct err *e)
{
    struct kvm_xcrs k = {.nr_xcrs = 1, .xcrs[0] = {.xcr = 0, .value = s->xcr0}};
    int r = kvm_ioctl(v->fd, KVM_SET_XCRS, &k);

    if (r < 0 && s->xcr0 != XCR0_X87)
        return err_errno(e, r, "cpu %u: KVM refuses XCR0 = %#llx", v->index,
                         (unsigned long long)s->xcr0);
    return 0;
}

static int xcr_get(struct kvm_cpu *v, struct cpu_state *s, struct err *e)
{
    struct kvm_xcrs k = {0};
    int r = CALL(v, KVM_GET_XCRS, &k, e);

    if (r < 0)
        return r;
    s->xcr0 = XCR0_X87;
    for (unsigned i = 0; i < k.nr_xcrs && i < KVM_MAX_XCRS; i++) {
        if (k.xcrs[i].xcr == 0)
            s->xcr0 = k.xcrs[i].value;
    }
    return 0;
}

/* The run state first: asking for it lets pending INITs and SIPIs act on the rest. */
int kvmstate_get(struct kvm_cpu *v, struct cpu_state *s, struct err *e)
{
    static const uint64_t pat_reset = 0x0007040600070406;
    struct cpu_state t;
    struct {
        struct kvm_mp_state mp;
        struct kvm_regs regs;
        struct kvm_sregs sregs;
        struct kvm_debugregs debug;
        struct kvm_vcpu_events events;
        struct kvm_xsave xsave; /* last: its size is open */
    } k;
    uint64_t off;
    int r;

    memset(&t, 0, sizeof(t));
    t.pat = pat_reset;
    if ((r = CALL(v, KVM_GET_MP_STATE, &k.mp, e)) < 0 ||
        (r = CALL(v, KVM_GET_REGS, &k.regs, e)) < 0 ||
        (r = CALL(v, KVM_GET_SREGS, &k.sregs, e)) < 0 ||
        (r = CALL(v, KVM_GET_XSAVE, &k.xsave, e)) < 0 ||
        (r = CALL(v, KVM_GET_DEBUGREGS, &k.debug, e)) < 0 ||
        (r = CALL(v, KVM_GET_VCPU_EVENTS, &k.events, e)) < 0 || (r = xcr_get(v, &t, e)) < 0 ||
        (r = lapic_get(v, &t, e)) < 0 || (r = kvmmsr_get(v, &t, e)) < 0)
        return r;
    r = kvmmsr_tsc_offset(v, &off);
    if (r < 0)
        return err_errno(e, r, "cpu %u: TSC offset", v->index);
    mp_to(&k.mp, &t);
    regs_to(&k.regs, &t);
    sregs_to(&k.sregs, &t);
    xsave_to(&k.xsave, &t);
    debug_to(&k.debug, &t);
    events_to(&k.events, &t);
    t.sipi_vector = t.sipi_pending ? (uint8_t)k.events.sipi_vector : 0;
    t.tsc_off = off - v->clock_off;
    *s = t;
    return 0;
}

/* Build the kernel's form of both states; call only if they differ. */
#define PUT(type, build, req)                                                    \
    ({                                                                           \
        struct type now_, was_;                                                  \
        build(s, &now_);                                                         \
        if (was)                                                                 \
            build(was, &was_);                                                   \
        was && !memcmp(&now_, &was_, sizeof(now_)) ? 0 : CALL(v, req, &now_, e); \
    })

static int events_put(struct kvm_cpu *v, const struct cpu_state *s, const struct cpu_state *was,
                      struct err *e)
{
    struct kvm_vcpu_events now, old;

    events_of(s, &now);
    if (was) {
        events_of(was, &old);
        if (!memcmp(&now, &old, sizeof(now)))
            return 0;
        /* Another vCPU may have sent an NMI since `was`. */
        if (now.nmi.pending == old.nmi.pending)
            now.flags &= ~(uint32_t)KVM_VCPUEVENT_VALID_NMI_PENDING;
    }
    return CALL(v, KVM_SET_VCPU_EVENTS, &now, e);
}

static int sregs_put(struct kvm_cpu *v, const struct cpu_state *s, const struct cpu_state *was,
                     struct err *e)
{
    int r = PUT(kvm_sregs, sregs_of, KVM_SET_SREGS);

    return r < 0 ? err_wrap(e, r, "KVM refuses cr0 %#llx, cr4 %#llx, efer %#llx",
                            (unsigned long long)s->cr0, (unsigned long long)s->cr4,
                            (unsigned long long)s->efer)
                 : 0;
}

/* Order: APIC base (sregs) before the LAPIC, LAPIC and TSC before the deadline (MSRs), events and
 * run state last. */
int kvmstate_put(struct kvm_cpu *v, const struct cpu_state *s, const struct cpu_state *was,
                 struct err *e)
{
    uint64_t clock_off = v->vm->c.clock->tsc_off;
    int r;

    if ((r = sregs_put(v, s, was, e)) < 0 || (r = PUT(kvm_regs, regs_of, KVM_SET_REGS)) < 0 ||
        (r = PUT(kvm_debugregs, debug_of, KVM_SET_DEBUGREGS)) < 0 ||
        (r = PUT(kvm_xsave, xsave_of, KVM_SET_XSAVE)) < 0)
        return r;
    if (!was || s->xcr0 != was->xcr0) {
        r = xcr_put(v, s, e);
        if (r < 0)
            return r;
    }
    if (!was || memcmp(s->lapic, was->lapic, sizeof(s->lapic)) != 0) {
        r = lapic_put(v, s, e);
        if (r < 0)
            return r;
    }
    if (!was || s->tsc_off != was->tsc_off) {
        r = kvmmsr_set_tsc_offset(v, clock_off + s->tsc_off);
        if (r < 0)
            return err_errno(e, r, "cpu %u: TSC offset", v->index);
        v->clock_off = clock_off;
    }
    r = kvmmsr_put(v, s, was, e);
    if (r == 0)
        r = events_put(v, s, was, e);
    if (r == 0 && (!was || s->mp != was->mp || s->sipi_pending != was->sipi_pending)) {
        struct kvm_mp_state mp = mp_of(s);

        r = CALL(v, KVM_SET_MP_STATE, &mp, e);
    }
    v->window_fresh = false;
    v->mmio_open = false;
    return r;
}
