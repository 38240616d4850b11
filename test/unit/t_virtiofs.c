#include "dev/virtio/virtiofs.h"

#include <errno.h>
#include <linux/fuse.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "test/unit/driver.h"

struct world {
    char dir[64];
    struct drv d;
};

static void plug(struct world *w, const char *tag)
{
    struct fusefs *fs = NULL;

    *w = (struct world){.dir = "/tmp/t_virtiofs.XXXXXX"};
    assert_non_null(mkdtemp(w->dir));
    assert_int_equal(fusefs_new(w->dir, false, &fs, NULL), 0);
    drv_plug(&w->d, &virtiofs_ops, virtiofs_new(fs, tag, NULL));
}

static void unplug(struct world *w)
{
    drv_close(&w->d);
    assert_int_equal(rmdir(w->dir), 0);
}

/* GETATTR of a node, its parts in as many segments as they have; the reply's error. */
static int getattr(struct world *w, uint64_t node, uint32_t *len)
{
    struct fuse_in_header h = {
        .len = sizeof(h) + 16, .opcode = FUSE_GETATTR, .unique = 7, .nodeid = node};
    struct fuse_getattr_in in = {0};
    struct fuse_out_header o;

    drv_put(&w->d, DRV_FREE, &h, sizeof(h));
    drv_put(&w->d, DRV_FREE + 100, &in, sizeof(in));
    drv_add(&w->d, 1,
            (struct drv_seg[]){{DRV_FREE, sizeof(h), false},
                               {DRV_FREE + 100, sizeof(in), false},
                               {DRV_FREE + 1000, sizeof(o), true},
                               {DRV_FREE + 2000, sizeof(struct fuse_attr_out), true}},
            4);
    drv_kick(&w->d, 1);
    assert_true(drv_used(&w->d, 1, NULL, len));
    drv_get(&w->d, DRV_FREE + 1000, &o, sizeof(o));
    assert_int_equal(o.unique, 7);
    assert_int_equal(o.len, *len);
    return o.error;
}

static void a_request_is_answered(void **state)
{
    struct world w;
    uint32_t len;
    struct fuse_attr_out a;

    plug(&w, "t");
    drv_start(&w.d, 0);
    assert_int_equal(getattr(&w, FUSE_ROOT_ID, &len), 0);
    assert_int_equal(len, sizeof(struct fuse_out_header) + sizeof(a));
    drv_get(&w.d, DRV_FREE + 2000, &a, sizeof(a));
    assert_int_equal(a.attr.mode, S_IFDIR | 0700);
    assert_int_equal(getattr(&w, 99, &len), -ESTALE);
    unplug(&w);
}

static void the_configuration_has_tag_and_queues(void **state)
{
    struct world w;

    plug(&w, "tag");
    assert_int_equal(vmmio_read(w.d.t, 0x100, 4), 't' | 'a' << 8 | 'g' << 16);
    assert_int_equal(vmmio_read(w.d.t, 0x124, 4), 1);
    unplug(&w);
}

static void tags_are_one_to_36_bytes(void **state)
{
    static const char *const bad[] = {"", "0123456789012345678901234567890123456"};

    for (int i = 0; i < 2; i++) {
        struct fusefs *fs = NULL;
        struct err e = {0};

        assert_int_equal(fusefs_new("/", true, &fs, NULL), 0);
        assert_null(virtiofs_new(fs, bad[i], &e));
        assert_int_equal(e.code, -EINVAL);
    }
}

static void chains_without_a_request_come_back_empty(void **state)
{
    struct world w;
    uint32_t len;

    plug(&w, "t");
    drv_start(&w.d, 0);
    drv_add(&w.d, 1, &(struct drv_seg){DRV_FREE, 39, false}, 1);
    drv_add(&w.d, 0, &(struct drv_seg){DRV_FREE, 4096, true}, 1);
    drv_kick(&w.d, 1);
    drv_kick(&w.d, 0);
    assert_true(drv_used(&w.d, 1, NULL, &len));
    assert_int_equal(len, 0);
    assert_true(drv_used(&w.d, 0, NULL, &len));
    assert_int_equal(len, 0);
    assert_false(drv_broken(&w.d));
    unplug(&w);
}

static void state_moves_and_truncations_are_refused(void **state)
{
    struct world a, b;
    uint32_t len;

    plug(&a, "t");
    drv_start(&a.d, 0);
    assert_int_equal(getattr(&a, FUSE_ROOT_ID, &len), 0);
    plug(&b, "t");
    drv_move(&a.d, &b.d);
    assert_int_equal(getattr(&b, FUSE_ROOT_ID, &len), 0);
    unplug(&a);
    unplug(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_request_is_answered),
        cmocka_unit_test(the_configuration_has_tag_and_queues),
        cmocka_unit_test(tags_are_one_to_36_bytes),
        cmocka_unit_test(chains_without_a_request_come_back_empty),
        cmocka_unit_test(state_moves_and_truncations_are_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
