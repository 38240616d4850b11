#include "dev/virtio/console.h"

#include <stdlib.h>

#include "test/unit/driver.h"

struct world {
    struct drv d;
    struct console *c;
    char out[8192];
    size_t n_out, take; /* takes at most `take` bytes in all */
    unsigned room_calls;
};

static size_t out(void *ctx, const void *bytes, size_t len)
{
    struct world *w = ctx;
    size_t n = len < w->take ? len : w->take;

    assert_true(n <= sizeof(w->out) - w->n_out);
    memcpy(w->out + w->n_out, bytes, n);
    w->n_out += n;
    w->take -= n;
    return n;
}

static void room(void *ctx)
{
    ((struct world *)ctx)->room_calls++;
}

static void plug(struct world *w)
{
    struct console_conf c = {.out = out, .room = room, .ctx = w, .cols = 80, .rows = 25};

    *w = (struct world){.take = SIZE_MAX};
    w->c = console_new(&c, NULL);
    drv_plug(&w->d, &console_ops, w->c);
}

static int setup(void **state)
{
    struct world *w = malloc(sizeof(*w));

    plug(w);
    drv_start(&w->d, 1);
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

static void what_the_guest_writes_comes_out(void **state)
{
    struct world *w = *state;
    uint32_t len;

    drv_put(&w->d, DRV_FREE, "hello, world", 12);
    drv_add(&w->d, 1, (struct drv_seg[]){{DRV_FREE, 5, false}, {DRV_FREE + 5, 7, false}}, 2);
    drv_kick(&w->d, 1);
    assert_int_equal(w->n_out, 12);
    assert_memory_equal(w->out, "hello, world", 12);
    assert_true(drv_used(&w->d, 1, NULL, &len));
    assert_int_equal(len, 0);
}

static void a_full_sink_stops_the_guest_without_loss(void **state)
{
    struct world *w = *state;

    drv_put(&w->d, DRV_FREE, "0123456789", 10);
    drv_add(&w->d, 1, &(struct drv_seg){DRV_FREE, 10, false}, 1);
    drv_add(&w->d, 1, &(struct drv_seg){DRV_FREE, 2, false}, 1);
    w->take = 4;
    drv_kick(&w->d, 1);
    drv_kick(&w->d, 1);
    assert_false(drv_used(&w->d, 1, NULL, NULL));
    w->take = SIZE_MAX;
    console_out_ready(w->c);
    assert_int_equal(w->n_out, 12);
    assert_memory_equal(w->out, "012345678901", 12);
    assert_true(drv_used(&w->d, 1, NULL, NULL));
    assert_true(drv_used(&w->d, 1, NULL, NULL));
}

static void input_waits_for_buffers_and_is_bounded(void **state)
{
    struct world *w = *state;
    static char in[CONSOLE_IN_MAX + 100], got[64];
    uint32_t len;

    for (size_t i = 0; i < sizeof(in); i++)
        in[i] = (char)i;
    assert_int_equal(console_in(w->c, in, sizeof(in)), CONSOLE_IN_MAX);
    assert_int_equal(console_room(w->c), 0);
    assert_int_equal(console_in(w->c, in, 1), 0);
    drv_add(&w->d, 0, (struct drv_seg[]){{DRV_FREE, 10, true}, {DRV_FREE + 10, 6, true}}, 2);
    drv_kick(&w->d, 0);
    assert_true(drv_used(&w->d, 0, NULL, &len));
    assert_int_equal(len, 16);
    drv_get(&w->d, DRV_FREE, got, 16);
    assert_memory_equal(got, in, 16);
    assert_int_equal(console_room(w->c), 16);
    assert_int_equal(w->room_calls, 1);
    drv_add(&w->d, 0, &(struct drv_seg){DRV_FREE, 8192, true}, 1);
    drv_kick(&w->d, 0);
    assert_int_equal(console_room(w->c), CONSOLE_IN_MAX);
    drv_add(&w->d, 0, &(struct drv_seg){DRV_FREE, 64, true}, 1);
    assert_int_equal(console_in(w->c, "key", 3), 3); /* goes out at once */
    assert_int_equal(console_room(w->c), CONSOLE_IN_MAX);
}

static void a_readable_receive_buffer_loses_nothing(void **state)
{
    struct world *w = *state;

    assert_int_equal(console_in(w->c, "key", 3), 3);
    drv_add(&w->d, 0, &(struct drv_seg){DRV_FREE, 64, false}, 1);
    drv_kick(&w->d, 0);
    assert_int_equal(console_room(w->c), CONSOLE_IN_MAX - 3);
}

static void a_new_size_is_told(void **state)
{
    struct world *w = *state;

    assert_int_equal(vmmio_read(w->d.t, 0x100, 2), 80);
    console_resize(w->c, 132, 50);
    assert_int_equal(drv_reg(&w->d, 0x60), 2);
    assert_int_equal(vmmio_read(w->d.t, 0x100, 2), 132);
    assert_int_equal(vmmio_read(w->d.t, 0x102, 2), 50);
    drv_ack(&w->d);
    console_resize(w->c, 132, 50);
    assert_int_equal(drv_reg(&w->d, 0x60), 0);
    drv_start(&w->d, 0); /* a driver that did not ask */
    console_resize(w->c, 80, 25);
    assert_int_equal(drv_reg(&w->d, 0x60), 0);
}

static void state_moves_and_truncations_are_refused(void **state)
{
    struct world *w = *state, *x = malloc(sizeof(*x));
    char got[4];

    console_in(w->c, "keys", 4);
    drv_put(&w->d, DRV_FREE, "0123456789", 10);
    drv_add(&w->d, 1, &(struct drv_seg){DRV_FREE, 10, false}, 1);
    w->take = 4;
    drv_kick(&w->d, 1);
    plug(x);
    drv_move(&w->d, &x->d);
    drv_kick(&x->d, 1);
    assert_int_equal(x->n_out, 6); /* goes on where the other stopped */
    assert_memory_equal(x->out, "456789", 6);
    drv_add(&x->d, 0, &(struct drv_seg){DRV_FREE, 64, true}, 1);
    drv_kick(&x->d, 0);
    drv_get(&x->d, DRV_FREE, got, 4);
    assert_memory_equal(got, "keys", 4);
    drv_close(&x->d);
    free(x);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(what_the_guest_writes_comes_out),
        T(a_full_sink_stops_the_guest_without_loss),
        T(input_waits_for_buffers_and_is_bounded),
        T(a_readable_receive_buffer_loses_nothing),
        T(a_new_size_is_told),
        T(state_moves_and_truncations_are_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
