#include "cpu/soft/lapic.h"

#include "cpu/soft/lapicreg.h"
#include "cpu/soft/sysreg.h"

enum { TICK_NS = 1 }; /* the timer's input clock is 1 GHz, as KVM's and CPUID 0x15 */
enum {
    PERIOD_MIN_NS = 100 * 1000
}; /* a periodic timer faster than this would only burn the host */
enum { APIC_BASE_BSP = 1u << 8, APIC_BASE_EXTD = 1u << 10, APIC_BASE_EN = 1u << 11 };

static bool x2apic(const struct vcpu *v)
{
    return v->s.apic_base & APIC_BASE_EXTD;
}

static bool hw_enabled(const struct vcpu *v)
{
    return v->s.apic_base & APIC_BASE_EN;
}

static bool sw_enabled(const struct vcpu *v)
{
    return hw_enabled(v) && (v->s.lapic[LR_SVR] & SVR_ENABLE);
}

/* What other threads must know to route a message here. */
static void publish(struct vcpu *v)
{
    uint64_t x = v->s.lapic[LR_LDR];

    x |= (uint64_t)(v->s.lapic[LR_DFR] >> 28) << ROUTE_DFR_SHIFT;
    if (hw_enabled(v))
        x |= ROUTE_EN;
    if (x2apic(v))
        x |= ROUTE_X2;
    if (sw_enabled(v))
        x |= ROUTE_SW;
    atomic_store(&v->route, x);
}

/* --- timer: SDM vol 3A, 10.5.4 --- */

static unsigned timer_mode(const struct vcpu *v)
{
    return v->s.lapic[LR_LVT_TIMER] >> 17 & 3;
}

static unsigned divide_shift(const struct vcpu *v)
{
    unsigned d = v->s.lapic[LR_TDCR];

    return (((d & 3) | (d >> 1 & 4)) + 1) & 7;
}

static void timer_fired(void *ctx)
{
    soft_request(ctx, REQ_TIMER);
}

static void timer_stop(struct vcpu *v)
{
    v->timer.expiry = 0;
    v->timer.period = 0;
    timer_cancel(v->vm->c.timers, &v->timer.t);
}

static void timer_start(struct vcpu *v, uint64_t ticks)
{
    uint64_t ns = (ticks << divide_shift(v)) * TICK_NS;

    if (!ticks) {
        timer_stop(v);
        return;
    }
    v->timer.period = 0;
    if (timer_mode(v) == TIMER_PERIODIC) {
        v->timer.period = (uint64_t)v->s.lapic[LR_TMICT] << divide_shift(v);
        if (v->timer.period < PERIOD_MIN_NS)
            v->timer.period = PERIOD_MIN_NS;
        if (ns < PERIOD_MIN_NS)
            ns = PERIOD_MIN_NS;
    }
    v->timer.expiry = clock_ns(v->vm->c.clock) + ns;
    timer_arm(v->vm->c.timers, &v->timer.t, v->timer.expiry);
}

static uint32_t timer_left(const struct vcpu *v)
{
    ns_t now = clock_ns(v->vm->c.clock), end = v->timer.expiry;

    if (!end || timer_mode(v) == TIMER_DEADLINE)
        return 0;
    /* A periodic one goes on from the initial count (SDM vol 3, 11.5.4), also before its interrupt
     * could be delivered. */
    if (end <= now && v->timer.period)
        end = now + v->timer.period - (now - end) % v->timer.period;
    if (end <= now)
        return 0;
    uint64_t ticks = (end - now) / TICK_NS >> divide_shift(v);
    return ticks > UINT32_MAX ? UINT32_MAX : (uint32_t)ticks;
}

static void deadline_start(struct vcpu *v)
{
    if (!v->s.tsc_deadline) {
        timer_stop(v);
        return;
    }
    v->timer.period = 0;
    v->timer.expiry = clock_ns_of_tsc(v->vm->c.clock, v->s.tsc_deadline - v->s.tsc_off);
    if (sysreg_tsc(v) >= v->s.tsc_deadline)
        soft_request(v, REQ_TIMER);
    else
        timer_arm(v->vm->c.timers, &v->timer.t, v->timer.expiry);
}

