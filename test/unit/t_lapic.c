#include "cpu/soft/lapicreg.h"
#include "test/unit/softvm.h"

static void on(struct vcpu *v)
{
    lapic_mmio_write(v, LR_SVR * 16, 4, 0x1ff);
}

static uint32_t rd(struct vcpu *v, unsigned reg)
{
    uint64_t x;

    lapic_mmio_read(v, reg * 16, 4, &x);
    return (uint32_t)x;
}

static void wr(struct vcpu *v, unsigned reg, uint32_t x)
{
    lapic_mmio_write(v, reg * 16, 4, x);
}

static struct msi message(uint8_t dest, bool logical, unsigned mode, uint8_t vector, bool level)
{
    return (struct msi){0xfee00000u | (uint64_t)dest << 12 | (logical ? 4 : 0),
                        vector | mode << 8 | (level ? 0xc000u : 0)};
}

static void the_highest_priority_comes_first(void **state)
{
    struct softvm s;

    sv_new(&s, 1);
    assert_int_equal(lapic_pending(s.v), -1); /* off: nothing is taken */
    lapic_bus_msi(s.vm, message(0, false, DM_FIXED, 0x41, false));
    assert_int_equal(lapic_pending(s.v), -1);
    on(s.v);
    lapic_bus_msi(s.vm, message(0, false, DM_FIXED, 0x41, false));
    lapic_bus_msi(s.vm, message(0, false, DM_FIXED, 0x52, false));
    assert_true(atomic_load(&s.v->requests) & REQ_INTR);
    assert_int_equal(lapic_pending(s.v), 0x52);
    lapic_accept(s.v, 0x52);
    assert_int_equal(rd(s.v, LR_PPR), 0x50);
    assert_int_equal(lapic_pending(s.v), -1); /* 0x41 is below what is in service */
    wr(s.v, LR_EOI, 0);
    assert_int_equal(lapic_pending(s.v), 0x41);
    lapic_set_tpr(s.v, 0x40);
    assert_int_equal(lapic_pending(s.v), -1);
    lapic_set_tpr(s.v, 0x3f);
    assert_int_equal(lapic_pending(s.v), 0x41);
    sv_free(&s);
}

static void the_end_of_a_level_interrupt_is_broadcast(void **state)
{
    struct softvm s;

    sv_new(&s, 1);
    on(s.v);
    lapic_bus_msi(s.vm, message(0, false, DM_FIXED, 0x61, true));
    assert_int_equal(lapic_pending(s.v), 0x61);
    lapic_accept(s.v, 0x61);
    wr(s.v, LR_EOI, 0);
    assert_int_equal(s.v->eoi[1], 1ull << (0x61 - 64));
    assert_true(atomic_load(&s.v->requests) & REQ_EOI);
    lapic_bus_msi(s.vm, message(0, false, DM_FIXED, 0x62, false));
    assert_int_equal(lapic_pending(s.v), 0x62);
    lapic_accept(s.v, 0x62);
    wr(s.v, LR_EOI, 0);
    assert_int_equal(s.v->eoi[1], 1ull << (0x61 - 64)); /* an edge makes none */
    sv_free(&s);
}

/* Which of the four CPUs got vector 0x77? As a bit mask; clears it. */
static unsigned reached(struct softvm *s)
{
    unsigned set = 0;

    for (unsigned i = 0; i < 4; i++) {
        if (lapic_pending(s->cpu[i]) == 0x77) {
            set |= 1u << i;
            s->cpu[i]->s.lapic[LR_IRR + 3] = 0;
        }
    }
    return set;
}

static void messages_find_their_destinations(void **state)
{
    struct softvm s;

    sv_new(&s, 4);
    for (unsigned i = 0; i < 4; i++) {
        on(s.cpu[i]);
        wr(s.cpu[i], LR_LDR, 1u << (24 + i));
    }
    lapic_bus_msi(s.vm, message(2, false, DM_FIXED, 0x77, false));
    assert_int_equal(reached(&s), 4);
    lapic_bus_msi(s.vm, message(0xff, false, DM_FIXED, 0x77, false));
    assert_int_equal(reached(&s), 15);
    lapic_bus_msi(s.vm, message(0x0a, true, DM_FIXED, 0x77, false)); /* flat */
    assert_int_equal(reached(&s), 10);
    lapic_bus_msi(s.vm, message(0x0e, true, DM_LOWEST, 0x77, false));
    unsigned one = reached(&s);
    assert_true(one == 2 || one == 4 || one == 8);
    for (unsigned i = 0; i < 4; i++) { /* clusters of two */
        wr(s.cpu[i], LR_DFR, 0);
        wr(s.cpu[i], LR_LDR, ((i / 2) << 28) | 1u << (24 + i % 2));
    }
    lapic_bus_msi(s.vm, message(0x13, true, DM_FIXED, 0x77, false));
    assert_int_equal(reached(&s), 12);
    lapic_bus_msi(s.vm, message(0x02, true, DM_FIXED, 0x77, false));
    assert_int_equal(reached(&s), 2);
    lapic_bus_msi(s.vm, message(9, false, DM_FIXED, 0x77, false)); /* nobody */
    assert_int_equal(reached(&s), 0);
    wr(s.cpu[1], LR_ICR, 0xc0077); /* all but self */
    assert_int_equal(reached(&s), 13);
    wr(s.cpu[1], LR_ICR, 0x80077);
    assert_int_equal(reached(&s), 15);
    wr(s.cpu[1], LR_ICR, 0x40077);
    assert_int_equal(reached(&s), 2);
    sv_free(&s);
}

