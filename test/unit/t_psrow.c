#include "cmd/psrow.h"

#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "test/unit/t.h"

enum { S = 1000000000 };

static void status_is(struct record *r, enum record_status status, const char *expected)
{
    char text[96];

    r->state.status = status;
    psrow_status(r, (int64_t)10000 * S, text, sizeof(text));
    assert_string_equal(text, expected);
}

static void a_status_reads_as_dockers(void **state)
{
    CLEANUP(mem) struct record *r = calloc(1, sizeof(*r));

    r->state.started_ns = (int64_t)(10000 - 180) * S;
    r->state.finished_ns = (int64_t)(10000 - 5) * S;
    r->state.exit_code = 3;
    status_is(r, RECORD_RUNNING, "Up 3 minutes");
    status_is(r, RECORD_PAUSED, "Up 3 minutes (Paused)");
    status_is(r, RECORD_EXITED, "Exited (3) 5 seconds ago");
    status_is(r, RECORD_RESTARTING, "Restarting (3) 5 seconds ago");
    status_is(r, RECORD_CREATED, "Created");
    r->state.health = RECORD_STARTING;
    status_is(r, RECORD_RUNNING, "Up 3 minutes (health: starting)");
    r->state.health = RECORD_UNHEALTHY;
    status_is(r, RECORD_RUNNING, "Up 3 minutes (unhealthy)");
}

static void ports_are_joined_to_ranges(void **state)
{
    CLEANUP(mem) struct record *r = calloc(1, sizeof(*r));
    struct record_port *p = r->state.port;
    char *exposed[] = {(char *)"80/tcp", (char *)"9000/tcp", NULL};

    spec_init(&r->spec);
    p[0] = (struct record_port){"", 8080, 80, false};
    p[1] = (struct record_port){"127.0.0.1", 5000, 5000, true};
    p[2] = (struct record_port){"127.0.0.1", 5001, 5001, true};
    p[3] = (struct record_port){"::1", 5002, 5002, true};
    r->state.n_ports = 4;
    r->spec.exposed = (struct strv){exposed, 2, 3};
    CLEANUP(mem) char *text = psrow_ports(r);
    assert_string_equal(text, "0.0.0.0:8080->80/tcp, [::]:8080->80/tcp, "
                              "127.0.0.1:5000-5001->5000-5001/udp, [::1]:5002->5002/udp, 9000/tcp");
}

static const char *field(const json_t *row, const char *name)
{
    return json_string_value(json_object_get(row, name));
}

static void long_words_are_cut_and_odd_bytes_are_shown(void **state)
{
    CLEANUP(mem) struct record *r = calloc(1, sizeof(*r));
    struct psrow_how how = {.now_ns = 0};
    char *argv[] = {(char *)"sh", (char *)"-c", (char *)"a \"quoted\" and long line", NULL};
    char *odd[] = {(char *)"\xff\xfe", NULL};

    spec_init(&r->spec);
    r->dir = -1;
    r->spec.argv = (struct strv){argv, 3, 4};
    json_t *row = psrow_of(r, &how);
    assert_string_equal(field(row, "Command"), "\"sh -c a \\\"quoted\\\" an…\"");
    assert_string_equal(field(row, "Isolation"), "vm");
    json_decref(row);
    how.no_trunc = true;
    row = psrow_of(r, &how);
    assert_string_equal(field(row, "Command"), "\"sh -c a \\\"quoted\\\" and long line\"");
    json_decref(row);
    r->spec.argv = (struct strv){odd, 1, 2};
    row = psrow_of(r, &how);
    assert_non_null(field(row, "Command"));
    json_decref(row);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_status_reads_as_dockers),
        cmocka_unit_test(ports_are_joined_to_ranges),
        cmocka_unit_test(long_words_are_cut_and_odd_bytes_are_shown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