int lapic_set_deadline(struct vcpu *v, uint64_t val)
{
    if (timer_mode(v) != TIMER_DEADLINE)
        return SOFT_OK;
    v->s.tsc_deadline = val;
    deadline_start(v);
    return SOFT_OK;
}

void lapic_tsc_moved(struct vcpu *v)
{
    if (timer_mode(v) == TIMER_DEADLINE)
        deadline_start(v);
}

/* --- interrupts --- */

static void set_bit(uint32_t *regs, unsigned vector)
{
    regs[vector / 32] |= 1u << (vector % 32);
}

static void clear_bit(uint32_t *regs, unsigned vector)
{
    regs[vector / 32] &= ~(1u << (vector % 32));
}

static bool test_bit(const uint32_t *regs, unsigned vector)
{
    return regs[vector / 32] >> (vector % 32) & 1;
}

static int highest(const uint32_t *regs)
{
    for (int i = 7; i >= 0; i--)
        if (regs[i])
            return i * 32 + 31 - __builtin_clz(regs[i]);
    return -1;
}

static void fold_posted(struct vcpu *v)
{
    uint32_t *irr = &v->s.lapic[LR_IRR], *tmr = &v->s.lapic[LR_TMR];

    for (unsigned i = 0; i < 8; i++) {
        if (!atomic_load_explicit(&v->irr[i], memory_order_relaxed))
            continue;
        uint32_t x = atomic_exchange(&v->irr[i], 0);
        uint32_t level = atomic_load(&v->irr_level[i]);
        irr[i] |= x;
        tmr[i] = (tmr[i] & ~x) | (level & x);
    }
}

/* Local interrupts (timer, errors) are always edges. */
static void set_local(struct vcpu *v, unsigned vector)
{
    set_bit(&v->s.lapic[LR_IRR], vector);
    clear_bit(&v->s.lapic[LR_TMR], vector);
    v->irq_maybe = true;
    soft_irq_window(v);
}

static void lvt_fire(struct vcpu *v, unsigned reg)
{
    uint32_t lvt = v->s.lapic[reg];

    if (lvt & LVT_MASKED)
        return;
    if ((lvt >> 8 & 7) == DM_NMI)
        soft_request(v, REQ_NMI);
    else if ((lvt & 0xff) >= 16)
        set_local(v, lvt & 0xff);
}

static void lapic_error(struct vcpu *v, uint32_t bit)
{
    if (v->esr & bit)
        return;
    v->esr |= bit;
    lvt_fire(v, LR_LVT_ERROR);
}

/* SDM vol 3A, 10.8.3.1 */
static unsigned ppr(const struct vcpu *v)
{
    unsigned tpr = v->s.lapic[LR_TPR] & 0xff;
    int isr = highest(&v->s.lapic[LR_ISR]);
    unsigned isrv = isr < 0 ? 0 : (unsigned)isr & 0xf0;

    return (tpr & 0xf0) >= isrv ? tpr : isrv;
}

int lapic_pending(struct vcpu *v)
{
    if (!sw_enabled(v))
        return -1;
    fold_posted(v);
    int vector = highest(&v->s.lapic[LR_IRR]);
    return vector >= 0 && (unsigned)vector >> 4 > ppr(v) >> 4 ? vector : -1;
}

void lapic_accept(struct vcpu *v, int vector)
{
    clear_bit(&v->s.lapic[LR_IRR], (unsigned)vector);
    set_bit(&v->s.lapic[LR_ISR], (unsigned)vector);
}

