/* container/keeper.c with a task that does what the test says: its clients, its end, its rules. */
#include "test/unit/t.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "container/ctrlog.h"
#include "container/keeper.h"
#include "test/unit/t_sh.h"

enum { WAIT_MS = 30000, CHUNK = 32768 };

static char base[] = "/tmp/kiln-t-keeper-XXXXXX";
static char root[64], strings[96];

/* ---- the task: a puppet. It calls the test at `strings`, and each message either way is a letter
 * and what belongs to it. From the test: o, e output; x end, with a status; l lost. To it: i input,
 * E its end, k signal, h hold, p pause, r size, u unread. */

struct puppet {
    struct task task;
    const struct task_conf *c;
    int fd;
    struct loop_fd h;
    bool held;
};

static void tell(const struct task *t, char what, const void *p, size_t len)
{
    const struct puppet *u = (const struct puppet *)t;
    struct iovec v[] = {{&what, 1}, {(void *)(uintptr_t)p, len}};
    struct msghdr m = {.msg_iov = v, .msg_iovlen = 2};

    (void)!sendmsg(u->fd, &m, MSG_NOSIGNAL);
}

static void pulled(void *ctx, uint32_t events)
{
    struct puppet *u = ctx;
    static char b[CHUNK + 1];
    ssize_t n = recv(u->fd, b, sizeof(b), MSG_DONTWAIT);
    struct err e = {0};

    (void)events;
    if (n <= 0) {
        err_set(&e, -ECONNRESET, "nobody pulls");
        loop_del(u->c->loop, &u->h);
        u->c->events.ended(u->c->events.ctx, 0, false, &e);
    } else if (b[0] == 'o' || b[0] == 'e') {
        u->c->events.output(u->c->events.ctx, b[0] == 'o' ? TASK_STDOUT : TASK_STDERR, b + 1,
                            (size_t)n - 1);
    } else if (b[0] == 'x') {
        loop_del(u->c->loop, &u->h);
        u->c->events.ended(u->c->events.ctx, (unsigned char)b[1] | (unsigned char)b[2] << 8, false,
                           NULL);
    } else if (b[0] == 'l') {
        loop_del(u->c->loop, &u->h);
        err_set(&e, -EIO, "the puppet is broken");
        u->c->events.ended(u->c->events.ctx, 0, false, &e);
    }
}

static int p_start(const struct task_conf *c, struct task **ret, struct err *e)
{
    static struct puppet u;
    struct sockaddr_un a = {.sun_family = AF_UNIX};

    if (strcmp(c->rec->spec.argv.v[0], "nosuch") == 0)
        return err_set(e, -ENOENT, "nosuch: not found");
    u = (struct puppet){.c = c, .fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0)};
    u.task.ops = NULL;
    snprintf(a.sun_path, sizeof(a.sun_path), "%s", c->rec->spec.hostname);
    if (connect(u.fd, (struct sockaddr *)&a, sizeof(a)) < 0)
        return err_errno(e, -errno, "strings");
    u.h = (struct loop_fd){.fd = u.fd, .ready = pulled, .ctx = &u};
    *ret = &u.task;
    return loop_add(c->loop, &u.h, EPOLLIN, e);
}

static size_t p_input(struct task *t, const void *p, size_t len)
{
    size_t n = len < CHUNK ? len : CHUNK;

    tell(t, 'i', p, n);
    return n;
}

static void p_input_end(struct task *t)
{
    tell(t, 'E', NULL, 0);
}

static void p_hold(struct task *t, bool yes)
{
    struct puppet *u = (struct puppet *)t;

    u->held = yes;
    loop_mod(u->c->loop, &u->h, yes ? 0 : EPOLLIN);
    tell(t, 'h', yes ? "1" : "0", 1);
}

static void p_unread(struct task *t, enum task_stream s)
{
    tell(t, 'u', s == TASK_STDOUT ? "o" : "e", 1);
}

static void p_resize(struct task *t, uint16_t rows, uint16_t cols)
{
    tell(t, 'r', (uint16_t[]){rows, cols}, 4);
}

static int p_kill(struct task *t, int sig, struct err *e)
{
    (void)e;
    tell(t, 'k', &(char){(char)sig}, 1);
    return 0;
}

static int p_pause(struct task *t, bool yes, struct err *e)
{
    (void)e;
    tell(t, 'p', yes ? "1" : "0", 1);
    return 0;
}

