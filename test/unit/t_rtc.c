/* The real-time clock, on a wall clock the test moves. */
#include "dev/rtc.h"

#include <errno.h>

#include "test/unit/fake.h"
#include "test/unit/t.h"

#define S 1000000000ull
enum { T0 = 1709210096 }; /* 2024-02-29 12:34:56 UTC, a Thursday */

static struct fake f;
static struct bus pio;
static struct rtc dev;

static struct rtc_conf conf(struct fake *g)
{
    return (struct rtc_conf){.clock = &g->clock,
                             .timers = &g->timers,
                             .irq = fake_line(g, 8),
                             .ram_low = 3ull << 30,
                             .ram_high = 1ull << 30};
}

static int setup(void **state)
{
    fake_init(&f, T0);
    pio = (struct bus){0};
    struct rtc_conf c = conf(&f);
    rtc_init(&dev, &c);
    assert_int_equal(rtc_map(&dev, &pio, NULL), 0);
    return 0;
}

static int teardown(void **state)
{
    rtc_done(&dev);
    assert_int_equal(timerq_next(&f.timers), TIMER_NEVER);
    fake_done(&f);
    return 0;
}

static uint8_t get(uint8_t reg)
{
    bus_write(&pio, 0x70, 1, reg);
    return (uint8_t)bus_read(&pio, 0x71, 1);
}

static void put(uint8_t reg, uint8_t v)
{
    bus_write(&pio, 0x70, 1, reg);
    bus_write(&pio, 0x71, 1, v);
}

static void assert_time(const uint8_t want[8]) /* s m h weekday day month year century */
{
    static const uint8_t regs[] = {0, 2, 4, 6, 7, 8, 9, 0x32};

    for (int i = 0; i < 8; i++)
        assert_int_equal(get(regs[i]), want[i]);
}

static void it_tells_the_time_in_every_format(void **state)
{
    assert_time((uint8_t[]){0x56, 0x34, 0x12, 5, 0x29, 0x02, 0x24, 0x20});
    put(11, 0x06);
    assert_time((uint8_t[]){56, 34, 12, 5, 29, 2, 24, 20});
    put(11, 0x00);
    assert_int_equal(get(4), 0x92); /* 12 PM */
    fake_pass(&f, 12 * 3600 * S);
    assert_int_equal(get(4), 0x12); /* 12 AM */
    put(11, 0x02);
    assert_time((uint8_t[]){0x56, 0x34, 0x00, 6, 0x01, 0x03, 0x24, 0x20});
    assert_int_equal(get(13), 0x80);
}

static void uip_announces_an_update_and_passes(void **state)
{
    assert_int_equal(get(10), 0x26);
    fake_pass(&f, S - 200000);
    assert_int_equal(get(10), 0xa6);
    fake_pass(&f, 200000);
    assert_int_equal(get(10), 0x26);
}

static void the_guest_can_set_it(void **state)
{
    static const uint8_t regs[] = {0, 2, 4, 7, 8, 9, 0x32};
    static const uint8_t to[] = {0x58, 0x59, 0x23, 0x31, 0x12, 0x99, 0x19};

    put(11, 0x82);
    fake_pass(&f, 5 * S);
    assert_int_equal(get(0), 0x56); /* held */
    for (int i = 0; i < 7; i++)
        put(regs[i], to[i]);
    put(11, 0x02);
    assert_time((uint8_t[]){0x58, 0x59, 0x23, 6, 0x31, 0x12, 0x99, 0x19});
    fake_pass(&f, 2 * S);
    assert_time((uint8_t[]){0x00, 0x00, 0x00, 7, 0x01, 0x01, 0x00, 0x20});
    put(9, 0x01); /* without SET */
    assert_time((uint8_t[]){0x00, 0x00, 0x00, 2, 0x01, 0x01, 0x01, 0x20});
}

static void nonsense_times_are_taken_without_harm(void **state)
{
    static const uint8_t regs[] = {0, 2, 4, 6, 7, 8, 9, 0x32};

    put(11, 0x80);
    for (int i = 0; i < 8; i++)
        put(regs[i], 0xff);
    put(11, 0x70);
    fake_pass(&f, 3 * S);
    for (int i = 0; i < 8; i++)
        (void)get(regs[i]);
}

