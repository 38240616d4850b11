/* The clients of a keeper: see container/keeper.h. */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "container/ctlwire.h"
#include "container/keeper.h"
#include "container/wire.h"
#include "proto/agent.h"
#include "vm/vm.h"

enum { SEND_MS = 5000, DEAD_MS = 5000, TEXT_MAX = 4096 };

/* ---- reaching it */

/* Where it runs: the state may have been read before its keeper wrote that down. */
static int find_run(const struct record *r, char run[sizeof(r->state.run)], struct err *e)
{
    struct record now = {.dir = r->dir, .lock = -1};
    int rc = 0;

    memcpy(run, r->state.run, sizeof(r->state.run));
    memcpy(now.id, r->id, sizeof(now.id));
    memcpy(now.path, r->path, sizeof(now.path));
    if (run[0] || !record_alive(r))
        return rc;
    rc = record_relock(&now, e); /* whoever starts it holds the lock until it can be reached */
    record_unlock(&now);
    memcpy(run, now.state.run, sizeof(now.state.run));
    return rc;
}

int keeper_watch_fd(const struct record *r, struct err *e)
{
    char run[sizeof(r->state.run)];
    struct sockaddr_un a;
    int rc = find_run(r, run, e);

    if (rc == 0 && !run[0])
        rc = err_set(e, -ESRCH, "container %s is not running", r->name);
    if (rc == 0)
        rc = ctlwire_address(run, "keeper", &a, e);
    if (rc < 0)
        return rc;
    CLEANUP(fd) int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return err_errno(e, -errno, "socket");
    if (connect(fd, (const struct sockaddr *)&a, sizeof(a)) < 0)
        return errno == ENOENT || errno == ECONNREFUSED
                   ? err_set(e, -ESRCH, "container %s is not running", r->name)
                   : err_errno(e, -errno, "container %s: %s", r->name, a.sun_path);
    return take_fd(&fd);
}

/* It hung up without an answer. Until it is dead its record may still say that it runs. */
static void await_death(pid_t keeper)
{
    CLEANUP(fd) int fd = keeper > 0 ? (int)syscall(SYS_pidfd_open, keeper, 0) : -1;
    struct pollfd p = {.fd = fd, .events = POLLIN};

    if (fd >= 0)
        (void)!poll(&p, 1, DEAD_MS);
}

static pid_t peer_of(int fd)
{
    struct ucred u;
    socklen_t len = sizeof(u);

    return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &u, &len) == 0 ? u.pid : 0;
}

int keeper_ask(const struct record *r, const json_t *req, int timeout_ms, json_t **answer,
               struct err *e)
{
    CLEANUP(fd) int fd = keeper_watch_fd(r, e);
    int rc = fd < 0 ? fd : ctlwire_write(fd, req, SEND_MS, e);

    if (rc < 0)
        return rc == -EPIPE ? err_set(e, -ECONNRESET, "container %s ended", r->name) : rc;
    CLEANUP(mem) char *line = ctlwire_read(fd, timeout_ms, -1, e);
    json_t *v = line ? json_loads(line, JSON_REJECT_DUPLICATES, NULL) : NULL;
    if (!line && e && e->code == -ETIMEDOUT)
        return err_wrap(e, -ETIMEDOUT, "container %s", r->name);
    if (!json_is_object(v)) {
        json_decref(v);
        await_death(peer_of(fd));
        return err_set(e, -ECONNRESET, "container %s ended", r->name);
    }
    if (json_is_true(json_object_get(v, "ok"))) {
        if (answer)
            *answer = v;
        else
            json_decref(v);
        return 0;
    }
    const char *why = json_string_value(json_object_get(v, "error"));
    json_int_t code = json_integer_value(json_object_get(v, "code"));
    rc = err_set(e, code < 0 && code > -4096 ? (int)code : -EIO, "%s", why ? why : "refused");
    json_decref(v);
    return rc;
}

int keeper_do(const struct record *r, const char *op, struct err *e)
{
    json_t *req = json_pack("{s:s}", "op", op);
    int rc = keeper_ask(r, req, -1, NULL, e);

    json_decref(req);
    return rc;
}

int keeper_end(const struct record *r, const json_t *req, struct err *e)
{
    enum record_status s = r->state.status;

    /* The keeper is about to make it run, and does not listen meanwhile. It may have got there by
     * now: then the signal asks it to stop, as the request does. */
    if ((s == RECORD_CREATED || s == RECORD_EXITED) && r->state.keeper > 1 && record_alive(r))
        (void)kill(r->state.keeper, SIGTERM);
    return keeper_ask(r, req, -1, NULL, e);
}

