/* Keyboard controller, ACPI sleep registers, exit port. */
#include <errno.h>

#include "dev/acpipm.h"
#include "dev/exitport.h"
#include "dev/i8042.h"
#include "test/unit/fake.h"
#include "test/unit/t.h"

static struct fake f;
static struct bus pio;
static struct i8042 kbd;
static struct acpipm pm;
static struct exitport ep;
static unsigned resets, poweroffs, exits;
static uint32_t exit_value;

static void on_reset(void *ctx)
{
    resets++;
}

static void on_poweroff(void *ctx)
{
    poweroffs++;
}

static void on_exit_port(void *ctx, uint32_t v)
{
    exits++;
    exit_value = v;
}

static int setup(void **state)
{
    fake_init(&f, 0);
    pio = (struct bus){0};
    resets = poweroffs = exits = 0;
    i8042_init(&kbd, &(struct i8042_conf){.irq = fake_line(&f, 1), .reset = on_reset});
    acpipm_init(&pm, &(struct acpipm_conf){.poweroff = on_poweroff, .reset = on_reset});
    exitport_init(&ep, on_exit_port, NULL);
    assert_int_equal(i8042_map(&kbd, &pio, NULL), 0);
    assert_int_equal(acpipm_map(&pm, &pio, NULL), 0);
    assert_int_equal(exitport_map(&ep, &pio, 0x501, NULL), 0);
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

static uint8_t command(uint8_t c)
{
    outb(0x64, c);
    assert_int_equal(in(0x64) & 1, 1); /* answered at once: no time-out */
    return in(0x60);
}

static void the_controller_passes_its_tests(void **state)
{
    assert_int_equal(in(0x64) & 3, 0);
    assert_int_equal(command(0xaa), 0x55);
    assert_int_equal(command(0xab), 0x00);
    assert_int_equal(command(0xa9), 0x01); /* no mouse port */
    outb(0x64, 0x60);
    outb(0x60, 0x45);
    assert_int_equal(command(0x20), 0x45);
    outb(0x64, 0xa8);
    assert_int_equal(command(0x20) & 0x20, 0x20);
    outb(0x64, 0xd3);
    outb(0x60, 0x5a);
    assert_int_not_equal(in(0x60), 0x5a);
    assert_int_equal(in(0x64) & 1, 0);
}

static void the_keyboard_answers_with_interrupts(void **state)
{
    outb(0x64, 0x60);
    outb(0x60, 0x05);
    outb(0x60, 0xf2);
    assert_true(f.level[1]);
    assert_int_equal(in(0x60), 0xfa);
    assert_int_equal(f.rises[1], 2); /* one edge a byte */
    assert_int_equal(in(0x60), 0xab);
    assert_int_equal(in(0x60), 0x83);
    assert_false(f.level[1]);
    outb(0x60, 0xed);
    outb(0x60, 0x07);
    assert_int_equal(in(0x60), 0xfa);
    assert_int_equal(in(0x60), 0xfa);
    outb(0x60, 0xff);
    assert_int_equal(in(0x60), 0xfa);
    assert_int_equal(in(0x60), 0xaa);
}

static void a_guest_that_never_reads_loses_answers(void **state)
{
    for (int i = 0; i < 1000; i++)
        outb(0x60, 0xf2);
    for (int i = 0; i < I8042_QUEUE; i++) {
        assert_int_equal(in(0x64) & 1, 1);
        (void)in(0x60);
    }
    assert_int_equal(in(0x64) & 1, 0);
}

static void the_reset_line_can_be_pulsed_three_ways(void **state)
{
    outb(0x64, 0xfe);
    assert_int_equal(resets, 1);
    outb(0x64, 0xd1);
    outb(0x60, 0xcf);
    assert_int_equal(resets, 1);
    outb(0x64, 0xd1);
    outb(0x60, 0xce);
    assert_int_equal(resets, 2);
    outb(0x64, 0xff); /* pulses nothing */
    assert_int_equal(resets, 2);
    outb(0x602, 0);
    assert_int_equal(resets, 2);
    outb(0x602, 1);
    assert_int_equal(resets, 3);
}

static void only_s5_powers_off(void **state)
{
    outb(0x600, 5 << 2);
    assert_int_equal(poweroffs, 0);
    outb(0x600, 3 << 2 | 0x20);
    assert_int_equal(poweroffs, 0);
    outb(0x600, 5 << 2 | 0x20);
    assert_int_equal(poweroffs, 1);
    assert_int_equal(in(0x600), 5 << 2);
    assert_int_equal(in(0x601), 0);
}

static void the_exit_port_takes_a_byte_or_a_word(void **state)
{
    outb(0x501, 0x42);
    assert_int_equal(exit_value, 0x42);
    bus_write(&pio, 0x501, 4, 0x12345678);
    assert_int_equal(exit_value, 0x12345678);
    bus_write(&pio, 0x501, 2, 0x1234);
    outb(0x502, 1);
    assert_int_equal(exits, 2);
}

static void visit_kbd(void *p, struct state_io *io)
{
    i8042_visit(p, io);
}

static void visit_pm(void *p, struct state_io *io)
{
    acpipm_visit(p, io);
}

static void they_save_and_load(void **state)
{
    struct i8042 k2;
    struct acpipm a2;

    i8042_init(&k2, &(struct i8042_conf){.irq = fake_line(&f, 1), .reset = on_reset});
    acpipm_init(&a2, &(struct acpipm_conf){.poweroff = on_poweroff, .reset = on_reset});
    outb(0x60, 0xf2);
    outb(0x64, 0xd1);
    outb(0x600, 0xff & ~0x20);
    assert_int_equal(fake_copy(visit_kbd, &kbd, &k2), 0);
    assert_int_equal(fake_copy(visit_pm, &pm, &a2), 0);
    assert_memory_equal(kbd.queue, k2.queue, sizeof(k2.queue));
    assert_int_equal(k2.wants, 0xd1);
    assert_int_equal(a2.slp_typ, 7 << 2);
    assert_true(fake_refuses_truncation(visit_kbd, &kbd, &k2));
    assert_true(fake_refuses_truncation(visit_pm, &pm, &a2));
    kbd.n = I8042_QUEUE + 1;
    assert_int_equal(fake_copy(visit_kbd, &kbd, &k2), -EBADMSG);
    assert_int_equal(k2.n, 3);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(the_controller_passes_its_tests),
        T(the_keyboard_answers_with_interrupts),
        T(a_guest_that_never_reads_loses_answers),
        T(the_reset_line_can_be_pulsed_three_ways),
        T(only_s5_powers_off),
        T(the_exit_port_takes_a_byte_or_a_word),
        T(they_save_and_load),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
