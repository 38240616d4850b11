/* Commands in a machine, and what the agent owes them. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent/pid1.h"
#include "base/cleanup.h"
#include "container/session.h"
#include "container/sessnet.h"
#include "container/wire.h"
#include "proto/filework.h"
#include "proto/proctable.h"
#include "test/unit/agentbox.h"
#include "test/unit/t_sh.h"

static void output_and_status_are_the_commands(void **state)
{
    static struct result r;

    sh("echo to-out; echo to-err >&2; exit 42", &r);
    assert_true(WIFEXITED(r.status));
    assert_int_equal(WEXITSTATUS(r.status), 42);
    assert_string_equal(r.out, "to-out\n");
    assert_string_equal(r.err, "to-err\n");
}

static void death_by_a_signal_is_told_as_such(void **state)
{
    static struct result r;

    sh("kill -KILL $$", &r);
    assert_true(WIFSIGNALED(r.status));
    assert_int_equal(WTERMSIG(r.status), SIGKILL);
    sh("kill -TERM $$", &r);
    assert_int_equal(WTERMSIG(r.status), SIGTERM);
}

static void the_container_ends_with_its_first_process(void **state)
{
    static struct result r;

    sh("sleep 1000 & (sleep 1000 &) ; echo bye", &r);
    assert_int_equal(r.status, 0);
    assert_string_equal(r.out, "bye\n");
}

static void the_root_looks_like_a_containers(void **state)
{
    static struct result r;

    sh("hostname; cat /etc/hostname; grep -c testhost /etc/hosts; id -u; echo $HOME; echo $PATH; "
       "echo $HOSTNAME; pwd;"
       "echo x > /new && cat /new; ls /dev/null /dev/ptmx /dev/fd/0 >/dev/null && echo dev;"
       "test -d /proc/1 && echo proc; echo y | cat /dev/stdin",
       &r);
    assert_string_equal(r.out, "testhost\ntesthost\n1\n0\n/root\n"
                               "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/"
                               "bin\ntesthost\n/\nx\ndev\nproc\ny\n");
}

static void a_machine_can_become_another(void **state)
{
    static struct result r;
    const char *argv[] = {"sh", "-c", "hostname; cat /etc/hostname /etc/machine-id; cat /etc/hosts",
                          NULL};
    struct session_process p = {.argv = argv};
    struct guest *g =
        up_with(&(struct session_setup){.machine_id = "0123456789abcdef0123456789abcdef"});
    struct session_setup other = {.hostname = "second",
                                  .machine_id = "fedcba9876543210fedcba9876543210"};
    struct err e = {0};

    assert_int_equal(session_identity(g->s, &other, &e), 0);
    if (run_process(g, &p, -1, &r, &e) < 0)
        fail_msg("%s", e.msg);
    down(g);
    assert_memory_equal(r.out, "second\nsecond\nfedcba9876543210fedcba9876543210\n", 47);
    assert_non_null(strstr(r.out, "\tsecond\n"));
    assert_null(strstr(r.out, "testhost"));
    other.hostname = "a-name-that-is-longer-than-any-name-of-a-host-that-linux-would-ever-take";
    g = up();
    assert_int_equal(session_identity(g->s, &other, &e), -EINVAL);
    down(g);
}

/* Waits until the kernel says so of the group. */
static void await_frozen(bool yes)
{
    for (unsigned tries = 0; tries < 6000; tries++) {
        char text[128] = "";
        int fd = openat(box_group, "cgroup.events", O_RDONLY | O_CLOEXEC);

        assert_true(read(fd, text, sizeof(text) - 1) > 0);
        close(fd);
        if (!strstr(text, "frozen 1") == !yes)
            return;
        usleep(10000);
    }
    fail_msg("the box_group is%s frozen", yes ? " not" : "");
}

static void need_group(void)
{
    if (box_group < 0) {
        print_message("skipped: needs root and cgroup v2\n");
        skip();
    }
}

static const char *const busy[] = {"sh", "-c", "echo busy; while :; do :; done", NULL};

/* A container that is at work, and a second session. */
static struct guest *at_work(struct session **main_session)
{
    struct session_process p = {.argv = busy};
    struct guest *g = up();
    struct err e = {0};

    assert_int_equal(session_start(g->s, &p, &e), 0);
    *main_session = g->s;
    connect_again(g);
    return g;
}

static void processes_are_held_until_the_session_ends(void **state)
{
    struct session *work, *holder;
    struct err e = {0};

    need_group();
    struct guest *g = at_work(&work);
    assert_int_equal(session_hold(g->s, &e), 0);
    await_frozen(true);
    holder = g->s;
    connect_again(g);
    assert_int_equal(session_hold(g->s, &e), -EBUSY);
    session_close(g->s); /* one that holds nothing releases nothing */
    connect_again(g);
    await_frozen(true);
    session_close(holder);
    await_frozen(false);
    session_close(work);
    down(g);
}

