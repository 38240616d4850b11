#include "mem/mem.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

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

enum { FILED = 64 * MEM_PAGE };

/* 64 pages; page n holds the byte n + 1, the odd ones nothing. */
static int memory_file(void)
{
    int fd = memfd_create("memory", 0);
    uint8_t page[MEM_PAGE];

    assert_true(fd >= 0 && ftruncate(fd, FILED) == 0);
    for (unsigned n = 0; n < FILED / MEM_PAGE; n += 2) {
        memset(page, (int)n + 1, sizeof(page));
        assert_int_equal(pwrite(fd, page, sizeof(page), n * MEM_PAGE), sizeof(page));
    }
    return fd;
}

static void ram_over_a_file_reads_it_and_never_writes_it(void **state)
{
    struct err e = {0};
    struct mem *m = mem_new(FILED, &e);
    uint64_t used = 0, written = 0;
    uint8_t b;
    int fd = memory_file();

    assert_int_equal(mem_map_file(m, fd, 0, FILED, &e), 0);
    for (unsigned n = 0; n < FILED / MEM_PAGE; n += 2)
        mem_filed(m, n * MEM_PAGE, MEM_PAGE, true);
    assert_int_equal(mem_read(m, 4 * MEM_PAGE + 7, &b, 1), 0);
    assert_int_equal(b, 5);
    assert_int_equal(mem_written(m, &written, &e), 0);
    assert_true(written == 0);
    assert_int_equal(mem_write(m, 4 * MEM_PAGE, "x", 1), 0);
    assert_int_equal(mem_write(m, 7 * MEM_PAGE, "x", 1), 0);
    assert_int_equal(mem_written(m, &written, &e), 0);
    assert_true(written == (1ull << 4 | 1ull << 7));
    assert_int_equal(mem_used(m, &used, &e), 0);
    assert_true(used == (0x5555555555555555ull | 1ull << 7));
    assert_int_equal(pread(fd, &b, 1, 4 * MEM_PAGE), 1);
    assert_int_equal(b, 5);
    close(fd);
    mem_free(m);
}

static void pieces_lie_over_one_another(void **state)
{
    struct err e = {0};
    struct mem *m = mem_new(FILED, &e);
    uint64_t used = 0;
    uint8_t b;
    int fd = memory_file();

    assert_int_equal(mem_map_file(m, fd, 0, FILED, &e), 0);
    mem_filed(m, 0, FILED, true);
    assert_int_equal(mem_map_file(m, -1, 2 * MEM_PAGE, 3 * MEM_PAGE, &e), 0);
    mem_filed(m, 2 * MEM_PAGE, 3 * MEM_PAGE, false);
    assert_int_equal(mem_read(m, 4 * MEM_PAGE, &b, 1), 0);
    assert_int_equal(b, 0);
    assert_int_equal(mem_read(m, 6 * MEM_PAGE, &b, 1), 0);
    assert_int_equal(b, 7);
    assert_int_equal(mem_used(m, &used, &e), 0);
    assert_true((used & ~0x1cull) == ~0x1cull);
    assert_int_equal(mem_map_file(m, fd, 0, FILED + MEM_PAGE, &e), -EINVAL);
    assert_int_equal(mem_map_file(m, fd, FILED, MEM_PAGE, &e), -EINVAL);
    assert_int_equal(mem_map_file(m, fd, 1, MEM_PAGE, &e), -EINVAL);
    assert_int_equal(mem_map_file(m, fd, UINT64_MAX - MEM_PAGE + 1, MEM_PAGE, &e), -EINVAL);
    close(fd);
    mem_free(m);
}

static void what_engines_knew_is_forgotten(void **state)
{
    struct err e = {0};
    struct mem *m = mem_new(FILED, &e);
    uint8_t b;

    assert_int_equal(mem_write(m, 0, "x", 1), 0);
    assert_int_equal(mem_dirty_start(m, &e), 0);
    m->code[3] = 1;
    m->code_written = on_code;
    assert_int_equal(mem_forget(m, &e), 0);
    assert_true(m->code[3] == 0 && !m->dirty && !m->code_written);
    assert_int_equal(mem_read(m, 0, &b, 1), 0);
    assert_int_equal(b, 'x');
    mem_free(m);
}

