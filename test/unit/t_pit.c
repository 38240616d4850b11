/* The interval timer against a clock the test moves. */
#include "dev/pit.h"

#include <errno.h>

#include "test/unit/fake.h"
#include "test/unit/t.h"

enum { CH0 = 0x40, CH2 = 0x42, CTL = 0x43, P61 = 0x61, MS = 1000000 };

static struct fake f;
static struct bus pio;
static struct pit dev;

static int setup(void **state)
{
    fake_init(&f, 0);
    pio = (struct bus){0};
    pit_init(&dev, &(struct pit_conf){&f.clock, &f.timers, fake_line(&f, 0)});
    assert_int_equal(pit_map(&dev, &pio, NULL), 0);
    return 0;
}

static int teardown(void **state)
{
    pit_done(&dev);
    assert_int_equal(timerq_next(&f.timers), TIMER_NEVER);
    fake_done(&f);
    return 0;
}

static uint8_t in(uint16_t port)
{
    return (uint8_t)bus_read(&pio, port, 1);
}

static void outb(uint16_t port, uint8_t v)
{
    bus_write(&pio, port, 1, v);
}

static void program(unsigned ch, unsigned mode, unsigned count)
{
    outb(CTL, (uint8_t)(ch << 6 | 0x30 | mode << 1));
    outb((uint16_t)(CH0 + ch), (uint8_t)count);
    outb((uint16_t)(CH0 + ch), (uint8_t)(count >> 8));
}

static unsigned latched(unsigned ch)
{
    outb(CTL, (uint8_t)(ch << 6));
    unsigned lo = in((uint16_t)(CH0 + ch));
    return lo | (unsigned)in((uint16_t)(CH0 + ch)) << 8;
}

static void mode_2_interrupts_at_its_rate(void **state)
{
    program(0, 2, 11932); /* 100 Hz */
    f.rises[0] = 0;
    fake_pass(&f, 1000 * (uint64_t)MS);
    assert_in_range(f.rises[0], 99, 100);
}

static void mode_3_interrupts_at_its_rate_and_65536_is_zero(void **state)
{
    program(0, 3, 0); /* 18.2 Hz */
    f.rises[0] = 0;
    fake_pass(&f, 10000 * (uint64_t)MS);
    assert_in_range(f.rises[0], 181, 182);
}

static void mode_0_interrupts_once(void **state)
{
    program(0, 0, 1193);
    assert_false(f.level[0]);
    assert_int_equal(fake_pass(&f, MS / 2), 0);
    assert_int_equal(fake_pass(&f, MS), 1);
    assert_true(f.level[0]);
    fake_pass(&f, 100 * MS);
    assert_int_equal(f.rises[0], 1);
}

static void mode_4_strobes_once(void **state)
{
    program(0, 4, 1193);
    f.rises[0] = 0;
    assert_true(f.level[0]);
    fake_pass(&f, 100 * MS);
    assert_int_equal(f.rises[0], 1);
}

static void a_mode_set_stops_the_interrupts(void **state)
{
    program(0, 2, 1193);
    outb(CTL, 0x34);
    f.rises[0] = 0;
    assert_int_equal(fake_pass(&f, 100 * MS), 0);
    assert_int_equal(f.rises[0], 0);
}

static void a_guest_cannot_ask_for_a_storm(void **state)
{
    program(0, 2, 1);
    assert_in_range(fake_pass(&f, 10 * MS), 50, 110);
    program(0, 3, 2);
    assert_in_range(fake_pass(&f, 10 * MS), 50, 110);
}

static void a_latched_count_holds_until_read(void **state)
{
    program(2, 0, 0xffff);
    outb(P61, 1);
    fake_pass(&f, MS);
    outb(CTL, 0x80);
    fake_pass(&f, MS);
    unsigned lo = in(CH2), v = lo | (unsigned)in(CH2) << 8;
    assert_in_range(v, 0xffff - 1194, 0xffff - 1192);
    assert_in_range(latched(2), 0xffff - 2388, 0xffff - 2385);
}