static void a_copy_is_held_until_it_has_an_identity(void **state)
{
    struct session *work;
    struct session_setup other = {.hostname = "copy"};
    struct err e = {0};

    need_group();
    struct guest *g = at_work(&work);
    assert_int_equal(session_hold(g->s, &e), 0);
    /* An answer that is never read: the end of this connection is a reset, as that of a machine
     * which goes on from a saved state. */
    struct proto_buf hello;
    proto_begin(&hello, PROTO_HELLO, 0);
    assert_int_equal(proto_end(&hello), 0);
    assert_int_equal(send(g->s->fd, hello.b, hello.len, 0), hello.len);
    struct pollfd answer = {.fd = g->s->fd, .events = POLLIN};
    assert_int_equal(poll(&answer, 1, 60000), 1);
    session_close(g->s);
    connect_again(g);
    await_frozen(true);
    assert_int_equal(session_identity(g->s, &other, &e), 0);
    await_frozen(false);
    session_close(work);
    down(g);
}

static void a_read_only_container_keeps_its_files(void **state)
{
    struct guest *g = up_with(&(struct session_setup){.root_ro = true});
    struct session_setup other = {.hostname = "second"};
    struct err e = {0};

    assert_int_equal(session_identity(g->s, &other, &e), 0);
    down(g);
}

static void nothing_in_it_can_reach_the_agent(void **state)
{
    static struct result r;

    sh("sleep 1000 & kill -KILL 1; kill -KILL -1; wait; echo alone", &r);
    assert_string_equal(r.out, "alone\n");
    sh("kill -KILL 1; kill -TERM 1; sleep 0.1; cat /proc/1/comm; ls /proc/self/fd | wc -l", &r);
    assert_string_equal(r.out, "kiln-init\n4\n"); /* 0, 1, 2 and the listing itself */
}

static void users_are_looked_up_in_the_image(void **state)
{
    static const struct {
        const char *user, *out;
    } row[] = {
        {"joe", "uid=1000(joe) gid=100(users) groups=10(wheel),100(users)\n/home/joe\n"},
        {"1000", "uid=1000(joe) gid=100(users) groups=10(wheel),100(users)\n/home/joe\n"},
        {"joe:wheel", "uid=1000(joe) gid=10(wheel) groups=10(wheel)\n/home/joe\n"},
        {"4711", "uid=4711 gid=0(root) groups=0(root)\n/\n"},
        {"4711:4712", "uid=4711 gid=4712 groups=4712\n/\n"},
    };
    const char *argv[] = {"sh", "-c", "id; echo $HOME", NULL};

    for (unsigned i = 0; i < ARRAY_LEN(row); i++) {
        static struct result r;
        struct session_process p = {.argv = argv, .user = row[i].user};
        struct guest *g = up();
        struct err e = {0};

        if (run_process(g, &p, -1, &r, &e) < 0)
            fail_msg("%s", e.msg);
        assert_string_equal(r.out, row[i].out);
        down(g);
    }
}

static void a_command_that_cannot_run_says_why(void **state)
{
    static const struct {
        const char *argv0, *user, *cwd;
        int code;
    } row[] = {
        {"nosuch", "", "/", -ENOENT},
        {"/bin/nosuch", "", "/", -ENOENT},
        {"", "", "/", -ENOENT},
        {"/bin/lost", "", "/", -ENOENT},
        {"/plain", "", "/", -EACCES},
        {"noexec", "", "/", -EACCES},
        {"garbage", "", "/", -ENOEXEC},
        {"true", "nobody-here", "/", -EINVAL},
        {"true", "joe:nogroup", "/", -EINVAL},
        {"true", "", "relative", -EINVAL},
        {"true", "", "/etc/passwd/x", -ENOTDIR},
    };
    struct guest *g = up();

    /* All on one session: a failed START leaves it as it was. */
    for (unsigned i = 0; i < ARRAY_LEN(row); i++) {
        const char *argv[] = {row[i].argv0, NULL};
        struct session_process p = {.argv = argv, .user = row[i].user, .cwd = row[i].cwd};
        struct err e = {0};

        int rc = session_start(g->s, &p, &e);
        if (rc != row[i].code)
            fail_msg("%s: %d %s", row[i].argv0, rc, e.msg);
        assert_true(e.msg[0] != '\0');
    }
    static struct result r;
    const char *argv[] = {"echo", "fine", NULL};
    struct session_process p = {.argv = argv};
    struct err e = {0};
    assert_int_equal(run_process(g, &p, -1, &r, &e), 0);
    assert_string_equal(r.out, "fine\n");
    down(g);
}

