/* The keeper's life: one start after another, until the container ends for good. */
#include "container/keeper.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "container/ctlwire.h"
#include "container/events.h"
#include "container/keeperpriv.h"
#include "container/recpriv.h"
#include "container/signame.h"
#include "container/volume.h"
#include "os/fds.h"
#include "proto/agent.h"
#include "vm/vm.h"

enum {
    BACKLOG = 64,
    LOSE_MS = 10000, /* after SIGKILL: then its surroundings are taken from it */
    STOP_MS = 10000, /* for a keeper that is told to end */
};

#define TIME_OVER "stopped: the time given with --timeout is over"

uint64_t keeper_now_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static int64_t wall_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_REALTIME, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

void keeper_note(struct keeper *k, const char *action, const char *const *more)
{
    const struct spec *s = &k->rec->spec;
    const char *v[12] = {"image", s->image ? s->image : "", "name", k->rec->name};

    for (size_t i = 0; more && more[i] && i < 7; i++)
        v[4 + i] = more[i];
    event_note(k->store, "container", action, k->rec->id, v);
}

void keeper_save(struct keeper *k)
{
    (void)!record_save(k->rec, NULL);
}

/* ---- what the task tells */

static void on_output(void *ctx, enum task_stream stream, const void *bytes, size_t len)
{
    struct keeper *k = ctx;

    ctrlog_write(&k->log, stream, wall_ns(), bytes, len);
    peers_output(k, stream, bytes, len);
}

static void on_input_ready(void *ctx)
{
    peers_input_ready(ctx);
}

static void on_ended(void *ctx, int status, bool oom, const struct err *e)
{
    struct keeper *k = ctx;

    k->ended = true;
    k->status = status;
    k->oom = oom;
    if (e && e->code < 0)
        k->lost = *e;
}

static void on_booting(void *ctx, bool yes)
{
    peer_tell_starter(ctx, KEEPER_BOOTING, &(uint8_t){yes}, 1);
}

static void on_console(void *ctx, const char *text)
{
    peer_tell_starter(ctx, KEEPER_CONSOLE, text, strlen(text));
}

/* ---- what it is asked to do */

void keeper_signal(struct keeper *k, int sig)
{
    if (!k->task || k->ended)
        return;
    (void)!k->ops->kill(k->task, sig, NULL); /* it is ending */
    if (sig == SIGKILL && k->lose_at == UINT64_MAX)
        k->lose_at = keeper_now_ms() + LOSE_MS;
}

int keeper_pause(struct keeper *k, bool yes, struct err *e)
{
    int r = k->ops->pause ? k->ops->pause(k->task, yes, e)
                          : err_set(e, -EOPNOTSUPP, "such a container cannot be paused");

    if (r < 0)
        return r;
    k->rec->state.status = yes ? RECORD_PAUSED : RECORD_RUNNING;
    keeper_save(k);
    keeper_note(k, yes ? "pause" : "unpause", NULL);
    return 0;
}

void keeper_stop(struct keeper *k, int sig, int64_t timeout_ms)
{
    k->stopping = true;
    k->rec->state.stopped_by_user = true;
    if (!k->task)
        return;
    if (k->rec->state.status == RECORD_PAUSED)
        (void)!keeper_pause(k, false, NULL);
    keeper_signal(k, sig);
    if (timeout_ms >= 0 && sig != SIGKILL)
        k->kill_at = keeper_now_ms() + (uint64_t)timeout_ms;
}

void keeper_unread(struct keeper *k, enum task_stream stream)
{
    if (k->task && k->ops->unread)
        k->ops->unread(k->task, stream);
}

static void on_accept(void *ctx, uint32_t events)
{
    struct keeper *k = ctx;
    int fd = accept4(k->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    struct ucred u;
    socklen_t len = sizeof(u);

    if (fd < 0)
        return;
    /* The folder is its owner's alone, but a descriptor can be handed on. */
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &u, &len) == 0 &&
        (u.uid == geteuid() || u.uid == 0))
        (void)peer_new(k, fd);
    else
        close(fd);
}

