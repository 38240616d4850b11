#include "container/rundir.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "test/unit/t.h"
#include "test/unit/t_sh.h"

static char base[] = "/tmp/kiln-t-rundir-XXXXXX";

static int up(void **state)
{
    return mkdtemp(base) ? 0 : -1;
}

static int down(void **state)
{
    char cmd[128];

    snprintf(cmd, sizeof(cmd), "rm -rf %s", base);
    return t_sh(cmd, NULL, 0);
}

static void a_folder_is_private_and_goes_with_its_files(void **state)
{
    struct rundir d;
    struct err e = {0};
    struct stat st;
    char file[256], path[RUNDIR_PATH_MAX];

    assert_int_equal(rundir_new(base, NULL, &d, &e), 0);
    snprintf(path, sizeof(path), "%s", d.path);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0700);
    snprintf(file, sizeof(file), "%s/vsock", path);
    close(open(file, O_CREAT | O_WRONLY, 0600));
    rundir_remove(&d);
    assert_int_equal(access(path, F_OK), -1);
    rundir_remove(&d); /* harmless */
}

static void a_folder_whose_owner_died_is_swept_by_the_next_call(void **state)
{
    struct rundir dead, live, next;
    struct err e = {0};

    assert_int_equal(rundir_new(base, NULL, &dead, &e), 0);
    assert_int_equal(rundir_new(base, NULL, &live, &e), 0);
    close(dead.lock); /* what the kernel does to the dead */
    assert_int_equal(rundir_new(base, NULL, &next, &e), 0);
    assert_int_equal(access(dead.path, F_OK), -1);
    assert_int_equal(access(live.path, F_OK), 0);
    dead.lock = -1;
    rundir_remove(&dead);
    rundir_remove(&live);
    rundir_remove(&next);
}

static void a_name_belongs_to_one_running_container(void **state)
{
    struct rundir a, b;
    struct err e = {0};

    assert_int_equal(rundir_new(base, "web", &a, &e), 0);
    assert_int_equal(rundir_new(base, "web", &b, &e), -EEXIST);
    assert_non_null(strstr(e.msg, "web"));
    rundir_remove(&a);
    assert_int_equal(rundir_new(base, "web", &b, &e), 0);
    rundir_remove(&b);
    assert_int_equal(rundir_new(base, "../x", &b, &e), -EINVAL);
    assert_int_equal(rundir_new(base, "", &b, &e), -EINVAL);
}

static void count(void *ctx, const char *id, const char *name)
{
    ++*(unsigned *)ctx;
}

static void a_machine_is_found_by_name_or_the_beginning_of_its_id(void **state)
{
    struct rundir a, b;
    struct err e = {0};
    char id[RUNDIR_ID_LEN + 1], start[4];
    unsigned n = 0;

    assert_int_equal(rundir_new(base, "web", &a, &e), 0);
    assert_int_equal(rundir_new(base, NULL, &b, &e), 0);
    assert_string_equal(a.name, "web");
    assert_string_equal(b.name, "");
    assert_int_equal(rundir_find(base, "web", id, &e), 0);
    assert_string_equal(id, a.id);
    assert_int_equal(rundir_find(base, b.id, id, &e), 0);
    assert_string_equal(id, b.id);
    snprintf(start, sizeof(start), "%.3s", b.id);
    if (strncmp(a.id, start, 3) != 0) {
        assert_int_equal(rundir_find(base, start, id, &e), 0);
        assert_string_equal(id, b.id);
    }
    assert_int_equal(rundir_find(base, "we", id, &e), -ENOENT);
    assert_int_equal(rundir_find(base, "", id, &e), -ENOENT);
    assert_int_equal(rundir_each(base, count, &n, &e), 0);
    assert_int_equal(n, 2);
    close(b.lock); /* its owner died */
    b.lock = -1;
    n = 0;
    assert_int_equal(rundir_each(base, count, &n, &e), 0);
    assert_int_equal(n, 1);
    assert_int_equal(rundir_find(base, b.id, id, &e), -ENOENT);
    rundir_remove(&a);
    rundir_remove(&b);
}

static void a_base_that_is_not_there_is_an_error(void **state)
{
    struct rundir d;
    struct err e = {0};

    assert_int_equal(rundir_new("/no/such/base", NULL, &d, &e), -ENOENT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_folder_is_private_and_goes_with_its_files),
        cmocka_unit_test(a_folder_whose_owner_died_is_swept_by_the_next_call),
        cmocka_unit_test(a_name_belongs_to_one_running_container),
        cmocka_unit_test(a_machine_is_found_by_name_or_the_beginning_of_its_id),
        cmocka_unit_test(a_base_that_is_not_there_is_an_error),
    };

    return cmocka_run_group_tests(tests, up, down);
}
