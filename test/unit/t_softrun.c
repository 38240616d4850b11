/* The run loop with an executor that does what a test says. */
#include <pthread.h>
#include <unistd.h>

#include "cpu/soft/lapicreg.h"
#include "test/unit/softvm.h"

static unsigned steps; /* instructions "executed" */

static int one_step(struct vcpu *v)
{
    steps++;
    v->s.rip++;
    return SOFT_BREAK;
}

static int until_asked(struct vcpu *v)
{
    while (!v->stop_after && !atomic_load(&v->requests))
        v->s.rip++;
    return one_step(v);
}

static int reads_a_device(struct vcpu *v)
{
    uint32_t x;
    int r = mmu_ld32(v, 0xd0000000, &x);

    if (r)
        return r;
    v->s.gpr[RAX] = x;
    return one_step(v);
}

static int halts(struct vcpu *v)
{
    v->s.mp = MP_HALTED;
    return one_step(v);
}

static struct cpu_exit run(struct softvm *s, struct cpu_exit x)
{
    struct err e;

    assert_int_equal(soft_run(s->v, &x, &e), 0);
    return x;
}

static const struct cpu_exit none;

static void a_kick_sticks(void **state)
{
    struct softvm s;

    sv_new(&s, 1);
    sv_exec = until_asked;
    soft_kick(s.v);
    soft_kick(s.v);
    steps = 0;
    assert_int_equal(run(&s, none).kind, CPU_EXIT_KICKED);
    assert_int_equal(steps, 0);
    soft_kick(s.v); /* one more is one more */
    assert_int_equal(run(&s, none).kind, CPU_EXIT_KICKED);
    sv_free(&s);
}

static void a_kicked_vcpu_first_finishes_its_instruction(void **state)
{
    struct cpu_state saved;
    struct softvm s;
    struct err e;

    sv_new(&s, 1);
    sv_exec = reads_a_device;
    steps = 0;
    struct cpu_exit x = run(&s, none);
    assert_int_equal(x.kind, CPU_EXIT_MMIO);
    assert_true(soft_get(s.v, &saved, &e) < 0); /* in mid-instruction */
    x.u.mmio.val = 0x77;
    soft_kick(s.v);
    x = run(&s, x);
    assert_int_equal(x.kind, CPU_EXIT_KICKED);
    assert_int_equal(steps, 1);
    assert_int_equal(s.v->s.gpr[RAX], 0x77);
    assert_int_equal(soft_get(s.v, &saved, &e), 0);
    sv_free(&s);
}

static void an_eoi_is_reported_before_the_kick(void **state)
{
    struct softvm s;

    sv_new(&s, 1);
    sv_exec = until_asked;
    s.v->eoi[1] = 1 << 5 | 1 << 9;
    soft_request(s.v, REQ_EOI | REQ_KICK);
    struct cpu_exit x = run(&s, none);
    assert_int_equal(x.kind, CPU_EXIT_EOI);
    assert_int_equal(x.u.eoi.vector, 64 + 5);
    x = run(&s, x);
    assert_int_equal(x.u.eoi.vector, 64 + 9);
    assert_int_equal(run(&s, x).kind, CPU_EXIT_KICKED);
    sv_free(&s);
}

/* Real mode: vector n goes to 0x100 + n. */
static void real_mode(struct softvm *s)
{
    for (uint32_t i = 0; i < 256; i++)
        sv_put(s, i * 4, &(uint32_t){0x100 + i}, 4);
    s->v->s.idtr = (struct x86_table){0, 0x3ff};
    s->v->s.gpr[RSP] = 0x8000;
    s->v->s.seg[SEG_CS].sel = 0;
    s->v->s.seg[SEG_CS].base = 0;
    s->v->s.rip = 0x4000;
    lapic_mmio_write(s->v, LR_SVR * 16, 4, 0x1ff);
}

static int kicks_itself(struct vcpu *v)
{
    soft_request(v, REQ_KICK);
    return SOFT_BREAK;
}

static void an_interrupt_waits_for_the_sti_shadow(void **state)
{
    struct softvm s;

    sv_new(&s, 1);
    real_mode(&s);
    sv_exec = kicks_itself;
    s.v->s.rflags |= FL_IF;
    s.v->s.sti_shadow = true;
    lapic_bus_msi(s.vm, (struct msi){0xfee00000, 0x40});
    assert_int_equal(run(&s, none).kind, CPU_EXIT_KICKED);
    assert_int_equal(s.v->s.rip, 0x4000); /* one instruction passed first */
    assert_false(s.v->s.sti_shadow);
    assert_int_equal(run(&s, none).kind, CPU_EXIT_KICKED);
    assert_int_equal(s.v->s.rip, 0x140);
    assert_false(s.v->s.rflags & FL_IF);
    sv_free(&s);
}

static void the_nmi_comes_before_interrupts_and_masks_itself(void **state)
{
    struct softvm s;

    sv_new(&s, 1);
    real_mode(&s);
    sv_exec = kicks_itself;
    s.v->s.rflags |= FL_IF;
    lapic_bus_msi(s.vm, (struct msi){0xfee00000, 0x40});
    soft_request(s.v, REQ_NMI);
    run(&s, none);
    assert_int_equal(s.v->s.rip, 0x102);
    assert_true(s.v->s.nmi_masked);
    soft_request(s.v, REQ_NMI);
    run(&s, none);
    assert_int_equal(s.v->s.rip, 0x102); /* held */
    assert_true(s.v->s.nmi_pending);
    assert_int_equal(event_iret(s.v, 2), SOFT_OK);
    run(&s, none);
    assert_int_equal(s.v->s.rip, 0x102);
    assert_false(s.v->s.nmi_pending);
    sv_free(&s);
}