static pid_t p_pid(const struct task *t)
{
    (void)t;
    return getpid();
}

static void p_free(struct task *t)
{
    struct puppet *u = (struct puppet *)t;

    if (!u)
        return;
    loop_del(u->c->loop, &u->h);
    close(u->fd);
}

static const struct task_ops puppet = {.start = p_start,
                                       .input = p_input,
                                       .input_end = p_input_end,
                                       .hold = p_hold,
                                       .unread = p_unread,
                                       .resize = p_resize,
                                       .kill = p_kill,
                                       .pause = p_pause,
                                       .pid = p_pid,
                                       .free = p_free};

/* ---- the test's side */

struct world {
    int listen, strings; /* strings: of the puppet that was started last */
    struct record r;
    struct keeper_line line;
};

static int up(void **state)
{
    (void)state;
    if (!mkdtemp(base))
        return -1;
    snprintf(root, sizeof(root), "%s/store", base);
    snprintf(strings, sizeof(strings), "%s/strings", base);
    signal(SIGPIPE, SIG_IGN);
    return setenv("XDG_RUNTIME_DIR", base, 1) | setenv("KILN_ROOT", root, 1);
}

static int down(void **state)
{
    char cmd[128];

    (void)state;
    snprintf(cmd, sizeof(cmd), "rm -rf %s", base);
    return t_sh(cmd, NULL, 0);
}

static void listen_for_puppets(struct world *w)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};

    *w = (struct world){.strings = -1};
    snprintf(a.sun_path, sizeof(a.sun_path), "%s", strings);
    (void)unlink(strings);
    w->listen = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    assert_true(w->listen >= 0);
    assert_int_equal(bind(w->listen, (struct sockaddr *)&a, sizeof(a)), 0);
    assert_int_equal(listen(w->listen, 4), 0);
}

static void next_puppet(struct world *w)
{
    struct pollfd p = {.fd = w->listen, .events = POLLIN};

    if (w->strings >= 0)
        close(w->strings);
    assert_int_equal(poll(&p, 1, WAIT_MS), 1);
    w->strings = accept4(w->listen, NULL, NULL, SOCK_CLOEXEC);
    assert_true(w->strings >= 0);
}

static void describe(struct spec *s, const char *cmd)
{
    spec_init(s);
    s->image = strdup("puppet");
    s->hostname = strdup(strings);
    s->open_stdin = true;
    assert_int_equal(strv_add(&s->argv, cmd), 0);
}

static int try_start(struct world *w, struct spec *s, bool attach, struct err *e)
{
    struct keeper_conf c = {.attach = attach, .with_stdin = attach, .task = &puppet};

    assert_int_equal(record_create(NULL, "toy", s, &w->r, e), 0);
    return keeper_start(&w->r, &c, &w->line, e);
}

static void start(struct world *w, struct spec *s, bool attach)
{
    struct err e = {0};

    assert_int_equal(try_start(w, s, attach, &e), 0);
    assert_int_equal(keeper_await(&w->line, &e), 0);
    next_puppet(w);
}

static void start_plain(struct world *w, bool attach)
{
    struct spec s;

    listen_for_puppets(w);
    describe(&s, "dance");
    start(w, &s, attach);
}

static void pull(struct world *w, char what, const void *p, size_t len)
{
    struct iovec v[] = {{&what, 1}, {(void *)(uintptr_t)p, len}};
    struct msghdr m = {.msg_iov = v, .msg_iovlen = 2};

    assert_int_equal(sendmsg(w->strings, &m, MSG_NOSIGNAL), len + 1);
}

static void end_with(struct world *w, unsigned status)
{
    pull(w, 'x', (uint8_t[]){(uint8_t)status, (uint8_t)(status >> 8)}, 2);
}

/* The puppet tells `what`, and of what it tells first that begins with `text`. */
static void hear(struct world *w, char what, const char *text, size_t len)
{
    struct pollfd p = {.fd = w->strings, .events = POLLIN};
    static char b[CHUNK + 1];

    assert_int_equal(poll(&p, 1, WAIT_MS), 1);
    ssize_t n = recv(w->strings, b, sizeof(b), 0);
    assert_true(n >= 1);
    assert_int_equal(b[0], what);
    assert_true((size_t)n - 1 >= len);
    assert_memory_equal(b + 1, text, len);
}