void lapic_timer_expired(struct vcpu *v)
{
    struct lapic_timer *t = &v->timer;
    ns_t now = clock_ns(v->vm->c.clock);

    if (!t->expiry)
        return; /* stopped after it had fired */
    if (timer_mode(v) == TIMER_DEADLINE) {
        if (!v->s.tsc_deadline)
            return;
        if (sysreg_tsc(v) < v->s.tsc_deadline && now < t->expiry) {
            timer_arm(v->vm->c.timers, &t->t, t->expiry);
            return;
        }
        v->s.tsc_deadline = 0;
        t->expiry = 0;
    } else if (now < t->expiry) {
        timer_arm(v->vm->c.timers, &t->t, t->expiry);
        return;
    } else if (t->period) {
        /* Ticks missed while the vCPU did not run are not made up for. */
        t->expiry += t->period;
        if (t->expiry <= now)
            t->expiry = now + t->period;
        timer_arm(v->vm->c.timers, &t->t, t->expiry);
    } else {
        t->expiry = 0;
    }
    lvt_fire(v, LR_LVT_TIMER);
}

bool lapic_takes_extint(const struct vcpu *v)
{
    uint32_t lint0 = v->s.lapic[LR_LVT_LINT0];

    if (!hw_enabled(v))
        return true;
    return !(lint0 & LVT_MASKED) && (lint0 >> 8 & 7) == DM_EXTINT;
}

static void eoi(struct vcpu *v)
{
    int vector = highest(&v->s.lapic[LR_ISR]);

    if (vector < 0)
        return;
    clear_bit(&v->s.lapic[LR_ISR], (unsigned)vector);
    if (test_bit(&v->s.lapic[LR_TMR], (unsigned)vector)) {
        v->eoi[vector / 64] |= 1ull << (vector % 64);
        soft_request(v, REQ_EOI);
    }
    v->irq_maybe = true;
    soft_irq_window(v);
}

void lapic_set_tpr(struct vcpu *v, uint8_t tpr)
{
    v->s.lapic[LR_TPR] = tpr;
    v->irq_maybe = true;
    soft_irq_window(v);
}

/* --- registers: SDM vol 3A, table 10-1 --- */

static const uint32_t lvt_bits[] = {
    [LR_LVT_TIMER] = 0x700ff, [LR_LVT_THERMAL] = 0x107ff, [LR_LVT_PERF] = 0x107ff,
    [LR_LVT_LINT0] = 0x1a7ff, [LR_LVT_LINT1] = 0x1a7ff,   [LR_LVT_ERROR] = 0x100ff,
};

static void write_lvt(struct vcpu *v, unsigned reg, uint32_t val)
{
    unsigned old_mode = timer_mode(v);

    val &= lvt_bits[reg];
    if (!(v->s.lapic[LR_SVR] & SVR_ENABLE))
        val |= LVT_MASKED;
    v->s.lapic[reg] = val;
    if (reg == LR_LVT_TIMER && timer_mode(v) != old_mode) {
        v->s.tsc_deadline = 0;
        timer_stop(v);
    }
    /* An ExtINT that waited for LINT0 */
    v->irq_maybe = true;
    soft_irq_window(v);
}

static void write_svr(struct vcpu *v, uint32_t val)
{
    v->s.lapic[LR_SVR] = val & 0x3ff;
    if (!(val & SVR_ENABLE)) /* SDM vol 3A, 10.4.7.2 */
        for (unsigned r = LR_LVT_TIMER; r <= LR_LVT_ERROR; r++)
            v->s.lapic[r] |= LVT_MASKED;
    publish(v);
    v->irq_maybe = true;
}

static void write_tdcr(struct vcpu *v, uint32_t val)
{
    uint32_t left = timer_left(v);

    v->s.lapic[LR_TDCR] = val & 0xb;
    if (v->timer.expiry && timer_mode(v) != TIMER_DEADLINE)
        timer_start(v, left ? left : 1);
}

/* Registers that both modes write alike. False: no such register. */
static bool write_common(struct vcpu *v, unsigned reg, uint32_t val)
{
    switch (reg) {
    case LR_TPR:
        lapic_set_tpr(v, (uint8_t)val);
        return true;
    case LR_EOI:
        eoi(v);
        return true;
    case LR_SVR:
        write_svr(v, val);
        return true;
    case LR_ESR:
        v->s.lapic[LR_ESR] = v->esr;
        v->esr = 0;
        return true;
    case LR_LVT_TIMER:
    case LR_LVT_THERMAL:
    case LR_LVT_PERF:
    case LR_LVT_LINT0:
    case LR_LVT_LINT1:
    case LR_LVT_ERROR:
        write_lvt(v, reg, val);
        return true;
    case LR_TMICT:
        if (timer_mode(v) != TIMER_DEADLINE) {
            v->s.lapic[LR_TMICT] = val;
            timer_start(v, val);
        }
        return true;
    case LR_TDCR:
        write_tdcr(v, val);
        return true;
    default:
        return false;
    }
}

