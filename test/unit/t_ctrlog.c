/* container/ctrlog.c: what was written is read, whole, in order, from any place. */
#include "test/unit/t.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "container/ctrlog.h"
#include "container/spec.h"
#include "test/unit/t_sh.h"

static char base[] = "/tmp/kiln-t-ctrlog-XXXXXX";
static int dir;

static int up(void **state)
{
    (void)state;
    if (!mkdtemp(base))
        return -1;
    dir = open(base, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return dir < 0;
}

static int down(void **state)
{
    char cmd[128];

    (void)state;
    close(dir);
    snprintf(cmd, sizeof(cmd), "rm -rf %s", base);
    return t_sh(cmd, NULL, 0);
}

static int empty(void **state)
{
    char cmd[128];

    (void)state;
    snprintf(cmd, sizeof(cmd), "rm -rf %s/*", base);
    return t_sh(cmd, NULL, 0);
}

static void put(struct ctrlog *l, unsigned stream, int64_t ns, const char *text)
{
    ctrlog_write(l, stream, ns, text, strlen(text));
}

/* What a reader shows of each stream. */
static void expect(const struct ctrlog_options *o, const char *out, const char *err)
{
    struct ctrlog_reader *r = NULL;
    char got[2][8192] = {"", ""};
    int v[2][2];
    struct err e = {0};

    assert_int_equal(pipe(v[0]) | pipe(v[1]), 0);
    assert_int_equal(ctrlog_read_open(dir, o, &r, &e), 0);
    assert_true(ctrlog_copy(r, (int[]){v[0][1], v[1][1]}, &e) >= 0);
    ctrlog_read_close(r);
    for (unsigned i = 0; i < 2; i++) {
        close(v[i][1]);
        ssize_t n = read(v[i][0], got[i], sizeof(got[i]) - 1);
        got[i][n < 0 ? 0 : n] = '\0';
        close(v[i][0]);
    }
    assert_string_equal(got[0], out);
    assert_string_equal(got[1], err);
}

static const struct ctrlog_options all = {.tail = -1};

static void streams_stay_apart(void **state)
{
    struct ctrlog l;

    (void)state;
    expect(&all, "", ""); /* nothing was written yet */
    ctrlog_open(&l, dir, NULL, SPEC_UNSET, SPEC_UNSET);
    put(&l, 0, 1, "one\ntw");
    put(&l, 1, 2, "bad\n");
    put(&l, 0, 3, "o\n");
    ctrlog_close(&l);
    expect(&all, "one\ntwo\n", "bad\n");
}

static void a_line_has_the_time_it_began_at(void **state)
{
    struct ctrlog_options o = {.tail = -1, .timestamps = true};
    struct ctrlog l;

    (void)state;
    ctrlog_open(&l, dir, NULL, SPEC_UNSET, SPEC_UNSET);
    put(&l, 0, 1500000000, "one\ntw");
    put(&l, 0, 2000000001, "o\nend");
    ctrlog_close(&l);
    expect(&o,
           "1970-01-01T00:00:01.500000000Z one\n1970-01-01T00:00:01.500000000Z two\n"
           "1970-01-01T00:00:02.000000001Z end",
           "");
}

static void the_last_lines_are_found_from_the_end(void **state)
{
    struct ctrlog_options o = {.tail = 2};
    struct ctrlog l;

    (void)state;
    ctrlog_open(&l, dir, NULL, SPEC_UNSET, SPEC_UNSET);
    put(&l, 0, 1, "a\nb\nc\n");
    put(&l, 0, 2, "d");
    put(&l, 0, 3, "e\nf\n");
    ctrlog_close(&l);
    expect(&o, "de\nf\n", "");
    o.tail = 3;
    expect(&o, "c\nde\nf\n", "");
    o.tail = 0;
    expect(&o, "", "");
    o.tail = 99;
    expect(&o, "a\nb\nc\nde\nf\n", "");
}

static void since_and_until_choose_by_time(void **state)
{
    struct ctrlog_options o = {.tail = -1, .since_ns = 20, .until_ns = 30};
    struct ctrlog l;

    (void)state;
    ctrlog_open(&l, dir, NULL, SPEC_UNSET, SPEC_UNSET);
    put(&l, 0, 10, "a\n");
    put(&l, 0, 20, "b\n");
    put(&l, 0, 30, "c\n");
    put(&l, 0, 40, "d\n");
    ctrlog_close(&l);
    expect(&o, "b\nc\n", "");
    o.tail = 1;
    expect(&o, "c\n", "");
}

static void old_files_go(void **state)
{
    struct ctrlog_options o = {.tail = 3};
    struct ctrlog l;
    struct stat st;

    (void)state;
    ctrlog_open(&l, dir, NULL, 60, 3); /* two entries a file */
    for (unsigned i = 0; i < 10; i++) {
        char text[8];

        snprintf(text, sizeof(text), "%u\n", i);
        put(&l, 0, i, text);
    }
    ctrlog_close(&l);
    expect(&all, "4\n5\n6\n7\n8\n9\n", "");
    expect(&o, "7\n8\n9\n", "");
    assert_int_equal(fstatat(dir, "log.2", &st, 0), 0);
    assert_int_equal(fstatat(dir, "log.3", &st, 0), -1);
}

static void a_reader_follows_into_the_next_file(void **state)
{
    struct ctrlog_reader *r = NULL;
    struct ctrlog l;
    struct err e = {0};
    char got[64];
    int v[2];

    (void)state;
    assert_int_equal(pipe(v), 0);
    ctrlog_open(&l, dir, NULL, 60, 5);
    put(&l, 0, 1, "1\n");
    assert_int_equal(ctrlog_read_open(dir, &all, &r, &e), 0);
    assert_int_equal(ctrlog_copy(r, (int[]){v[1], -1}, &e), 0);
    for (unsigned i = 2; i < 8; i++) {
        char text[8];

        snprintf(text, sizeof(text), "%u\n", i);
        put(&l, 0, i, text);
    }
    assert_int_equal(ctrlog_copy(r, (int[]){v[1], -1}, &e), 0);
    ctrlog_close(&l);
    ctrlog_read_close(r);
    assert_int_equal(read(v[0], got, sizeof(got)), 14);
    assert_memory_equal(got, "1\n2\n3\n4\n5\n6\n7\n", 14);
    close(v[0]);
    close(v[1]);
}

static void what_a_kill_cut_short_is_taken_off(void **state)
{
    struct ctrlog l;
    struct stat st;

    (void)state;
    for (unsigned cut = 1; cut < 26; cut++) {
        assert_int_equal(empty(NULL), 0);
        ctrlog_open(&l, dir, NULL, SPEC_UNSET, SPEC_UNSET);
        put(&l, 0, 1, "whole\n");
        put(&l, 0, 2, "cut\n");
        ctrlog_close(&l);
        CLEANUP(fd) int fd = openat(dir, "log", O_RDWR | O_CLOEXEC);
        assert_int_equal(fstat(fd, &st), 0);
        assert_int_equal(ftruncate(fd, st.st_size - (off_t)cut), 0);
        expect(&all, "whole\n", "");
        ctrlog_open(&l, dir, NULL, SPEC_UNSET, SPEC_UNSET);
        put(&l, 0, 3, "next\n");
        ctrlog_close(&l);
        expect(&all, "whole\nnext\n", "");
    }
}

static void bytes_are_bytes(void **state)
{
    struct ctrlog_reader *r = NULL;
    struct ctrlog l;
    struct err e = {0};
    uint8_t in[3000], out[4096];
    int v[2];

    (void)state;
    for (unsigned i = 0; i < sizeof(in); i++)
        in[i] = (uint8_t)(i * 7 + i / 256);
    assert_int_equal(pipe(v), 0);
    ctrlog_open(&l, dir, NULL, SPEC_UNSET, SPEC_UNSET);
    ctrlog_write(&l, 0, 1, in, sizeof(in));
    ctrlog_close(&l);
    assert_int_equal(ctrlog_read_open(dir, &all, &r, &e), 0);
    assert_int_equal(ctrlog_copy(r, (int[]){v[1], -1}, &e), 0);
    ctrlog_read_close(r);
    assert_int_equal(read(v[0], out, sizeof(out)), sizeof(in));
    assert_memory_equal(in, out, sizeof(in));
    close(v[0]);
    close(v[1]);
}

static void none_keeps_none(void **state)
{
    struct ctrlog l;
    struct stat st;

    (void)state;
    ctrlog_open(&l, dir, "none", SPEC_UNSET, SPEC_UNSET);
    put(&l, 0, 1, "x\n");
    ctrlog_close(&l);
    assert_int_equal(fstatat(dir, "log", &st, 0), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(streams_stay_apart, empty),
        cmocka_unit_test_setup(a_line_has_the_time_it_began_at, empty),
        cmocka_unit_test_setup(the_last_lines_are_found_from_the_end, empty),
        cmocka_unit_test_setup(since_and_until_choose_by_time, empty),
        cmocka_unit_test_setup(old_files_go, empty),
        cmocka_unit_test_setup(a_reader_follows_into_the_next_file, empty),
        cmocka_unit_test_setup(what_a_kill_cut_short_is_taken_off, empty),
        cmocka_unit_test_setup(bytes_are_bytes, empty),
        cmocka_unit_test_setup(none_keeps_none, empty),
    };

    return cmocka_run_group_tests(tests, up, down);
}