/* The keeper is gone when its line is closed and the child reaped. */
static void done(struct world *w)
{
    struct record again;
    struct err e;

    w->line.over = true;
    keeper_hang_up(&w->line);
    if (record_find(NULL, w->r.id, RECORD_CHANGE, &again, &e) == 0) {
        assert_false(record_alive(&again));
        assert_int_equal(record_remove(&again, &e), 0);
        record_done(&again);
    }
    record_done(&w->r);
    close(w->listen);
    if (w->strings >= 0)
        close(w->strings);
}

static struct record_state state_of(const struct world *w)
{
    struct record r;
    struct err e = {0};

    assert_int_equal(record_find(NULL, w->r.id, RECORD_LOOK, &r, &e), 0);
    struct record_state s = r.state;
    record_done(&r);
    return s;
}

/* Pump the line to a pipe's end; what came, and how it ended. */
static int pump(struct world *w, int in, char *out, size_t len, int *status, struct err *e)
{
    int v[2];

    assert_int_equal(pipe2(v, O_CLOEXEC), 0);
    struct session_streams io = {.in = in, .out = v[1], .err = -1, .tty = -1};
    int rc = keeper_pump(&w->line, &io, status, e);
    close(v[1]);
    ssize_t n = read(v[0], out, len - 1);
    out[n < 0 ? 0 : n] = '\0';
    close(v[0]);
    return rc;
}

static json_t *ask(struct world *w, json_t *req)
{
    json_t *answer = NULL;
    struct err e = {0};

    assert_int_equal(keeper_ask(&w->r, req, WAIT_MS, &answer, &e), 0);
    json_decref(req);
    return answer;
}

static int exit_code_of(json_t *answer)
{
    int code = (int)json_integer_value(json_object_get(answer, "exit_code"));

    json_decref(answer);
    return code;
}

/* ---- */

static void who_starts_hears_output_and_end(void **state)
{
    struct world w;
    struct err e = {0};
    char out[64], path[256];
    int status = -1;

    (void)state;
    start_plain(&w, true);
    assert_int_equal(state_of(&w).status, RECORD_RUNNING);
    pull(&w, 'o', "hello\n", 6);
    end_with(&w, 7 << 8);
    assert_int_equal(pump(&w, -1, out, sizeof(out), &status, &e), 0);
    assert_string_equal(out, "hello\n");
    assert_int_equal(status, 7 << 8);
    /* whoever hears of the end finds nothing left */
    struct record_state s = state_of(&w);
    assert_int_equal(s.status, RECORD_EXITED);
    assert_int_equal(s.exit_code, 7);
    assert_int_equal(s.keeper, 0);
    assert_true(s.finished_ns >= s.started_ns);
    snprintf(path, sizeof(path), "%s/kiln/%.12s", base, w.r.id);
    assert_int_equal(access(path, F_OK), -1);
    done(&w);
}

static void one_that_goes_with_its_end_is_gone_when_it_is_told(void **state)
{
    struct world w;
    struct record r;
    struct spec s;
    struct err e = {0};
    char out[8];
    int status = -1;

    (void)state;
    listen_for_puppets(&w);
    describe(&s, "dance");
    s.auto_remove = true;
    start(&w, &s, true);
    end_with(&w, 0);
    assert_int_equal(pump(&w, -1, out, sizeof(out), &status, &e), 0);
    assert_int_equal(record_find(NULL, "toy", RECORD_LOOK, &r, &e), -ENOENT);
    done(&w);
}

static void it_goes_on_when_its_client_hangs_up(void **state)
{
    struct world w;
    struct err e = {0};
    char out[64];
    int status = -1;

    (void)state;
    start_plain(&w, true);
    pull(&w, 'o', "before\n", 7);
    keeper_hang_up(&w.line); /* it still runs: nothing is waited for */
    hear(&w, 'E', "", 0);    /* its input has ended */
    assert_int_equal(
        keeper_attach(&w.r, true, &(struct session_watch){-1, -1, NULL, 0}, &w.line, &e), 0);
    pull(&w, 'o', "after\n", 6);
    end_with(&w, 0);
    assert_int_equal(pump(&w, -1, out, sizeof(out), &status, &e), 0);
    assert_string_equal(out, "after\n");
    done(&w);
}

