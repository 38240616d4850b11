/* The board as a whole: its wiring, its slots, its state. */
#include "machine/board.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "dev/virtio/device.h"
#include "dev/virtio/mmio.h"
#include "dev/virtio/rng.h"
#include "proto/agent.h"
#include "test/unit/fake.h"
#include "test/unit/t.h"

static struct fake f;
static struct mem *ram;
static struct board *b;
static struct msi sent[8];
static unsigned n_sent, resets, poweroffs;
static uint32_t exit_value;
static char out[64];
static size_t n_out;

static void send(void *ctx, struct msi m)
{
    assert_true(n_sent < 8);
    sent[n_sent++] = m;
}

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
    exit_value = v;
}

static void serial_out(void *ctx, const uint8_t *p, size_t len)
{
    memcpy(out + n_out, p, len);
    n_out += len;
}

static struct board *make(void)
{
    struct board_conf c = {.mem = ram,
                           .clock = &f.clock,
                           .timers = &f.timers,
                           .msi = {send, NULL},
                           .pic_out = fake_line(&f, 0),
                           .events = {on_reset, on_poweroff, on_exit_port, NULL},
                           .serial_out = serial_out};
    struct board *made = NULL;

    assert_int_equal(board_new(&c, &made, NULL), 0);
    return made;
}

static int setup(void **state)
{
    fake_init(&f, 1700000000);
    ram = mem_new(2 << 20, NULL);
    assert_non_null(ram);
    n_sent = resets = poweroffs = 0;
    n_out = 0;
    b = make();
    return 0;
}

static int teardown(void **state)
{
    board_free(b);
    assert_int_equal(timerq_next(&f.timers), TIMER_NEVER);
    mem_free(ram);
    fake_done(&f);
    return 0;
}

static void outb(uint16_t port, uint8_t v)
{
    bus_write(board_pio(b), port, 1, v);
}

/* Route `pin` to `vector` on CPU 0. */
static void route(unsigned pin, uint8_t vector)
{
    bus_write(board_mmio(b), 0xfec00000, 4, 0x10 + 2 * pin);
    bus_write(board_mmio(b), 0xfec00010, 4, vector);
}

static int fill(void *ctx, void *buf, size_t len)
{
    memset(buf, 0, len);
    return 0;
}

static unsigned add_rng(struct board *to)
{
    struct rng *r = rng_new((struct rng_source){.fill = fill}, NULL);
    unsigned slot = 99;

    assert_non_null(r);
    assert_int_equal(board_add_virtio(to, &rng_ops, r, NULL, NULL, &slot, NULL), 0);
    return slot;
}

static void the_guests_wishes_reach_the_machine(void **state)
{
    outb(0x3f8, 'x');
    assert_int_equal(n_out, 1);
    outb(0x64, 0xfe);
    outb(0x602, 1);
    assert_int_equal(resets, 2);
    outb(0x600, 0x34);
    assert_int_equal(poweroffs, 1);
    outb(BOARD_EXIT_PORT, 7);
    assert_int_equal(exit_value, 7);
    assert_int_equal(bus_read(board_pio(b), 0x1234, 4), 0xffffffff);
}

static void an_interrupt_reaches_both_controllers(void **state)
{
    struct msi m;

    assert_false(board_pin_msi(b, 4, &m));
    route(4, 0x31);
    route(2, 0x32);
    assert_true(board_pin_msi(b, 4, &m));
    assert_int_equal(m.data & 0xff, 0x31);
    outb(0x3fc, 0x08); /* OUT2 */
    outb(0x3f9, 0x02);
    assert_int_equal(n_sent, 1);
    assert_int_equal(sent[0].data & 0xff, 0x31);
    outb(0x20, 0x11);
    outb(0x21, 0x20);
    outb(0x21, 0x04);
    outb(0x21, 0x01);
    outb(0x3f9, 0x00);
    outb(0x3f9, 0x02);
    assert_true(f.level[0]);
    assert_int_equal(board_pic_ack(b), 0x24);
    outb(0x43, 0x34); /* PIT: IRQ 0 of the PIC, pin 2 of the IOAPIC */
    outb(0x40, 0xff);
    outb(0x40, 0x10);
    n_sent = 0;
    fake_pass(&f, 5000000);
    assert_int_equal(n_sent, 1);
    assert_int_equal(sent[0].data & 0xff, 0x32);
}