/* ---- a line */

static void tell_console(const struct keeper_line *l, const struct proto_frame *f)
{
    char text[TEXT_MAX];
    size_t n = f->len < sizeof(text) - 1 ? f->len : sizeof(text) - 1;

    memcpy(text, f->p, n);
    text[n] = '\0';
    l->console(l->ctx, text);
}

/* What is not of the streams. */
static void on_other(void *ctx, const struct proto_frame *f)
{
    const struct keeper_line *l = ctx;
    struct vm_report report;

    switch (f->type) {
    case KEEPER_BOOTING:
        if (l->booting && f->len == 1)
            l->booting(l->ctx, f->p[0] != 0);
        break;
    case KEEPER_CONSOLE:
        if (l->console)
            tell_console(l, f);
        break;
    case KEEPER_COUNTERS:
        if (l->counters && f->len == sizeof(report)) {
            memcpy(&report, f->p, sizeof(report));
            l->counters(l->ctx, &report);
        }
        break;
    default:
        break;
    }
}

static int killed(const struct keeper_line *l, struct err *e)
{
    /* Of a pair of sockets who made it is the peer: us. */
    await_death(l->keeper > 0 ? l->keeper : peer_of(l->s->fd));
    return err_set(e, -ECONNRESET, "the container's keeper was killed");
}

int keeper_await(struct keeper_line *l, struct err *e)
{
    struct proto_frame f;

    for (;;) {
        int r = wire_next(l->s, UINT64_MAX, &f, e);

        if (r == -ECONNRESET)
            return killed(l, e);
        if (r < 0)
            return r;
        unsigned type = f.type;
        if (type == PROTO_ERROR)
            r = wire_error(&f, e);
        else
            on_other(l, &f);
        wire_drop(l->s, &f);
        l->started = type == PROTO_STARTED;
        l->over = r < 0;
        if (r < 0 || l->started)
            return r;
    }
}

int keeper_pump(struct keeper_line *l, struct session_streams *io, int *status, struct err *e)
{
    io->other = on_other;
    io->other_ctx = l;
    int r = session_pump(l->s, io, -1, status, e);
    if (r == -ECONNRESET)
        killed(l, e);
    l->over = r <= 0 && r != -ECANCELED;
    return r;
}

/* Until it hangs up, which it does when all is cleaned up. */
static void await_end(struct keeper_line *l)
{
    static const struct session_watch nothing = {.machine_fd = -1, .signal_fd = -1};
    struct proto_frame f;

    l->s->watch = nothing;
    while (wire_next(l->s, UINT64_MAX, &f, NULL) == 0) {
        on_other(l, &f);
        wire_drop(l->s, &f);
    }
}

void keeper_give_up(struct keeper_line *l)
{
    uint8_t le[PROTO_HDR + 4] = {0};

    if (!l->s)
        return;
    /* One that is starting hears the signal, one that runs the frame. */
    if (l->keeper > 0 && !l->started)
        (void)kill(l->keeper, SIGTERM);
    proto_header(le, PROTO_SIGNAL, 0, 4);
    le[PROTO_HDR] = SIGKILL;
    (void)!send(l->s->fd, le, sizeof(le), MSG_NOSIGNAL);
    await_end(l);
    l->over = true;
}

void keeper_hang_up(struct keeper_line *l)
{
    session_close(l->s);
    l->s = NULL;
    /* One that ended is reaped, since not every host's first process does it. Another one goes its
     * own way. */
    if (l->keeper > 0)
        (void)waitpid(l->keeper, NULL, l->over ? 0 : WNOHANG);
    l->keeper = 0;
}

int keeper_attach(const struct record *r, bool with_stdin, const struct session_watch *w,
                  struct keeper_line *l, struct err *e)
{
    json_t *req = json_pack("{s:s, s:b}", "op", "attach", "stdin", (int)with_stdin);

    *l = (struct keeper_line){.s = NULL};
    CLEANUP(fd) int fd = keeper_watch_fd(r, e);
    int rc = fd < 0 ? fd : ctlwire_write(fd, req, SEND_MS, e);
    json_decref(req);
    if (rc == 0)
        rc = session_join(take_fd(&fd), w, &l->s, e);
    if (rc == 0)
        rc = keeper_await(l, e);
    if (rc < 0)
        keeper_hang_up(l);
    return rc;
}
