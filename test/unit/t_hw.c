/* Buses, timers and the clock, with time played by the test. */
#include <errno.h>
#include <stdlib.h>

#include "hw/bus.h"
#include "hw/clock.h"
#include "hw/timer.h"
#include "state/state.h"
#include "test/unit/t.h"

static uint64_t last_off, last_len, last_val;

static uint64_t rd(void *dev, uint64_t off, unsigned len)
{
    last_off = off;
    last_len = len;
    return 0xaabbccddeeff0011ull;
}

static void wr(void *dev, uint64_t off, unsigned len, uint64_t val)
{
    last_off = off;
    last_len = len;
    last_val = val;
}

static struct bus_region region(const char *name, uint64_t base, uint64_t size, unsigned lens)
{
    return (struct bus_region){name, base, size, lens, rd, wr, NULL};
}

static void a_device_sees_only_what_it_declared(void **state)
{
    struct bus b = {0};
    struct bus_region r = region("dev", 0x100, 0x10, BUS_1 | BUS_4);

    assert_int_equal(bus_add(&b, &r, NULL), 0);
    assert_true(bus_read(&b, 0x104, 4) == 0xeeff0011);
    assert_int_equal(last_off, 4);
    assert_true(bus_read(&b, 0x104, 2) == 0xffff);     /* length not declared */
    assert_true(bus_read(&b, 0x10e, 4) == 0xffffffff); /* leaves the region */
    assert_true(bus_read(&b, 0xff, 1) == 0xff);
    assert_true(bus_read(&b, 0x110, 8) == UINT64_MAX);
    assert_true(bus_read(&b, UINT64_MAX, 8) == UINT64_MAX);
    assert_int_equal(b.unclaimed, 5);
    bus_write(&b, 0x10f, 1, 0x1234);
    assert_true(last_off == 15 && last_val == 0x34);
}

static void regions_may_not_overlap(void **state)
{
    struct bus b = {0};
    struct bus_region ok = region("a", 0x100, 0x10, BUS_1), below = region("b", 0xf0, 0x11, BUS_1),
                      above = region("c", 0x10f, 1, BUS_1), touch = region("d", 0x110, 1, BUS_1),
                      wrap = region("e", UINT64_MAX, 2, BUS_1),
                      last = region("f", UINT64_MAX, 1, BUS_1);

    assert_int_equal(bus_add(&b, &ok, NULL), 0);
    assert_int_equal(bus_add(&b, &below, NULL), -EEXIST);
    assert_int_equal(bus_add(&b, &above, NULL), -EEXIST);
    assert_int_equal(bus_add(&b, &touch, NULL), 0);
    assert_int_equal(bus_add(&b, &wrap, NULL), -EINVAL);
    assert_int_equal(bus_add(&b, &last, NULL), 0);
    assert_true(bus_read(&b, UINT64_MAX, 1) == 0x11);
}

static char order[16];
static unsigned fired;
static void fire(void *ctx)
{
    order[fired++] = *(char *)ctx;
}

static void timers_fire_in_the_order_of_their_deadlines(void **state)
{
    struct timerq q;
    struct timer t[5];
    char names[] = "abcde";
    ns_t at[] = {50, 10, 40, 20, 30};

    timerq_init(&q, NULL, NULL);
    for (int i = 0; i < 5; i++) {
        t[i] = (struct timer){.fire = fire, .ctx = &names[i]};
        timer_arm(&q, &t[i], at[i]);
    }
    timer_cancel(&q, &t[2]);
    timer_cancel(&q, &t[2]); /* twice is fine */
    timer_arm(&q, &t[0], 5); /* again: moves */
    assert_int_equal(timerq_next(&q), 5);
    assert_int_equal(timerq_run(&q, 25), 3);
    assert_memory_equal(order, "abd", 3);
    assert_true(timer_armed(&q, &t[4]));
    assert_int_equal(timerq_run(&q, 1000), 1);
    assert_int_equal(timerq_next(&q), TIMER_NEVER);
    timerq_done(&q);
}

