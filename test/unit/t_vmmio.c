/* Every register of the MMIO transport, rightly and wrongly used, over a device that only notes. */
#include <errno.h>
#include <stdlib.h>

#include "test/unit/driver.h"

enum { CONFIG = 12, FEATURE = 1 << 5 };

struct fake {
    struct virtio_port *port;
    uint8_t config[CONFIG];
    unsigned kicks[2], resets, drains, activations;
    uint32_t value;
};

static uint64_t features(void *dev)
{
    return FEATURE | 1ull << 40;
}

static void attach(void *dev, struct virtio_port *p)
{
    ((struct fake *)dev)->port = p;
}

static void activate(void *dev)
{
    ((struct fake *)dev)->activations++;
}

static void kick(void *dev, unsigned n)
{
    ((struct fake *)dev)->kicks[n]++;
}

static void config_read(void *dev, unsigned off, void *buf, unsigned len)
{
    memcpy(buf, ((struct fake *)dev)->config + off, len);
}

static void config_write(void *dev, unsigned off, const void *buf, unsigned len)
{
    memcpy(((struct fake *)dev)->config + off, buf, len);
}

static void reset(void *dev)
{
    ((struct fake *)dev)->resets++;
}

static void drain(void *dev)
{
    ((struct fake *)dev)->drains++;
}

static void visit(void *dev, struct state_io *io)
{
    state_u32(io, 1, &((struct fake *)dev)->value);
}

static void destroy(void *dev)
{
    (void)dev; /* the test's */
}

static const struct virtio_ops fake_ops = {
    .name = "fake",
    .id = 42,
    .n_queues = 2,
    .features = features,
    .attach = attach,
    .activate = activate,
    .kick = kick,
    .config_len = CONFIG,
    .config_read = config_read,
    .config_write = config_write,
    .reset = reset,
    .drain = drain,
    .visit = visit,
    .destroy = destroy,
};

struct world {
    struct drv d;
    struct fake f;
};

static int setup(void **state)
{
    struct world *w = calloc(1, sizeof(*w));

    for (uint8_t i = 0; i < CONFIG; i++)
        w->f.config[i] = (uint8_t)(0x10 + i);
    drv_plug(&w->d, &fake_ops, &w->f);
    *state = w;
    return 0;
}

static int teardown(void **state)
{
    struct world *w = *state;

    drv_close(&w->d);
    free(w);
    return 0;
}

static void the_device_says_who_it_is(void **state)
{
    struct world *w = *state;

    assert_int_equal(drv_reg(&w->d, 0x00), 0x74726976);
    assert_int_equal(drv_reg(&w->d, 0x04), 2);
    assert_int_equal(drv_reg(&w->d, 0x08), 42);
    assert_int_not_equal(drv_reg(&w->d, 0x0c), 0);
    for (uint32_t off = 0; off < 0x10; off += 4) {
        uint32_t was = drv_reg(&w->d, off);

        drv_set(&w->d, off, ~was); /* read-only */
        assert_int_equal(drv_reg(&w->d, off), was);
    }
}

/* 4.2.2.2: 32-bit and aligned, below the configuration. */
static void registers_take_aligned_words_only(void **state)
{
    struct world *w = *state;

    drv_start(&w->d, 0);
    for (uint64_t off = 0; off < 0x100; off++) {
        for (unsigned len = 1; len <= 8; len *= 2) {
            if (len == 4 && off % 4 == 0)
                continue;
            assert_int_equal(vmmio_read(w->d.t, off, len), 0);
            vmmio_write(w->d.t, off, len, 0); /* a reset, were it taken */
            assert_int_equal(drv_reg(&w->d, 0x70), DRV_OK);
        }
    }
}

static void write_only_and_unknown_registers_read_as_zero(void **state)
{
    struct world *w = *state;
    static const uint8_t known[] = {0x00, 0x04, 0x08, 0x0c, 0x10, 0x34, 0x44,
                                    0x60, 0x70, 0xb0, 0xb4, 0xb8, 0xbc, 0xfc};

    drv_start(&w->d, 0);
    for (uint32_t off = 0; off < 0x100; off += 4) {
        if (!memchr(known, (int)off, sizeof(known)))
            assert_int_equal(drv_reg(&w->d, off), 0);
    }
    for (uint32_t off = 0xb0; off <= 0xbc; off += 4)
        assert_int_equal(drv_reg(&w->d, off), UINT32_MAX); /* no shared memory */
}