static void input_comes_in_order_and_its_end_too(void **state)
{
    struct world w;
    struct err e = {0};
    char out[8];
    int v[2], status = -1;

    (void)state;
    start_plain(&w, true);
    assert_int_equal(pipe2(v, O_CLOEXEC), 0);
    assert_int_equal(write(v[1], "typed", 5), 5);
    close(v[1]);
    pid_t other = fork();
    if (other == 0) {
        hear(&w, 'i', "typed", 5);
        hear(&w, 'E', "", 0);
        end_with(&w, 0);
        _exit(0);
    }
    assert_int_equal(pump(&w, v[0], out, sizeof(out), &status, &e), 0);
    assert_int_equal(waitpid(other, &status, 0), other);
    assert_int_equal(status, 0);
    close(v[0]);
    done(&w);
}

static void detach_keys_leave_it_alone(void **state)
{
    static const uint8_t keys[] = {16, 17};
    struct world w;
    struct err e = {0};
    int v[2], status = -1;

    (void)state;
    start_plain(&w, true);
    assert_int_equal(pipe2(v, O_CLOEXEC), 0);
    assert_int_equal(write(v[1], "a\x10z\x10\x11", 5), 5); /* the first of them alone is sent */
    struct session_streams io = {
        .in = v[0], .out = -1, .err = -1, .tty = -1, .detach = keys, .n_detach = 2};
    assert_int_equal(keeper_pump(&w.line, &io, &status, &e), SESSION_DETACHED);
    hear(&w, 'i', "a\x10z", 3);
    assert_int_equal(state_of(&w).status, RECORD_RUNNING);
    keeper_hang_up(&w.line);
    hear(&w, 'E', "", 0);
    close(v[0]);
    close(v[1]);
    end_with(&w, 0);
    (void)!keeper_do(&w.r, "wait", &e);
    done(&w);
}

static void a_slow_client_holds_the_output(void **state)
{
    static char chunk[CHUNK];
    struct keeper_line slow;
    struct world w;
    struct err e = {0};
    int status = -1;
    bool held = false;

    (void)state;
    start_plain(&w, true);
    assert_int_equal(
        keeper_attach(&w.r, false, &(struct session_watch){-1, -1, NULL, 0}, &slow, &e), 0);
    keeper_hang_up(&w.line);
    hear(&w, 'E', "", 0);
    for (unsigned i = 0; i < 1000 && !held; i++) {
        struct pollfd p = {.fd = w.strings, .events = POLLIN | POLLOUT};
        char said[2] = "";

        assert_true(poll(&p, 1, WAIT_MS) > 0);
        if (p.revents & POLLOUT)
            pull(&w, 'o', chunk, sizeof(chunk));
        if (p.revents & POLLIN)
            assert_int_equal(recv(w.strings, said, sizeof(said), 0), 2);
        held = said[0] == 'h' && said[1] == '1';
    }
    assert_true(held);
    keeper_hang_up(&slow); /* it goes: nobody holds the output any more */
    hear(&w, 'h', "0", 1);
    assert_int_equal(
        keeper_attach(&w.r, false, &(struct session_watch){-1, -1, NULL, 0}, &w.line, &e), 0);
    end_with(&w, 0);
    struct session_streams io = {.in = -1, .out = -1, .err = -1, .tty = -1};
    assert_int_equal(keeper_pump(&w.line, &io, &status, &e), 0);
    done(&w);
}

static void stop_asks_and_then_kills(void **state)
{
    struct world w;
    struct err e = {0};

    (void)state;
    start_plain(&w, false);
    pid_t other = fork();
    if (other == 0) {
        hear(&w, 'k', "\x0f", 1);
        hear(&w, 'k', "\x09", 1);
        end_with(&w, 9);
        _exit(0);
    }
    assert_int_equal(exit_code_of(ask(&w, json_pack("{s:s, s:i}", "op", "stop", "timeout_s", 0))),
                     137);
    assert_int_equal(waitpid(other, NULL, 0), other);
    struct record_state s = state_of(&w);
    assert_true(s.stopped_by_user);
    assert_int_equal(s.exit_code, 137);
    assert_int_equal(keeper_do(&w.r, "pause", &e), -ESRCH);
    done(&w);
}