static void the_periodic_interrupt_waits_for_its_acknowledgement(void **state)
{
    put(10, 0x26); /* 1024 Hz */
    put(11, 0x42);
    fake_pass(&f, S / 100);
    assert_int_equal(f.rises[8], 1);
    assert_int_equal(get(12), 0xc0);
    assert_false(f.level[8]);
    unsigned n = 0;
    for (int i = 0; i < 10000; i++) {
        fake_pass(&f, S / 10000);
        if (f.level[8]) {
            n++;
            (void)get(12);
        }
    }
    assert_in_range(n, 1020, 1024);
}

static void the_update_interrupt_comes_each_second(void **state)
{
    put(11, 0x12);
    fake_pass(&f, S);
    assert_int_equal(get(12) & 0x90, 0x90);
    assert_int_equal(fake_pass(&f, S / 2), 0);
    assert_int_equal(fake_pass(&f, S / 2), 1);
    put(11, 0x92); /* SET clears UIE */
    assert_int_equal(get(11), 0x82);
}

static void the_alarm_rings_when_it_matches(void **state)
{
    put(1, 0x00);
    put(3, 0x36);
    put(5, 0x12);
    put(11, 0x22);
    fake_pass(&f, 63 * S);
    assert_false(f.level[8]);
    fake_pass(&f, S);
    assert_true(f.level[8]);
    assert_int_equal(get(12) & 0xa0, 0xa0);
    put(3, 0xff); /* any minute */
    put(5, 0xff);
    fake_pass(&f, 60 * S);
    assert_int_equal(get(12) & 0xa0, 0xa0);
    put(1, 0x77); /* a second that never is */
    (void)get(12);
    fake_pass(&f, 200000 * S);
    assert_int_equal(get(12) & 0xa0, 0);
}

static void flags_are_set_without_interrupts_too(void **state)
{
    fake_pass(&f, 2 * S);
    assert_int_equal(get(12), 0x50);
    assert_int_equal(get(12), 0);
    assert_int_equal(f.rises[8], 0);
}

static void cmos_tells_memory_and_keeps_bytes(void **state)
{
    assert_int_equal(get(0x15) | get(0x16) << 8, 640);
    assert_int_equal(get(0x34) | get(0x35) << 8, (3072 - 16) * 16);
    assert_int_equal(get(0x5b) | get(0x5c) << 8 | get(0x5d) << 16, 1024 * 16);
    put(0x0f, 0x0a);
    assert_int_equal(get(0x8f), 0x0a); /* bit 7 of the index is the NMI mask */
}

static void visit(void *r, struct state_io *io)
{
    rtc_visit(r, io);
}

static void it_saves_and_loads_and_goes_on(void **state)
{
    struct fake g;
    struct rtc other;

    fake_init(&g, T0 + 1000);
    struct rtc_conf c = conf(&g);
    rtc_init(&other, &c);
    put(9, 0x30); /* another year */
    put(11, 0x12);
    put(0x40, 0x77);
    int64_t off = dev.offset_s;
    assert_int_equal(fake_copy(visit, &dev, &other), 0);
    assert_int_equal(other.offset_s, off);
    assert_memory_equal(dev.cmos + 10, other.cmos + 10, sizeof(dev.cmos) - 10);
    fake_pass(&g, S);
    assert_true(g.level[8]);
    assert_true(fake_refuses_truncation(visit, &dev, &other));
    dev.offset_s = INT64_MIN;
    assert_int_equal(fake_copy(visit, &dev, &other), -EBADMSG);
    rtc_done(&other);
    fake_done(&g);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(it_tells_the_time_in_every_format),
        T(uip_announces_an_update_and_passes),
        T(the_guest_can_set_it),
        T(nonsense_times_are_taken_without_harm),
        T(the_periodic_interrupt_waits_for_its_acknowledgement),
        T(the_update_interrupt_comes_each_second),
        T(the_alarm_rings_when_it_matches),
        T(flags_are_set_without_interrupts_too),
        T(cmos_tells_memory_and_keeps_bytes),
        T(it_saves_and_loads_and_goes_on),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
