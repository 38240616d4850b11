#include "proto/agent.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "test/unit/t.h"

static void fields_come_back_as_they_were_put(void **state)
{
    static struct proto_buf b;
    struct proto_frame f;
    struct proto_field_view v;
    size_t pos = 0;
    uint64_t n;

    proto_begin(&b, PROTO_START, 7);
    proto_put_str(&b, PF_ARG, "echo");
    proto_put_str(&b, PF_ARG, "");
    proto_put_u32(&b, PF_ROWS, 24);
    proto_put_u64(&b, PF_WALL_NS, 0x1122334455667788);
    assert_int_equal(proto_end(&b), 0);

    assert_int_equal(proto_next(b.b, b.len, &f), b.len);
    assert_int_equal(f.type, PROTO_START);
    assert_int_equal(f.stream, 7);
    assert_int_equal(proto_field_next(&f, &pos, &v), 1);
    CLEANUP(mem) char *s = proto_field_str(&v);
    assert_string_equal(s, "echo");
    assert_int_equal(proto_field_next(&f, &pos, &v), 1);
    assert_int_equal(v.len, 0);
    assert_int_equal(proto_field_u64(&v, &n), -EBADMSG);
    assert_int_equal(proto_field_next(&f, &pos, &v), 1);
    assert_int_equal(proto_field_u64(&v, &n), 0);
    assert_int_equal(n, 24);
    assert_int_equal(proto_field_next(&f, &pos, &v), 1);
    assert_int_equal(proto_field_u64(&v, &n), 0);
    assert_true(n == 0x1122334455667788);
    assert_int_equal(proto_field_next(&f, &pos, &v), 0);
}

static void a_frame_is_taken_only_when_it_is_whole(void **state)
{
    static struct proto_buf b;
    struct proto_frame f;

    proto_begin(&b, PROTO_STDIN, 0);
    proto_raw(&b, "abc", 3);
    assert_int_equal(proto_end(&b), 0);
    for (size_t n = 0; n < b.len; n++)
        assert_int_equal(proto_next(b.b, n, &f), 0);
    assert_int_equal(proto_next(b.b, b.len, &f), PROTO_HDR + 3);
}

static void the_largest_frame_passes_and_one_byte_more_does_not(void **state)
{
    static struct proto_buf b;
    static uint8_t bytes[PROTO_FRAME_MAX + 1];
    struct proto_frame f;
    uint8_t h[PROTO_HDR];

    proto_begin(&b, PROTO_STDIN, 0);
    proto_raw(&b, bytes, PROTO_FRAME_MAX);
    assert_int_equal(proto_end(&b), 0);
    assert_int_equal(proto_next(b.b, b.len, &f), PROTO_HDR + PROTO_FRAME_MAX);
    proto_raw(&b, bytes, 1);
    assert_int_equal(proto_end(&b), -EMSGSIZE);
    proto_begin(&b, PROTO_STDIN, 0);
    proto_put(&b, PF_ARG, bytes, PROTO_FRAME_MAX - 5);
    assert_int_equal(proto_end(&b), -EMSGSIZE);
    proto_begin(&b, PROTO_STDIN, 0);
    proto_put(&b, PF_ARG, bytes, PROTO_FRAME_MAX - 6);
    assert_int_equal(proto_end(&b), 0);
    proto_header(h, PROTO_STDIN, 0, PROTO_FRAME_MAX + 1);
    assert_int_equal(proto_next(h, sizeof(h), &f), -EBADMSG);
}

static void a_field_longer_than_its_frame_is_malformed(void **state)
{
    uint8_t p[] = {1, 0, 5, 0, 0, 0, 'a', 'b', 'c', 'd'};
    uint8_t huge[] = {1, 0, 0xff, 0xff, 0xff, 0xff};
    struct proto_frame f = {.p = p, .len = sizeof(p)}, g = {.p = huge, .len = sizeof(huge)};
    struct proto_field_view v;
    size_t pos = 0;

    assert_int_equal(proto_field_next(&f, &pos, &v), -EBADMSG);
    assert_int_equal(pos, 0);
    assert_int_equal(proto_field_next(&g, &pos, &v), -EBADMSG);
    f.len = 5; /* shorter than a field's header */
    assert_int_equal(proto_field_next(&f, &pos, &v), -EBADMSG);
    pos = 6;
    assert_int_equal(proto_field_next(&f, &pos, &v), -EBADMSG);
}

static void a_string_with_a_nul_inside_is_refused(void **state)
{
    struct proto_field_view v = {.p = (const uint8_t *)"a\0b", .len = 3};

    assert_null(proto_field_str(&v));
    assert_int_equal(errno, EBADMSG);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fields_come_back_as_they_were_put),
        cmocka_unit_test(a_frame_is_taken_only_when_it_is_whole),
        cmocka_unit_test(the_largest_frame_passes_and_one_byte_more_does_not),
        cmocka_unit_test(a_field_longer_than_its_frame_is_malformed),
        cmocka_unit_test(a_string_with_a_nul_inside_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
