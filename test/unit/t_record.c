/* container/record.c: records that outlive who made them, whatever happens in between. */
#include "test/unit/t.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "container/record.h"
#include "test/unit/t_sh.h"

static char root[] = "/tmp/kiln-t-record-XXXXXX";

static int up(void **state)
{
    (void)state;
    return mkdtemp(root) ? 0 : -1;
}

static int down(void **state)
{
    char cmd[128];

    (void)state;
    snprintf(cmd, sizeof(cmd), "rm -rf %s", root);
    return t_sh(cmd, NULL, 0);
}

static int make(const char *name, struct record *r, struct err *e)
{
    struct spec s;

    spec_init(&s);
    s.image = strdup("busybox");
    if (strv_add(&s.argv, "true") < 0)
        return -ENOMEM;
    return record_create(root, name, &s, r, e);
}

static void drop(const char *name)
{
    struct record r;
    struct err e = {0};

    assert_int_equal(record_find(root, name, RECORD_CHANGE, &r, &e), 0);
    assert_int_equal(record_remove(&r, &e), 0);
    record_done(&r);
}

/* Files below the store but locks. */
static unsigned leftovers(void)
{
    char cmd[256], out[64];

    snprintf(cmd, sizeof(cmd), "find %s/containers -mindepth 1 ! -name lock ! -name names | wc -l",
             root);
    assert_int_equal(t_sh(cmd, out, sizeof(out)), 0);
    return (unsigned)strtoul(out, NULL, 10);
}

static void what_is_written_is_read(void **state)
{
    struct record r, s;
    struct err e = {0};

    (void)state;
    assert_int_equal(make("web", &r, &e), 0);
    r.state.exit_code = -7;
    r.state.n_probes = 2;
    snprintf(r.state.probe[1].output, sizeof(r.state.probe[1].output), "bad \xff byte");
    r.state.n_ports = 1;
    r.state.port[0].ctr_port = 65535;
    r.state.health = RECORD_UNHEALTHY;
    assert_int_equal(record_save(&r, &e), 0);
    record_done(&r);
    assert_int_equal(record_find(root, "web", RECORD_LOOK, &s, &e), 0);
    assert_string_equal(s.name, "web");
    assert_string_equal(s.spec.argv.v[0], "true");
    assert_int_equal(s.state.status, RECORD_CREATED);
    assert_int_equal(s.state.exit_code, -7);
    assert_string_equal(s.state.probe[1].output, "bad ? byte");
    assert_int_equal(s.state.port[0].ctr_port, 65535);
    assert_int_equal(s.state.health, RECORD_UNHEALTHY);
    assert_true(s.state.created_ns > 0);
    record_done(&s);
    drop("web");
    assert_int_equal(leftovers(), 0);
}

static void it_is_found_by_name_id_and_unique_beginning(void **state)
{
    struct record r, s;
    struct err e = {0};
    char id[RECORD_ID_LEN + 1];

    (void)state;
    assert_int_equal(make(NULL, &r, &e), 0);
    assert_non_null(strchr(r.name, '_'));
    memcpy(id, r.id, sizeof(id));
    record_done(&r);
    assert_int_equal(record_find(root, id, RECORD_LOOK, &s, &e), 0);
    record_done(&s);
    id[5] = '\0';
    assert_int_equal(record_find(root, id, RECORD_LOOK, &s, &e), 0);
    record_done(&s);
    assert_int_equal(record_find(root, "", RECORD_LOOK, &s, &e), -ENOENT);
    assert_int_equal(record_find(root, "../lock", RECORD_LOOK, &s, &e), -ENOENT);
    assert_int_equal(record_find(root, "nosuch", RECORD_LOOK, &s, &e), -ENOENT);
    assert_string_equal(e.msg, "no such container: nosuch");
    drop(id);
}

static void a_beginning_of_two_is_ambiguous(void **state)
{
    struct record r[17];
    struct record s;
    struct err e = {0};
    bool seen = false;

    (void)state;
    for (unsigned i = 0; i < 17; i++) /* of 17, two begin with the same digit */
        assert_int_equal(make(NULL, &r[i], &e), 0);
    for (unsigned d = 0; d < 16; d++) {
        char text[2] = {"0123456789abcdef"[d], '\0'};
        int rc = record_find(root, text, RECORD_LOOK, &s, &e);

        seen |= rc == -EINVAL;
        record_done(&s);
    }
    assert_true(seen);
    for (unsigned i = 0; i < 17; i++) {
        record_done(&r[i]);
        drop(r[i].id);
    }
}

