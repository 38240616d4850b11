/* The block device over a disk in memory that answers when the test says so. */
#include "dev/virtio/blk.h"

#include <errno.h>
#include <stdlib.h>

#include "test/unit/driver.h"

enum { SECTORS = 2048, SIZE = SECTORS * 512, PENDING = 512 };
enum { IN = 0, OUT = 1, FLUSH = 4, GET_ID = 8, DISCARD = 11, ZEROES = 13 };
enum { OK = 0, IOERR = 1, UNSUPP = 2, NONE = 0xcc };
enum { F_FLUSH = 1 << 9 };
enum { HDR = DRV_FREE, DATA = DRV_FREE + 0x1000, STATUS = DRV_FREE + 0x200000 };

struct disk {
    struct block b;
    uint8_t bytes[SIZE];
    struct block_req *wait[PENDING];
    unsigned n, max_seen, flushes, commits;
    int result; /* of what is answered */
    bool closed;
};

struct world {
    struct drv d;
    struct disk disk;
};

static void submit(struct block *b, struct block_req *r)
{
    struct disk *d = (struct disk *)b;

    assert_true(d->n < PENDING);
    assert_true(r->len <= SIZE && r->offset <= SIZE - r->len);
    d->wait[d->n++] = r;
    if (d->n > d->max_seen)
        d->max_seen = d->n;
}

static void commit(struct block *b)
{
    ((struct disk *)b)->commits++;
}

static void perform(struct disk *d, struct block_req *r)
{
    uint8_t *at = d->bytes + r->offset;
    uint64_t sum = 0;

    for (unsigned i = 0; i < r->n_iov; i++) {
        if (r->op == BLOCK_READ)
            memcpy(r->iov[i].iov_base, at + sum, r->iov[i].iov_len);
        else
            memcpy(at + sum, r->iov[i].iov_base, r->iov[i].iov_len);
        sum += r->iov[i].iov_len;
    }
    if (r->op == BLOCK_READ || r->op == BLOCK_WRITE)
        assert_int_equal(sum, r->len);
    if (r->op == BLOCK_DISCARD || r->op == BLOCK_WRITE_ZEROES)
        memset(at, 0, r->len);
    d->flushes += r->op == BLOCK_FLUSH;
}

/* Answer everything that waits now. */
static void answer(struct disk *d)
{
    unsigned n = d->n;
    struct block_req *r[PENDING];

    memcpy(r, d->wait, n * sizeof(r[0]));
    d->n = 0;
    for (unsigned i = n; i-- > 0;) { /* in another order than asked */
        if (d->result == 0)
            perform(d, r[i]);
        r[i]->done(r[i], d->result);
    }
}

static void drain(struct block *b)
{
    while (((struct disk *)b)->n > 0)
        answer((struct disk *)b);
}

static void disk_close(struct block *b)
{
    ((struct disk *)b)->closed = true;
}

static const struct block_ops ops = {
    .submit = submit, .commit = commit, .drain = drain, .close = disk_close};

static void plug(struct world *w, bool read_only)
{
    w->disk.b = (struct block){.ops = &ops,
                               .info = {.size = SIZE,
                                        .read_only = read_only,
                                        .can_discard = !read_only,
                                        .can_write_zeroes = !read_only,
                                        .block_size = 4096}};
    for (unsigned i = 0; i < SIZE; i++)
        w->disk.bytes[i] = (uint8_t)(i / 512 * 3 + i);
    drv_plug(&w->d, &blk_ops, blk_new(&w->disk.b, "serial-0123456789-too-long", NULL));
}

static int setup(void **state)
{
    struct world *w = calloc(1, sizeof(*w));

    plug(w, false);
    drv_start(&w->d, F_FLUSH);
    *state = w;
    return 0;
}

static int teardown(void **state)
{
    struct world *w = *state;

    drv_close(&w->d);
    assert_true(w->disk.closed);
    assert_int_equal(w->disk.n, 0);
    free(w);
    return 0;
}

static void put_hdr(struct world *w, uint32_t type, uint64_t sector)
{
    struct {
        uint32_t type, reserved;
        uint64_t sector;
    } h = {type, 0, sector};

    drv_put(&w->d, HDR, &h, sizeof(h));
    drv_put(&w->d, STATUS, &(uint8_t){NONE}, 1);
}

