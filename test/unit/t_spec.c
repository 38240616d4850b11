/* container/spec.c: what is said survives JSON, and nothing else gets in. */
#include "test/unit/t.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "container/spec.h"

static void make(struct spec *s)
{
    spec_init(s);
    s->isolation = SPEC_PROCESS;
    s->image = strdup("busybox:latest");
    assert_int_equal(strv_add(&s->argv, "sh"), 0);
    assert_int_equal(strv_addf(&s->argv, "-%c", 'c'), 0);
    s->tty = true;
    s->memory = 64 << 20;
    s->restart = SPEC_ON_FAILURE;
    s->mounts = calloc(2, sizeof(*s->mounts));
    s->n_mounts = 2;
    s->mounts[0].target = strdup("/a");
    s->mounts[1].kind = SPEC_TMPFS;
    s->mounts[1].target = strdup("/b");
    s->mounts[1].read_only = true;
    s->ports = calloc(1, sizeof(*s->ports));
    s->n_ports = 1;
    s->ports[0].ctr_port = 65535;
    assert_int_equal(strv_add(&s->health.cmd, "CMD-SHELL"), 0);
    s->health.retries = 3;
}

static void what_is_said_survives(void **state)
{
    struct spec s, t;
    struct err e = {0};

    (void)state;
    make(&s);
    json_t *j = spec_to_json(&s);
    assert_non_null(j);
    assert_null(json_object_get(j, "hostname"));
    assert_null(json_object_get(j, "memory_swap"));
    assert_int_equal(spec_from_json(j, &t, &e), 0);
    json_t *again = spec_to_json(&t);
    assert_true(json_equal(j, again));
    assert_int_equal(t.isolation, SPEC_PROCESS);
    assert_string_equal(t.argv.v[1], "-c");
    assert_null(t.argv.v[2]);
    assert_true(t.memory_swap == SPEC_UNSET);
    assert_int_equal(t.mounts[1].kind, SPEC_TMPFS);
    assert_int_equal(t.ports[0].ctr_port, 65535);
    assert_true(t.health.timeout_ns == SPEC_UNSET);
    json_decref(j);
    json_decref(again);
    spec_done(&s);
    spec_done(&t);
}

static void what_does_not_belong_there_is_refused(void **state)
{
    static const char *const bad[] = {
        "[]",
        "{\"argv\": \"sh\"}",
        "{\"argv\": [1]}",
        "{\"env\": [\"a\\u0000b\"]}",
        "{\"tty\": 1}",
        "{\"isolation\": 2}",
        "{\"isolation\": -1}",
        "{\"code_cache_bytes\": -1}",
        "{\"ports\": [{\"ctr_port\": 65536}]}",
        "{\"ports\": [{\"ctr_port\": 80}, 7]}",
        "{\"mounts\": {}}",
        "{\"health\": []}",
    };

    (void)state;
    for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        json_t *j = json_loads(bad[i], JSON_ALLOW_NUL, NULL);
        struct err e = {0};
        struct spec s;

        assert_non_null(j);
        assert_int_equal(spec_from_json(j, &s, &e), -EBADMSG);
        assert_true(e.msg[0] != '\0');
        assert_null(s.argv.v);
        json_decref(j);
    }
}

static void a_later_version_may_say_more(void **state)
{
    json_t *j = json_loads("{\"colour\": \"blue\", \"image\": \"x\"}", 0, NULL);
    struct spec s;

    (void)state;
    assert_int_equal(spec_from_json(j, &s, NULL), 0);
    assert_string_equal(s.image, "x");
    spec_done(&s);
    json_decref(j);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_said_survives),
        cmocka_unit_test(what_does_not_belong_there_is_refused),
        cmocka_unit_test(a_later_version_may_say_more),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