static void on_signal(void *ctx, uint32_t events)
{
    struct keeper *k = ctx;
    struct signalfd_siginfo si;
    int sig = SIGTERM;

    if (read(k->signal_fd, &si, sizeof(si)) != sizeof(si))
        return;
    if (k->rec->spec.stop_signal)
        (void)!signame_parse(k->rec->spec.stop_signal, &sig, NULL);
    keeper_stop(k, sig, STOP_MS);
}

static uint64_t soonest(void *ctx)
{
    const struct keeper *k = ctx;
    const uint64_t v[] = {k->kill_at,    k->lose_at,        k->timeout_at,
                          k->restart_at, k->health.next_ms, k->probe.kill_at};
    uint64_t min = UINT64_MAX;

    for (size_t i = 0; i < ARRAY_LEN(v); i++)
        min = v[i] < min ? v[i] : min;
    return min == UINT64_MAX ? min : min * 1000000;
}

static bool is_due(uint64_t *at, uint64_t now)
{
    if (now < *at)
        return false;
    *at = UINT64_MAX;
    return true;
}

static void due(void *ctx)
{
    struct keeper *k = ctx;
    uint64_t now = keeper_now_ms();

    if (is_due(&k->timeout_at, now)) {
        k->timed_out = true;
        keeper_stop(k, SIGKILL, -1);
    }
    if (is_due(&k->kill_at, now))
        keeper_signal(k, SIGKILL);
    if (is_due(&k->lose_at, now) && k->task)
        on_ended(k, SIGKILL, false, NULL);
    if (is_due(&k->health.next_ms, now) && k->task && !k->ended)
        health_check(k);
    if (now >= k->probe.kill_at)
        health_overdue(k);
}

/* ---- one run */

static void turn(struct keeper *k)
{
    loop_once(k->loop, -1);
    peers_sweep(k);
}

static void began(struct keeper *k)
{
    struct record_state *s = &k->rec->state;

    s->status = RECORD_RUNNING;
    s->started_ns = wall_ns();
    s->finished_ns = 0;
    s->exit_code = 0;
    s->oom_killed = s->stopped_by_user = false;
    s->error[0] = '\0';
    s->pid = k->ops->pid(k->task);
    s->pid_start = recover_pid_start(s->pid);
    health_begin(&k->health, &k->rec->spec, keeper_now_ms(), s);
    keeper_save(k);
    peer_tell_starter(k, PROTO_STARTED, NULL, 0);
    keeper_note(k, "start", NULL);
    peers_answer(k, PEER_RESTART, 0);
}

static int start(struct keeper *k, struct err *e)
{
    int64_t limit_ms = k->rec->spec.timeout_ms;

    k->ended = k->again = k->timed_out = k->oom = k->stopping = false;
    k->lost = (struct err){0};
    k->kill_at = k->lose_at = k->timeout_at = k->restart_at = UINT64_MAX;
    k->began_ms = keeper_now_ms();
    if (limit_ms != SPEC_UNSET)
        k->timeout_at = k->began_ms + (uint64_t)limit_ms;
    k->tc.deadline_ms = limit_ms != SPEC_UNSET ? k->timeout_at : 0;
    k->phase = KEEPER_STARTING;
    k->held = false;
    int r = k->conf->task ? 0 : keeper_connect(k, e); /* a test's task has no network */
    if (r == -ENOENT || r == -EACCES)                 /* which would be the command's */
        r = e->code = -EIO;
    if (r < 0)
        return r;
    r = k->ops->start(&k->tc, &k->task, e);
    if (r < 0) {
        keeper_disconnect(k);
        return r == -ETIMEDOUT && keeper_now_ms() >= k->timeout_at ? err_set(e, r, TIME_OVER) : r;
    }
    k->phase = KEEPER_RUNNING;
    began(k);
    return 0;
}