static void features_come_in_halves(void **state)
{
    struct world *w = *state;
    uint64_t all =
        FEATURE | 1ull << 40 | VIRTIO_F_VERSION_1 | VIRTIO_F_INDIRECT_DESC | VIRTIO_F_EVENT_IDX;

    assert_int_equal(drv_reg(&w->d, 0x10), (uint32_t)all);
    drv_set(&w->d, 0x14, 1);
    assert_int_equal(drv_reg(&w->d, 0x10), (uint32_t)(all >> 32));
    drv_set(&w->d, 0x14, 2);
    assert_int_equal(drv_reg(&w->d, 0x10), 0);
    drv_set(&w->d, 0x14, UINT32_MAX);
    assert_int_equal(drv_reg(&w->d, 0x10), 0);
}

static uint32_t negotiate(struct world *w, uint64_t f)
{
    drv_set(&w->d, 0x70, 0);
    drv_set(&w->d, 0x70, 3);
    for (uint32_t i = 0; i < 2; i++) {
        drv_set(&w->d, 0x24, i);
        drv_set(&w->d, 0x20, (uint32_t)(f >> (32 * i)));
    }
    drv_set(&w->d, 0x24, 7); /* a half there is not */
    drv_set(&w->d, 0x20, UINT32_MAX);
    drv_set(&w->d, 0x70, 11);
    return drv_reg(&w->d, 0x70);
}

static void only_offered_features_are_accepted(void **state)
{
    struct world *w = *state;

    assert_int_equal(negotiate(w, VIRTIO_F_VERSION_1), 11);
    assert_int_equal(negotiate(w, VIRTIO_F_VERSION_1 | FEATURE), 11);
    assert_int_equal(w->f.port->features, VIRTIO_F_VERSION_1 | FEATURE);
    drv_set(&w->d, 0x24, 0);
    drv_set(&w->d, 0x20, 0); /* too late */
    drv_set(&w->d, 0x70, 11);
    assert_int_equal(w->f.port->features, VIRTIO_F_VERSION_1 | FEATURE);
    assert_int_equal(negotiate(w, VIRTIO_F_VERSION_1 | 1), 3);
    assert_int_equal(negotiate(w, VIRTIO_F_VERSION_1 | 1ull << 63), 3);
    assert_int_equal(negotiate(w, FEATURE), 3); /* a legacy driver */
}

static void the_status_goes_forward_only(void **state)
{
    struct world *w = *state;

    drv_set(&w->d, 0x70, 1);
    drv_set(&w->d, 0x70, 2); /* does not clear ACKNOWLEDGE */
    assert_int_equal(drv_reg(&w->d, 0x70), 3);
    drv_set(&w->d, 0x70, DRV_NEEDS_RESET | 0x30); /* not the driver's to set */
    assert_int_equal(drv_reg(&w->d, 0x70), 3);
    drv_set(&w->d, 0x70, 0x83);
    assert_int_equal(drv_reg(&w->d, 0x70), 0x83);
    drv_set(&w->d, 0x70, 0);
    assert_int_equal(drv_reg(&w->d, 0x70), 0);
    assert_int_equal(w->f.activations, 0);
}

static void a_driver_that_skips_features_needs_a_reset(void **state)
{
    struct world *w = *state;

    drv_set(&w->d, 0x70, 7);
    assert_true(drv_broken(&w->d));
    assert_int_equal(w->d.raised, 0); /* it was never running */
    assert_int_equal(w->f.activations, 0);
    drv_start(&w->d, 0);
    assert_int_equal(w->f.activations, 1);
}

