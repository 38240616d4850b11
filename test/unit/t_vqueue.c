/* Rings as a hostile driver makes them. */
#include "dev/virtio/queue.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "state/state.h"
#include "test/unit/t.h"

enum { RAM = 0x10000, DESC = 0x1000, AVAIL = 0x2000, USED = 0x3000, TABLE = 0x5000, BUF = 0x8000 };
enum { SIZE = 8 };
enum { NEXT = 1, WRITE = 2, INDIRECT = 4 };

struct world {
    struct mem *m;
    struct vq q;
    struct vq_chain c;
};

static int setup(void **state)
{
    struct world *w = calloc(1, sizeof(*w));

    w->m = mem_new(RAM, NULL);
    w->q = (struct vq){.mem = w->m,
                       .size = SIZE,
                       .ready = true,
                       .indirect = true,
                       .desc = DESC,
                       .avail = AVAIL,
                       .used = USED};
    *state = w;
    return 0;
}

static int teardown(void **state)
{
    struct world *w = *state;

    mem_free(w->m);
    free(w);
    return 0;
}

static void put(struct world *w, gpa_t gpa, const void *p, size_t n)
{
    assert_int_equal(mem_write(w->m, gpa, p, n), 0);
}

static uint16_t get16(struct world *w, gpa_t gpa)
{
    uint16_t v;

    assert_int_equal(mem_read(w->m, gpa, &v, 2), 0);
    return v;
}

static void desc(struct world *w, gpa_t table, unsigned i, uint64_t gpa, uint32_t len,
                 uint16_t flags, uint16_t next)
{
    struct {
        uint64_t a;
        uint32_t l;
        uint16_t f, n;
    } d = {gpa, len, flags, next};

    put(w, table + 16ull * i, &d, sizeof(d));
}

static void avail(struct world *w, uint16_t head, uint16_t idx)
{
    put(w, AVAIL + 4 + 2ull * (uint16_t)((idx - 1) % SIZE), &head, 2);
    put(w, AVAIL + 2, &idx, 2);
}

static int pop_one(struct world *w, uint16_t head)
{
    avail(w, head, 1);
    return vq_pop(&w->q, &w->c);
}

static void a_chain_is_sorted_into_readable_and_writable(void **state)
{
    struct world *w = *state;

    desc(w, DESC, 3, BUF, 10, NEXT, 5);
    desc(w, DESC, 5, BUF + 16, 6, NEXT, 1);
    desc(w, DESC, 1, BUF + 32, 100, WRITE, 0);
    assert_int_equal(pop_one(w, 3), 1);
    assert_int_equal(w->c.head, 3);
    assert_int_equal(w->c.n_out, 2);
    assert_int_equal(w->c.n_in, 1);
    assert_int_equal(w->c.out_len, 16);
    assert_int_equal(w->c.in_len, 100);
    assert_int_equal(vq_pop(&w->q, &w->c), 0);
    vq_unpop(&w->q);
    assert_int_equal(vq_pop(&w->q, &w->c), 1);
    assert_int_equal(w->c.head, 3);
}

static void a_ring_that_loops_is_the_guests_fault(void **state)
{
    struct world *w = *state;

    desc(w, DESC, 0, BUF, 1, NEXT, 0);
    assert_int_equal(pop_one(w, 0), -EPROTO);
    desc(w, DESC, 0, BUF, 1, NEXT, 1);
    desc(w, DESC, 1, BUF, 1, NEXT, 0);
    assert_int_equal(pop_one(w, 0), -EPROTO);
}

static void indices_outside_the_table_are_refused(void **state)
{
    struct world *w = *state;

    assert_int_equal(pop_one(w, SIZE), -EPROTO);
    assert_int_equal(pop_one(w, 65535), -EPROTO);
    desc(w, DESC, 0, BUF, 1, NEXT, SIZE);
    assert_int_equal(pop_one(w, 0), -EPROTO);
}