static bool readable(unsigned reg)
{
    static const uint64_t set =
        1ull << LR_ID | 1ull << LR_VERSION | 1ull << LR_TPR | 1ull << LR_PPR | 1ull << LR_LDR |
        1ull << LR_SVR | 0xffffffull << LR_ISR | 1ull << LR_ESR | 1ull << LR_ICR |
        0x3full << LR_LVT_TIMER | 1ull << LR_TMICT | 1ull << LR_TMCCT | 1ull << LR_TDCR;

    return set >> reg & 1;
}

static uint32_t read_reg(struct vcpu *v, unsigned reg)
{
    if (reg >= LR_IRR && reg < LR_IRR + 8)
        fold_posted(v);
    if (reg == LR_PPR)
        return ppr(v);
    if (reg == LR_TMCCT)
        return timer_left(v);
    return v->s.lapic[reg];
}

bool lapic_claims(const struct vcpu *v, gpa_t gpa)
{
    return !v->bare && hw_enabled(v) && !x2apic(v) &&
           (gpa & ~0xfffull) == (v->s.apic_base & ~0xfffull);
}

void lapic_mmio_read(struct vcpu *v, unsigned off, unsigned len, uint64_t *val)
{
    unsigned reg = off / 16, shift = off % 16;

    *val = 0;
    if (shift + len > 4 || reg >= LAPIC_REGS)
        return;
    if (!readable(reg) && reg != LR_DFR && reg != LR_ICR_HIGH)
        return;
    *val = read_reg(v, reg) >> (8 * shift) & (0xffffffffu >> (32 - 8 * len));
}

void lapic_mmio_write(struct vcpu *v, unsigned off, unsigned len, uint64_t val)
{
    unsigned reg = off / 16;
    uint32_t x = (uint32_t)val;

    if (off % 16 || len != 4 || reg >= LAPIC_REGS)
        return;
    switch (reg) {
    case LR_LDR:
        v->s.lapic[LR_LDR] = x & 0xff000000u;
        publish(v);
        return;
    case LR_DFR:
        v->s.lapic[LR_DFR] = x | 0x0fffffffu;
        publish(v);
        return;
    case LR_ICR:
        v->s.lapic[LR_ICR] = x & ~(1u << 12); /* delivery status: always idle */
        lapic_bus_ipi(v, (uint64_t)v->s.lapic[LR_ICR_HIGH] << 32 | x);
        return;
    case LR_ICR_HIGH:
        v->s.lapic[LR_ICR_HIGH] = x & 0xff000000u;
        return;
    default:
        (void)write_common(v, reg, x); /* others: swallowed */
    }
}

/* --- x2APIC: SDM vol 3A, 10.12 --- */

enum { MSR_X2APIC_BASE = 0x800, X2_SELF_IPI = 0x3f };

static int gp(struct vcpu *v)
{
    return soft_exc_err(v, VEC_GP, 0);
}

int lapic_msr_read(struct vcpu *v, uint32_t idx, uint64_t *val)
{
    unsigned reg = idx - MSR_X2APIC_BASE;

    if (!x2apic(v) || reg >= LAPIC_REGS || !readable(reg))
        return gp(v);
    *val = read_reg(v, reg);
    if (reg == LR_ICR)
        *val |= (uint64_t)v->s.lapic[LR_ICR_HIGH] << 32;
    return SOFT_OK;
}