static void queues_are_set_up_through_their_registers(void **state)
{
    struct world *w = *state;

    assert_int_equal(drv_reg(&w->d, 0x34), VQ_SIZE_MAX);
    drv_set(&w->d, 0x30, 2);
    assert_int_equal(drv_reg(&w->d, 0x34), 0); /* there are two */
    drv_set(&w->d, 0x30, UINT32_MAX);
    assert_int_equal(drv_reg(&w->d, 0x34), 0);
    drv_set(&w->d, 0x44, 1);
    assert_int_equal(drv_reg(&w->d, 0x44), 0);
    assert_int_equal(negotiate(w, VIRTIO_F_VERSION_1), 11);
    drv_queue(&w->d, 1);
    assert_int_equal(drv_reg(&w->d, 0x44), 1);
    assert_int_equal(w->f.port->q[1].desc, drv_ring(1));
    assert_int_equal(w->f.port->q[1].avail, drv_ring(1) + DRV_AVAIL);
    assert_int_equal(w->f.port->q[1].used, drv_ring(1) + DRV_USED);
    drv_set(&w->d, 0x38, 8); /* not while it is ready */
    drv_set(&w->d, 0x80, 0);
    assert_int_equal(w->f.port->q[1].size, DRV_SIZE);
    assert_int_equal(w->f.port->q[1].desc, drv_ring(1));
    drv_set(&w->d, 0x44, 0);
    assert_int_equal(drv_reg(&w->d, 0x44), 0);
    assert_int_equal(w->f.drains, 1);
    drv_set(&w->d, 0x84, 0xabcd);
    assert_int_equal(w->f.port->q[1].desc, 0xabcdull << 32 | drv_ring(1));
}

static void sizes_that_are_no_power_of_two_are_not_taken(void **state)
{
    struct world *w = *state;
    static const uint32_t bad[] = {3, 255, 257, 512, 32768, 65536, 65537, UINT32_MAX};

    assert_int_equal(negotiate(w, VIRTIO_F_VERSION_1), 11);
    drv_set(&w->d, 0x38, 16);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        drv_set(&w->d, 0x38, bad[i]);
        assert_int_equal(w->f.port->q[0].size, 16);
    }
}

static void queues_outside_ram_or_misaligned_need_a_reset(void **state)
{
    struct world *w = *state;
    static const struct {
        uint32_t low_reg, low, high;
    } rows[] = {
        {0x80, DRV_RAM - 16 * DRV_SIZE + 16, 0}, {0x80, 8, 0}, {0x80, 0, 1},
        {0x90, DRV_RAM - 2 * DRV_SIZE - 4, 0},   {0x90, 1, 0}, {0x90, 0, UINT32_MAX},
        {0xa0, DRV_RAM - 8 * DRV_SIZE - 4, 0},   {0xa0, 2, 0}, {0xa0, 0xfffffff0, UINT32_MAX},
    };

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        assert_int_equal(negotiate(w, VIRTIO_F_VERSION_1), 11);
        drv_queue(&w->d, 0);
        drv_set(&w->d, 0x44, 0);
        drv_set(&w->d, rows[i].low_reg, rows[i].low);
        drv_set(&w->d, rows[i].low_reg + 4, rows[i].high);
        drv_set(&w->d, 0x44, 1);
        assert_int_equal(drv_reg(&w->d, 0x44), 0);
        assert_true(drv_broken(&w->d));
    }
    assert_int_equal(negotiate(w, VIRTIO_F_VERSION_1), 11);
    drv_set(&w->d, 0x44, 1); /* no size */
    assert_true(drv_broken(&w->d));
}

static void notifications_reach_live_queues_only(void **state)
{
    struct world *w = *state;

    drv_kick(&w->d, 0);
    assert_int_equal(w->f.kicks[0], 0);
    drv_start(&w->d, 0);
    assert_int_equal(w->f.kicks[0], 1); /* what was added before DRIVER_OK */
    drv_kick(&w->d, 0);
    drv_kick(&w->d, 1);
    drv_kick(&w->d, 2);
    drv_kick(&w->d, UINT32_MAX);
    assert_int_equal(w->f.kicks[0], 2);
    assert_int_equal(w->f.kicks[1], 2);
    w->f.port->broken(w->f.port->ctx, "test");
    drv_kick(&w->d, 0);
    assert_int_equal(w->f.kicks[0], 2);
    drv_set(&w->d, 0x70, 0);
    drv_kick(&w->d, 0);
    assert_int_equal(w->f.kicks[0], 2);
}

static void the_line_follows_the_interrupt_status(void **state)
{
    struct world *w = *state;
    struct vq *q = NULL;

    drv_start(&w->d, 0);
    q = &w->f.port->q[0];
    w->f.port->used(w->f.port->ctx, 0);
    assert_false(w->d.level); /* nothing was used */
    assert_int_equal(vq_push(q, 0, 0), 0);
    w->f.port->used(w->f.port->ctx, 0);
    assert_true(w->d.level);
    w->f.port->config_changed(w->f.port->ctx);
    assert_int_equal(drv_reg(&w->d, 0x60), 3);
    assert_int_equal(w->d.raised, 1);
    drv_set(&w->d, 0x64, 1);
    assert_true(w->d.level);
    drv_set(&w->d, 0x64, 0xfffffffe);
    assert_false(w->d.level);
    assert_int_equal(drv_reg(&w->d, 0x60), 0);
    w->f.port->broken(w->f.port->ctx, "test");
    w->f.port->broken(w->f.port->ctx, "again");
    assert_int_equal(drv_reg(&w->d, 0x60), 2);
    assert_int_equal(w->d.raised, 2);
    drv_set(&w->d, 0x70, 0);
    assert_false(w->d.level);
}