static void a_state_with_pending_events_delivers_them(void **state)
{
    struct cpu_state st;
    struct softvm s;
    struct err e;

    sv_new(&s, 1);
    real_mode(&s);
    sv_exec = kicks_itself;
    assert_int_equal(soft_get(s.v, &st, &e), 0);
    st.irq_injecting = true;
    st.irq_vector = 0x55;
    assert_int_equal(soft_set(s.v, &st, &e), 0);
    run(&s, none);
    assert_int_equal(s.v->s.rip, 0x155);
    st.irq_injecting = false;
    st.exc_pending = true;
    st.exc_vector = VEC_UD;
    assert_int_equal(soft_set(s.v, &st, &e), 0);
    run(&s, none);
    assert_int_equal(s.v->s.rip, 0x106);
    sv_free(&s);
}

static void an_empty_idt_shuts_down(void **state)
{
    struct softvm s;

    sv_new(&s, 1);
    real_mode(&s);
    s.v->s.idtr.limit = 0;
    sv_exec = until_asked;
    soft_request(s.v, REQ_NMI);
    assert_int_equal(run(&s, none).kind, CPU_EXIT_SHUTDOWN);
    sv_free(&s);
}

static void sipi_starts_a_waiting_vcpu_alone(void **state)
{
    struct softvm s;

    sv_new(&s, 2);
    s.v = s.cpu[1];
    sv_exec = kicks_itself;
    lapic_bus_ipi(s.cpu[0], 1ull << 56 | 0x4500);
    lapic_bus_ipi(s.cpu[0], 1ull << 56 | 0x4612); /* INIT and SIPI arrive together */
    run(&s, none);
    assert_int_equal(s.v->s.mp, MP_RUNNING);
    assert_int_equal(s.v->s.seg[SEG_CS].base, 0x12000);
    assert_int_equal(s.v->s.rip, 0);
    lapic_bus_ipi(s.cpu[0], 1ull << 56 | 0x4634); /* a second SIPI is ignored */
    run(&s, none);
    assert_int_equal(s.v->s.seg[SEG_CS].base, 0x12000);
    sv_free(&s);
}

static void *wake(void *p)
{
    struct softvm *s = p;

    usleep(20000);
    lapic_bus_msi(s->vm, (struct msi){0xfee00000, 0x44}); /* IF is off: must not end the halt */
    usleep(20000);
    soft_kick(s->v);
    return NULL;
}

static void a_halted_vcpu_sleeps_until_something_comes(void **state)
{
    struct softvm s;
    pthread_t t;

    sv_new(&s, 1);
    real_mode(&s);
    sv_exec = halts;
    steps = 0;
    assert_int_equal(pthread_create(&t, NULL, wake, &s), 0);
    assert_int_equal(run(&s, none).kind, CPU_EXIT_KICKED);
    pthread_join(t, NULL);
    assert_int_equal(steps, 1);
    assert_int_equal(s.v->s.mp, MP_HALTED);
    sv_free(&s);
}

static struct softvm *world;

static void *runs_cpu1(void *p)
{
    struct cpu_exit x = {0};
    struct err e;

    (void)!soft_run(world->cpu[1], &x, &e);
    return p;
}

static _Atomic int busy_in, busy_seen;

static int busy(struct vcpu *v)
{
    while (!atomic_load(&v->requests)) {
        atomic_store(&busy_in, 1);
        atomic_fetch_add(&busy_seen, 1);
    }
    atomic_store(&busy_in, 0);
    return SOFT_BREAK;
}

static void a_stopped_world_stands_still(void **state)
{
    struct softvm s;
    pthread_t t;

    sv_new(&s, 2);
    world = &s;
    sv_exec = busy;
    s.cpu[1]->s.mp = MP_RUNNING;
    assert_int_equal(pthread_create(&t, NULL, runs_cpu1, NULL), 0);
    while (!atomic_load(&busy_in))
        ;
    for (unsigned i = 0; i < 50; i++) {
        soft_world_enter(s.v);
        soft_world_stop(s.v);
        int seen = atomic_load(&busy_seen);
        assert_int_equal(atomic_load(&busy_in), 0);
        usleep(100);
        assert_int_equal(atomic_load(&busy_seen), seen);
        soft_world_start(s.v);
        soft_world_leave(s.v);
    }
    soft_kick(s.cpu[1]);
    pthread_join(t, NULL);
    sv_free(&s);
}

int main(void)
{
    const struct CMUnitTest t[] = {
        cmocka_unit_test(a_kick_sticks),
        cmocka_unit_test(a_kicked_vcpu_first_finishes_its_instruction),
        cmocka_unit_test(an_eoi_is_reported_before_the_kick),
        cmocka_unit_test(an_interrupt_waits_for_the_sti_shadow),
        cmocka_unit_test(the_nmi_comes_before_interrupts_and_masks_itself),
        cmocka_unit_test(a_state_with_pending_events_delivers_them),
        cmocka_unit_test(an_empty_idt_shuts_down),
        cmocka_unit_test(sipi_starts_a_waiting_vcpu_alone),
        cmocka_unit_test(a_halted_vcpu_sleeps_until_something_comes),
        cmocka_unit_test(a_stopped_world_stands_still),
    };

    return cmocka_run_group_tests(t, NULL, NULL);
}