static uint8_t status(struct world *w)
{
    uint8_t s;

    drv_get(&w->d, STATUS, &s, 1);
    return s;
}

/* One request with `len` bytes of data (0 = none), and its status. */
static uint8_t request(struct world *w, uint32_t type, uint64_t sector, uint32_t len)
{
    bool in = type == IN || type == GET_ID;
    struct drv_seg s[3] = {{HDR, 16, false}, {DATA, len, in}, {STATUS, 1, true}};

    put_hdr(w, type, sector);
    if (len == 0)
        s[1] = s[2];
    drv_add(&w->d, 0, s, len ? 3 : 2);
    drv_kick(&w->d, 0);
    drain(&w->disk.b);
    while (drv_used(&w->d, 0, NULL, NULL))
        ;
    return status(w);
}

static void sectors_are_read_and_written(void **state)
{
    struct world *w = *state;
    uint8_t buf[1024];

    assert_int_equal(request(w, IN, 5, 1024), OK);
    drv_get(&w->d, DATA, buf, sizeof(buf));
    assert_memory_equal(buf, w->disk.bytes + 5 * 512, sizeof(buf));
    memset(buf, 0xab, sizeof(buf));
    drv_put(&w->d, DATA, buf, sizeof(buf));
    assert_int_equal(request(w, OUT, SECTORS - 2, 1024), OK);
    assert_memory_equal(w->disk.bytes + SIZE - 1024, buf, sizeof(buf));
    assert_int_equal(request(w, FLUSH, 0, 0), OK);
    assert_int_equal(w->disk.flushes, 1);
}

static void the_used_length_covers_what_was_written(void **state)
{
    struct world *w = *state;
    uint32_t len;

    put_hdr(w, IN, 0);
    drv_add(&w->d, 0, (struct drv_seg[]){{HDR, 16, false}, {DATA, 512, true}, {STATUS, 1, true}},
            3);
    drv_kick(&w->d, 0);
    answer(&w->disk);
    assert_true(drv_used(&w->d, 0, NULL, &len));
    assert_int_equal(len, 513);
    assert_int_equal(w->d.raised, 1);
}

/* 2.7.4.2: the device must not rely on a particular split into descriptors. */
static void any_layout_of_segments_is_understood(void **state)
{
    struct world *w = *state;
    uint8_t buf[513];

    put_hdr(w, IN, 9);
    drv_add(&w->d, 0,
            (struct drv_seg[]){{HDR, 1, false},
                               {HDR + 1, 14, false},
                               {HDR + 15, 1, false},
                               {DATA, 100, true},
                               {DATA + 100, 413, true}}, /* the last byte is the status */
            5);
    drv_kick(&w->d, 0);
    answer(&w->disk);
    drv_get(&w->d, DATA, buf, 513);
    assert_memory_equal(buf, w->disk.bytes + 9 * 512, 512);
    assert_int_equal(buf[512], OK);

    put_hdr(w, OUT, 9);
    drv_put(&w->d, HDR + 16, buf, 512);
    drv_add(&w->d, 0, (struct drv_seg[]){{HDR, 528, false}, {STATUS, 1, true}}, 2);
    drv_kick(&w->d, 0);
    answer(&w->disk);
    assert_int_equal(status(w), OK);
}

static void what_lies_beyond_the_disk_fails(void **state)
{
    struct world *w = *state;
    static const struct {
        uint64_t sector;
        uint32_t len;
        uint8_t want;
    } rows[] = {
        {SECTORS - 1, 512, OK},
        {SECTORS - 1, 1024, IOERR},
        {SECTORS, 512, IOERR},
        {UINT64_MAX, 512, IOERR},
        {UINT64_MAX / 512, 512, IOERR},
        {0, 511, IOERR},
        {0, 513, IOERR},
        {0, 1, IOERR},
        {SECTORS, 0, OK},
        {SECTORS + 1, 0, IOERR},
    };

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        assert_int_equal(request(w, IN, rows[i].sector, rows[i].len), rows[i].want);
        assert_int_equal(request(w, OUT, rows[i].sector, rows[i].len), rows[i].want);
    }
    assert_false(drv_broken(&w->d));
}