static void configuration_is_bytes(void **state)
{
    struct world *w = *state;

    for (unsigned len = 1; len <= 8; len *= 2) {
        for (uint64_t off = 0; off < 0xf00; off++) {
            uint64_t want = 0;

            for (unsigned i = 0; i < len && off + len <= CONFIG; i++)
                want |= (0x10 + off + i) << (8 * i);
            assert_int_equal(vmmio_read(w->d.t, 0x100 + off, len), want);
        }
    }
    vmmio_write(w->d.t, 0x100 + CONFIG - 1, 1, 0xee);
    vmmio_write(w->d.t, 0x100 + CONFIG - 1, 2, 0x1122); /* leaves it: not taken */
    vmmio_write(w->d.t, 0xfff, 1, 1);
    assert_int_equal(w->f.config[CONFIG - 1], 0xee);
}

static void the_generation_tells_a_change(void **state)
{
    struct world *w = *state;
    uint32_t was = drv_reg(&w->d, 0xfc);

    w->f.port->config_changed(w->f.port->ctx);
    assert_int_not_equal(drv_reg(&w->d, 0xfc), was);
    assert_int_equal(w->d.raised, 0); /* no driver yet */
}

static void state_moves_and_truncations_are_refused(void **state)
{
    struct world *w = *state, x = {0};

    w->f.value = 1234;
    drv_start(&w->d, FEATURE);
    w->f.port->config_changed(w->f.port->ctx);
    drv_plug(&x.d, &fake_ops, &x.f);
    drv_move(&w->d, &x.d);
    assert_int_equal(x.f.value, 1234);
    assert_int_equal(x.f.port->features, w->f.port->features);
    assert_true(x.f.port->live);
    assert_int_equal(drv_reg(&x.d, 0x70), DRV_OK);
    assert_int_equal(drv_reg(&x.d, 0x60), 2);
    assert_true(x.d.level);
    assert_int_equal(x.f.port->q[1].used, drv_ring(1) + DRV_USED);
    drv_close(&x.d);
}

/* Each byte of a good state turned over: refused or harmless, never believed blindly. */
static void a_state_that_lies_is_survived(void **state)
{
    struct world *w = *state;
    struct state_io out;
    uint8_t *buf = NULL;
    size_t len = 0;

    drv_start(&w->d, FEATURE);
    state_save_init(&out);
    vmmio_visit(w->d.t, &out);
    assert_int_equal(state_take(&out, &buf, &len, NULL), 0);
    for (size_t i = 0; i < len; i++) {
        struct world x = {0};
        struct state_io in;

        drv_plug(&x.d, &fake_ops, &x.f);
        buf[i] ^= 0xff;
        state_load_init(&in, buf, len);
        vmmio_visit(x.d.t, &in);
        if (state_done(&in, NULL) < 0)
            assert_int_equal(drv_reg(&x.d, 0x70), 0); /* as after a reset */
        drv_kick(&x.d, 0);
        buf[i] ^= 0xff;
        drv_close(&x.d);
    }
    free(buf);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(the_device_says_who_it_is),
        T(registers_take_aligned_words_only),
        T(write_only_and_unknown_registers_read_as_zero),
        T(features_come_in_halves),
        T(only_offered_features_are_accepted),
        T(the_status_goes_forward_only),
        T(a_driver_that_skips_features_needs_a_reset),
        T(queues_are_set_up_through_their_registers),
        T(sizes_that_are_no_power_of_two_are_not_taken),
        T(queues_outside_ram_or_misaligned_need_a_reset),
        T(notifications_reach_live_queues_only),
        T(the_line_follows_the_interrupt_status),
        T(configuration_is_bytes),
        T(the_generation_tells_a_change),
        T(state_moves_and_truncations_are_refused),
        T(a_state_that_lies_is_survived),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
