/* `kiln check`: the report over a table of probes, and this host's own probes. */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "cmd/checks.h"
#include "cmd/verb.h"
#include "test/unit/t.h"

static void good(struct check_result *r)
{
    check_says(r, CHECK_OK, "level %d", 3);
}

static void slower(struct check_result *r)
{
    check_says(r, CHECK_WARN, "slower");
    check_fix(r, "do \"%s\"", "this");
}

static void gone(struct check_result *r)
{
    check_says(r, CHECK_MISSING, "not there");
    check_fix(r, "get one");
}

static const struct check_item table[] = {{"alpha", good}, {"beta", slower}, {"gamma", gone}};

static bool report(size_t n, bool json, char **text)
{
    size_t len;
    FILE *f = open_memstream(text, &len);

    assert_non_null(f);
    bool ok = checks_report(table, n, json, f);
    fclose(f);
    return ok;
}

static void each_item_is_a_line_with_its_fix(void **state)
{
    CLEANUP(mem) char *text = NULL;

    assert_false(report(3, false, &text));
    assert_string_equal(text, "ok       alpha            level 3\n"
                              "warn     beta             slower; fix: do \"this\"\n"
                              "missing  gamma            not there; fix: get one\n");
}

static void only_what_is_missing_makes_it_fail(void **state)
{
    CLEANUP(mem) char *text = NULL;

    assert_true(report(2, false, &text));
}

static void json_says_the_same(void **state)
{
    CLEANUP(mem) char *text = NULL;

    assert_false(report(3, true, &text));
    json_t *doc = json_loads(text, 0, NULL);
    assert_non_null(doc);
    assert_true(json_is_false(json_object_get(doc, "ok")));
    const json_t *items = json_object_get(doc, "items"), *beta = json_array_get(items, 1);
    assert_int_equal(json_array_size(items), 3);
    assert_string_equal(json_string_value(json_object_get(beta, "name")), "beta");
    assert_string_equal(json_string_value(json_object_get(beta, "status")), "warn");
    assert_string_equal(json_string_value(json_object_get(beta, "text")), "slower");
    assert_string_equal(json_string_value(json_object_get(beta, "fix")), "do \"this\"");
    json_decref(doc);
}

static void every_probe_of_this_host_says_something(void **state)
{
    char root[] = "/tmp/kiln-check-XXXXXX";

    assert_non_null(mkdtemp(root));
    assert_int_equal(setenv("KILN_ROOT", root, 1), 0);
    for (size_t i = 0; i < checks_host_n; i++) {
        struct check_result r = {.status = CHECK_OK};

        checks_host[i].probe(&r);
        if (!r.text[0] || (r.status != CHECK_OK && !r.fix[0] && !strchr(r.text, ':')))
            fail_msg("%s: %d '%s' '%s'", checks_host[i].name, r.status, r.text, r.fix);
    }
    CLEANUP(mem) char *rm = NULL;
    assert_true(asprintf(&rm, "rm -r %s", root) > 0);
    assert_int_equal(system(rm), 0);
}

static void a_program_is_searched_in_the_path_given(void **state)
{
    CLEANUP(mem) char *old = strdup(getenv("PATH"));
    struct check_result r = {.status = CHECK_OK};

    setenv("PATH", "/nowhere::/proc", 1);
    for (size_t i = 0; i < checks_host_n; i++) {
        if (strcmp(checks_host[i].name, "skopeo") == 0)
            checks_host[i].probe(&r);
    }
    setenv("PATH", old, 1);
    assert_int_equal(r.status, CHECK_WARN);
    assert_string_equal(r.fix, "apt-get install skopeo");
}

static void wrong_usage_is_told_apart_from_a_host_that_lacks_something(void **state)
{
    char *bad[] = {(char *)"check", (char *)"--format", (char *)"xml", NULL};
    char *more[] = {(char *)"check", (char *)"more", NULL};

    assert_int_equal(cmd_check(3, bad), EXIT_KILN);
    assert_int_equal(cmd_check(2, more), EXIT_KILN);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_item_is_a_line_with_its_fix),
        cmocka_unit_test(only_what_is_missing_makes_it_fail),
        cmocka_unit_test(json_says_the_same),
        cmocka_unit_test(every_probe_of_this_host_says_something),
        cmocka_unit_test(a_program_is_searched_in_the_path_given),
        cmocka_unit_test(wrong_usage_is_told_apart_from_a_host_that_lacks_something),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