/* The task and all that is of one run; returns the exit code. */
static int end_run(struct keeper *k)
{
    struct record_state *s = &k->rec->state;
    int code = WIFSIGNALED(k->status) ? 128 + WTERMSIG(k->status) : WEXITSTATUS(k->status);
    struct vm_report report;
    char text[16];

    if (k->conf->counters && k->ops->counters && k->ops->counters(k->task, &report, NULL) == 0)
        peer_tell_starter(k, KEEPER_COUNTERS, &report, sizeof(report));
    health_give_up(k);
    k->health.next_ms = UINT64_MAX;
    k->ops->free(k->task);
    k->task = NULL;
    keeper_disconnect(k);
    k->phase = KEEPER_OVER;
    if (k->timed_out)
        err_set(&k->lost, -ETIMEDOUT, TIME_OVER);
    if (k->lost.code < 0)
        code = k->timed_out ? KEEPER_TIMEOUT : KEEPER_KILN;
    s->exit_code = code;
    s->oom_killed = k->oom;
    s->finished_ns = wall_ns();
    s->pid = 0;
    s->pid_start = 0;
    s->engine[0] = '\0';
    snprintf(s->error, sizeof(s->error), "%s", k->lost.msg);
    if (k->oom)
        keeper_note(k, "oom", NULL);
    snprintf(text, sizeof(text), "%d", code);
    const char *more[] = {"exitCode", text, NULL};
    keeper_note(k, "die", more);
    return code;
}

/* Something else is to be tried after a while; false: somebody asked to stop meanwhile. */
static bool back_off(struct keeper *k, int64_t delay_ms)
{
    struct record_state *s = &k->rec->state;

    k->phase = KEEPER_BACKOFF;
    s->status = RECORD_RESTARTING;
    s->restart_count++;
    keeper_save(k);
    peers_end(k, k->status, &k->lost);
    k->restart_at = keeper_now_ms() + (uint64_t)delay_ms;
    while (!k->stopping && keeper_now_ms() < k->restart_at)
        turn(k);
    return !k->stopping || k->again;
}

/* Until it ends for good. A start that fails is an end, but for the first one. */
static void live(struct keeper *k)
{
    struct record_state *s = &k->rec->state;
    bool first = true;

    for (;;) {
        struct err e = {0};
        int r = start(k, &e), code;

        if (r < 0) {
            code = keeper_start_status(r);
            s->exit_code = code;
            snprintf(s->error, sizeof(s->error), "%s", e.msg);
            k->lost = e;
            if (first) {
                peer_error(k, NULL, &e);
                return;
            }
        } else {
            while (!k->ended)
                turn(k);
            code = end_run(k);
            s->status = RECORD_EXITED;
        }
        first = false;
        if (k->again) {
            keeper_save(k);
            peers_end(k, k->status, &k->lost);
            peers_answer(k, PEER_END, code);
            continue;
        }
        int64_t delay = backoff_next(&k->backoff, &k->rec->spec, code,
                                     keeper_now_ms() - k->began_ms, k->stopping);
        if (delay < 0 || !back_off(k, delay))
            return;
    }
}

/* ---- the process */

static void detach(void)
{
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);

    (void)setsid(); /* Ctrl-C on the terminal is the client's to handle */
    prctl(PR_SET_NAME, "kiln-keeper");
    for (int i = 0; i < 3 && null >= 0; i++)
        (void)dup2(null, i);
    if (null > 2)
        close(null);
    (void)!chdir("/");
    signal(SIGPIPE, SIG_IGN);
}

static int take_signals(struct keeper *k, struct err *e)
{
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigprocmask(SIG_SETMASK, &set, NULL);
    signal(SIGHUP, SIG_IGN);
    k->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    k->signal_h = (struct loop_fd){.fd = k->signal_fd, .ready = on_signal, .ctx = k};
    if (k->signal_fd < 0)
        return err_errno(e, -errno, "signalfd");
    return loop_add(k->loop, &k->signal_h, EPOLLIN, e);
}

static int listen_on(struct keeper *k, struct err *e)
{
    struct sockaddr_un a;
    int r = ctlwire_address(k->dir.path, "keeper", &a, e);

    if (r < 0)
        return r;
    k->listen_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    /* The mode before bind() is the mode of the file. */
    if (k->listen_fd < 0 || fchmod(k->listen_fd, 0600) < 0 ||
        bind(k->listen_fd, (struct sockaddr *)&a, sizeof(a)) < 0 ||
        listen(k->listen_fd, BACKLOG) < 0)
        return err_errno(e, -errno, "%s", a.sun_path);
    k->listen_h = (struct loop_fd){.fd = k->listen_fd, .ready = on_accept, .ctx = k};
    return loop_add(k->loop, &k->listen_h, EPOLLIN, e);
}