static void x2apic_is_reached_through_msrs(void **state)
{
    struct softvm s;
    uint64_t x;

    sv_new(&s, 4);
    assert_int_equal(lapic_msr_read(s.v, 0x802, &x), SOFT_FAULT); /* not yet */
    for (unsigned i = 0; i < 4; i++) {
        on(s.cpu[i]);
        assert_int_equal(lapic_set_base(s.cpu[i], s.cpu[i]->s.apic_base | 1 << 10), SOFT_OK);
    }
    assert_false(lapic_claims(s.v, 0xfee00000));
    assert_int_equal(lapic_msr_read(s.cpu[3], 0x802, &x), SOFT_OK);
    assert_int_equal(x, 3);
    assert_int_equal(lapic_msr_read(s.cpu[3], 0x80d, &x), SOFT_OK);
    assert_int_equal(x, 8);
    assert_int_equal(lapic_msr_write(s.v, 0x830, 3ull << 32 | 0x77), SOFT_OK);
    assert_int_equal(reached(&s), 8);
    assert_int_equal(lapic_msr_write(s.v, 0x830, 6ull << 32 | 0x877),
                     SOFT_OK); /* logical: 1 and 2 */
    assert_int_equal(reached(&s), 6);
    assert_int_equal(lapic_msr_write(s.v, 0x830, 0xffffffffull << 32 | 0x77), SOFT_OK);
    assert_int_equal(reached(&s), 15);
    assert_int_equal(lapic_msr_write(s.v, 0x83f, 0x77), SOFT_OK); /* self */
    assert_int_equal(reached(&s), 1);
    assert_int_equal(lapic_msr_write(s.v, 0x80b, 1), SOFT_FAULT); /* EOI takes 0 only */
    assert_int_equal(lapic_msr_write(s.v, 0x802, 1), SOFT_FAULT);
    assert_int_equal(lapic_msr_read(s.v, 0x80e, &x), SOFT_FAULT); /* no DFR */
    assert_int_equal(lapic_msr_read(s.v, 0x831, &x), SOFT_FAULT);
    assert_int_equal(lapic_msr_write(s.v, 0x808, 0x100), SOFT_FAULT);
    assert_int_equal(lapic_set_base(s.v, s.v->s.apic_base & ~(1ull << 10)), SOFT_FAULT);
    assert_int_equal(lapic_set_base(s.v, s.v->s.apic_base & ~(3ull << 10)), SOFT_OK);
    assert_int_equal(lapic_set_base(s.v, s.v->s.apic_base | 3ull << 10),
                     SOFT_FAULT); /* through xAPIC only */
    sv_free(&s);
}

static bool fire(struct softvm *s, unsigned vector)
{
    timerq_run(&s->timers, clock_ns(&s->clock));
    if (!(atomic_fetch_and(&s->v->requests, ~(uint32_t)REQ_TIMER) & REQ_TIMER))
        return false;
    lapic_timer_expired(s->v);
    if (lapic_pending(s->v) != (int)vector)
        return false;
    s->v->s.lapic[LR_IRR + vector / 32] = 0;
    return true;
}

static void one_shot_and_periodic_timers_fire(void **state)
{
    struct softvm s;

    sv_new(&s, 1);
    on(s.v);
    wr(s.v, LR_TDCR, 0x3); /* by 16 */
    wr(s.v, LR_LVT_TIMER, 0x40);
    wr(s.v, LR_TMICT, 100000);
    s.now += 800000;
    assert_int_equal(rd(s.v, LR_TMCCT), 50000);
    assert_false(fire(&s, 0x40));
    s.now += 799999;
    assert_false(fire(&s, 0x40));
    s.now += 1;
    assert_true(fire(&s, 0x40));
    assert_int_equal(rd(s.v, LR_TMCCT), 0);
    s.now += 10000000;
    assert_false(fire(&s, 0x40));
    wr(s.v, LR_LVT_TIMER, 0x20041);
    wr(s.v, LR_TMICT, 100000);
    for (unsigned i = 0; i < 3; i++) {
        s.now += 1600000;
        assert_true(fire(&s, 0x41));
    }
    wr(s.v, LR_TMICT, 1); /* as fast as can be: held to a floor */
    s.now += 99999;
    assert_false(fire(&s, 0x41));
    s.now += 1;
    assert_true(fire(&s, 0x41));
    wr(s.v, LR_TMICT, 0);
    s.now += 10000000;
    assert_false(fire(&s, 0x41));
    sv_free(&s);
}