static void environment_and_folder_are_as_asked(void **state)
{
    const char *argv[] = {"sh", "-c", "echo $A-$HOME-$TERM; pwd; stat -c %u .", NULL};
    const char *env[] = {"A=1", "HOME=/h", "A=2", NULL};
    struct session_process p = {.argv = argv, .env = env, .cwd = "/made/for/it", .user = "joe"};
    static struct result r;
    struct guest *g = up();
    struct err e = {0};

    if (run_process(g, &p, -1, &r, &e) < 0)
        fail_msg("%s", e.msg);
    assert_string_equal(r.out, "2-/h-\n/made/for/it\n1000\n");
    down(g);
}

static void arguments_larger_than_a_frame_arrive(void **state)
{
    enum { N = 40, LEN = 10000 };
    static char big[LEN + 1];
    const char *argv[N + 4] = {"sh", "-c", "echo $# ${#40}"};
    static struct result r;
    struct guest *g = up();
    struct err e = {0};

    memset(big, 'x', LEN);
    for (unsigned i = 0; i <= N; i++)
        argv[3 + i] = big;
    argv[3 + N] = NULL;
    argv[N + 3] = NULL;
    struct session_process p = {.argv = argv};
    if (run_process(g, &p, -1, &r, &e) < 0)
        fail_msg("%s", e.msg);
    assert_string_equal(r.out, "39 0\n");
    down(g);
}

/* 32 MiB through cat: every byte, in order, with an end. */
static void stdin_goes_through_unharmed(void **state)
{
    enum { LEN = 32 << 20 };
    const char *argv[] = {"sha256sum", NULL};
    struct session_process p = {.argv = argv, .with_stdin = true};
    static struct result r;
    struct guest *g = up();
    struct err e = {0};
    int in = memfd_create("in", 0);
    uint32_t x = 1;
    char local[128] = "", cmd[128];

    for (unsigned i = 0; i < LEN / 65536; i++) {
        static uint32_t block[16384];
        for (unsigned k = 0; k < 16384; k++)
            block[k] = x = x * 1664525 + 1013904223;
        assert_int_equal(write(in, block, sizeof(block)), sizeof(block));
    }
    snprintf(cmd, sizeof(cmd), "sha256sum < /proc/%d/fd/%d", getpid(), in);
    assert_int_equal(t_sh(cmd, local, sizeof(local)), 0);
    lseek(in, 0, SEEK_SET);
    if (run_process(g, &p, in, &r, &e) < 0)
        fail_msg("%s", e.msg);
    assert_string_equal(r.out, local);
    close(in);
    down(g);
}

static void a_process_that_leaves_its_input_unread_ends_well(void **state)
{
    const char *argv[] = {"head", "-c", "5", NULL};
    struct session_process p = {.argv = argv, .with_stdin = true};
    static struct result r;
    struct guest *g = up();
    struct err e = {0};
    int in = open("/dev/zero", O_RDONLY);

    assert_int_equal(run_process(g, &p, in, &r, &e), 0);
    assert_int_equal(r.status, 0);
    close(in);
    down(g);
}

/* As after a fork of the machine: the connection is reset, not closed. A Unix socket does that when
 * bytes lie unread in it. */
static void a_command_outlives_a_reset_of_its_connection(void **state)
{
    const char *first[] = {"sh", "-c",
                           "echo unread; until test -e /go; do sleep 0.01; done; echo more; "
                           "touch /done; sleep 1000",
                           NULL};
    const char *second[] = {"sh", "-c", "touch /go; until test -e /done; do sleep 0.01; done",
                            NULL};
    struct session_process p = {.argv = first}, q = {.argv = second};
    static struct result r;
    struct guest *g = up();
    struct err e = {0};

    assert_int_equal(session_start(g->s, &p, &e), 0);
    struct pollfd unread = {.fd = g->s->fd, .events = POLLIN};
    assert_int_equal(poll(&unread, 1, 60000), 1);
    session_close(g->s);
    connect_again(g);
    assert_int_equal(run_process(g, &q, -1, &r, &e), 0);
    assert_int_equal(r.status, 0);
    down(g);
}

static void an_output_nobody_reads_means_sigpipe(void **state)
{
    const char *argv[] = {"yes", NULL};
    struct session_process p = {.argv = argv};
    struct guest *g = up();
    struct err e = {0};
    int v[2], status = 0;

    assert_int_equal(pipe(v), 0);
    close(v[0]);
    assert_int_equal(session_start(g->s, &p, &e), 0);
    struct session_streams io = {-1, v[1], 2, -1};
    assert_int_equal(session_pump(g->s, &io, 10000, &status, &e), 0);
    /* busybox's yes meets EPIPE or the signal, by its version */
    assert_true((WIFSIGNALED(status) && WTERMSIG(status) == SIGPIPE) || WEXITSTATUS(status) == 1);
    close(v[1]);
    down(g);
}

