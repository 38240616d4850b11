/* container/procconf.c, procpower.c: what a description says as capabilities, limits, paths. */
#include "test/unit/t.h"

#include <errno.h>
#include <linux/capability.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "container/procconf.h"
#include "process/defaults.h"

static struct err e;

static int fill(const struct spec *s, bool privileged, struct procconf **p)
{
    *p = calloc(1, sizeof(**p));
    assert_non_null(*p);
    e = (struct err){0};
    return procconf_process(s, privileged, *p, &e);
}

static void done(struct spec *s, struct procconf *p)
{
    procconf_done(p);
    free(p);
    spec_done(s);
    spec_init(s);
}

static uint64_t caps_with(const char *add, const char *drop, bool privileged)
{
    struct spec s;
    struct procconf *p;

    spec_init(&s);
    assert_true(!add || strv_add(&s.cap_add, add) == 0);
    assert_true(!drop || strv_add(&s.cap_drop, drop) == 0);
    assert_int_equal(fill(&s, privileged, &p), 0);
    uint64_t caps = p->conf.process.caps.bounding;
    assert_int_equal(caps, p->conf.process.caps.effective);
    assert_int_equal(p->conf.process.caps.inheritable, 0);
    done(&s, p);
    return caps;
}

static void capabilities_are_added_and_dropped_as_docker_does(void **state)
{
    const uint64_t net = DEFAULTS_CAP(CAP_NET_ADMIN), chown = DEFAULTS_CAP(CAP_CHOWN);

    assert_int_equal(caps_with(NULL, NULL, false), DEFAULTS_CAPS);
    assert_int_equal(caps_with("net_admin", "CAP_CHOWN", false), (DEFAULTS_CAPS | net) & ~chown);
    assert_int_equal(caps_with("NET_ADMIN", "all", false), net);
    assert_int_equal(caps_with("ALL", "CHOWN", false), DEFAULTS_CAPS_ALL & ~chown);
    assert_int_equal(caps_with(NULL, "ALL", false), 0);
    assert_int_equal(caps_with(NULL, "ALL", true), DEFAULTS_CAPS_ALL);
}

static void limits_are_read(void **state)
{
    static const char *const bad[] = {
        "nofile", "nofile=",      "nofile=x", "nofile=5:4",
        "what=3", "nofile=1:2:3", "=1",       "nofile=99999999999999999999"};
    struct spec s;
    struct procconf *p;

    spec_init(&s);
    assert_int_equal(strv_add(&s.ulimits, "nofile=100:200"), 0);
    assert_int_equal(strv_add(&s.ulimits, "core=0"), 0);
    assert_int_equal(strv_add(&s.ulimits, "memlock=-1"), 0);
    assert_int_equal(fill(&s, false, &p), 0);
    assert_int_equal(p->conf.process.n_rlimits, 3);
    assert_int_equal(p->rlimits[0].resource, RLIMIT_NOFILE);
    assert_int_equal(p->rlimits[0].limit.rlim_cur, 100);
    assert_int_equal(p->rlimits[0].limit.rlim_max, 200);
    assert_int_equal(p->rlimits[1].limit.rlim_max, 0);
    assert_true(p->rlimits[2].limit.rlim_max == RLIM_INFINITY);
    done(&s, p);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_int_equal(strv_add(&s.ulimits, bad[i]), 0);
        if (fill(&s, false, &p) != -EINVAL)
            fail_msg("%s", bad[i]);
        done(&s, p);
    }
    spec_done(&s);
}

static void security_options_are_read(void **state)
{
    struct spec s;
    struct procconf *p;

    spec_init(&s);
    assert_int_equal(fill(&s, false, &p), 0);
    assert_non_null(p->conf.process.filter);
    assert_false(p->conf.process.no_new_privileges);
    assert_string_equal(p->conf.process.user.name, "");
    done(&s, p);
    assert_int_equal(strv_add(&s.security_opt, "seccomp=unconfined"), 0);
    assert_int_equal(strv_add(&s.security_opt, "no-new-privileges"), 0);
    assert_int_equal(fill(&s, false, &p), 0);
    assert_null(p->conf.process.filter);
    assert_true(p->conf.process.no_new_privileges);
    done(&s, p);
    assert_int_equal(strv_add(&s.security_opt, "seccomp:/nonexistent"), 0);
    assert_int_equal(fill(&s, false, &p), -ENOENT);
    done(&s, p);
    assert_int_equal(strv_add(&s.cap_add, "CAP_NOTHING"), 0);
    assert_int_equal(fill(&s, false, &p), -EINVAL);
    assert_string_equal(e.msg, "unknown capability \"CAP_NOTHING\"");
    done(&s, p);
    spec_done(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(capabilities_are_added_and_dropped_as_docker_does),
        cmocka_unit_test(limits_are_read),
        cmocka_unit_test(security_options_are_read),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
