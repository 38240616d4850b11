#include "mem/mem.h"

#include <errno.h>
#include <string.h>

#include "test/unit/t.h"

#define RAM (MEM_LOW_MAX + 0x2000) /* sparse: costs nothing untouched */

static void exactly_the_bytes_of_ram_are_read(void **state)
{
    static const struct {
        gpa_t gpa;
        size_t len;
        int want;
    } rows[] = {
        {0, 0x1000, 0},
        {MEM_LOW_MAX - 1, 1, 0},
        {MEM_LOW_MAX - 1, 2, -EFAULT}, /* runs into the hole */
        {MEM_LOW_MAX, 1, -EFAULT},
        {MEM_HIGH_BASE - 1, 1, -EFAULT},
        {MEM_HIGH_BASE, 0x2000, 0},
        {MEM_HIGH_BASE, 0x2001, -EFAULT},
        {MEM_HIGH_BASE + 0x1fff, 1, 0},
        {MEM_HIGH_BASE + 0x2000, 1, -EFAULT},
        {MEM_HIGH_BASE + 0x2000, 0, 0}, /* nothing, anywhere, is fine */
        {UINT64_MAX, 2, -EFAULT},       /* the sum wraps */
        {0x1000, SIZE_MAX, -EFAULT},
    };
    static uint8_t buf[0x2000];
    struct mem *m = mem_new(RAM, NULL);

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct iovec v;

        if (rows[i].len <= sizeof(buf) || rows[i].want)
            assert_int_equal(mem_read(m, rows[i].gpa, buf, rows[i].len), rows[i].want);
        if (rows[i].len)
            assert_int_equal(mem_iov(m, rows[i].gpa, rows[i].len, &v), rows[i].want);
    }
    mem_free(m);
}

static void sizes_no_machine_has_are_refused(void **state)
{
    struct err e;

    assert_null(mem_new(0, &e));
    assert_null(mem_new(4097, &e));
    assert_null(mem_new(MEM_SIZE_MAX + MEM_PAGE, &e));
    assert_int_equal(e.code, -EINVAL);
}

static void regions_name_each_byte_once(void **state)
{
    struct mem *m = mem_new(RAM, NULL);
    struct mem_region r[MEM_REGIONS_MAX];

    assert_int_equal(mem_regions(m, r), 2);
    assert_true(r[0].gpa == 0 && r[0].size == MEM_LOW_MAX && r[0].offset == 0);
    assert_true(r[1].gpa == MEM_HIGH_BASE && r[1].size == 0x2000 && r[1].offset == MEM_LOW_MAX);
    assert_int_equal(mem_write(m, MEM_HIGH_BASE + 5, "x", 1), 0);
    assert_int_equal(r[1].hva[5], 'x');
    assert_ptr_equal(mem_hva(m, MEM_HIGH_BASE + 5), r[1].hva + 5);
    assert_null(mem_hva(m, MEM_LOW_MAX));
    mem_free(m);
}

static void the_dirty_log_holds_each_written_page_once(void **state)
{
    struct mem *m = mem_new(16 * MEM_PAGE, NULL);
    uint64_t bits = 0;

    assert_int_equal(mem_write(m, 0, "a", 1), 0); /* before the log: not in it */
    assert_int_equal(mem_dirty_start(m, NULL), 0);
    assert_int_equal(mem_write(m, 3 * MEM_PAGE - 1, "ab", 2), 0);
    assert_int_equal(mem_fill(m, 9 * MEM_PAGE, 7, 1), 0);
    assert_int_equal(mem_dirty_fetch(m, &bits), 3);
    assert_int_equal(bits, 1u << 2 | 1u << 3 | 1u << 9);
    assert_int_equal(mem_dirty_fetch(m, &bits), 0);
    mem_free(m);
}

static gpa_t hit;
static void on_code(void *ctx, gpa_t gpa, size_t len)
{
    hit = gpa;
}

static void a_write_near_code_is_announced(void **state)
{
    struct mem *m = mem_new(16 * MEM_PAGE, NULL);

    m->code_written = on_code;
    m->code[4] = 1;
    assert_int_equal(mem_write(m, 5 * MEM_PAGE, "a", 1), 0);
    assert_int_equal(hit, 0);
    assert_int_equal(mem_write(m, 5 * MEM_PAGE - 1, "ab", 2), 0);
    assert_int_equal(hit, 5 * MEM_PAGE - 1);
    mem_free(m);
}

static void chunks_cover_what_is_touched(void **state)
{
    assert_true(mem_chunks(0, 1) == 1);
    assert_true(mem_chunks(63, 2) == 3);
    assert_true(mem_chunks(0, 4096) == UINT64_MAX);
    assert_true(mem_chunks(4095, 1) == 1ull << 63);
    assert_true(mem_chunks(4095, 8) == 1ull << 63); /* what crosses is the next page's */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(exactly_the_bytes_of_ram_are_read),
        cmocka_unit_test(sizes_no_machine_has_are_refused),
        cmocka_unit_test(regions_name_each_byte_once),
        cmocka_unit_test(the_dirty_log_holds_each_written_page_once),
        cmocka_unit_test(a_write_near_code_is_announced),
        cmocka_unit_test(chunks_cover_what_is_touched),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