static void more_entries_than_the_ring_holds_are_refused(void **state)
{
    struct world *w = *state;

    desc(w, DESC, 0, BUF, 1, 0, 0);
    avail(w, 0, SIZE + 1);
    assert_int_equal(vq_pop(&w->q, &w->c), -EPROTO);
    avail(w, 0, 65535); /* backwards */
    assert_int_equal(vq_pop(&w->q, &w->c), -EPROTO);
}

static void readable_after_writable_is_refused(void **state)
{
    struct world *w = *state;

    desc(w, DESC, 0, BUF, 1, NEXT | WRITE, 1);
    desc(w, DESC, 1, BUF, 1, 0, 0);
    assert_int_equal(pop_one(w, 0), -EPROTO);
}

static void a_segment_of_zero_bytes_is_refused(void **state)
{
    struct world *w = *state;

    desc(w, DESC, 0, BUF, 0, WRITE, 0);
    assert_int_equal(pop_one(w, 0), -EPROTO);
}

static void segments_end_where_ram_ends(void **state)
{
    struct world *w = *state;
    static const struct {
        uint64_t gpa;
        uint32_t len;
        int want;
    } rows[] = {
        {RAM - 16, 16, 1},        {RAM - 16, 17, -EFAULT},
        {RAM - 1, 1, 1},          {RAM, 1, -EFAULT},
        {UINT64_MAX, 1, -EFAULT}, {UINT64_MAX - 3, 16, -EFAULT},
        {0, UINT32_MAX, -EFAULT}, {0, RAM, 1},
    };

    for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        w->q.next_avail = 0;
        desc(w, DESC, 0, rows[i].gpa, rows[i].len, WRITE, 0);
        assert_int_equal(pop_one(w, 0), rows[i].want);
        if (rows[i].gpa == 0 && rows[i].want == 1)
            break; /* all of RAM, rings included: that is for a device to write */
    }
}

static void rings_outside_ram_are_refused(void **state)
{
    struct world *w = *state;

    desc(w, DESC, 0, BUF, 1, 0, 0);
    avail(w, 0, 1);
    w->q.desc = RAM - 8;
    assert_int_equal(vq_pop(&w->q, &w->c), -EFAULT);
    w->q.desc = DESC;
    w->q.avail = RAM - 3;
    assert_int_equal(vq_pop(&w->q, &w->c), -EFAULT);
    w->q.avail = AVAIL;
    w->q.used = UINT64_MAX - 4;
    assert_int_equal(vq_push(&w->q, 0, 0), -EFAULT);
}

static void indices_wrap(void **state)
{
    struct world *w = *state;
    uint32_t e[2];

    w->q.next_avail = w->q.next_used = w->q.signalled = 65535;
    desc(w, DESC, 2, BUF, 1, 0, 0);
    put(w, AVAIL + 4 + 2 * (65535 % SIZE), &(uint16_t){2}, 2);
    put(w, AVAIL + 2, &(uint16_t){0}, 2);
    assert_int_equal(vq_pop(&w->q, &w->c), 1);
    assert_int_equal(vq_push(&w->q, w->c.head, 7), 0);
    assert_int_equal(w->q.next_avail, 0);
    assert_int_equal(get16(w, USED + 2), 0);
    assert_int_equal(mem_read(w->m, USED + 4 + 8 * (65535 % SIZE), e, 8), 0);
    assert_int_equal(e[0], 2);
    assert_int_equal(e[1], 7);
    assert_true(vq_should_signal(&w->q));
    assert_false(vq_should_signal(&w->q));
}

static void an_indirect_table_is_walked(void **state)
{
    struct world *w = *state;

    desc(w, DESC, 0, BUF, 4, NEXT, 4); /* ordinary ones may come before it (2.7.5.3.2) */
    desc(w, DESC, 4, TABLE, 48, INDIRECT, 0);
    desc(w, TABLE, 0, BUF, 4, NEXT, 2);
    desc(w, TABLE, 2, BUF + 8, 5, NEXT | WRITE, 1);
    desc(w, TABLE, 1, BUF + 64, 6, WRITE, 0);
    assert_int_equal(pop_one(w, 0), 1);
    assert_int_equal(w->c.n_out, 2);
    assert_int_equal(w->c.n_in, 2);
    assert_int_equal(w->c.in_len, 11);
}

