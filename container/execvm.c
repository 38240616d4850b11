/* exec in a VM: everything is said to the agent at once, and two answers are awaited. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "container/exec_priv.h"

enum { ANSWER_MS = 120000 }; /* an interpreted guest is slow */

int exec_vm_call(const struct record *r, const struct session_watch *w, struct session **s,
                 struct err *e)
{
    struct sockaddr_un sa = {.sun_family = AF_UNIX};
    int n = snprintf(sa.sun_path, sizeof(sa.sun_path), "%s/vsock", r->state.run);

    if (n < 0 || (size_t)n >= sizeof(sa.sun_path))
        return err_errno(e, -ENAMETOOLONG, "%s/vsock", r->state.run);
    CLEANUP(fd) int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return err_errno(e, -errno, "socket");
    if (connect(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0)
        return errno == ENOENT || errno == ECONNREFUSED
                   ? err_set(e, -ESRCH, "container %s is not running", r->name)
                   : err_errno(e, -errno, "%s", sa.sun_path);
    return session_call(take_fd(&fd), w, s, e);
}

int exec_vm_start(struct exec *x, struct err *e)
{
    const struct spec *spec = &x->r->spec;
    const struct exec_conf *c = x->c;
    const struct session_watch w = {
        .machine_fd = -1, .signal_fd = x->signal_fd, .signal = &x->signal};
    struct session_process p = {
        .argv = c->argv,
        .env = (const char *const *)x->env.v,
        .cwd = c->cwd ? c->cwd : spec->cwd,
        .user = c->user ? c->user : spec->user,
        .tty = c->tty,
        .with_stdin = c->in >= 0,
        .detach = c->detach,
        .rows = x->rows,
        .cols = x->cols,
    };
    int rc = exec_vm_call(x->r, &w, &x->s, e);

    if (rc == 0)
        rc = session_start(x->s, &p, e);
    x->failed = rc < 0;
    if (rc == 0)
        rc = session_await(x->s, ANSWER_MS, e);
    if (rc < 0)
        return rc;
    rc = session_await(x->s, ANSWER_MS, e);
    x->failed = rc < 0;
    return rc;
}

int exec_vm_wait(struct exec *x, int *status, struct err *e)
{
    const struct exec_conf *c = x->c;
    const struct session_streams io = {
        .in = c->in, .out = c->out, .err = c->err, .tty = c->terminal ? c->in : -1};

    return session_pump(x->s, &io, c->timeout_ms, status, e);
}

void exec_vm_done(struct exec *x)
{
    session_close(x->s);
}