static void shared_ram_has_the_same_content(void **state)
{
    uint64_t used[(RAM >> MEM_PAGE_SHIFT) / 64 + 1] = {0};
    struct mem *m = mem_new(RAM, NULL);
    char got[6] = "";

    (void)state;
    assert_int_equal(mem_fd(m), -1);
    assert_int_equal(mem_write(m, 0x5000, "kernel", 6), 0);
    assert_int_equal(mem_write(m, MEM_HIGH_BASE + 0x1ffa, "stacks", 6), 0);
    assert_int_equal(mem_share(m, NULL), 0);
    assert_int_equal(mem_share(m, NULL), 0); /* it is */
    assert_int_equal(mem_read(m, 0x5000, got, 6), 0);
    assert_memory_equal(got, "kernel", 6);
    assert_int_equal(mem_read(m, MEM_HIGH_BASE + 0x1ffa, got, 6), 0);
    assert_memory_equal(got, "stacks", 6);

    uint8_t *other = mmap(NULL, RAM, PROT_READ | PROT_WRITE, MAP_SHARED, mem_fd(m), 0);
    assert_ptr_not_equal(other, MAP_FAILED);
    memcpy(other + 0x9000, "device", 6);
    assert_int_equal(mem_read(m, 0x9000, got, 6), 0);
    assert_memory_equal(got, "device", 6);
    assert_int_equal(mem_used(m, used, NULL), 0);
    assert_int_equal(used[0], 1 << 5 | 1 << 9); /* whoever wrote them */
    assert_true(used[(RAM >> MEM_PAGE_SHIFT) / 64] & 1ull << ((RAM >> MEM_PAGE_SHIFT) - 1) % 64);
    assert_int_equal(mem_written(m, used, NULL), -ENOTSUP);
    assert_int_equal(mem_map_file(m, -1, 0, MEM_PAGE, NULL), -EINVAL);
    assert_int_equal(ftruncate(mem_fd(m), 0x1000), -1); /* nobody takes it away */
    munmap(other, RAM);
    mem_free(m);
}

struct counter {
    struct mem *m;
    _Atomic bool stop;
};

static void *count(void *arg)
{
    struct counter *c = arg;

    for (uint16_t v = 0x3dff; !atomic_load(&c->stop); v = v == 0x3dff ? 0x3e00 : 0x3dff)
        (void)!mem_store16(c->m, 0x102, v);
    return NULL;
}

/* An index that steps from 0x3dff to 0x3e00 is never 0x3d00 or 0x3eff to who looks meanwhile. */
static void a_word_is_read_whole_while_another_cpu_writes_it(void **state)
{
    struct counter c = {.m = mem_new(0x1000, NULL)};
    pthread_t t;
    uint16_t v;

    assert_int_equal(mem_store16(c.m, 0x102, 0x3dff), 0);
    assert_int_equal(pthread_create(&t, NULL, count, &c), 0);
    for (unsigned i = 0; i < 200000; i++) {
        assert_int_equal(mem_load16(c.m, 0x102, &v), 0);
        assert_true(v == 0x3dff || v == 0x3e00);
    }
    atomic_store(&c.stop, true);
    pthread_join(t, NULL);
    assert_int_equal(mem_load16(c.m, 0x101, &v), -EFAULT);
    assert_int_equal(mem_load16(c.m, 0x1000, &v), -EFAULT);
    assert_int_equal(mem_store16(c.m, UINT64_MAX, 0), -EFAULT);
    mem_free(c.m);
}

static void what_lies_in_a_file_is_shared_too(void **state)
{
    struct mem *m = mem_new(64 * MEM_PAGE, NULL);
    int fd = memfd_create("snapshot", MFD_CLOEXEC);
    char got[6] = "";

    (void)state;
    assert_int_equal(pwrite(fd, "filed!", 6, 3 * MEM_PAGE), 6);
    assert_int_equal(ftruncate(fd, 64 * MEM_PAGE), 0);
    assert_int_equal(mem_map_file(m, fd, 0, 64 * MEM_PAGE, NULL), 0);
    mem_filed(m, 3 * MEM_PAGE, MEM_PAGE, true);
    assert_int_equal(mem_write(m, 5 * MEM_PAGE, "own...", 6), 0);
    assert_int_equal(mem_share(m, NULL), 0);
    assert_int_equal(pwrite(fd, "other!", 6, 3 * MEM_PAGE), 6); /* not our RAM any more */
    assert_int_equal(mem_read(m, 3 * MEM_PAGE, got, 6), 0);
    assert_memory_equal(got, "filed!", 6);
    assert_int_equal(mem_read(m, 5 * MEM_PAGE, got, 6), 0);
    assert_memory_equal(got, "own...", 6);
    close(fd);
    mem_free(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_lies_in_a_file_is_shared_too),
        cmocka_unit_test(shared_ram_has_the_same_content),
        cmocka_unit_test(ram_over_a_file_reads_it_and_never_writes_it),
        cmocka_unit_test(pieces_lie_over_one_another),
        cmocka_unit_test(what_engines_knew_is_forgotten),
        cmocka_unit_test(exactly_the_bytes_of_ram_are_read),
        cmocka_unit_test(sizes_no_machine_has_are_refused),
        cmocka_unit_test(regions_name_each_byte_once),
        cmocka_unit_test(the_dirty_log_holds_each_written_page_once),
        cmocka_unit_test(a_write_near_code_is_announced),
        cmocka_unit_test(chunks_cover_what_is_touched),
        cmocka_unit_test(a_word_is_read_whole_while_another_cpu_writes_it),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
