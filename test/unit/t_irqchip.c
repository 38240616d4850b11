/* PIC and IOAPIC as a kernel programs them. */
#include <errno.h>

#include "dev/ioapic.h"
#include "dev/pic.h"
#include "test/unit/fake.h"
#include "test/unit/t.h"

static struct fake f;
static struct bus pio, mmio;
static struct pic pic;
static struct ioapic io;
static struct msi sent[16];
static unsigned n_sent, routes;

static void send(void *ctx, struct msi m)
{
    assert_true(n_sent < 16);
    sent[n_sent++] = m;
}

static void route(void *ctx, unsigned pin)
{
    routes++;
}

static struct ioapic_conf io_conf(void)
{
    return (struct ioapic_conf){.msi = {send, NULL}, .route = route};
}

static void outb(uint16_t port, uint8_t v)
{
    bus_write(&pio, port, 1, v);
}

static uint8_t in(uint16_t port)
{
    return (uint8_t)bus_read(&pio, port, 1);
}

static int setup(void **state)
{
    struct irq_line out;
    struct ioapic_conf c = io_conf();

    fake_init(&f, 0);
    out = fake_line(&f, 0);
    pio = mmio = (struct bus){0};
    n_sent = routes = 0;
    pic_init(&pic, &out);
    assert_int_equal(pic_map(&pic, &pio, NULL), 0);
    ioapic_init(&io, &c);
    assert_int_equal(ioapic_map(&io, &mmio, NULL), 0);
    /* As Linux initializes them: vectors 0x30 and 0x38, all open. */
    outb(0x20, 0x11);
    outb(0x21, 0x30);
    outb(0x21, 0x04);
    outb(0x21, 0x01);
    outb(0xa0, 0x11);
    outb(0xa1, 0x38);
    outb(0xa1, 0x02);
    outb(0xa1, 0x01);
    return 0;
}

static int teardown(void **state)
{
    fake_done(&f);
    return 0;
}

static void an_edge_is_served_once(void **state)
{
    pic_set(&pic, 4, true);
    assert_true(f.level[0]);
    assert_int_equal(in(0x20), 0x10); /* IRR */
    assert_int_equal(pic_ack(&pic), 0x34);
    assert_false(f.level[0]);
    outb(0x20, 0x0b);
    assert_int_equal(in(0x20), 0x10); /* ISR */
    outb(0x20, 0x20);
    assert_false(f.level[0]);
    pic_set(&pic, 4, false);
    pic_set(&pic, 4, true);
    assert_true(f.level[0]);
}

static void the_slave_arrives_through_the_cascade(void **state)
{
    pic_set(&pic, 8, true);
    assert_int_equal(pic_ack(&pic), 0x38);
    outb(0x20, 0x0b);
    assert_int_equal(in(0x20), 0x04);
    outb(0xa0, 0x0b);
    assert_int_equal(in(0xa0), 0x01);
    pic_set(&pic, 14, true); /* lower priority: waits */
    assert_false(f.level[0]);
    outb(0xa0, 0x20);
    outb(0x20, 0x20);
    assert_true(f.level[0]);
    assert_int_equal(pic_ack(&pic), 0x3e);
}

static void a_higher_priority_interrupts_a_lower(void **state)
{
    pic_set(&pic, 5, true);
    assert_int_equal(pic_ack(&pic), 0x35);
    pic_set(&pic, 7, true);
    assert_false(f.level[0]);
    pic_set(&pic, 0, true);
    assert_true(f.level[0]);
    assert_int_equal(pic_ack(&pic), 0x30);
    outb(0x20, 0x20); /* ends 0, the higher */
    assert_false(f.level[0]);
    outb(0x20, 0x65); /* specific: 5 */
    assert_true(f.level[0]);
}

static void a_mask_holds_back_and_a_vanished_request_is_spurious(void **state)
{
    outb(0x21, 0x10);
    assert_int_equal(in(0x21), 0x10);
    pic_set(&pic, 4, true);
    assert_false(f.level[0]);
    outb(0x21, 0x00);
    assert_true(f.level[0]);
    outb(0x21, 0x10);
    assert_int_equal(pic_ack(&pic), 0x37);
    outb(0x20, 0x0b);
    assert_int_equal(in(0x20), 0);
}