static void bad_indirect_tables_are_refused(void **state)
{
    struct world *w = *state;
    static const struct {
        uint64_t gpa;
        uint32_t len;
        uint16_t flags, inner_flags, inner_next;
        int want;
    } rows[] = {
        {TABLE, 16, INDIRECT, 0, 0, 1},
        {TABLE, 16, INDIRECT | WRITE, 0, 0, 1}, /* 2.7.5.3.2: WRITE is ignored here */
        {TABLE, 0, INDIRECT, 0, 0, -EPROTO},
        {TABLE, 15, INDIRECT, 0, 0, -EPROTO},
        {TABLE, 17, INDIRECT, 0, 0, -EPROTO},
        {TABLE, 16, INDIRECT | NEXT, 0, 0, -EPROTO},
        {TABLE, 16, INDIRECT, NEXT, 1, -EPROTO},     /* leaves the table */
        {TABLE, 16, INDIRECT, NEXT, 0, -EPROTO},     /* loops */
        {TABLE, 16, INDIRECT, INDIRECT, 0, -EPROTO}, /* one inside another */
        {RAM - 8, 16, INDIRECT, 0, 0, -EFAULT},
        {UINT64_MAX - 7, 16, INDIRECT, 0, 0, -EFAULT},
    };

    for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        w->q.next_avail = 0;
        desc(w, DESC, 0, rows[i].gpa, rows[i].len, rows[i].flags, 1);
        desc(w, TABLE, 0, BUF, 16, rows[i].inner_flags, rows[i].inner_next);
        assert_int_equal(pop_one(w, 0), rows[i].want);
    }
    w->q.next_avail = 0;
    w->q.indirect = false; /* not negotiated */
    desc(w, DESC, 0, TABLE, 16, INDIRECT, 0);
    desc(w, TABLE, 0, BUF, 16, 0, 0);
    assert_int_equal(pop_one(w, 0), -EPROTO);
}

static void a_chain_longer_than_the_limit_is_refused(void **state)
{
    struct world *w = *state;

    for (unsigned n = VQ_SEG_MAX; n <= VQ_SEG_MAX + 1; n++) {
        w->q.next_avail = 0;
        desc(w, DESC, 0, TABLE, 16 * n, INDIRECT, 0);
        for (unsigned i = 0; i < n; i++)
            desc(w, TABLE, i, BUF, 1, i + 1 < n ? NEXT : 0, (uint16_t)(i + 1));
        assert_int_equal(pop_one(w, 0), n == VQ_SEG_MAX ? 1 : -EPROTO);
    }
}

static void an_empty_ring_asks_for_a_notification(void **state)
{
    struct world *w = *state;

    w->q.event_idx = true;
    desc(w, DESC, 0, BUF, 1, 0, 0);
    assert_int_equal(vq_pop(&w->q, &w->c), 0);
    assert_int_equal(get16(w, USED + 4 + 8 * SIZE), 0);
    assert_int_equal(pop_one(w, 0), 1);
    assert_int_equal(get16(w, USED + 4 + 8 * SIZE), 0); /* not before it is empty again */
    assert_int_equal(vq_pop(&w->q, &w->c), 0);
    assert_int_equal(get16(w, USED + 4 + 8 * SIZE), 1);
}

static void the_driver_says_which_interrupts_it_wants(void **state)
{
    struct world *w = *state;

    put(w, AVAIL, &(uint16_t){1}, 2); /* NO_INTERRUPT */
    assert_int_equal(vq_push(&w->q, 0, 0), 0);
    assert_false(vq_should_signal(&w->q));
    w->q.event_idx = true; /* then the flag means nothing (2.7.7.1) */
    put(w, AVAIL + 4 + 2 * SIZE, &(uint16_t){3}, 2);
    for (uint16_t i = 1; i < 5; i++) {
        assert_int_equal(vq_push(&w->q, 0, 0), 0);
        assert_int_equal(vq_should_signal(&w->q), i == 3); /* used.idx is i + 1 */
    }
}

