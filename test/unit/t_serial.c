/* The serial port, with a driver of a few lines. */
#include "dev/serial.h"

#include <errno.h>
#include <string.h>

#include "test/unit/fake.h"
#include "test/unit/t.h"

enum { BASE = 0x3f8, DATA = BASE, IER, IIR, LCR, MCR, LSR, MSR, SCR, FCR = IIR };

static struct fake f;
static struct bus pio;
static struct serial dev;
static char sent[64];
static size_t n_sent;
static unsigned rooms;

static void out(void *ctx, const uint8_t *p, size_t len)
{
    assert_true(n_sent + len <= sizeof(sent));
    memcpy(sent + n_sent, p, len);
    n_sent += len;
}

static void room(void *ctx)
{
    rooms++;
}

static struct serial_conf conf(void)
{
    return (struct serial_conf){.irq = fake_line(&f, 4), .out = out, .room = room};
}

static int setup(void **state)
{
    fake_init(&f, 0);
    memset(&pio, 0, sizeof(pio));
    n_sent = 0;
    rooms = 0;
    struct serial_conf c = conf();
    serial_init(&dev, &c);
    assert_int_equal(serial_map(&dev, &pio, BASE, NULL), 0);
    return 0;
}

static int teardown(void **state)
{
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

/* As the 8250 driver opens a port: FIFO on and clear, OUT2, DTR, RTS. */
static void open_port(uint8_t ier)
{
    outb(FCR, 0x07);
    outb(FCR, 0x01);
    outb(MCR, 0x0b);
    (void)in(LSR);
    (void)in(DATA);
    (void)in(IIR);
    (void)in(MSR);
    outb(IER, ier);
}

static void what_is_written_comes_out(void **state)
{
    outb(DATA, 'h');
    outb(DATA, 'i');
    assert_int_equal(in(LSR), 0x60);
    assert_int_equal(n_sent, 2);
    assert_memory_equal(sent, "hi", 2);
}

static void the_divisor_and_scratch_are_kept(void **state)
{
    outb(SCR, 0x5a);
    outb(LCR, 0x83);
    outb(DATA, 1);
    outb(IER, 2);
    assert_int_equal(in(DATA), 1);
    assert_int_equal(in(IER), 2);
    outb(LCR, 0x03);
    assert_int_equal(in(IER), 0);
    assert_int_equal(in(SCR), 0x5a);
    assert_int_equal(n_sent, 0);
}

static void enabling_thri_interrupts_each_time_and_reading_iir_acknowledges(void **state)
{
    open_port(2);
    assert_true(f.level[4]);
    assert_int_equal(in(IIR), 0xc2);
    assert_false(f.level[4]);
    assert_int_equal(in(IIR), 0xc1);
    outb(IER, 0);
    outb(IER, 2);
    assert_int_equal(in(IIR), 0xc2);
    unsigned before = f.rises[4];
    outb(DATA, 'x'); /* each byte sent is a new edge */
    outb(DATA, 'y');
    assert_int_equal(f.rises[4], before + 2);
}

static void no_interrupt_leaves_without_out2(void **state)
{
    open_port(2);
    outb(MCR, 0x03);
    assert_false(f.level[4]);
    outb(MCR, 0x0b);
    assert_true(f.level[4]);
}

static void input_waits_until_the_port_is_opened(void **state)
{
    serial_in(&dev, (const uint8_t *)"early", 5);
    assert_int_equal(in(LSR)&1, 0);
    open_port(1);
    assert_int_equal(in(IIR), 0xc4);
    for (const char *p = "early"; *p; p++) {
        assert_int_equal(in(LSR)&1, 1);
        assert_int_equal(in(DATA), *p);
    }
    assert_false(f.level[4]);
    assert_int_equal(in(LSR), 0x60);
}

static void a_guest_that_polls_gets_input(void **state)
{
    unsigned polls = 0;

    serial_in(&dev, (const uint8_t *)"ab", 2);
    assert_int_equal(in(LSR)&1, 0);
    outb(DATA, 'x');
    while (!(in(LSR)&1))
        assert_true(++polls < 100);
    assert_true(polls > 4); /* a driver that only sends polls a little */
    assert_int_equal(in(DATA), 'a');
}

static void entering_fifo_mode_keeps_the_byte_that_came(void **state)
{
    outb(MCR, 0x0b);
    outb(IER, 1);
    serial_in(&dev, (const uint8_t *)"ab", 2);
    outb(FCR, 0x01);
    assert_int_equal(in(DATA), 'a');
    assert_int_equal(in(DATA), 'b');
}

static void the_trigger_level_tells_data_from_time_out(void **state)
{
    open_port(1);
    outb(FCR, 0x41); /* 4 bytes */
    serial_in(&dev, (const uint8_t *)"abc", 3);
    assert_int_equal(in(IIR), 0xcc);
    serial_in(&dev, (const uint8_t *)"d", 1);
    assert_int_equal(in(IIR), 0xc4);
}

static void a_full_queue_says_when_it_has_room(void **state)
{
    static uint8_t big[2 * SERIAL_QUEUE];

    for (size_t i = 0; i < sizeof(big); i++)
        big[i] = (uint8_t)i;
    serial_in(&dev, big, sizeof(big));
    assert_int_equal(serial_room(&dev), 0);
    assert_int_equal(rooms, 0);
    open_port(1);
    assert_int_equal(rooms, 1);
    for (unsigned i = 0; i < SERIAL_QUEUE; i++)
        assert_int_equal(in(DATA), (uint8_t)i);
    assert_int_equal(in(LSR)&1, 0);
    assert_int_equal(rooms, 1);
}

static void loopback_returns_bytes_and_modem_lines_and_overruns(void **state)
{
    outb(FCR, 0x01);
    outb(MCR, 0x1f);
    assert_int_equal(in(MSR)&0xf0, 0xf0);
    outb(MCR, 0x1a);
    assert_int_equal(in(MSR)&0xf0, 0x90);
    assert_int_equal(in(MSR)&0x0f, 0);
    for (int i = 0; i < 17; i++)
        outb(DATA, (uint8_t)i);
    assert_int_equal(n_sent, 0);
    assert_int_equal(in(LSR), 0x63); /* data, overrun */
    assert_int_equal(in(LSR), 0x61);
    assert_int_equal(in(DATA), 0);
    assert_false(f.level[4]);
}

static void visit(void *s, struct state_io *io)
{
    serial_visit(s, io);
}

static void it_saves_and_loads(void **state)
{
    static struct serial other;
    struct serial_conf c = conf();

    serial_init(&other, &c);
    open_port(3);
    outb(SCR, 7);
    serial_in(&dev, (const uint8_t *)"0123456789abcdefXYZ", 19);
    assert_int_equal(fake_copy(visit, &dev, &other), 0);
    assert_memory_equal(&dev, &other, sizeof(dev));
    assert_true(fake_refuses_truncation(visit, &dev, &other));
    dev.fifo_n = 17;
    assert_int_equal(fake_copy(visit, &dev, &other), -EBADMSG);
    dev.fifo_n = 16;
    dev.queue_head = SERIAL_QUEUE;
    assert_int_equal(fake_copy(visit, &dev, &other), -EBADMSG);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(what_is_written_comes_out, setup, teardown),
        cmocka_unit_test_setup_teardown(the_divisor_and_scratch_are_kept, setup, teardown),
        cmocka_unit_test_setup_teardown(
            enabling_thri_interrupts_each_time_and_reading_iir_acknowledges, setup, teardown),
        cmocka_unit_test_setup_teardown(no_interrupt_leaves_without_out2, setup, teardown),
        cmocka_unit_test_setup_teardown(input_waits_until_the_port_is_opened, setup, teardown),
        cmocka_unit_test_setup_teardown(a_guest_that_polls_gets_input, setup, teardown),
        cmocka_unit_test_setup_teardown(entering_fifo_mode_keeps_the_byte_that_came, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(the_trigger_level_tells_data_from_time_out, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_full_queue_says_when_it_has_room, setup, teardown),
        cmocka_unit_test_setup_teardown(loopback_returns_bytes_and_modem_lines_and_overruns, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(it_saves_and_loads, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