static bool x2_reserved(unsigned reg, uint64_t val)
{
    if (reg == LR_ICR)
        return val & 0xfff32000u;
    if (val >> 32)
        return true;
    switch (reg) {
    case LR_TPR:
    case X2_SELF_IPI:
        return val & ~0xffull;
    case LR_EOI:
    case LR_ESR:
        return val;
    case LR_SVR:
        return val & ~0x13ffull;
    case LR_TDCR:
        return val & ~0xbull;
    case LR_TMICT:
        return false;
    default:
        if (reg >= LR_LVT_TIMER && reg <= LR_LVT_ERROR) /* bit 12, status, is read-only */
            return val & ~(uint64_t)(lvt_bits[reg] | 1u << 12 | 1u << 14);
        return false;
    }
}

int lapic_msr_write(struct vcpu *v, uint32_t idx, uint64_t val)
{
    unsigned reg = idx - MSR_X2APIC_BASE;

    if (!x2apic(v) || reg >= LAPIC_REGS || x2_reserved(reg, val))
        return gp(v);
    if (reg == LR_ICR) {
        v->s.lapic[LR_ICR] = (uint32_t)val;
        v->s.lapic[LR_ICR_HIGH] = (uint32_t)(val >> 32);
        lapic_bus_ipi(v, val);
        return SOFT_OK;
    }
    if (reg == X2_SELF_IPI) {
        lapic_bus_ipi(v, ICR_SELF | (val & 0xff));
        return SOFT_OK;
    }
    return write_common(v, reg, (uint32_t)val) ? SOFT_OK : gp(v);
}

int lapic_set_base(struct vcpu *v, uint64_t val)
{
    uint64_t old = v->s.apic_base;
    bool en = val & APIC_BASE_EN, extd = val & APIC_BASE_EXTD;

    if (val >> v->vm->c.model->phys_bits || (val & 0x2ff) || (extd && !en))
        return gp(v);
    if ((old & APIC_BASE_EXTD) && en && !extd) /* figure 10-27: x2APIC leaves through disabled */
        return gp(v);
    if (extd && !(old & APIC_BASE_EN))
        return gp(v);
    v->s.apic_base = val;
    if (!en && (old & APIC_BASE_EN)) {
        lapic_init_ipi(v);
        cpu_lapic_reset(&v->s, v->index);
    }
    if (extd && !(old & APIC_BASE_EXTD)) {
        v->s.lapic[LR_ID] = v->index;
        v->s.lapic[LR_LDR] = (v->index >> 4) << 16 | 1u << (v->index & 15);
    }
    publish(v);
    return SOFT_OK;
}

/* --- life --- */

void lapic_init(struct vcpu *v)
{
    v->timer.t.fire = timer_fired;
    v->timer.t.ctx = v;
    publish(v);
}

void lapic_done(struct vcpu *v)
{
    if (v->timer.t.fire && !v->bare)
        timer_cancel(v->vm->c.timers, &v->timer.t);
}

static void forget_posted(struct vcpu *v)
{
    for (unsigned i = 0; i < 8; i++)
        atomic_store(&v->irr[i], 0);
    v->esr = 0;
}

void lapic_init_ipi(struct vcpu *v)
{
    timer_stop(v);
    forget_posted(v);
}

void lapic_load(struct vcpu *v)
{
    if (v->bare)
        return;
    forget_posted(v);
    publish(v);
    v->irq_maybe = true;
    timer_stop(v);
    if (timer_mode(v) == TIMER_DEADLINE)
        deadline_start(v);
    else if (v->s.lapic[LR_TMICT])
        timer_start(v, v->s.lapic[LR_TMCCT]);
}

void lapic_save(struct vcpu *v)
{
    if (v->bare)
        return;
    fold_posted(v);
    /* A timer that fell due but was not yet taken counts as about to fire. */
    uint32_t left = timer_left(v);
    v->s.lapic[LR_TMCCT] = left ? left : v->timer.expiry && timer_mode(v) != TIMER_DEADLINE;
    v->s.lapic[LR_PPR] = ppr(v);
    v->s.lapic[LR_ESR] |= v->esr;
}

void lapic_illegal_vector(struct vcpu *v)
{
    lapic_error(v, ESR_SEND_ILLEGAL);
}
