/* The run loop: requests, events, then guest code. */
#include "cpu/soft/soft.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "cpu/soft/event.h"
#include "cpu/soft/lapic.h"
#include "cpu/soft/mmu.h"

enum { DR6_BS = 1u << 14 };
enum { GO_ON = 0, LEAVE = 1 }; /* what a step of the loop says; LEAVE: *v->exit is filled */

static int leave(struct vcpu *v, enum cpu_exit_kind kind)
{
    v->exit->kind = kind;
    v->stats.exits[kind]++;
    return LEAVE;
}

static int leave_stuck(struct vcpu *v)
{
    snprintf(v->exit->u.stuck.why, sizeof(v->exit->u.stuck.why), "%s", v->stuck);
    return leave(v, CPU_EXIT_STUCK);
}

/* An instruction may be half done: until it is finished nothing else may happen. */
static bool mid_instruction(const struct vcpu *v)
{
    return v->mmio.n != 0;
}

/* --- INIT, SIPI --- */

static void take_init(struct vcpu *v)
{
    lapic_init_ipi(v);
    cpu_state_reset(&v->s, v->index, true);
    soft_insn_done(v);
    soft_mode_update(v);
    /* In the world: who stops it takes write rights out of this TLB. */
    soft_world_enter(v);
    mmu_flush_all(v);
    soft_world_leave(v);
}

static void take_sipi(struct vcpu *v)
{
    uint32_t x = atomic_exchange(&v->sipi, 0);

    if (v->s.mp != MP_WAIT_SIPI || !(x & 0x100))
        return;
    v->s.seg[SEG_CS].sel = (uint16_t)((x & 0xff) << 8);
    v->s.seg[SEG_CS].base = (x & 0xff) << 12;
    v->s.rip = 0;
    v->s.mp = MP_RUNNING;
    soft_mode_update(v);
}

/* Report one pending EOI broadcast. */
static int report_eoi(struct vcpu *v)
{
    for (unsigned i = 0; i < 4; i++) {
        if (v->eoi[i]) {
            unsigned bit = (unsigned)__builtin_ctzll(v->eoi[i]);

            v->eoi[i] &= v->eoi[i] - 1;
            v->exit->u.eoi.vector = (uint8_t)(i * 64 + bit);
            return leave(v, CPU_EXIT_EOI);
        }
    }
    atomic_fetch_and(&v->requests, ~(uint32_t)REQ_EOI);
    return GO_ON;
}

static int take_requests(struct vcpu *v)
{
    uint32_t req = atomic_load(&v->requests);

    if ((req & REQ_EOI) && report_eoi(v) == LEAVE)
        return LEAVE;
    if (req & REQ_KICK) {
        atomic_fetch_and(&v->requests, ~(uint32_t)REQ_KICK);
        return leave(v, CPU_EXIT_KICKED);
    }
    req &= REQ_INTR | REQ_NMI | REQ_INIT | REQ_SIPI | REQ_TIMER | REQ_STOP | REQ_FLUSH;
    if (req)
        atomic_fetch_and(&v->requests, ~req);
    if (!v->step && (atomic_load(&v->requests) & REQ_STEP))
        atomic_fetch_and(&v->requests, ~(uint32_t)REQ_STEP);
    if (req & REQ_INIT)
        take_init(v);
    if (req & REQ_SIPI)
        take_sipi(v);
    if (req & REQ_NMI)
        v->s.nmi_pending = true;
    if (req & REQ_TIMER)
        lapic_timer_expired(v);
    if (req & REQ_FLUSH) {
        soft_world_enter(v);
        mmu_flush_write(v);
        soft_world_leave(v);
    }
    if (req & (REQ_INTR | REQ_TIMER))
        v->irq_maybe = true;
    return GO_ON;
}

/* --- events --- */

static int delivered(struct vcpu *v, int r)
{
    v->in_delivery = false;
    soft_insn_done(v);
    if (r == SOFT_SHUTDOWN)
        return leave(v, CPU_EXIT_SHUTDOWN);
    return GO_ON;
}

static int deliver_exc(struct vcpu *v)
{
    v->stats.exceptions++;
    v->stats.vectors[v->exc.vector & 31]++;
    soft_insn_done(v);
    v->in_delivery = true;
    soft_world_enter(v); /* frames are written through the TLB */
    int r = event_deliver_exc(v);
    soft_world_leave(v);
    return delivered(v, r);
}

static int deliver(struct vcpu *v, enum event_kind kind, unsigned vector)
{
    v->stats.interrupts++;
    v->in_delivery = true;
    soft_world_enter(v);
    int r = event_deliver(v, kind, vector, false, 0);
    soft_world_leave(v);
    return delivered(v, r);
}

/* The vector of a maskable interrupt that can be taken now; it is in service then. -1 = none. */
static int take_interrupt(struct vcpu *v)
{
    int vector = lapic_pending(v);

    if (vector >= 0) {
        lapic_accept(v, vector);
        return vector;
    }
    if (atomic_load(&v->vm->extint) && v->vm->pic_ack && lapic_takes_extint(v))
        return v->vm->pic_ack(v->vm->pic_ctx);
    v->irq_maybe = false;
    return -1;
}