static void unknown_requests_are_unsupported(void **state)
{
    struct world *w = *state;
    static const uint32_t types[] = {2, 3, 5, 6, 7, 9, 10, 12, 14, 15, 255, UINT32_MAX};

    for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++)
        assert_int_equal(request(w, types[i], 0, 512), UNSUPP);
}

static void chains_without_header_or_status_break_the_device(void **state)
{
    struct world *w = *state;

    drv_add(&w->d, 0, (struct drv_seg[]){{HDR, 15, false}, {STATUS, 1, true}}, 2);
    drv_kick(&w->d, 0);
    assert_true(drv_broken(&w->d));
    drv_start(&w->d, 0);
    drv_add(&w->d, 0, &(struct drv_seg){HDR, 16, false}, 1);
    drv_kick(&w->d, 0);
    assert_true(drv_broken(&w->d));
    drv_start(&w->d, 0);
    drv_add(&w->d, 0, &(struct drv_seg){STATUS, 1, true}, 1);
    drv_kick(&w->d, 0);
    assert_true(drv_broken(&w->d));
}

static uint8_t range(struct world *w, uint32_t type, uint64_t sector, uint32_t n, uint32_t flags)
{
    struct {
        uint64_t sector;
        uint32_t n, flags;
    } r = {sector, n, flags};

    drv_put(&w->d, DATA, &r, sizeof(r));
    return request(w, type, 0, sizeof(r));
}

static void ranges_are_discarded_and_zeroed(void **state)
{
    struct world *w = *state;

    assert_int_equal(range(w, ZEROES, 3, 2, 1), OK);
    assert_int_equal(w->disk.bytes[3 * 512 + 700], 0);
    assert_int_not_equal(w->disk.bytes[5 * 512 + 1], 0);
    assert_int_equal(range(w, DISCARD, 8, 8, 0), OK);
    assert_int_equal(w->disk.bytes[9 * 512 + 1], 0);
    assert_int_equal(range(w, DISCARD, 8, 8, 1), UNSUPP); /* unmap is for zeroes */
    assert_int_equal(range(w, ZEROES, 8, 8, 2), UNSUPP);
    assert_int_equal(range(w, ZEROES, SECTORS - 1, 2, 0), IOERR);
    assert_int_equal(range(w, ZEROES, UINT64_MAX, 1, 0), IOERR);
    assert_int_equal(range(w, ZEROES, 0, UINT32_MAX, 0), IOERR);
    assert_int_equal(range(w, ZEROES, 0, 0, 0), OK);
    assert_int_equal(request(w, ZEROES, 0, 15), IOERR);
    assert_int_equal(request(w, ZEROES, 0, 32), IOERR); /* two ranges: max_..._seg is 1 */
    assert_int_equal(request(w, DISCARD, 0, 0), IOERR);
}

static void the_serial_is_cut_to_twenty_bytes(void **state)
{
    struct world *w = *state;
    char got[21] = {0};

    assert_int_equal(request(w, GET_ID, 0, 20), OK);
    drv_get(&w->d, DATA, got, 20);
    assert_string_equal(got, "serial-0123456789-to");
    assert_int_equal(request(w, GET_ID, 0, 5), OK);
}

static void a_read_only_disk_is_not_written(void **state)
{
    struct world *w = calloc(1, sizeof(*w));

    plug(w, true);
    assert_true(drv_reg(&w->d, 0x10) & 1 << 5);
    assert_false(drv_reg(&w->d, 0x10) & (1 << 13 | 1 << 14));
    drv_start(&w->d, 1 << 5);
    assert_int_equal(request(w, OUT, 0, 512), IOERR);
    assert_int_equal(range(w, DISCARD, 0, 1, 0), IOERR);
    assert_int_equal(range(w, ZEROES, 0, 1, 0), IOERR);
    assert_int_equal(request(w, FLUSH, 0, 0), OK);
    assert_int_equal(request(w, IN, 0, 512), OK);
    void *p = w;
    teardown(&p);
}

static void errors_of_the_disk_reach_the_guest(void **state)
{
    struct world *w = *state;

    w->disk.result = -EIO;
    assert_int_equal(request(w, IN, 0, 512), IOERR);
    w->disk.result = -EOPNOTSUPP;
    assert_int_equal(range(w, DISCARD, 0, 8, 0), UNSUPP);
    w->disk.result = -ENOSPC;
    assert_int_equal(request(w, OUT, 0, 512), IOERR);
}