static void the_wall_clock_is_read_in_two_halves(void **state)
{
    assert_int_equal(bus_read(board_pio(b), PROTO_WALL_PORT + PROTO_WALL_MAGIC, 4), PROTO_WALL_IS);
    uint64_t want = clock_wall_ns(&f.clock);
    uint64_t low = bus_read(board_pio(b), PROTO_WALL_PORT + PROTO_WALL_LOW, 4);
    fake_pass(&f, 5000000000); /* the half that is still to be read belongs to the first */
    assert_int_equal(bus_read(board_pio(b), PROTO_WALL_PORT + PROTO_WALL_HIGH, 4), want >> 32);
    assert_int_equal(low, want & UINT32_MAX);
    bus_write(board_pio(b), PROTO_WALL_PORT, 4, 1);
}

static void virtio_devices_take_slots_until_there_are_none(void **state)
{
    unsigned slot;

    for (unsigned i = 0; i < BOARD_VIRTIO_MAX; i++) {
        assert_int_equal(add_rng(b), i);
        assert_int_equal(bus_read(board_mmio(b), BOARD_VIRTIO_BASE + i * 0x1000, 4), 0x74726976);
        assert_int_equal(bus_read(board_mmio(b), BOARD_VIRTIO_BASE + i * 0x1000 + 8, 4), 4);
    }
    struct rng *r = rng_new((struct rng_source){.fill = fill}, NULL);
    struct err e;
    assert_int_equal(board_add_virtio(b, &rng_ops, r, NULL, NULL, &slot, &e), -ENOSPC);
    assert_non_null(strstr(e.msg, "a machine has 16"));
    assert_non_null(board_slot(b, 15));
    assert_null(board_slot(b, 16));
}

static void a_new_generation_is_in_ram_before_the_guest_is_told(void **state)
{
    const uint8_t first[16] = "abcdefghijklmno", second[16] = "ABCDEFGHIJKLMNO";
    uint8_t seen[16];

    route(BOARD_VMGENID_PIN, 0x51);
    assert_int_equal(board_set_generation(b, first, false, NULL), 0);
    assert_int_equal(n_sent, 0);
    assert_int_equal(mem_read(ram, BOARD_VMGENID, seen, 16), 0);
    assert_memory_equal(seen, first, 16);
    for (unsigned i = 1; i <= 2; i++) {
        assert_int_equal(board_set_generation(b, second, true, NULL), 0);
        assert_int_equal(n_sent, i); /* an edge each time */
        assert_int_equal(sent[i - 1].data & 0xff, 0x51);
    }
    assert_int_equal(mem_read(ram, BOARD_VMGENID, seen, 16), 0);
    assert_memory_equal(seen, second, 16);
}

static void visit(void *x, struct state_io *io)
{
    board_visit(x, io);
}

static void it_saves_and_loads_into_its_like_only(void **state)
{
    struct board *same = make(), *bare = make();

    add_rng(b);
    add_rng(same);
    route(4, 0x44);
    outb(0x3ff, 0x99);
    bus_write(board_mmio(b), BOARD_VIRTIO_BASE + 0x70, 4, 3); /* ACKNOWLEDGE, DRIVER */
    assert_int_equal(fake_copy(visit, b, same), 0);
    assert_int_equal(bus_read(board_pio(same), 0x3ff, 1), 0x99);
    assert_int_equal(bus_read(board_mmio(same), BOARD_VIRTIO_BASE + 0x70, 4), 3);
    struct msi m;
    assert_true(board_pin_msi(same, 4, &m));
    assert_int_equal(m.data & 0xff, 0x44);
    assert_int_equal(fake_copy(visit, b, bare), -EBADMSG);
    assert_true(fake_refuses_truncation(visit, b, same));
    board_free(same);
    board_free(bare);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(the_guests_wishes_reach_the_machine),
        T(an_interrupt_reaches_both_controllers),
        T(the_wall_clock_is_read_in_two_halves),
        T(virtio_devices_take_slots_until_there_are_none),
        T(a_new_generation_is_in_ram_before_the_guest_is_told),
        T(it_saves_and_loads_into_its_like_only),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
