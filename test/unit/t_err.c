#include "base/err.h"

#include <errno.h>
#include <string.h>

#include "base/cleanup.h"
#include "test/unit/t.h"

static void a_wrapped_error_reads_from_the_outside_in(void **state)
{
    struct err e = {0};

    assert_int_equal(err_errno(&e, -ENOENT, "open"), -ENOENT);
    assert_int_equal(err_wrap(&e, -ENOENT, "disk '%s'", "root"), -ENOENT);
    assert_string_equal(e.msg, "disk 'root': open: No such file or directory");
    assert_int_equal(e.code, -ENOENT);
}

static void a_sentence_too_long_is_cut_and_ended(void **state)
{
    char big[2 * ERR_MSG_MAX];
    struct err e = {0};

    memset(big, 'x', sizeof(big) - 1);
    big[sizeof(big) - 1] = '\0';
    err_set(&e, -EIO, "%s", big);
    err_wrap(&e, -EIO, "%s", big);
    err_wrap(&e, -EIO, "short");
    assert_int_equal(strlen(e.msg), ERR_MSG_MAX - 1);
    assert_memory_equal(e.msg, "short: x", 8);
}

static void nobody_listening_is_fine(void **state)
{
    assert_int_equal(err_set(NULL, -EIO, "x"), -EIO);
    assert_int_equal(err_wrap(NULL, -EIO, "x"), -EIO);
    assert_int_equal(err_errno(NULL, -EIO, "x"), -EIO);
}

static void a_taken_value_is_no_longer_ours(void **state)
{
    CLEANUP(mem) char *p = strdup("x");
    CLEANUP(fd) int fd = dup(1);
    char *q = take_ptr(&p);
    int fd2 = take_fd(&fd);

    assert_null(p);
    assert_int_equal(fd, -1);
    assert_int_equal(close(fd2), 0);
    free(q);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_wrapped_error_reads_from_the_outside_in),
        cmocka_unit_test(a_sentence_too_long_is_cut_and_ended),
        cmocka_unit_test(nobody_listening_is_fine),
        cmocka_unit_test(a_taken_value_is_no_longer_ours),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