static void a_terminal_has_the_size_that_was_asked(void **state)
{
    const char *argv[] = {"sh", "-c", "tty; stty size; echo $TERM; test -t 0 -a -t 2 && echo all",
                          NULL};
    struct session_process p = {.argv = argv, .tty = true, .rows = 30, .cols = 99};
    static struct result r;
    struct guest *g = up();
    struct err e = {0};

    if (run_process(g, &p, -1, &r, &e) < 0)
        fail_msg("%s", e.msg);
    assert_string_equal(r.out, "/dev/pts/0\r\n30 99\r\nxterm\r\nall\r\n");
    down(g);
}

static void a_second_interrupt_ends_what_ignores_the_first(void **state)
{
    const char *argv[] = {"sh", "-c", "trap '' INT; echo up; while :; do sleep 1; done", NULL};
    struct session_process p = {.argv = argv};
    struct guest *g = up();
    struct err e = {0};
    int status, v[2];
    char c;

    assert_int_equal(pipe(v), 0);
    assert_int_equal(session_start(g->s, &p, &e), 0);
    pid_t child = fork();
    if (child == 0) { /* presses Ctrl-C twice once it is up */
        while (read(v[0], &c, 1) == 1 && c != '\n') {
        }
        kill(getppid(), SIGINT);
        usleep(100000);
        kill(getppid(), SIGINT);
        _exit(0);
    }
    struct session_streams io = {-1, v[1], 2, -1};
    assert_int_equal(session_pump(g->s, &io, 10000, &status, &e), -ECANCELED);
    waitpid(child, NULL, 0);
    close(v[0]);
    close(v[1]);
    down(g);
}

static void a_read_only_root_refuses_writes(void **state)
{
    const char *argv[] = {"sh", "-c", "touch /x; touch /dev/shm/x && echo shm; cat /etc/hostname",
                          NULL};
    struct session_process p = {.argv = argv};
    static const struct session_setup ro = {.root_ro = true};
    static struct result r;
    struct guest *g = up_with(&ro);
    struct err e = {0};

    if (run_process(g, &p, -1, &r, &e) < 0)
        fail_msg("%s", e.msg);
    assert_string_equal(r.out, "shm\ntesthost\n");
    assert_non_null(strstr(r.err, "Read-only"));
    down(g);
}

static void nonsense_from_the_host_ends_the_session_alone(void **state)
{
    struct guest *g = up();
    struct err e = {0};
    static struct result r;
    const char *argv[] = {"true", NULL};
    struct session_process p = {.argv = argv};

    /* A second connection that talks out of turn; the first goes on. */
    assert_int_equal(run_process(g, &p, -1, &r, &e), 0);
    assert_int_equal(r.status, 0);
    assert_int_equal(session_start(g->s, &p, &e) < 0, 1); /* one process a session */
    session_close(g->s);
    kill(g->pid, SIGKILL);
    waitpid(g->pid, NULL, 0);
    free(g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(output_and_status_are_the_commands),
        cmocka_unit_test(death_by_a_signal_is_told_as_such),
        cmocka_unit_test(the_container_ends_with_its_first_process),
        cmocka_unit_test(the_root_looks_like_a_containers),
        cmocka_unit_test(a_machine_can_become_another),
        cmocka_unit_test(processes_are_held_until_the_session_ends),
        cmocka_unit_test(a_copy_is_held_until_it_has_an_identity),
        cmocka_unit_test(a_read_only_container_keeps_its_files),
        cmocka_unit_test(nothing_in_it_can_reach_the_agent),
        cmocka_unit_test(users_are_looked_up_in_the_image),
        cmocka_unit_test(a_command_that_cannot_run_says_why),
        cmocka_unit_test(environment_and_folder_are_as_asked),
        cmocka_unit_test(arguments_larger_than_a_frame_arrive),
        cmocka_unit_test(stdin_goes_through_unharmed),
        cmocka_unit_test(a_process_that_leaves_its_input_unread_ends_well),
        cmocka_unit_test(a_command_outlives_a_reset_of_its_connection),
        cmocka_unit_test(an_output_nobody_reads_means_sigpipe),
        cmocka_unit_test(a_terminal_has_the_size_that_was_asked),
        cmocka_unit_test(a_second_interrupt_ends_what_ignores_the_first),
        cmocka_unit_test(a_read_only_root_refuses_writes),
        cmocka_unit_test(nonsense_from_the_host_ends_the_session_alone),
    };

    return cmocka_run_group_tests(tests, group_up, group_down);
}