/* So that it can be found, asked, and cleaned up after. */
static int be_reachable(struct keeper *k, struct err *e)
{
    struct record_state *s = &k->rec->state;
    char base[RUNDIR_PATH_MAX];
    int r = rundir_base(base, sizeof(base), e);

    if (r == 0)
        r = rundir_make(base, k->rec->id, k->rec->name, &k->dir, e);
    if (r == 0)
        r = listen_on(k, e);
    if (r < 0)
        return r;
    s->keeper = getpid();
    recover_boot_id(s->boot_id);
    snprintf(s->run, sizeof(s->run), "%s", k->dir.path);
    return record_save(k->rec, e);
}

static int set_up(struct keeper *k, int starter, struct err *e)
{
    const struct spec *s = &k->rec->spec;

    k->loop = loop_new(NULL, e);
    if (!k->loop)
        return -ENOMEM;
    loop_set_timeout(k->loop, soonest, due, k);
    if (!peer_starter(k, starter, k->conf->attach, k->conf->with_stdin))
        return err_set(e, -ENOMEM, "out of memory");
    int r = take_signals(k, e);
    if (r == 0)
        r = be_reachable(k, e);
    ctrlog_open(&k->log, k->rec->dir, s->log_driver, s->log_max_size, s->log_max_file);
    k->tc = (struct task_conf){
        .rec = k->rec,
        .dir = &k->dir,
        .loop = k->loop,
        .store = k->store,
        .rootfs = k->rootfs,
        .fstype = k->fstype,
        .kernel = k->kernel,
        .kernel_dir = k->kernel_dir,
        .with_stdin = s->open_stdin,
        .rows = k->conf->rows,
        .cols = k->conf->cols,
        .cancel_fd = k->signal_fd,
        .trace = k->conf->trace,
        .booting = on_booting,
        .console = on_console,
        .ctx = k,
        .events = {.output = on_output, .input_ready = on_input_ready, .ended = on_ended, .ctx = k},
    };
    return r;
}

/* --rm. Somebody may have started it again, or removed it, since it counts as ended. */
static void remove_record(struct keeper *k)
{
    if (record_relock(k->rec, NULL) < 0)
        return;
    if (!record_alive(k->rec) && record_remove(k->rec, NULL) == 0) {
        volume_release(k->store, &k->rec->spec);
        keeper_note(k, "destroy", NULL);
    }
    record_unlock(k->rec);
}

/* Nothing of it shall be left when clients hear of the end. What is written down comes first: who
 * cannot reach the keeper any more reads there that it ended. */
static void clean_up(struct keeper *k)
{
    struct record_state *s = &k->rec->state;

    k->kill_at = k->lose_at = k->timeout_at = k->restart_at = UINT64_MAX;
    s->status = s->started_ns ? RECORD_EXITED : RECORD_CREATED;
    s->keeper = s->pid = 0;
    s->pid_start = 0;
    s->run[0] = '\0';
    s->n_addresses = s->n_ports = 0;
    s->health = RECORD_HEALTH_NONE;
    keeper_save(k);
    loop_del(k->loop, &k->listen_h);
    cleanup_fd(&k->listen_fd);
    k->listen_fd = -1;
    rundir_remove(&k->dir);
    ctrlog_close(&k->log);
    cleanup_fd(&k->alive);
    k->alive = -1;
    if (k->rec->spec.auto_remove)
        remove_record(k);
}

_Noreturn void keeper_main(struct keeper *k, int starter)
{
    struct err e = {0};
    int keep[] = {k->alive, starter, k->rec->dir};

    k->rec->lock = -1; /* the starter's */
    detach();
    fds_close_but(keep, ARRAY_LEN(keep));
    int r = set_up(k, starter, &e);
    if (r < 0) {
        peer_error(k, NULL, &e);
    } else {
        peer_tell_starter(k, KEEPER_READY, NULL, 0);
        live(k);
    }
    clean_up(k);
    peers_end(k, k->status, &k->lost);
    peers_answer(k, PEER_END, k->rec->state.exit_code);
    peers_answer(k, PEER_RESTART, k->rec->state.exit_code);
    while (peers_any(k, true))
        turn(k);
    _exit(0); /* forked child; the kernel frees all at once */
}