static void a_level_input_asks_again_after_its_eoi(void **state)
{
    outb(0x4d0, 0xff);
    assert_int_equal(in(0x4d0), 0xf8); /* 0 to 2 cannot */
    pic_set(&pic, 5, true);
    assert_int_equal(pic_ack(&pic), 0x35);
    assert_false(f.level[0]);
    outb(0x20, 0x20);
    assert_true(f.level[0]);
    pic_set(&pic, 5, false);
    assert_false(f.level[0]);
}

static void automatic_eoi_and_rotation(void **state)
{
    outb(0x20, 0x11);
    outb(0x21, 0x30);
    outb(0x21, 0x04);
    outb(0x21, 0x03); /* AEOI */
    pic_set(&pic, 3, true);
    assert_int_equal(pic_ack(&pic), 0x33);
    outb(0x20, 0x0b);
    assert_int_equal(in(0x20), 0);
    outb(0x20, 0xc3); /* lowest priority is now 3: 4 is highest */
    pic_set(&pic, 0, true);
    pic_set(&pic, 4, true);
    assert_int_equal(pic_ack(&pic), 0x34);
    assert_int_equal(pic_ack(&pic), 0x30);
}

static void special_mask_mode_lets_lower_ones_through(void **state)
{
    pic_set(&pic, 1, true);
    assert_int_equal(pic_ack(&pic), 0x31);
    pic_set(&pic, 6, true);
    assert_false(f.level[0]);
    outb(0x21, 0x02);
    outb(0x20, 0x68);
    assert_true(f.level[0]);
    assert_int_equal(pic_ack(&pic), 0x36);
}

static void polling_acknowledges(void **state)
{
    pic_set(&pic, 6, true);
    outb(0x20, 0x0c);
    assert_int_equal(in(0x20), 0x86);
    assert_false(f.level[0]);
    outb(0x20, 0x0c);
    assert_int_equal(in(0x20), 0);
}

/* --- IOAPIC ----------------------------------------------------------------- */

static void reg(unsigned n, uint32_t v)
{
    bus_write(&mmio, IOAPIC_BASE, 4, n);
    bus_write(&mmio, IOAPIC_BASE + 0x10, 4, v);
}

static uint32_t get(unsigned n)
{
    bus_write(&mmio, IOAPIC_BASE, 4, n);
    return (uint32_t)bus_read(&mmio, IOAPIC_BASE + 0x10, 4);
}

static void an_entry(unsigned pin, uint32_t low, uint8_t dest)
{
    reg(0x11 + 2 * pin, (uint32_t)dest << 24);
    reg(0x10 + 2 * pin, low);
}

static void it_says_what_it_is(void **state)
{
    assert_int_equal(get(1), 0x00170020);
    reg(0, 0xffffffff);
    assert_int_equal(get(0), 0x0f000000);
    assert_int_equal(get(0x10), 0x10000);
    assert_int_equal(get(0x40), 0); /* past the last entry */
    reg(0x40, 0);
}

static void an_edge_sends_one_message(void **state)
{
    an_entry(4, 0x35, 2);
    ioapic_set(&io, 4, true);
    ioapic_set(&io, 4, true);
    assert_int_equal(n_sent, 1);
    assert_int_equal(sent[0].addr, 0xfee02000);
    assert_int_equal(sent[0].data & 0x80ff, 0x35);
    ioapic_set(&io, 4, false);
    ioapic_set(&io, 4, true);
    assert_int_equal(n_sent, 2);
}

static void an_edge_on_a_masked_pin_is_lost(void **state)
{
    an_entry(4, 0x10035, 0);
    ioapic_set(&io, 4, true);
    an_entry(4, 0x35, 0);
    assert_int_equal(n_sent, 0);
}

