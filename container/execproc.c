/* exec in a container of the process class: a child of ours joins it. Without a terminal it has our
 * caller's streams themselves; with one, bytes are carried between it and them. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "container/exec_priv.h"
#include "container/procconf.h"
#include "container/wire.h"

enum { KEYS_MAX = 4096, EOT = 4 };

struct exec_process {
    struct process_child child;
    bool in_open, reaped;
    size_t n_keys; /* read, not yet taken by the terminal */
    char keys[KEYS_MAX];
    char out[65536];
};

static void set_process(struct exec *x, struct process_proc *p)
{
    const struct exec_conf *c = x->c;

    p->args = c->argv;
    p->env = (const char *const *)x->env.v;
    p->fill_env = true;
    if (c->cwd)
        p->cwd = c->cwd;
    if (c->user)
        p->user.name = c->user;
    p->terminal = c->tty && !c->detach;
    p->rows = x->rows;
    p->cols = x->cols;
    p->io[0] = c->in;
    p->io[1] = c->out;
    p->io[2] = c->err;
}

int exec_process_start(struct exec *x, struct err *e)
{
    CLEANUP(mem) struct procconf *p = calloc(1, sizeof(*p));
    struct process_state st;

    x->p = calloc(1, sizeof(*x->p));
    if (!p || !x->p)
        return err_errno(e, -ENOMEM, "exec");
    x->p->child = PROCESS_CHILD_NONE;
    int rc = procconf_state(x->r, &st, e);
    if (rc == 0)
        rc = procconf_process(&x->r->spec, x->c->privileged, p, e);
    if (rc == 0) {
        set_process(x, &p->conf.process);
        rc = process_exec(&st, &p->conf.process, &x->p->child, e);
        x->failed = rc < 0 && rc != -ESRCH && rc != -EAGAIN;
    }
    procconf_done(p);
    return rc;
}

/* ---- while it runs */

static void on_signal(struct exec *x)
{
    struct signalfd_siginfo si;
    struct winsize ws;

    if (read(x->signal_fd, &si, sizeof(si)) != sizeof(si))
        return;
    if (si.ssi_signo == SIGWINCH) {
        if (x->c->terminal && x->p->child.terminal >= 0 && ioctl(x->c->in, TIOCGWINSZ, &ws) == 0)
            (void)ioctl(x->p->child.terminal, TIOCSWINSZ, &ws);
        return;
    }
    x->signal = (int)si.ssi_signo;
    /* Its pid is its group's on a terminal; it is not reaped yet. */
    if (!x->c->tty || kill(-x->p->child.pid, x->signal) < 0)
        (void)kill(x->p->child.pid, x->signal);
}

static void read_keys(struct exec *x)
{
    struct exec_process *p = x->p;
    ssize_t n = read(x->c->in, p->keys, sizeof(p->keys));

    if (n < 0 && (errno == EINTR || errno == EAGAIN))
        return;
    if (n <= 0) { /* a terminal has no end: what stands for one */
        p->in_open = false;
        p->keys[0] = EOT;
        n = 1;
    }
    p->n_keys = (size_t)n;
}

static void write_keys(struct exec_process *p)
{
    ssize_t n = write(p->child.terminal, p->keys, p->n_keys);

    if (n < 0 && (errno == EINTR || errno == EAGAIN))
        return;
    if (n < 0)
        n = (ssize_t)p->n_keys;
    memmove(p->keys, p->keys + n, p->n_keys - (size_t)n);
    p->n_keys -= (size_t)n;
}

/* False: nothing more comes. */
static bool carry_output(struct exec *x)
{
    struct exec_process *p = x->p;
    ssize_t n = read(p->child.terminal, p->out, sizeof(p->out));

    if (n < 0 && (errno == EINTR || errno == EAGAIN))
        return errno == EINTR;
    for (ssize_t at = 0; at < n;) {
        ssize_t k = write(x->c->out, p->out + at, (size_t)(n - at));

        if (k < 0 && errno != EINTR)
            return false;
        if (k > 0)
            at += k;
    }
    return n > 0;
}

static int turn(struct exec *x, uint64_t deadline, bool *ended, struct err *e)
{
    struct exec_process *p = x->p;
    int term = p->child.terminal;
    struct pollfd v[] = {
        {.fd = p->child.pidfd, .events = POLLIN},
        {.fd = x->signal_fd, .events = POLLIN},
        {.fd = term >= 0 && p->in_open && p->n_keys == 0 ? x->c->in : -1, .events = POLLIN},
        {.fd = term, .events = (short)(POLLIN | (p->n_keys ? POLLOUT : 0))},
    };
    uint64_t now = wire_now_ms();

    if (now >= deadline)
        return err_set(e, -ETIMEDOUT, "the command did not end in time");
    uint64_t left = deadline - now;
    if (poll(v, ARRAY_LEN(v), deadline == UINT64_MAX || left > 3600000 ? 3600000 : (int)left) < 0)
        return errno == EINTR ? 0 : err_errno(e, -errno, "poll");
    if (v[1].revents)
        on_signal(x);
    if (v[2].revents)
        read_keys(x);
    if (v[3].revents & POLLOUT)
        write_keys(p);
    if ((v[3].revents & (POLLIN | POLLHUP | POLLERR)) && !carry_output(x) &&
        (v[3].revents & (POLLHUP | POLLERR))) {
        close(p->child.terminal);
        p->child.terminal = -1;
    }
    *ended = v[0].revents != 0;
    return 0;
}

int exec_process_wait(struct exec *x, int *status, struct err *e)
{
    struct exec_process *p = x->p;
    uint64_t deadline =
        x->c->timeout_ms < 0 ? UINT64_MAX : wire_now_ms() + (uint64_t)x->c->timeout_ms;
    bool ended = false;
    int rc = 0;

    p->in_open = x->c->in >= 0;
    if (p->child.terminal >= 0)
        (void)fcntl(p->child.terminal, F_SETFL, O_RDWR | O_NONBLOCK);
    while (rc == 0 && !ended)
        rc = turn(x, deadline, &ended, e);
    if (rc < 0)
        return rc;
    while (p->child.terminal >= 0 && carry_output(x)) {
    }
    if (waitpid(p->child.pid, status, 0) < 0)
        return err_errno(e, -errno, "wait");
    p->reaped = true;
    return 0;
}

void exec_process_done(struct exec *x)
{
    struct exec_process *p = x->p;

    if (!p)
        return;
    if (p->child.pid > 0 && !p->reaped && !x->c->detach) {
        (void)kill(p->child.pid, SIGKILL);
        (void)waitpid(p->child.pid, NULL, 0);
    }
    process_child_done(&p->child);
    free(p);
    x->p = NULL;
}
