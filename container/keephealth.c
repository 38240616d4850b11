/* The keeper's health checks. A child of the keeper runs the command inside, so that nothing there
 * can hold the keeper up. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "container/exec.h"
#include "container/keeperpriv.h"
#include "os/fds.h"

enum { GRACE_MS = 5000 }; /* for the child to see its time limit itself */

static int64_t wall_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_REALTIME, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* "CMD" and words, or "CMD-SHELL" and a line: as OCI images have it. */
static void make_argv(const struct strv *cmd, const char **shell, const char *const **argv)
{
    *argv = (const char *const *)cmd->v + 1;
    if (strcmp(cmd->v[0], "CMD-SHELL") == 0) {
        shell[2] = cmd->v[1];
        *argv = shell;
    }
}

static _Noreturn void run_inside(struct keeper *k, int out)
{
    const char *shell[] = {"/bin/sh", "-c", NULL, NULL};
    struct exec_conf c = {.in = -1, .out = out, .err = out};
    int keep[] = {out, k->rec->dir};
    sigset_t none;
    struct err e = {0};

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    fds_close_but(keep, ARRAY_LEN(keep));
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    signal(SIGTERM, SIG_DFL);
    make_argv(&k->rec->spec.health.cmd, shell, &c.argv);
    c.timeout_ms = k->health.timeout_ms > INT32_MAX ? INT32_MAX : (int)k->health.timeout_ms;
    int status = exec_run(k->rec, &c, &e);
    if (e.code < 0)
        (void)!write(out, e.msg, strlen(e.msg));
    _exit(status); /* forked child */
}

static void let_go(struct keeper *k)
{
    struct probe *p = &k->probe;

    loop_del(k->loop, &p->out_h);
    loop_del(k->loop, &p->end_h);
    cleanup_fd(&p->out);
    cleanup_fd(&p->end);
    p->out = p->end = -1;
    p->pid = 0;
    p->kill_at = UINT64_MAX;
}

static void on_output(void *ctx, uint32_t events)
{
    struct keeper *k = ctx;
    struct probe *p = &k->probe;
    char rest[4096];
    size_t room = sizeof(p->result.output) - 1 - p->len;
    ssize_t n =
        room > 0 ? read(p->out, p->result.output + p->len, room) : read(p->out, rest, sizeof(rest));

    if (n > 0 && room > 0)
        p->len += (size_t)n;
    if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
        loop_del(k->loop, &p->out_h);
}

static void on_end(void *ctx, uint32_t events)
{
    struct keeper *k = ctx;
    struct probe *p = &k->probe;
    int status = 0;

    if (waitpid(p->pid, &status, WNOHANG) != p->pid)
        return;
    on_output(k, 0); /* its last words */
    uint64_t now = keeper_now_ms();
    p->result.end_ns = wall_ns();
    p->result.exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
    p->result.output[p->len] = '\0';
    if (p->result.exit_code != 0 && now - p->began_ms >= k->health.timeout_ms) {
        p->result.exit_code = -1;
        snprintf(p->result.output, sizeof(p->result.output),
                 "health check exceeded its timeout (%llu ms)",
                 (unsigned long long)k->health.timeout_ms);
    }
    let_go(k);
    if (!k->task || k->ended)
        return;
    bool changed = health_ended(&k->health, now, &p->result, &k->rec->state);
    keeper_save(k);
    if (changed) {
        char action[48];

        snprintf(action, sizeof(action), "health_status: %s",
                 record_health_name(k->rec->state.health));
        keeper_note(k, action, NULL);
    }
}

static int begin(struct keeper *k)
{
    struct probe *p = &k->probe;
    int v[2];

    if (pipe2(v, O_CLOEXEC) < 0)
        return -errno;
    p->pid = fork();
    if (p->pid == 0)
        run_inside(k, v[1]);
    close(v[1]);
    p->out = v[0];
    if (p->pid < 0)
        return -errno;
    p->end = (int)syscall(SYS_pidfd_open, p->pid, 0);
    p->out_h = (struct loop_fd){.fd = p->out, .ready = on_output, .ctx = k};
    p->end_h = (struct loop_fd){.fd = p->end, .ready = on_end, .ctx = k};
    if (p->end < 0 || fcntl(p->out, F_SETFL, O_NONBLOCK) < 0)
        return -errno;
    int r = loop_add(k->loop, &p->out_h, EPOLLIN, NULL);
    return r == 0 ? loop_add(k->loop, &p->end_h, EPOLLIN, NULL) : r;
}

void health_check(struct keeper *k)
{
    struct probe *p = &k->probe;

    if (k->rec->state.status != RECORD_RUNNING) { /* paused: later */
        k->health.next_ms = keeper_now_ms() + k->health.interval_ms;
        return;
    }
    health_running(&k->health);
    p->len = 0;
    p->result = (struct record_probe){.start_ns = wall_ns()};
    p->began_ms = keeper_now_ms();
    p->kill_at = p->began_ms + k->health.timeout_ms + GRACE_MS;
    if (begin(k) < 0) {
        health_give_up(k);
        k->health.next_ms = keeper_now_ms() + k->health.interval_ms;
    }
}

void health_overdue(struct keeper *k)
{
    k->probe.kill_at = UINT64_MAX;
    if (k->probe.pid > 0)
        (void)kill(k->probe.pid, SIGKILL); /* on_end() hears of it */
}

void health_give_up(struct keeper *k)
{
    struct probe *p = &k->probe;

    if (p->pid > 0) {
        (void)kill(p->pid, SIGKILL);
        while (waitpid(p->pid, NULL, 0) < 0 && errno == EINTR) {
        }
    }
    let_go(k);
}
