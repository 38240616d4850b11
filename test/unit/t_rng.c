#include "dev/virtio/rng.h"

#include <errno.h>
#include <stdlib.h>

#include "test/unit/driver.h"

struct source {
    uint8_t next;
    int fail;
};

static int counter(void *ctx, void *buf, size_t len)
{
    struct source *s = ctx;

    if (s->fail)
        return s->fail;
    for (size_t i = 0; i < len; i++)
        ((uint8_t *)buf)[i] = ++s->next;
    return 0;
}

static void plug(struct drv *d, struct source *s)
{
    drv_open(d, &rng_ops, rng_new((struct rng_source){counter, s}, NULL));
}

static void a_buffer_is_filled_and_the_driver_told(void **state)
{
    struct source s = {0};
    struct drv d;
    uint8_t got[12];
    uint32_t id, len;

    plug(&d, &s);
    uint16_t head =
        drv_add(&d, 0, (struct drv_seg[]){{DRV_FREE, 4, true}, {DRV_FREE + 100, 6, true}}, 2);
    drv_kick(&d, 0);
    assert_true(drv_used(&d, 0, &id, &len));
    assert_int_equal(id, head);
    assert_int_equal(len, 10);
    assert_int_equal(d.raised, 1);
    assert_int_equal(drv_reg(&d, 0x60), 1);
    drv_get(&d, DRV_FREE + 100, got, 6);
    assert_memory_equal(got, "\5\6\7\10\11\12", 6);
    drv_close(&d);
}

static void a_large_buffer_gets_part_and_a_readable_one_nothing(void **state)
{
    struct source s = {0};
    struct drv d;
    uint32_t len;

    plug(&d, &s);
    drv_add(&d, 0, &(struct drv_seg){DRV_FREE, 1 << 20, true}, 1);
    drv_add(&d, 0, &(struct drv_seg){DRV_FREE, 64, false}, 1);
    drv_kick(&d, 0);
    assert_true(drv_used(&d, 0, NULL, &len));
    assert_int_equal(len, 4096);
    assert_true(drv_used(&d, 0, NULL, &len));
    assert_int_equal(len, 0);
    assert_false(drv_broken(&d));
    drv_close(&d);
}

static void a_source_that_fails_gives_nothing(void **state)
{
    struct source s = {.fail = -EIO};
    struct drv d;
    uint32_t len;

    plug(&d, &s);
    drv_add(&d, 0, &(struct drv_seg){DRV_FREE, 64, true}, 1);
    drv_kick(&d, 0);
    assert_true(drv_used(&d, 0, NULL, &len));
    assert_int_equal(len, 0);
    drv_close(&d);
}

static void a_broken_ring_needs_a_reset_and_gets_one(void **state)
{
    struct source s = {0};
    struct drv d;

    plug(&d, &s);
    drv_offer(&d, 0, 9999);
    drv_kick(&d, 0);
    assert_true(drv_broken(&d));
    assert_int_equal(drv_reg(&d, 0x60) & 2, 2);
    drv_add(&d, 0, &(struct drv_seg){DRV_FREE, 64, true}, 1);
    drv_kick(&d, 0);
    assert_false(drv_used(&d, 0, NULL, NULL)); /* nothing moves until then */
    drv_start(&d, 0);
    drv_add(&d, 0, &(struct drv_seg){DRV_FREE, 64, true}, 1);
    drv_kick(&d, 0);
    assert_true(drv_used(&d, 0, NULL, NULL));
    drv_close(&d);
}

static void state_moves_and_truncations_are_refused(void **state)
{
    struct source s = {0};
    struct drv a, b;

    plug(&a, &s);
    drv_add(&a, 0, &(struct drv_seg){DRV_FREE, 64, true}, 1);
    drv_kick(&a, 0);
    assert_true(drv_used(&a, 0, NULL, NULL));
    drv_plug(&b, &rng_ops, rng_new((struct rng_source){counter, &s}, NULL));
    drv_move(&a, &b);
    assert_true(b.level); /* the interrupt that was not acknowledged is still there */
    drv_add(&b, 0, &(struct drv_seg){DRV_FREE, 64, true}, 1);
    drv_kick(&b, 0);
    assert_true(drv_used(&b, 0, NULL, NULL));
    drv_close(&a);
    drv_close(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_buffer_is_filled_and_the_driver_told),
        cmocka_unit_test(a_large_buffer_gets_part_and_a_readable_one_nothing),
        cmocka_unit_test(a_source_that_fails_gives_nothing),
        cmocka_unit_test(a_broken_ring_needs_a_reset_and_gets_one),
        cmocka_unit_test(state_moves_and_truncations_are_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