static void what_is_asked_is_done(void **state)
{
    struct world w;
    struct err e = {0};

    (void)state;
    start_plain(&w, false);
    assert_int_equal(keeper_do(&w.r, "resume", &e), -EINVAL);
    json_decref(ask(&w, json_pack("{s:s}", "op", "pause")));
    hear(&w, 'p', "1", 1);
    assert_int_equal(state_of(&w).status, RECORD_PAUSED);
    assert_int_equal(keeper_do(&w.r, "pause", &e), -EALREADY);
    json_decref(ask(&w, json_pack("{s:s}", "op", "resume")));
    hear(&w, 'p', "0", 1);
    json_decref(ask(&w, json_pack("{s:s, s:i, s:i}", "op", "resize", "rows", 5, "cols", 6)));
    hear(&w, 'r', "\x05\0\x06\0", 4);
    json_decref(ask(&w, json_pack("{s:s, s:i}", "op", "kill", "signal", 10)));
    hear(&w, 'k', "\x0a", 1);
    assert_int_equal(keeper_do(&w.r, "dance", &e), -EINVAL);
    end_with(&w, 3 << 8);
    (void)!keeper_do(&w.r, "wait", &e);
    done(&w);
}

static void two_starts_are_one(void **state)
{
    struct keeper_conf c = {.task = &puppet};
    struct keeper_line line;
    struct world w;
    struct record r;
    struct err e = {0};

    (void)state;
    start_plain(&w, false);
    assert_int_equal(record_find(NULL, "toy", RECORD_CHANGE, &r, &e), 0);
    assert_int_equal(keeper_start(&r, &c, &line, &e), -EALREADY);
    record_done(&r);
    end_with(&w, 0);
    (void)!keeper_do(&w.r, "wait", &e);
    done(&w);
}

static void it_is_started_again_as_often_as_its_policy_says(void **state)
{
    struct world w;
    struct spec s;
    struct err e = {0};

    (void)state;
    listen_for_puppets(&w);
    describe(&s, "dance");
    s.restart = SPEC_ON_FAILURE;
    s.restart_max = 2;
    start(&w, &s, false);
    CLEANUP(fd) int watch = keeper_watch_fd(&w.r, &e);
    for (unsigned i = 0; i < 2; i++) {
        end_with(&w, 1 << 8);
        next_puppet(&w);
    }
    end_with(&w, 1 << 8);
    struct pollfd p = {.fd = watch, .events = POLLIN};
    assert_int_equal(poll(&p, 1, WAIT_MS), 1);
    struct record_state st = state_of(&w);
    assert_int_equal(st.restart_count, 2);
    assert_int_equal(st.status, RECORD_EXITED);
    assert_int_equal(st.exit_code, 1);
    done(&w);
}

static void restart_is_a_stop_and_a_start(void **state)
{
    struct world w;
    json_t *req = json_pack("{s:s, s:i}", "op", "restart", "timeout_s", 5);
    struct err e = {0};

    (void)state;
    start_plain(&w, false);
    pid_t other = fork();
    if (other == 0)
        _exit(keeper_ask(&w.r, req, WAIT_MS, NULL, &e) == 0 ? 0 : 1);
    json_decref(req);
    hear(&w, 'k', "\x0f", 1);
    end_with(&w, 0);
    next_puppet(&w);
    int status;
    assert_int_equal(waitpid(other, &status, 0), other);
    assert_int_equal(status, 0);
    assert_int_equal(state_of(&w).status, RECORD_RUNNING);
    end_with(&w, 0);
    (void)!keeper_do(&w.r, "wait", &e);
    done(&w);
}

static void a_command_that_is_not_there_is_told(void **state)
{
    struct world w;
    struct spec s;
    struct err e = {0};

    (void)state;
    listen_for_puppets(&w);
    describe(&s, "nosuch");
    assert_int_equal(try_start(&w, &s, true, &e), 0);
    assert_int_equal(keeper_await(&w.line, &e), -ENOENT);
    assert_string_equal(e.msg, "nosuch: not found");
    assert_int_equal(keeper_start_status(-ENOENT), 127);
    done(&w);
}

static void a_lost_task_is_a_sentence(void **state)
{
    struct world w;
    struct err e = {0};
    char out[8];
    int status;

    (void)state;
    start_plain(&w, true);
    pull(&w, 'l', NULL, 0);
    assert_int_equal(pump(&w, -1, out, sizeof(out), &status, &e), -EIO);
    assert_string_equal(e.msg, "the puppet is broken");
    struct record_state s = state_of(&w);
    assert_int_equal(s.exit_code, 125);
    assert_string_equal(s.error, "the puppet is broken");
    done(&w);
}

