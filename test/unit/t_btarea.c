/* cpu/bt/btarea.c: code that several machines execute, each with changes of its own. */
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "cpu/bt/bt.h"
#include "test/unit/t.h"

enum { PAGES = 16, AT = 2, N = 8, BYTES = PAGES * AREA_PAGE };

typedef int number_fn(void);

/* mov eax, n; ret */
static void put(uint8_t *at, uint32_t n)
{
    const uint8_t code[] = {0xb8, (uint8_t)n, (uint8_t)(n >> 8), 0, 0, 0xc3};

    memcpy(at, code, sizeof(code));
}

static int run(const struct code_area *a, unsigned page)
{
    number_fn *f = (number_fn *)(uintptr_t)(a->rx + (size_t)page * AREA_PAGE);

    return f();
}

/* A file with a function in each page: 100, 101, ... */
static int code_file(void)
{
    int fd = memfd_create("code", MFD_CLOEXEC);

    for (unsigned i = 0; i < N; i++) {
        uint8_t page[AREA_PAGE] = {0};

        put(page, 100 + i);
        assert_int_equal(write(fd, page, sizeof(page)), sizeof(page));
    }
    return fd;
}

static void up(struct code_area *a, int fd)
{
    struct err e = {0};

    memset(a, 0, sizeof(*a));
    assert_int_equal(btarea_init(a, BYTES, &e), 0);
    if (fd >= 0)
        assert_int_equal(btarea_share(a, (size_t)AT * AREA_PAGE, (size_t)N * AREA_PAGE, fd, 0), 0);
}

static void what_is_written_is_executed(void **state)
{
    struct code_area a;

    (void)state;
    up(&a, -1);
    put(a.rw, 7);
    assert_int_equal(run(&a, 0), 7);
    btarea_own(&a, 0); /* it is */
    put(a.rw, 8);
    assert_int_equal(run(&a, 0), 8);
    btarea_done(&a);
}

static void a_change_is_one_machines_own(void **state)
{
    int fd = code_file();
    struct code_area a, b;

    (void)state;
    up(&a, fd);
    up(&b, fd);
    for (unsigned i = 0; i < N; i++)
        assert_int_equal(run(&a, AT + i), 100 + i);
    btarea_own(&a, (AT + 3) * AREA_PAGE + 17);
    assert_int_equal(run(&a, AT + 3), 103);
    put(a.rw + (AT + 3) * AREA_PAGE, 1);
    assert_int_equal(run(&a, AT + 2), 102);
    assert_int_equal(run(&a, AT + 3), 1);
    assert_int_equal(run(&a, AT + 4), 104);
    assert_int_equal(run(&b, AT + 3), 103);
    btarea_done(&a);
    assert_int_equal(run(&b, AT + 3), 103);
    btarea_done(&b);
    close(fd);
}

static void all_of_it_can_become_ones_own(void **state)
{
    int fd = code_file();
    struct code_area a;

    (void)state;
    up(&a, fd);
    btarea_own(&a, AT * AREA_PAGE);
    put(a.rw + AT * AREA_PAGE, 1);
    put(a.rw + (AT + N) * AREA_PAGE, 2);
    btarea_own_all(&a, true);
    assert_int_equal(run(&a, AT), 1);
    assert_int_equal(run(&a, AT + 1), 101);
    assert_int_equal(run(&a, AT + N), 2);
    put(a.rw + (AT + 1) * AREA_PAGE, 3);
    assert_int_equal(run(&a, AT + 1), 3);
    btarea_done(&a);
    up(&a, fd);
    btarea_own_all(&a, false);
    put(a.rw + (AT + 1) * AREA_PAGE, 4);
    assert_int_equal(run(&a, AT + 1), 4);
    btarea_done(&a);
    close(fd);
}

static void a_file_that_cannot_be_executed_changes_nothing(void **state)
{
    int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    struct code_area a;

    (void)state;
    up(&a, -1);
    put(a.rw + AT * AREA_PAGE, 9);
    assert_true(btarea_share(&a, (size_t)AT * AREA_PAGE, AREA_PAGE, fd, 0) < 0);
    assert_int_equal(run(&a, AT), 9);
    btarea_done(&a);
    close(fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_written_is_executed),
        cmocka_unit_test(a_change_is_one_machines_own),
        cmocka_unit_test(all_of_it_can_become_ones_own),
        cmocka_unit_test(a_file_that_cannot_be_executed_changes_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