static void a_level_sends_until_it_falls(void **state)
{
    an_entry(9, 0x8040, 0);
    ioapic_set(&io, 9, true);
    assert_int_equal(n_sent, 1);
    assert_int_equal(sent[0].data & 0x8000, 0x8000);
    assert_int_equal(get(0x10 + 18), 0xc040); /* remote IRR */
    ioapic_eoi(&io, 0x41);
    assert_int_equal(n_sent, 1);
    ioapic_eoi(&io, 0x40);
    assert_int_equal(n_sent, 2);
    ioapic_set(&io, 9, false);
    bus_write(&mmio, IOAPIC_BASE + 0x40, 4, 0x40); /* EOI register */
    assert_int_equal(n_sent, 2);
    assert_int_equal(get(0x10 + 18), 0x8040);
    an_entry(9, 0x18040, 0);
    ioapic_set(&io, 9, true);
    assert_int_equal(n_sent, 2);
    an_entry(9, 0x8040, 0); /* unmasked while high */
    assert_int_equal(n_sent, 3);
}

static void switching_to_edge_clears_remote_irr(void **state)
{
    an_entry(9, 0x8040, 0);
    ioapic_set(&io, 9, true);
    an_entry(9, 0x10040, 0);
    assert_int_equal(get(0x10 + 18), 0x10040);
}

static void logical_and_lowest_priority_go_into_the_message(void **state)
{
    struct msi m;

    an_entry(20, 0x0931, 0x03);
    assert_true(ioapic_msi(&io, 20, &m));
    assert_int_equal(m.addr, 0xfee0300c);
    assert_int_equal(m.data & 0x7ff, 0x131);
    an_entry(20, 0x8931, 0x03);
    assert_false(ioapic_msi(&io, 20, &m));
    an_entry(20, 0x10931, 0x03);
    assert_false(ioapic_msi(&io, 20, &m));
    assert_false(ioapic_msi(&io, 24, &m));
    assert_int_equal(routes, 6);
    ioapic_set(&io, 24, true);
}

static void visit_pic(void *p, struct state_io *s)
{
    pic_visit(p, s);
}

static void visit_io(void *p, struct state_io *s)
{
    ioapic_visit(p, s);
}

static void they_save_and_load(void **state)
{
    struct fake g;
    struct irq_line out;
    struct pic p2;
    struct ioapic io2;
    struct ioapic_conf c = io_conf();

    fake_init(&g, 0);
    out = fake_line(&g, 0);
    pic_init(&p2, &out);
    ioapic_init(&io2, &c);
    pic_set(&pic, 12, true);
    pic_set(&pic, 3, true);
    assert_int_equal(pic_ack(&pic), 0x3c);
    pic_set(&pic, 1, true);
    an_entry(9, 0x8040, 0);
    ioapic_set(&io, 9, true);
    n_sent = 0;
    assert_int_equal(fake_copy(visit_pic, &pic, &p2), 0);
    assert_int_equal(fake_copy(visit_io, &io, &io2), 0);
    assert_int_equal(n_sent, 0);
    assert_true(g.level[0]);
    assert_int_equal(pic_ack(&p2), 0x31);
    ioapic_eoi(&io2, 0x40);
    assert_int_equal(n_sent, 1);
    assert_true(fake_refuses_truncation(visit_pic, &pic, &p2));
    assert_true(fake_refuses_truncation(visit_io, &io, &io2));
    pic.chip[1].lowest = 8;
    assert_int_equal(fake_copy(visit_pic, &pic, &p2), -EBADMSG);
    fake_done(&g);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(an_edge_is_served_once),
        T(the_slave_arrives_through_the_cascade),
        T(a_higher_priority_interrupts_a_lower),
        T(a_mask_holds_back_and_a_vanished_request_is_spurious),
        T(a_level_input_asks_again_after_its_eoi),
        T(automatic_eoi_and_rotation),
        T(special_mask_mode_lets_lower_ones_through),
        T(polling_acknowledges),
        T(it_says_what_it_is),
        T(an_edge_sends_one_message),
        T(an_edge_on_a_masked_pin_is_lost),
        T(a_level_sends_until_it_falls),
        T(switching_to_edge_clears_remote_irr),
        T(logical_and_lowest_priority_go_into_the_message),
        T(they_save_and_load),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
