/* What a keeper decides by clock and rule: container/backoff.c, container/health.c; and the words
 * of signals, container/signame.c. */
#include "test/unit/t.h"

#include <errno.h>
#include <signal.h>
#include <stdbool.h>

#include "container/backoff.h"
#include "container/health.h"
#include "container/signame.h"

static void delays_double_up_to_a_minute(void **state)
{
    struct spec s = {.restart = SPEC_ALWAYS};
    struct backoff b = {0};

    (void)state;
    for (int64_t want = 100; want < 60000; want *= 2)
        assert_int_equal(backoff_next(&b, &s, 0, 50, false), want);
    assert_int_equal(backoff_next(&b, &s, 0, 50, false), 60000);
    assert_int_equal(backoff_next(&b, &s, 0, 50, false), 60000);
    assert_int_equal(backoff_next(&b, &s, 0, 10000, false), 100); /* it ran well */
    assert_int_equal(backoff_next(&b, &s, 0, 9999, false), 200);
}

static void each_policy_has_its_ends(void **state)
{
    struct spec s = {.restart = SPEC_NO};
    struct backoff b = {0};

    (void)state;
    assert_int_equal(backoff_next(&b, &s, 1, 0, false), -1);
    s.restart = SPEC_ON_FAILURE;
    assert_int_equal(backoff_next(&b, &s, 0, 0, false), -1);
    assert_true(backoff_next(&b, &s, 1, 0, false) >= 0);
    s.restart_max = 2;
    assert_true(backoff_next(&b, &s, 1, 0, false) >= 0);
    assert_int_equal(backoff_next(&b, &s, 1, 0, false), -1);
    s.restart = SPEC_UNLESS_STOPPED;
    assert_true(backoff_next(&b, &s, 0, 0, false) >= 0);
    assert_int_equal(backoff_next(&b, &s, 0, 0, true), -1);
}

static char *words[] = {(char *)"CMD", (char *)"true", NULL};

static struct spec checked(void)
{
    return (struct spec){.health = {.cmd = {.v = words, .n = 2, .cap = 3},
                                    .interval_ns = 1000000000,
                                    .timeout_ns = SPEC_UNSET,
                                    .start_period_ns = SPEC_UNSET,
                                    .retries = SPEC_UNSET}};
}

static void three_failures_in_a_row_are_ill_health(void **state)
{
    struct record_probe bad = {.exit_code = 1}, good = {.exit_code = 0};
    struct record_state st = {.status = RECORD_RUNNING};
    struct spec s = checked();
    struct health h;

    (void)state;
    health_begin(&h, &s, 5000, &st);
    assert_int_equal(st.health, RECORD_STARTING);
    assert_int_equal(h.next_ms, 6000);
    assert_false(health_ended(&h, 6000, &bad, &st));
    assert_false(health_ended(&h, 7000, &bad, &st));
    assert_true(health_ended(&h, 8000, &bad, &st));
    assert_int_equal(st.health, RECORD_UNHEALTHY);
    assert_true(health_ended(&h, 9000, &good, &st));
    assert_int_equal(st.health, RECORD_HEALTHY);
    assert_int_equal(st.failing_streak, 0);
    assert_int_equal(h.next_ms, 10000);
    assert_false(health_ended(&h, 10000, &bad, &st));
    assert_false(health_ended(&h, 10000, &good, &st));
    assert_int_equal(st.n_probes, RECORD_HEALTH_LOG);
}

static void failures_while_it_starts_do_not_count(void **state)
{
    struct record_probe bad = {.exit_code = 1}, good = {.exit_code = 0};
    struct record_state st = {.status = RECORD_RUNNING};
    struct spec s = checked();
    struct health h;

    (void)state;
    s.health.start_period_ns = 10000000000;
    s.health.retries = 1;
    health_begin(&h, &s, 0, &st);
    assert_false(health_ended(&h, 9999, &bad, &st));
    assert_true(health_ended(&h, 10000, &bad, &st));
    health_begin(&h, &s, 0, &st);
    assert_true(health_ended(&h, 10, &good, &st)); /* it has started, then */
    assert_true(health_ended(&h, 20, &bad, &st));
    assert_int_equal(st.health, RECORD_UNHEALTHY);
}

static void no_command_no_health(void **state)
{
    static char *none[] = {(char *)"NONE", NULL};
    struct record_state st = {.status = RECORD_RUNNING};
    struct spec s = checked();
    struct health h;

    (void)state;
    s.health.cmd = (struct strv){.v = none, .n = 1, .cap = 2};
    assert_false(health_wanted(&s));
    health_begin(&h, &s, 0, &st);
    assert_int_equal(st.health, RECORD_HEALTH_NONE);
    assert_true(h.next_ms == UINT64_MAX);
}

static void signals_have_names(void **state)
{
    static const struct {
        const char *text;
        int want;
    } v[] = {{"TERM", SIGTERM},
             {"SIGTERM", SIGTERM},
             {"sigusr1", SIGUSR1},
             {"9", 9},
             {"64", 64},
             {"65", 0},
             {"0", 0},
             {"", 0},
             {"SIG", 0},
             {"-1", 0},
             {"nope", 0},
             {"9x", 0}};
    struct err e;
    int sig;

    (void)state;
    for (unsigned i = 0; i < sizeof(v) / sizeof(v[0]); i++) {
        assert_int_equal(signame_parse(v[i].text, &sig, &e), v[i].want ? 0 : -EINVAL);
        if (v[i].want)
            assert_int_equal(sig, v[i].want);
    }
    assert_int_equal(signame_parse("RTMIN+3", &sig, &e), 0);
    assert_int_equal(sig, SIGRTMIN + 3);
    assert_int_equal(signame_parse("RTMAX-1", &sig, &e), 0);
    assert_int_equal(sig, SIGRTMAX - 1);
    assert_int_equal(signame_parse("RTMIN+99", &sig, &e), -EINVAL);
    assert_string_equal(signame_of(SIGKILL), "KILL");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(delays_double_up_to_a_minute),
        cmocka_unit_test(each_policy_has_its_ends),
        cmocka_unit_test(three_failures_in_a_row_are_ill_health),
        cmocka_unit_test(failures_while_it_starts_do_not_count),
        cmocka_unit_test(no_command_no_health),
        cmocka_unit_test(signals_have_names),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