static void the_deadline_timer_goes_by_the_tsc(void **state)
{
    struct softvm s;
    uint64_t x;

    sv_new(&s, 1);
    on(s.v);
    assert_int_equal(lapic_set_deadline(s.v, 5000), SOFT_OK);
    assert_int_equal(s.v->s.tsc_deadline, 0); /* not in that mode */
    wr(s.v, LR_LVT_TIMER, 0x40042);
    assert_int_equal(msr_write(s.v, 0x10, 1000000), SOFT_OK); /* the guest moved its TSC */
    assert_int_equal(msr_read(s.v, 0x3b, &x), SOFT_OK);
    assert_int_equal(x, 1000000);
    assert_int_equal(lapic_set_deadline(s.v, 1005000), SOFT_OK);
    s.now += 4999;
    assert_false(fire(&s, 0x42));
    s.now += 1;
    assert_true(fire(&s, 0x42));
    assert_int_equal(s.v->s.tsc_deadline, 0);
    assert_int_equal(lapic_set_deadline(s.v, 7), SOFT_OK); /* past */
    assert_true(fire(&s, 0x42));
    assert_int_equal(lapic_set_deadline(s.v, 2000000), SOFT_OK);
    wr(s.v, LR_LVT_TIMER, 0x42); /* leaving the mode disarms */
    s.now += 10000000;
    assert_false(fire(&s, 0x42));
    sv_free(&s);
}

static void a_timer_survives_a_save(void **state)
{
    struct cpu_state saved;
    struct softvm s;
    struct err e;

    sv_new(&s, 1);
    on(s.v);
    wr(s.v, LR_TDCR, 0xb);
    wr(s.v, LR_LVT_TIMER, 0x40);
    wr(s.v, LR_TMICT, 100000);
    s.now += 60000;
    lapic_bus_msi(s.vm, message(0, false, DM_FIXED, 0x55, true));
    assert_int_equal(soft_get(s.v, &saved, &e), 0);
    assert_int_equal(saved.lapic[LR_TMCCT], 40000);
    assert_int_equal(saved.lapic[LR_IRR + 2], 1u << 0x15); /* the posted one is in it */
    assert_int_equal(saved.lapic[LR_TMR + 2], 1u << 0x15);
    s.now += 1000000;
    wr(s.v, LR_TMICT, 0);
    assert_int_equal(soft_set(s.v, &saved, &e), 0);
    s.now += 39999;
    timerq_run(&s.timers, clock_ns(&s.clock));
    assert_false(atomic_load(&s.v->requests) & REQ_TIMER);
    s.now += 1;
    timerq_run(&s.timers, clock_ns(&s.clock));
    assert_true(atomic_load(&s.v->requests) & REQ_TIMER);
    assert_int_equal(lapic_pending(s.v), 0x55);
    sv_free(&s);
}

static void odd_accesses_do_nothing(void **state)
{
    struct softvm s;
    uint64_t x;

    sv_new(&s, 1);
    on(s.v);
    for (unsigned off = 0; off < 0x1000; off++) {
        for (unsigned len = 1; len <= 8; len *= 2) {
            lapic_mmio_read(s.v, off, len, &x);
            if (off / 16 != LR_ICR) /* it may send us to sleep */
                lapic_mmio_write(s.v, off, len, UINT64_MAX);
        }
    }
    for (uint32_t i = 0x800; i < 0x900; i++) {
        (void)lapic_msr_read(s.v, i, &x);
        (void)lapic_msr_write(s.v, i, UINT64_MAX);
    }
    lapic_mmio_read(s.v, 0x31, 1, &x); /* byte 1 of the version */
    assert_int_equal(x, 0);
    lapic_mmio_read(s.v, 0x30, 1, &x);
    assert_int_equal(x, 0x14);
    sv_free(&s);
}

int main(void)
{
    const struct CMUnitTest t[] = {
        cmocka_unit_test(the_highest_priority_comes_first),
        cmocka_unit_test(the_end_of_a_level_interrupt_is_broadcast),
        cmocka_unit_test(messages_find_their_destinations),
        cmocka_unit_test(x2apic_is_reached_through_msrs),
        cmocka_unit_test(one_shot_and_periodic_timers_fire),
        cmocka_unit_test(the_deadline_timer_goes_by_the_tsc),
        cmocka_unit_test(a_timer_survives_a_save),
        cmocka_unit_test(odd_accesses_do_nothing),
    };

    return cmocka_run_group_tests(t, NULL, NULL);
}
