#include "container/events.h"

#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "test/unit/t.h"
#include "test/unit/t_sh.h"

static char root[64];

static int up(void **state)
{
    snprintf(root, sizeof(root), "/tmp/kiln-t-events-XXXXXX");
    return mkdtemp(root) ? 0 : -1;
}

static int down(void **state)
{
    char cmd[128];

    snprintf(cmd, sizeof(cmd), "rm -rf %s", root);
    return t_sh(cmd, NULL, 0);
}

/* How many there are now, and the action of the last. */
static unsigned count(struct events *v, char last[64])
{
    struct err e = {0};
    json_t *o;
    unsigned n = 0;

    while (events_next(v, &o, &e) == 1) {
        n++;
        snprintf(last, 64, "%s", json_string_value(json_object_get(o, "Action")));
        json_decref(o);
    }
    assert_int_equal(e.code, 0);
    return n;
}

static void an_event_is_read_as_it_was_noted(void **state)
{
    const char *const about[] = {"name", "web", "image", "", "exitCode", "3", NULL};
    struct events *v;
    struct err e = {0};
    json_t *o;

    event_note(root, "container", "die", "abc", about);
    assert_int_equal(events_open(root, &v, &e), 0);
    assert_int_equal(events_next(v, &o, &e), 1);
    json_t *actor = json_object_get(o, "Actor"), *a = json_object_get(actor, "Attributes");
    assert_string_equal(json_string_value(json_object_get(o, "Type")), "container");
    assert_string_equal(json_string_value(json_object_get(o, "Action")), "die");
    assert_string_equal(json_string_value(json_object_get(actor, "ID")), "abc");
    assert_string_equal(json_string_value(json_object_get(a, "exitCode")), "3");
    assert_null(json_object_get(a, "image"));
    assert_true(json_integer_value(json_object_get(o, "timeNano")) / 1000000000 ==
                json_integer_value(json_object_get(o, "time")));
    json_decref(o);
    assert_int_equal(events_next(v, &o, &e), 0);
    events_close(v);
}

static void a_reader_is_told_of_what_comes_later(void **state)
{
    struct events *v;
    struct err e = {0};
    char last[64] = "";

    assert_int_equal(events_open(root, &v, &e), 0);
    assert_int_equal(count(v, last), 0);
    struct pollfd p = {.fd = events_fd(v), .events = POLLIN};
    assert_int_equal(poll(&p, 1, 0), 0);
    event_note(root, "volume", "create", "v", NULL);
    assert_int_equal(poll(&p, 1, 5000), 1);
    assert_int_equal(count(v, last), 1);
    assert_string_equal(last, "create");
    events_close(v);
}

static void lines_of_several_processes_do_not_mix(void **state)
{
    enum { WRITERS = 8, EACH = 50 };
    struct events *v;
    struct err e = {0};
    char last[64];

    for (unsigned i = 0; i < WRITERS; i++)
        if (fork() == 0) {
            for (unsigned k = 0; k < EACH; k++)
                event_note(root, "container", "start", "x", NULL);
            _exit(0);
        }
    for (unsigned i = 0; i < WRITERS; i++)
        assert_true(wait(NULL) > 0);
    assert_int_equal(events_open(root, &v, &e), 0);
    assert_int_equal(count(v, last), WRITERS * EACH);
    events_close(v);
}

static void a_full_log_is_put_aside_and_none_is_missed(void **state)
{
    struct events *v;
    struct err e = {0};
    char path[128], last[64] = "";
    struct stat st;

    event_note(root, "image", "pull", "a", NULL);
    assert_int_equal(events_open(root, &v, &e), 0);
    assert_int_equal(count(v, last), 1);
    snprintf(path, sizeof(path), "%s/events.log", root);
    event_note(root, "image", "tag", "b", NULL);
    assert_int_equal(stat(path, &st), 0);
    int fd = open(path, O_WRONLY | O_APPEND);
    /* A line without an end is not one; blank ones are passed over. */
    for (off_t n = st.st_size; n < EVENTS_LOG_MAX; n++)
        assert_int_equal(write(fd, "\n", 1), 1);
    close(fd);
    event_note(root, "image", "delete", "c", NULL);
    assert_int_equal(stat(path, &st), 0);
    assert_true(st.st_size < EVENTS_LINE_MAX);
    assert_int_equal(count(v, last), 2);
    assert_string_equal(last, "delete");
    events_close(v);
    /* A new reader begins with the old log. */
    assert_int_equal(events_open(root, &v, &e), 0);
    assert_int_equal(count(v, last), 3);
    events_close(v);
}

static void damaged_and_endless_lines_are_passed_over(void **state)
{
    struct events *v;
    struct err e = {0};
    char path[128], last[64] = "";

    snprintf(path, sizeof(path), "%s/events.log", root);
    int fd = open(path, O_WRONLY | O_CREAT | O_APPEND, 0600);
    assert_true(write(fd, "{\"Action\": \n[1]\n", 16) == 16);
    for (unsigned i = 0; i < 3 * EVENTS_LINE_MAX; i++)
        assert_true(write(fd, "{", 1) == 1);
    assert_true(write(fd, "\n", 1) == 1);
    close(fd);
    event_note(root, "image", "pull", "a", NULL);
    assert_int_equal(events_open(root, &v, &e), 0);
    assert_int_equal(count(v, last), 1);
    assert_string_equal(last, "pull");
    events_close(v);
}

static void attributes_beyond_all_measure_are_left_out(void **state)
{
    char *big = malloc(EVENTS_LINE_MAX + 1);
    const char *about[] = {"label", big, NULL};
    struct events *v;
    struct err e = {0};
    char last[64];

    memset(big, 'x', EVENTS_LINE_MAX);
    big[EVENTS_LINE_MAX] = '\0';
    event_note(root, "container", "create", "a", about);
    assert_int_equal(events_open(root, &v, &e), 0);
    assert_int_equal(count(v, last), 1);
    events_close(v);
    free(big);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(an_event_is_read_as_it_was_noted, up, down),
        cmocka_unit_test_setup_teardown(a_reader_is_told_of_what_comes_later, up, down),
        cmocka_unit_test_setup_teardown(lines_of_several_processes_do_not_mix, up, down),
        cmocka_unit_test_setup_teardown(a_full_log_is_put_aside_and_none_is_missed, up, down),
        cmocka_unit_test_setup_teardown(damaged_and_endless_lines_are_passed_over, up, down),
        cmocka_unit_test_setup_teardown(attributes_beyond_all_measure_are_left_out, up, down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