static void the_heap_sorts_any_order(void **state)
{
    enum { N = 300 };
    static struct timer t[N];
    static char name = 'x';
    struct timerq q;
    ns_t before = 0;

    timerq_init(&q, NULL, NULL);
    srand(1);
    for (int i = 0; i < N; i++) {
        t[i] = (struct timer){.fire = fire, .ctx = &name};
        timer_arm(&q, &t[i], (ns_t)rand());
    }
    for (int i = 0; i < N; i += 3)
        timer_cancel(&q, &t[i]);
    for (ns_t d; (d = timerq_next(&q)) != TIMER_NEVER;) {
        assert_true(d >= before);
        before = d;
        fired = 0;
        assert_true(timerq_run(&q, d) >= 1);
    }
    timerq_done(&q);
}

struct fake {
    uint64_t ns, tsc, wall;
};
static uint64_t f_ns(void *c)
{
    return ((struct fake *)c)->ns;
}
static uint64_t f_tsc(void *c)
{
    return ((struct fake *)c)->tsc;
}
static uint64_t f_wall(void *c)
{
    return ((struct fake *)c)->wall;
}

static void a_stopped_clock_stands_and_goes_on_where_it_stood(void **state)
{
    struct fake f = {1000, 5000, 9};
    struct clock_source s = {f_ns, f_tsc, f_wall, &f, 1000000};
    struct clock c;

    clock_init(&c, &s, 2000000); /* the guest's TSC runs at twice the host's rate */
    f.ns += 100;
    f.tsc += 100;
    assert_int_equal(clock_ns(&c), 100);
    assert_int_equal(clock_tsc(&c), 200);
    clock_stop(&c);
    f.ns += 1000000;
    f.tsc += 77;
    assert_int_equal(clock_ns(&c), 100);
    assert_int_equal(clock_tsc(&c), 200);
    clock_start(&c);
    assert_int_equal(clock_tsc(&c), 200);
    f.ns += 7;
    f.tsc += 7;
    assert_int_equal(clock_ns(&c), 107);
    assert_int_equal(clock_tsc(&c), 214);
    assert_int_equal(clock_ns_of_tsc(&c, 214 + 2000), 107 + 1000);
    assert_int_equal(clock_ns_of_tsc(&c, 3), 107);
}

static void a_clock_moves_to_another_host(void **state)
{
    struct fake f = {10, 20, 30}, g = {1 << 30, 1 << 20, 30};
    struct clock_source s = {f_ns, f_tsc, f_wall, &f, 1000000},
                        s2 = {f_ns, f_tsc, f_wall, &g, 500000};
    struct clock a, b;
    struct state_io io;
    uint8_t *buf;
    size_t len;

    clock_init(&a, &s, 0);
    f.ns += 50;
    f.tsc += 60;
    clock_stop(&a);
    state_save_init(&io);
    clock_visit(&a, &io);
    assert_int_equal(state_take(&io, &buf, &len, NULL), 0);
    clock_init(&b, &s2, 0);
    clock_stop(&b);
    state_load_init(&io, buf, len);
    clock_visit(&b, &io);
    assert_int_equal(state_done(&io, NULL), 0);
    clock_start(&b);
    g.tsc += 5;
    assert_int_equal(clock_ns(&b), 50);
    assert_int_equal(clock_tsc(&b), 70); /* 5 ticks of a host half as fast */
    free(buf);
}

static void the_hosts_clock_is_plausible(void **state)
{
    const struct clock_source *s = clock_host();

    assert_in_range(s->tsc_khz, 100000, 10000000);
    assert_ptr_equal(s, clock_host());
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_device_sees_only_what_it_declared),
        cmocka_unit_test(regions_may_not_overlap),
        cmocka_unit_test(timers_fire_in_the_order_of_their_deadlines),
        cmocka_unit_test(the_heap_sorts_any_order),
        cmocka_unit_test(a_stopped_clock_stands_and_goes_on_where_it_stood),
        cmocka_unit_test(a_clock_moves_to_another_host),
        cmocka_unit_test(the_hosts_clock_is_plausible),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