static void a_killed_keeper_is_the_truth_later(void **state)
{
    struct world w;
    struct err e = {0};
    char out[8], path[256];
    int status;

    (void)state;
    start_plain(&w, true);
    struct record_state s = state_of(&w);
    assert_int_equal(kill(s.keeper, SIGKILL), 0);
    assert_int_equal(pump(&w, -1, out, sizeof(out), &status, &e), -ECONNRESET);
    s = state_of(&w);
    assert_int_equal(s.status, RECORD_EXITED);
    assert_int_equal(s.exit_code, 137);
    assert_string_equal(s.error, "its keeper was killed");
    snprintf(path, sizeof(path), "%s/kiln/%.12s", base, w.r.id);
    assert_int_equal(access(path, F_OK), -1);
    done(&w);
}

static void what_it_wrote_is_in_the_log(void **state)
{
    struct ctrlog_options o = {.tail = -1};
    struct ctrlog_reader *log;
    struct world w;
    struct err e = {0};
    char out[64] = "";
    int v[2];

    (void)state;
    start_plain(&w, false);
    pull(&w, 'o', "out\n", 4);
    pull(&w, 'e', "err\n", 4);
    end_with(&w, 0);
    (void)!keeper_do(&w.r, "wait", &e);
    assert_int_equal(pipe2(v, O_CLOEXEC), 0);
    assert_int_equal(ctrlog_read_open(w.r.dir, &o, &log, &e), 0);
    assert_int_equal(ctrlog_copy(log, (int[]){v[1], v[1]}, &e), 0);
    ctrlog_read_close(log);
    assert_int_equal(read(v[0], out, sizeof(out)), 8);
    assert_string_equal(out, "out\nerr\n");
    close(v[0]);
    close(v[1]);
    done(&w);
}

static void rubbish_is_not_listened_to(void **state)
{
    struct world w;
    struct err e = {0};
    char answer[256] = "";

    (void)state;
    start_plain(&w, false);
    CLEANUP(fd) int fd = keeper_watch_fd(&w.r, &e);
    assert_int_equal(write(fd, "rubbish\n", 8), 8);
    assert_true(read(fd, answer, sizeof(answer) - 1) > 0);
    assert_non_null(strstr(answer, "not a request"));
    CLEANUP(fd) int long_one = keeper_watch_fd(&w.r, &e);
    static char line[65536];
    memset(line, 'x', sizeof(line));
    (void)!send(long_one, line, sizeof(line), MSG_NOSIGNAL);
    assert_true(read(long_one, answer, sizeof(answer)) <= 0); /* it was hung up on */
    CLEANUP(fd) int bad = keeper_watch_fd(&w.r, &e);
    static const char frames[] = "{\"op\":\"attach\"}\n\xff\xff\xff\xff\x01\x02\x03\x04";
    assert_int_equal(write(bad, frames, sizeof(frames) - 1), sizeof(frames) - 1);
    while (read(bad, answer, sizeof(answer)) > 0) {
    }
    end_with(&w, 0);
    (void)!keeper_do(&w.r, "wait", &e);
    done(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(who_starts_hears_output_and_end),
        cmocka_unit_test(one_that_goes_with_its_end_is_gone_when_it_is_told),
        cmocka_unit_test(it_goes_on_when_its_client_hangs_up),
        cmocka_unit_test(input_comes_in_order_and_its_end_too),
        cmocka_unit_test(detach_keys_leave_it_alone),
        cmocka_unit_test(a_slow_client_holds_the_output),
        cmocka_unit_test(stop_asks_and_then_kills),
        cmocka_unit_test(what_is_asked_is_done),
        cmocka_unit_test(two_starts_are_one),
        cmocka_unit_test(it_is_started_again_as_often_as_its_policy_says),
        cmocka_unit_test(restart_is_a_stop_and_a_start),
        cmocka_unit_test(a_command_that_is_not_there_is_told),
        cmocka_unit_test(a_lost_task_is_a_sentence),
        cmocka_unit_test(a_killed_keeper_is_the_truth_later),
        cmocka_unit_test(what_it_wrote_is_in_the_log),
        cmocka_unit_test(rubbish_is_not_listened_to),
    };

    return cmocka_run_group_tests(tests, up, down);
}