static void of_two_creates_with_one_name_one_wins(void **state)
{
    enum { N = 12 };
    pid_t pid[N];
    int won = 0;

    (void)state;
    for (unsigned i = 0; i < N; i++) {
        pid[i] = fork();
        if (pid[i] == 0) {
            struct record r;
            struct err e = {0};
            int rc = make("same", &r, &e);

            _exit(rc == 0 ? 0 : rc == -EEXIST ? 1 : 2);
        }
    }
    for (unsigned i = 0; i < N; i++) {
        int status;

        assert_int_equal(waitpid(pid[i], &status, 0), pid[i]);
        assert_true(WIFEXITED(status) && WEXITSTATUS(status) <= 1);
        won += WEXITSTATUS(status) == 0;
    }
    assert_int_equal(won, 1);
    drop("same");
    assert_int_equal(leftovers(), 0);
}

static void names_are_checked(void **state)
{
    struct record r;
    struct err e = {0};

    (void)state;
    assert_int_equal(make("-x", &r, &e), -EINVAL);
    assert_int_equal(make("a/b", &r, &e), -EINVAL);
    assert_int_equal(make("", &r, &e), -EINVAL);
    assert_int_equal(
        make("0123456789012345678901234567890123456789012345678901234567890123", &r, &e), -EINVAL);
    assert_int_equal(leftovers(), 0);
}

static void a_new_name_frees_the_old_one(void **state)
{
    struct record r, s;
    struct err e = {0};

    (void)state;
    assert_int_equal(make("one", &r, &e), 0);
    assert_int_equal(make("two", &s, &e), 0);
    record_done(&s);
    assert_int_equal(record_rename(&r, "two", &e), -EEXIST);
    assert_int_equal(record_rename(&r, "three", &e), 0);
    record_done(&r);
    assert_int_equal(record_find(root, "one", RECORD_LOOK, &s, &e), -ENOENT);
    assert_int_equal(make("one", &r, &e), 0);
    record_done(&r);
    drop("one");
    drop("two");
    drop("three");
    assert_int_equal(leftovers(), 0);
}

/* What each step of a creation, a renaming and a removal leaves when it is the last one. */
static void what_a_kill_leaves_is_nobodys(void **state)
{
    char cmd[PATH_MAX + 64];
    struct record r, *list;
    struct err e = {0};
    size_t n;

    (void)state;
    snprintf(cmd, sizeof(cmd),
             "cd %s/containers && mkdir -p names tmp-dead/upper/deep && touch tmp-dead/config.json "
             "&& ln -s %064d names/lost",
             root, 1);
    assert_int_equal(t_sh(cmd, NULL, 0), 0);
    assert_int_equal(record_find(root, "lost", RECORD_LOOK, &r, &e), -ENOENT);
    assert_int_equal(make("lost", &r, &e), 0); /* the name can be had, and tmp-dead is gone */
    /* renamed halfway: two names lead to it, and one is its own */
    snprintf(cmd, sizeof(cmd), "cd %s/containers && ! test -e tmp-dead && ln -s %s names/half",
             root, r.id);
    assert_int_equal(t_sh(cmd, NULL, 0), 0);
    record_done(&r);
    assert_int_equal(record_find(root, "half", RECORD_LOOK, &r, &e), -ENOENT);
    /* removed halfway */
    snprintf(cmd, sizeof(cmd), "cd %s/containers && mkdir tmp-gone && touch tmp-gone/x", root);
    assert_int_equal(t_sh(cmd, NULL, 0), 0);
    assert_int_equal(record_list(root, &list, &n, NULL, &e), 0);
    assert_int_equal(n, 1);
    record_done(&list[0]);
    free(list);
    drop("lost");
    snprintf(cmd, sizeof(cmd), "rm %s/containers/names/half", root);
    assert_int_equal(t_sh(cmd, NULL, 0), 0);
    assert_int_equal(leftovers(), 0);
}

static void one_that_is_damaged_does_not_hide_others(void **state)
{
    char cmd[PATH_MAX + 64];
    struct record r, *list;
    struct err e = {0};
    unsigned damaged;
    size_t n;

    (void)state;
    assert_int_equal(make("bad", &r, &e), 0);
    snprintf(cmd, sizeof(cmd), "echo '[' > %s/config.json", r.path);
    record_done(&r);
    assert_int_equal(t_sh(cmd, NULL, 0), 0);
    assert_int_equal(make("good", &r, &e), 0);
    record_done(&r);
    assert_int_equal(record_list(root, &list, &n, &damaged, &e), 0);
    assert_int_equal(n, 1);
    assert_int_equal(damaged, 1);
    assert_string_equal(list[0].name, "good");
    record_done(&list[0]);
    free(list);
    drop("good");
    assert_int_equal(record_find(root, "bad", RECORD_LOOK, &r, &e), -EBADMSG);
    snprintf(cmd, sizeof(cmd), "rm -rf %s/containers", root);
    assert_int_equal(t_sh(cmd, NULL, 0), 0);
}

