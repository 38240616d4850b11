#include "state/state.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "test/unit/t.h"

struct thing {
    uint8_t a;
    uint16_t b;
    uint32_t c, cs[3];
    uint64_t d, ds[2];
    bool e;
    uint8_t raw[5];
    uint8_t *blob;
    size_t blob_len;
};

static void visit(struct thing *t, struct state_io *io)
{
    state_u8(io, 1, &t->a);
    state_begin(io, 2, "inner");
    state_u16(io, 1, &t->b);
    state_u32s(io, 2, t->cs, 3);
    state_end(io);
    state_u32(io, 3, &t->c);
    state_u64(io, 4, &t->d);
    state_u64s(io, 5, t->ds, 2);
    state_bool(io, 6, &t->e);
    state_bytes(io, 7, t->raw, sizeof(t->raw));
    state_blob(io, 8, &t->blob, &t->blob_len, 16);
}

static void save(uint8_t **buf, size_t *len)
{
    struct thing t = {1, 2, 3, {4, 5, 6}, 7, {8, 9}, true, "abcd", (uint8_t *)"blob", 4};
    struct state_io io;

    state_save_init(&io);
    visit(&t, &io);
    assert_int_equal(state_take(&io, buf, len, NULL), 0);
}

static int load(const uint8_t *buf, size_t len, struct thing *t)
{
    struct state_io io;

    state_load_init(&io, buf, len);
    visit(t, &io);
    return state_done(&io, NULL);
}

static void what_was_saved_is_loaded(void **state)
{
    struct thing t = {0};
    uint8_t *buf;
    size_t len;

    save(&buf, &len);
    assert_int_equal(load(buf, len, &t), 0);
    assert_true(t.a == 1 && t.b == 2 && t.c == 3 && t.cs[2] == 6 && t.d == 7 && t.ds[1] == 9 &&
                t.e);
    assert_string_equal(t.raw, "abcd");
    assert_int_equal(t.blob_len, 4);
    assert_memory_equal(t.blob, "blob", 4);
    free(t.blob);
    free(buf);
}

static void every_truncation_is_refused(void **state)
{
    uint8_t *buf;
    size_t len;

    save(&buf, &len);
    for (size_t n = 0; n < len; n++) {
        struct thing t = {0};
        uint8_t *cut = malloc(n + 1); /* exact, for ASan */

        memcpy(cut, buf, n);
        assert_int_equal(load(cut, n, &t), -EBADMSG);
        free(t.blob);
        free(cut);
    }
    free(buf);
}

static void every_flipped_byte_is_survived(void **state)
{
    uint8_t *buf;
    size_t len;

    save(&buf, &len);
    for (size_t n = 0; n < len; n++) {
        struct thing t = {0};

        buf[n] ^= 0xff;
        (void)load(buf, len, &t);
        buf[n] ^= 0xff;
        free(t.blob);
    }
    free(buf);
}

static void unknown_fields_are_skipped(void **state)
{
    struct state_io io;
    uint64_t a = 5, b = 6, got = 0;
    uint8_t *buf;
    size_t len;

    state_save_init(&io);
    state_u64(&io, 77, &a);
    state_u64(&io, 1, &b);
    assert_int_equal(state_take(&io, &buf, &len, NULL), 0);
    state_load_init(&io, buf, len);
    state_u64(&io, 1, &got);
    assert_int_equal(state_done(&io, NULL), 0);
    assert_int_equal(got, 6);
    free(buf);
}

static void the_first_failure_sticks(void **state)
{
    struct state_io io;
    struct err e;
    uint64_t v = 3;

    state_load_init(&io, "", 0);
    state_fail(&io, "ring size %d is not a power of two", 3);
    state_u64(&io, 1, &v);
    assert_int_equal(state_done(&io, &e), -EBADMSG);
    assert_string_equal(e.msg, "ring size 3 is not a power of two");
    assert_int_equal(v, 3);
}

static void endless_nesting_is_refused(void **state)
{
    struct state_io io;

    state_save_init(&io);
    for (int i = 0; i < STATE_DEPTH + 2; i++)
        state_begin(&io, 1, "deep");
    assert_int_equal(state_done(&io, NULL), -EBADMSG);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_saved_is_loaded),
        cmocka_unit_test(every_truncation_is_refused),
        cmocka_unit_test(every_flipped_byte_is_survived),
        cmocka_unit_test(unknown_fields_are_skipped),
        cmocka_unit_test(the_first_failure_sticks),
        cmocka_unit_test(endless_nesting_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
