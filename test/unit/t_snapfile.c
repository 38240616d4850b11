#include "vm/snapfile.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/crc32c.h"
#include "test/unit/t.h"

enum { RAM = 64 << 20 };

/* A whole one with two extents, a disk, a drive without a medium, and a share. */
static struct snapfile sample(struct snap_extent x[2], uint8_t machine[3])
{
    struct snapfile f = {.id = "00112233445566778899aabbccddeeff",
                         .parent = (char *)"",
                         .program = (char *)"kiln 0",
                         .engine = (char *)"bt",
                         .note = (char *)"a note",
                         .created_ns = 1234567890123,
                         .extent = x,
                         .n_extents = 2,
                         .machine = machine,
                         .machine_len = 3};

    x[0] = (struct snap_extent){.first = 0, .pages = 256, .crc = 1};
    x[1] = (struct snap_extent){.first = 300, .pages = 1, .crc = 2};
    memcpy(machine, "abc", 3);
    f.shape = (struct shape){.cpus = 2, .ram_bytes = RAM, .tsc_khz = 2500000, .vsock = true};
    f.shape.features.word[1] = 77;
    f.shape.n_disks = 2;
    f.shape.disk[0] =
        (struct shape_disk){.path = (char *)"/disk", .serial = (char *)"root", .size = 512};
    f.shape.n_shares = 1;
    f.shape.share[0] =
        (struct shape_share){.path = (char *)"/dir", .tag = (char *)"tag", .read_only = true};
    return f;
}

static int reparse(const struct snapfile *f, struct snapfile *out)
{
    uint8_t *b;
    size_t len;
    struct err e = {0};

    assert_int_equal(snapfile_format(f, &b, &len, &e), 0);
    int r = snapfile_parse(b, len, out, &e);
    assert_true(r == 0 || e.msg[0]);
    free(b);
    return r;
}

static void what_was_written_is_read(void **state)
{
    struct snap_extent x[2];
    uint8_t machine[3];
    struct snapfile f = sample(x, machine), g;

    assert_int_equal(reparse(&f, &g), 0);
    assert_string_equal(g.id, f.id);
    assert_string_equal(g.parent_id, "");
    assert_string_equal(g.note, "a note");
    assert_int_equal(g.created_ns, f.created_ns);
    assert_int_equal(snapfile_pages(&g), 257);
    assert_memory_equal(g.extent, x, sizeof(x));
    assert_int_equal(g.machine_len, 3);
    assert_memory_equal(g.machine, "abc", 3);
    assert_int_equal(g.shape.features.word[1], 77);
    assert_string_equal(g.shape.disk[0].serial, "root");
    assert_null(g.shape.disk[1].path);
    assert_string_equal(g.shape.share[0].tag, "tag");
    snapfile_done(&g);
}

static void extents_out_of_place_are_refused(void **state)
{
    static const struct {
        struct snap_extent a, b;
    } bad[] = {
        {{.first = 0, .pages = 0}, {.first = 300, .pages = 1}},
        {{.first = 0, .pages = 257}, {.first = 300, .pages = 1}},
        {{.first = 10, .pages = 10}, {.first = 19, .pages = 1}},       /* overlap */
        {{.first = 10, .pages = 10}, {.first = 5, .pages = 1}},        /* order */
        {{.first = 0, .pages = 1}, {.first = RAM / 4096, .pages = 1}}, /* outside */
        {{.first = 0, .pages = 1}, {.first = RAM / 4096 - 1, .pages = 2}},
        {{.first = 0, .pages = 1}, {.first = UINT32_MAX, .pages = 1}},
        {{.first = 0, .pages = 1, .packed = 9}, {.first = 1, .pages = 1}}, /* not compressed */
    };

    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct snap_extent x[2];
        uint8_t machine[3];
        struct snapfile f = sample(x, machine), g;

        x[0] = bad[i].a;
        x[1] = bad[i].b;
        assert_int_equal(reparse(&f, &g), -EBADMSG);
    }
}

static void shapes_that_cannot_be_are_refused(void **state)
{
    for (unsigned i = 0; i < 7; i++) {
        struct snap_extent x[2];
        uint8_t machine[3];
        struct snapfile f = sample(x, machine), g;

        f.shape.cpus = i == 0 ? 0 : i == 1 ? VM_CPUS_MAX + 1 : 2;
        f.shape.ram_bytes = i == 2 ? RAM + 1 : i == 3 ? 4096 : RAM;
        f.shape.tsc_khz = i == 4 ? 0 : 2500000;
        f.shape.disk[1].size = i == 5; /* of an empty drive */
        f.shape.share[0].tag = i == 6 ? (char *)"" : f.shape.share[0].tag;
        assert_int_equal(reparse(&f, &g), -EBADMSG);
    }
}

static void half_a_parent_is_refused(void **state)
{
    struct snap_extent x[2];
    struct snap_zero z = {.first = 1, .pages = 2};
    uint8_t machine[3];
    struct snapfile f = sample(x, machine), g;

    f.parent = (char *)"/somewhere";
    assert_int_equal(reparse(&f, &g), -EBADMSG);
    memset(f.parent_id, 'a', SNAP_ID_LEN);
    f.zero = &z;
    f.n_zeroes = 1;
    assert_int_equal(reparse(&f, &g), 0);
    assert_int_equal(g.zero[0].pages, 2);
    snapfile_done(&g);
    z.pages = RAM / 4096;
    assert_int_equal(reparse(&f, &g), -EBADMSG);
    f.parent_id[3] = 'x';
    z.pages = 1;
    assert_int_equal(reparse(&f, &g), -EBADMSG);
    f.parent_id[0] = '\0';
    f.parent = (char *)"";
    assert_int_equal(reparse(&f, &g), -EBADMSG); /* zeroes in a whole one */
}

static void other_versions_are_named(void **state)
{
    struct snap_extent x[2];
    uint8_t machine[3], *b;
    struct snapfile f = sample(x, machine), g;
    size_t len;
    struct err e = {0};

    assert_int_equal(snapfile_format(&f, &b, &len, &e), 0);
    b[8] = 9;
    assert_int_equal(snapfile_parse(b, len, &g, &e), -EPROTONOSUPPORT);
    assert_non_null(strstr(e.msg, "version 9"));
    free(b);
}

static void crc32c_is_the_standards(void **state)
{
    uint8_t zeroes[32] = {0};

    /* RFC 3720, B.4 */
    assert_int_equal(crc32c(0, zeroes, 32), 0x8a9136aa);
    assert_int_equal(crc32c(0, "123456789", 9), 0xe3069283);
    assert_int_equal(crc32c(crc32c(0, "1234", 4), "56789", 5), 0xe3069283);
}

int main(void)
{
    const struct CMUnitTest t[] = {
        cmocka_unit_test(what_was_written_is_read),
        cmocka_unit_test(extents_out_of_place_are_refused),
        cmocka_unit_test(shapes_that_cannot_be_are_refused),
        cmocka_unit_test(half_a_parent_is_refused),
        cmocka_unit_test(other_versions_are_named),
        cmocka_unit_test(crc32c_is_the_standards),
    };

    return cmocka_run_group_tests(t, NULL, NULL);
}