/* Priorities: SDM vol 3A, table 6-2. One event a call; interrupts wait for the next boundary. */
static int take_events(struct vcpu *v)
{
    struct cpu_state *s = &v->s;

    if (s->exc_pending) { /* came with loaded state */
        s->exc_pending = false;
        v->exc = (struct soft_exc){
            .vector = s->exc_vector,
            .has_error = s->exc_has_error,
            .error = s->exc_error,
            .cr2 = s->cr2, /* loaded state holds CR2 and DR6 of the exception already */
        };
        return deliver_exc(v);
    }
    if (s->irq_injecting) {
        s->irq_injecting = false;
        return deliver(v, EVENT_INTERRUPT, s->irq_vector);
    }
    if (s->mp == MP_WAIT_SIPI)
        return GO_ON;
    if (s->nmi_pending && !s->nmi_masked && !s->ss_shadow) {
        s->nmi_pending = false;
        s->nmi_masked = true;
        s->mp = MP_RUNNING;
        return deliver(v, EVENT_NMI, VEC_NMI);
    }
    if (v->irq_maybe && (s->rflags & FL_IF) && !s->sti_shadow && !s->ss_shadow) {
        int vector = take_interrupt(v);

        if (vector >= 0) {
            s->mp = MP_RUNNING;
            return deliver(v, EVENT_INTERRUPT, (unsigned)vector & 0xff);
        }
    }
    return GO_ON;
}

/* --- guest code --- */

enum { DR7_L0 = 1, DR7_RW0 = 16 };

/* Instruction breakpoints: SDM vol 3A, 17.2.4 and 17.3.1.1. DR6 bits that match RIP, 0 = none. */
static uint64_t code_breakpoints(const struct vcpu *v)
{
    const struct cpu_state *s = &v->s;
    uint64_t lin = s->rip + ((v->mode & MODE_CS) == MODE_CS64 ? 0 : s->seg[SEG_CS].base);
    uint64_t hit = 0;

    if ((s->rflags & FL_RF) || s->ss_shadow)
        return 0;
    for (unsigned i = 0; i < 4; i++) {
        bool on = s->dr[7] & (3ull << (2 * i));

        if (on && !(s->dr[7] >> (16 + 4 * i) & 0xf) && s->dr[i] == lin)
            hit |= 1ull << i;
    }
    return hit;
}

/* One instruction. After it a single-step trap may be due. */
static int step(struct vcpu *v)
{
    struct cpu_state *s = &v->s;
    bool tf = s->rflags & FL_TF;
    bool sti = s->sti_shadow, ss = s->ss_shadow;
    uint64_t rf = s->rflags & FL_RF;
    uint64_t bp = mid_instruction(v) ? 0 : code_breakpoints(v);
    uint64_t trap;

    if (bp) {
        v->exc = (struct soft_exc){.vector = VEC_DB, .dr6 = bp};
        return SOFT_FAULT;
    }
    if (!ss)
        v->watch_hit = 0; /* what MOV SS met waits with its shadow */
    s->sti_shadow = s->ss_shadow = false;
    s->rflags &= ~(uint64_t)FL_RF; /* IRET may set it for the instruction after it */
    v->tf_after = false;
    v->stop_after = true;
    int r = v->vm->ops->exec(v);
    v->stop_after = false;
    if (r == SOFT_EXIT) {
        s->sti_shadow = sti;
        s->ss_shadow = ss;
        s->rflags |= rf;
        return r;
    }
    if (r != SOFT_BREAK)
        return r;
    if (v->tf_after)
        tf = s->rflags & FL_TF;
    trap = (tf ? DR6_BS : 0) | v->watch_hit;
    return trap && !s->ss_shadow ? soft_exc_db_trap(v, trap) : r;
}

static int run_code(struct vcpu *v)
{
    struct cpu_state *s = &v->s;
    int r;

    soft_world_enter(v);
    if (v->step || s->sti_shadow || s->ss_shadow || mid_instruction(v))
        r = step(v);
    else
        r = v->vm->ops->exec(v);
    soft_world_leave(v);
    switch (r) {
    case SOFT_BREAK:
        soft_insn_done(v);
        return GO_ON;
    case SOFT_FAULT:
        return deliver_exc(v);
    case SOFT_EXIT:
        v->stats.exits[v->exit->kind]++;
        return LEAVE;
    case SOFT_SHUTDOWN:
        soft_insn_done(v);
        return leave(v, CPU_EXIT_SHUTDOWN);
    case SOFT_STUCK:
        return leave_stuck(v);
    default:
        BUG("an engine left its loop without a reason");
    }
}

int soft_run(struct vcpu *v, struct cpu_exit *x, struct err *e)
{
    int r = GO_ON;

    v->exit = x;
    if (v->exit_pending)
        soft_answered(v, x);
    while (r == GO_ON) {
        if (mid_instruction(v)) {
            r = run_code(v);
            continue;
        }
        if (atomic_load_explicit(&v->requests, memory_order_relaxed)) {
            r = take_requests(v);
            if (r != GO_ON)
                break;
        }
        r = take_events(v);
        if (r != GO_ON)
            break;
        if (v->s.mp == MP_RUNNING)
            r = run_code(v);
        else
            soft_wait(v);
    }
    v->exit = NULL;
    return 0;
}