static void a_lost_state_is_an_end(void **state)
{
    char cmd[PATH_MAX + 64];
    struct record r;
    struct err e = {0};

    (void)state;
    assert_int_equal(make("cut", &r, &e), 0);
    snprintf(cmd, sizeof(cmd), ": > %s/state.json", r.path);
    record_done(&r);
    assert_int_equal(t_sh(cmd, NULL, 0), 0);
    assert_int_equal(record_find(root, "cut", RECORD_LOOK, &r, &e), 0);
    assert_int_equal(r.state.status, RECORD_EXITED);
    assert_non_null(strstr(r.state.error, "lost"));
    record_done(&r);
    drop("cut");
}

static void it_runs_as_long_as_somebody_holds_it(void **state)
{
    CLEANUP(fd) int alive = -1;
    CLEANUP(fd) int other = -1;
    struct record r, s;
    struct err e = {0};

    (void)state;
    assert_int_equal(make("held", &r, &e), 0);
    assert_false(record_alive(&r));
    assert_int_equal(record_hold(&r, &alive, &e), 0);
    assert_int_equal(record_hold(&r, &other, &e), -EBUSY);
    r.state.status = RECORD_RUNNING;
    r.state.keeper = getpid();
    assert_int_equal(record_save(&r, &e), 0);
    record_unlock(&r);
    assert_int_equal(record_find(root, "held", RECORD_LOOK, &s, &e), 0);
    assert_true(record_alive(&s));
    assert_int_equal(s.state.status, RECORD_RUNNING);
    record_done(&s);
    close(take_fd(&alive)); /* what the kernel does to the dead */
    assert_int_equal(record_find(root, "held", RECORD_LOOK, &s, &e), 0);
    assert_int_equal(s.state.status, RECORD_EXITED);
    assert_int_equal(s.state.exit_code, 137);
    assert_string_equal(s.state.error, "the host restarted"); /* it had no boot's id */
    record_done(&s);
    record_done(&r);
    drop("held");
}

static void one_that_was_to_go_with_its_end_is_gone(void **state)
{
    struct record r;
    struct spec s;
    struct err e = {0};

    (void)state;
    spec_init(&s);
    s.image = strdup("busybox");
    s.auto_remove = true;
    assert_int_equal(record_create(root, "brief", &s, &r, &e), 0);
    r.state.status = RECORD_RUNNING;
    r.state.keeper = 1;
    assert_int_equal(record_save(&r, &e), 0);
    record_done(&r);
    assert_int_equal(record_find(root, "brief", RECORD_LOOK, &r, &e), -ENOENT);
    assert_int_equal(leftovers(), 0);
}

static void however_deep_a_container_dug_it_goes(void **state)
{
    enum { DEPTH = 5000 };
    struct record r;
    struct err e = {0};
    int at;

    (void)state;
    assert_int_equal(make("deep", &r, &e), 0);
    at = fcntl(r.dir, F_DUPFD_CLOEXEC, 0);
    for (unsigned i = 0; i < DEPTH; i++) {
        assert_int_equal(mkdirat(at, i == 0 ? "upper" : "d", 0700), 0);
        int next = openat(at, i == 0 ? "upper" : "d", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        assert_true(next >= 0);
        close(at);
        at = next;
    }
    close(at);
    record_done(&r);
    drop("deep");
    assert_int_equal(leftovers(), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_written_is_read),
        cmocka_unit_test(it_is_found_by_name_id_and_unique_beginning),
        cmocka_unit_test(a_beginning_of_two_is_ambiguous),
        cmocka_unit_test(of_two_creates_with_one_name_one_wins),
        cmocka_unit_test(names_are_checked),
        cmocka_unit_test(a_new_name_frees_the_old_one),
        cmocka_unit_test(what_a_kill_leaves_is_nobodys),
        cmocka_unit_test(one_that_is_damaged_does_not_hide_others),
        cmocka_unit_test(a_lost_state_is_an_end),
        cmocka_unit_test(it_runs_as_long_as_somebody_holds_it),
        cmocka_unit_test(one_that_was_to_go_with_its_end_is_gone),
        cmocka_unit_test(however_deep_a_container_dug_it_goes),
    };

    return cmocka_run_group_tests(tests, up, down);
}