static void bytes_move_across_segments(void **state)
{
    struct world *w = *state;
    char got[16] = {0};
    struct iovec iov[4];

    put(w, BUF, "abcdefgh", 8);
    desc(w, DESC, 0, BUF, 3, NEXT, 1);
    desc(w, DESC, 1, BUF + 3, 5, NEXT, 2);
    desc(w, DESC, 2, BUF + 0x100, 2, WRITE | NEXT, 3);
    desc(w, DESC, 3, BUF + 0x200, 9, WRITE, 0);
    assert_int_equal(pop_one(w, 0), 1);
    assert_int_equal(vq_read(&w->q, &w->c, 1, got, 16), 7);
    assert_memory_equal(got, "bcdefgh", 7);
    assert_int_equal(vq_read(&w->q, &w->c, 8, got, 16), 0);
    assert_int_equal(vq_read(&w->q, &w->c, UINT64_MAX, got, 16), 0);
    assert_int_equal(vq_write(&w->q, &w->c, 1, "XYZ", 3), 3);
    assert_int_equal(mem_read(w->m, BUF + 0x101, got, 1), 0);
    assert_int_equal(got[0], 'X');
    assert_int_equal(mem_read(w->m, BUF + 0x200, got, 2), 0);
    assert_memory_equal(got, "YZ", 2);
    assert_int_equal(vq_write(&w->q, &w->c, 10, "12345", 5), 1);
    assert_int_equal(vq_iov(&w->q, &w->c, true, 1, 100, iov, 4), 2);
    assert_int_equal(iov[0].iov_len, 1);
    assert_int_equal(iov[1].iov_len, 9);
    assert_int_equal(vq_iov(&w->q, &w->c, false, 2, 2, iov, 1), 1);
    assert_int_equal(iov[0].iov_len, 1);
}

static void a_queue_that_is_not_ready_gives_nothing(void **state)
{
    struct world *w = *state;

    avail(w, 0, 1);
    w->q.ready = false;
    assert_int_equal(vq_pop(&w->q, &w->c), 0);
    vq_reset(&w->q);
    assert_int_equal(vq_pop(&w->q, &w->c), 0);
    assert_false(vq_should_signal(&w->q));
}

static void a_loaded_size_must_be_a_power_of_two(void **state)
{
    struct world *w = *state;

    for (unsigned size = 0; size < 600; size++) {
        struct vq q = w->q, r = {.mem = w->m};
        struct state_io out, in;
        uint8_t *buf = NULL;
        size_t len = 0;
        struct err e;

        q.size = (uint16_t)size;
        q.ready = size % 3 != 0;
        state_save_init(&out);
        vq_visit(&q, &out);
        assert_int_equal(state_take(&out, &buf, &len, &e), 0);
        state_load_init(&in, buf, len);
        vq_visit(&r, &in);
        bool good = size <= VQ_SIZE_MAX && (size & (size - 1)) == 0 && !(size == 0 && q.ready);
        assert_int_equal(state_done(&in, &e), good ? 0 : -EBADMSG);
        free(buf);
    }
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(a_chain_is_sorted_into_readable_and_writable),
        T(a_ring_that_loops_is_the_guests_fault),
        T(indices_outside_the_table_are_refused),
        T(more_entries_than_the_ring_holds_are_refused),
        T(readable_after_writable_is_refused),
        T(a_segment_of_zero_bytes_is_refused),
        T(segments_end_where_ram_ends),
        T(rings_outside_ram_are_refused),
        T(indices_wrap),
        T(an_indirect_table_is_walked),
        T(bad_indirect_tables_are_refused),
        T(a_chain_longer_than_the_limit_is_refused),
        T(an_empty_ring_asks_for_a_notification),
        T(the_driver_says_which_interrupts_it_wants),
        T(bytes_move_across_segments),
        T(a_queue_that_is_not_ready_gives_nothing),
        T(a_loaded_size_must_be_a_power_of_two),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