static void channel_2_counts_while_its_gate_is_high(void **state)
{
    outb(P61, 0);
    program(2, 0, 11932); /* 10 ms, as calibration loops do */
    assert_int_equal(in(P61)&0x20, 0);
    fake_pass(&f, 50 * MS);
    assert_int_equal(latched(2), 11932);
    outb(P61, 1);
    fake_pass(&f, 4 * MS);
    outb(P61, 0);
    fake_pass(&f, 50 * MS);
    outb(P61, 1);
    fake_pass(&f, 5 * MS);
    assert_int_equal(in(P61)&0x21, 1);
    fake_pass(&f, 1 * MS + MS / 10);
    assert_int_equal(in(P61)&0x21, 0x21);
}

static void mode_1_waits_for_its_trigger(void **state)
{
    outb(P61, 0);
    program(2, 1, 1193);
    assert_int_equal(in(P61)&0x20, 0x20);
    outb(P61, 1);
    assert_int_equal(in(P61)&0x20, 0);
    fake_pass(&f, 2 * MS);
    assert_int_equal(in(P61)&0x20, 0x20);
}

static void read_back_gives_status_then_count(void **state)
{
    program(0, 3, 1000);
    outb(CTL, 0xc2); /* count and status of channel 0 */
    assert_int_equal(in(CH0), 0xb6);
    unsigned lo = in(CH0);
    assert_int_equal(lo | (unsigned)in(CH0) << 8, 1000);
    outb(CTL, 0x34);
    outb(CTL, 0xe2);
    assert_int_equal(in(CH0), 0xf4); /* null count: nothing loaded yet */
}

static void bcd_counts_in_decimal(void **state)
{
    outb(CTL, 0xb1); /* channel 2, mode 0, BCD */
    outb(CH2, 0x00);
    outb(CH2, 0x10); /* 1000 */
    outb(P61, 1);
    fake_pass(&f, MS / 2); /* 596 ticks */
    assert_in_range(latched(2), 0x403, 0x405);
}

static void the_refresh_bit_toggles(void **state)
{
    unsigned changes = 0, last = in(P61)&0x10;

    for (int i = 0; i < 1000; i++) {
        fake_pass(&f, 1000);
        changes += (in(P61)&0x10u) != last;
        last = in(P61)&0x10;
    }
    assert_in_range(changes, 60, 70);
}

static void visit(void *p, struct state_io *io)
{
    pit_visit(p, io);
}

static void it_saves_and_loads_and_goes_on(void **state)
{
    struct fake g;
    struct pit other;

    fake_init(&g, 0);
    pit_init(&other, &(struct pit_conf){&g.clock, &g.timers, fake_line(&g, 0)});
    program(0, 2, 11932);
    program(2, 0, 5000);
    outb(P61, 3);
    fake_pass(&f, 25 * MS);
    fake_pass(&g, 25 * MS);
    assert_int_equal(fake_copy(visit, &dev, &other), 0);
    assert_memory_equal(dev.ch, other.ch, sizeof(dev.ch));
    assert_int_equal(fake_pass(&g, 4 * MS), 0);
    assert_int_equal(fake_pass(&g, 2 * MS), 1);
    assert_true(fake_refuses_truncation(visit, &dev, &other));
    dev.ch[1].count = 0;
    assert_int_equal(fake_copy(visit, &dev, &other), -EBADMSG);
    dev.ch[1].count = 1;
    dev.ch[0].since = UINT64_MAX; /* any time will do */
    assert_int_equal(fake_copy(visit, &dev, &other), 0);
    fake_pass(&g, 25 * MS);
    pit_done(&other);
    fake_done(&g);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(mode_2_interrupts_at_its_rate),
        T(mode_3_interrupts_at_its_rate_and_65536_is_zero),
        T(mode_0_interrupts_once),
        T(mode_4_strobes_once),
        T(a_mode_set_stops_the_interrupts),
        T(a_guest_cannot_ask_for_a_storm),
        T(a_latched_count_holds_until_read),
        T(channel_2_counts_while_its_gate_is_high),
        T(mode_1_waits_for_its_trigger),
        T(read_back_gives_status_then_count),
        T(bcd_counts_in_decimal),
        T(the_refresh_bit_toggles),
        T(it_saves_and_loads_and_goes_on),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