/* 5.2.6.2: a driver that knows no flush expects its writes to be stable. */
static void writes_are_flushed_for_a_driver_that_cannot(void **state)
{
    struct world *w = *state;

    drv_start(&w->d, 0);
    assert_int_equal(request(w, OUT, 0, 512), OK);
    assert_int_equal(w->disk.flushes, 1);
    assert_int_equal(request(w, IN, 0, 512), OK);
    assert_int_equal(w->disk.flushes, 1);
}

static void requests_in_flight_are_bounded(void **state)
{
    struct world *w = *state;
    unsigned done = 0;

    put_hdr(w, IN, 0);
    for (unsigned i = 0; i < DRV_SIZE; i++) { /* one table for all of them */
        drv_desc(&w->d, HDR + 0x100, 0, HDR, 16, DRV_NEXT, 1);
        drv_desc(&w->d, HDR + 0x100, 1, DATA, 512, DRV_NEXT | DRV_WRITE, 2);
        drv_desc(&w->d, HDR + 0x100, 2, STATUS, 1, DRV_WRITE, 0);
        drv_desc(&w->d, drv_ring(0), i, HDR + 0x100, 48, DRV_INDIRECT, 0);
        drv_offer(&w->d, 0, (uint16_t)i);
    }
    drv_kick(&w->d, 0);
    assert_int_equal(w->disk.n, BLK_INFLIGHT_MAX);
    while (w->disk.n > 0)
        answer(&w->disk);
    while (drv_used(&w->d, 0, NULL, NULL))
        done++;
    assert_int_equal(done, DRV_SIZE);
    assert_int_equal(w->disk.max_seen, BLK_INFLIGHT_MAX);
}

static void more_segments_than_promised_fail(void **state)
{
    struct world *w = *state;
    enum { TABLE = HDR + 0x100, N = BLK_SEG_MAX + 2 };

    put_hdr(w, IN, 0);
    drv_desc(&w->d, TABLE, 0, HDR, 16, DRV_NEXT, 1);
    for (unsigned i = 1; i < N; i++) /* the status byte lies in the last data segment */
        drv_desc(&w->d, TABLE, i, DATA + 512u * i, i + 1 < N ? 512 : 513,
                 DRV_WRITE | (i + 1 < N ? DRV_NEXT : 0), (uint16_t)(i + 1));
    drv_desc(&w->d, drv_ring(0), 0, TABLE, 16 * N, DRV_INDIRECT, 0);
    drv_offer(&w->d, 0, 0);
    drv_kick(&w->d, 0);
    drain(&w->disk.b);
    uint8_t s;
    drv_get(&w->d, DATA + 512u * (N - 1) + 512, &s, 1);
    assert_int_equal(s, IOERR);
}

static void a_reset_finishes_what_is_in_flight(void **state)
{
    struct world *w = *state;

    put_hdr(w, IN, 0);
    drv_add(&w->d, 0, (struct drv_seg[]){{HDR, 16, false}, {DATA, 512, true}, {STATUS, 1, true}},
            3);
    drv_kick(&w->d, 0);
    assert_int_equal(w->disk.n, 1);
    drv_set(&w->d, 0x70, 0);
    assert_int_equal(w->disk.n, 0);
    assert_int_equal(status(w), NONE); /* the old driver's memory is left alone */
    drv_start(&w->d, F_FLUSH);
    assert_int_equal(request(w, IN, 0, 512), OK);
}

static void the_configuration_tells_the_disk(void **state)
{
    struct world *w = *state;

    assert_int_equal(vmmio_read(w->d.t, 0x100, 8), SECTORS);
    assert_int_equal(vmmio_read(w->d.t, 0x10c, 4), BLK_SEG_MAX);
    assert_int_equal(vmmio_read(w->d.t, 0x114, 4), 512);
    assert_int_equal(vmmio_read(w->d.t, 0x118, 1), 3); /* 4096 = 512 << 3 */
    assert_int_equal(vmmio_read(w->d.t, 0x124, 4), BLK_DISCARD_MAX);
}

static void state_moves_and_truncations_are_refused(void **state)
{
    struct world *w = *state, *x = calloc(1, sizeof(*x));
    struct state_io out, in;
    uint8_t *buf = NULL;
    size_t len = 0;

    put_hdr(w, IN, 4);
    drv_add(&w->d, 0, (struct drv_seg[]){{HDR, 16, false}, {DATA, 512, true}, {STATUS, 1, true}},
            3);
    drv_kick(&w->d, 0);
    vmmio_drain(w->d.t);
    assert_int_equal(status(w), OK);
    plug(x, false);
    drv_move(&w->d, &x->d);
    assert_true(drv_used(&x->d, 0, NULL, NULL));
    assert_int_equal(request(x, IN, 4, 512), OK);

    state_save_init(&out);
    vmmio_visit(x->d.t, &out);
    assert_int_equal(state_take(&out, &buf, &len, NULL), 0);
    w->disk.b.info.size -= 4096; /* another disk */
    state_load_init(&in, buf, len);
    vmmio_visit(w->d.t, &in);
    assert_int_equal(state_done(&in, NULL), -EBADMSG);
    free(buf);
    void *p = x;
    teardown(&p);
}

static void a_disk_put_into_an_empty_drive_is_told(void **state)
{
    struct world *w = calloc(1, sizeof(*w)), *x = calloc(1, sizeof(*x));
    struct block *none = NULL;

    assert_int_equal(empty_open(EMPTY_READ_ONLY, &none, NULL), 0);
    drv_plug(&w->d, &blk_ops, blk_new(none, NULL, NULL));
    w->disk.closed = true; /* never was */
    drv_start(&w->d, F_FLUSH);
    assert_int_equal(drv_reg(&w->d, 0x100), 0); /* capacity */
    assert_int_equal(request(w, IN, 0, 512), IOERR);
    assert_int_equal(request(w, OUT, 0, 512), IOERR);
    assert_int_equal(request(w, FLUSH, 0, 0), OK);
    drv_ack(&w->d);
    uint32_t generation = drv_reg(&w->d, 0xfc);
    plug(x, true);
    drv_move(&w->d, &x->d);
    assert_int_equal(drv_reg(&x->d, 0x60), 2); /* configuration changed */
    assert_int_not_equal(drv_reg(&x->d, 0xfc), generation);
    assert_int_equal(drv_reg(&x->d, 0x100), SECTORS);
    assert_int_equal(request(x, IN, 4, 512), OK);
    void *p = w;
    teardown(&p);
    p = x;
    teardown(&p);
}

static void a_drive_for_a_writable_disk_takes_one(void **state)
{
    struct world *w = calloc(1, sizeof(*w)), *x = calloc(1, sizeof(*x));
    struct block *none = NULL;

    assert_int_equal(empty_open(EMPTY_WRITABLE, &none, NULL), 0);
    drv_plug(&w->d, &blk_ops, blk_new(none, NULL, NULL));
    w->disk.closed = true;                  /* never was */
    drv_start(&w->d, F_FLUSH | 1ull << 13); /* DISCARD */
    assert_int_equal(request(w, FLUSH, 0, 0), OK);
    assert_int_equal(request(w, OUT, 0, 512), IOERR);
    drv_ack(&w->d);
    plug(x, false);
    drv_move(&w->d, &x->d);
    assert_int_equal(drv_reg(&x->d, 0x100), SECTORS);
    assert_int_equal(request(x, OUT, 4, 512), OK);
    void *p = w;
    teardown(&p);
    p = x;
    teardown(&p);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(sectors_are_read_and_written),
        T(the_used_length_covers_what_was_written),
        T(any_layout_of_segments_is_understood),
        T(what_lies_beyond_the_disk_fails),
        T(unknown_requests_are_unsupported),
        T(chains_without_header_or_status_break_the_device),
        T(ranges_are_discarded_and_zeroed),
        T(the_serial_is_cut_to_twenty_bytes),
        cmocka_unit_test(a_read_only_disk_is_not_written),
        T(errors_of_the_disk_reach_the_guest),
        T(writes_are_flushed_for_a_driver_that_cannot),
        T(requests_in_flight_are_bounded),
        T(more_segments_than_promised_fail),
        T(a_reset_finishes_what_is_in_flight),
        T(the_configuration_tells_the_disk),
        T(state_moves_and_truncations_are_refused),
        cmocka_unit_test(a_disk_put_into_an_empty_drive_is_told),
        cmocka_unit_test(a_drive_for_a_writable_disk_takes_one),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
