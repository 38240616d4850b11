/* session_pump(): the streams of a running process. One frame goes out at a time; one frame that
 * came in may be partly written to its output. So nothing here grows, and what blocks is only what
 * cannot go on. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "container/wire.h"

enum {
    CTRL_C = 3,
    QUEUE_MAX = 8,    /* control frames waiting for the one on its way */
    CONTROL_MAX = 16, /* bytes of one */
    STDIN_CHUNK = 32768,
    DEAF_MS = 1000,
    STEP_MS = 3600000,
};

/* An output of ours. Written without blocking: a terminal that is stopped or a full pipe must not
 * keep us from signals. */
struct sink {
    int fd;             /* -1 = closed */
    int owned;          /* a description of our own with O_NONBLOCK; -1 = fd is the caller's */
    bool socket, whole; /* whole: a file, which never blocks for long */
};

struct pump {
    struct session *s;
    const struct session_streams *io;
    struct sink out, err;
    size_t written; /* of the first frame in s->in */
    bool in_open, ended, detached;
    size_t matched;  /* bytes of the detach keys typed so far, not sent */
    uint32_t credit; /* bytes of stdin we may send */
    unsigned n_control;
    uint8_t control[QUEUE_MAX][CONTROL_MAX];
    unsigned stop_asked; /* SIGINT and SIGTERM so far */
    unsigned ctrl_c;     /* typed since the guest's last sign of life */
    uint64_t deaf_at; /* CLOCK_MONOTONIC ms: then two Ctrl-C count as unheard; UINT64_MAX = heard */
    int status;
};

static void sink_open(struct sink *k, int fd)
{
    struct stat st;
    char path[32];

    *k = (struct sink){.fd = fd, .owned = -1};
    if (fd < 0 || fstat(fd, &st) < 0) {
        k->fd = -1;
        return;
    }
    k->socket = S_ISSOCK(st.st_mode);
    k->whole = S_ISREG(st.st_mode);
    if (k->socket || k->whole)
        return;
    /* O_NONBLOCK on the caller's description would also meet whoever shares it, so make another. */
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    k->owned = open(path, O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    if (k->owned >= 0)
        k->fd = k->owned;
}

static void sink_done(struct sink *k)
{
    cleanup_fd(&k->owned);
    *k = (struct sink){.fd = -1, .owned = -1};
}

/* Bytes taken, 0 = later, -errno. */
static ssize_t sink_write(struct sink *k, const uint8_t *p, size_t len)
{
    ssize_t n;

    /* A pipe that is ready takes PIPE_BUF bytes without blocking (pipe(7)). */
    if (k->owned < 0 && !k->socket && !k->whole && len > 4096)
        len = 4096;
    n = k->socket ? send(k->fd, p, len, MSG_DONTWAIT | MSG_NOSIGNAL) : write(k->fd, p, len);
    if (n < 0)
        return errno == EAGAIN || errno == EINTR ? 0 : -errno;
    return n;
}

/* ---- to the guest */

static void control(struct pump *u, enum proto_type type, const void *payload, uint32_t len)
{
    if (u->n_control == QUEUE_MAX)
        return; /* it does not take them; the stop counters work without it */
    uint8_t *c = u->control[u->n_control++];
    proto_header(c, type, 0, len);
    if (len)
        memcpy(c + PROTO_HDR, payload, len);
}

static void send_size(struct pump *u)
{
    struct winsize ws;

    if (u->io->tty < 0 || ioctl(u->io->tty, TIOCGWINSZ, &ws) < 0)
        return;
    uint8_t le[4] = {(uint8_t)ws.ws_row, (uint8_t)(ws.ws_row >> 8), (uint8_t)ws.ws_col,
                     (uint8_t)(ws.ws_col >> 8)};
    control(u, PROTO_WINSIZE, le, sizeof(le));
}

/* Take the detach keys out of n typed bytes at `in`; returns how many are to be sent, at `out`. */
static size_t filter_keys(struct pump *u, const uint8_t *in, size_t n, uint8_t *out)
{
    const struct session_streams *io = u->io;
    size_t len = 0;

    for (size_t i = 0; i < n && !u->detached; i++) {
        if (in[i] != io->detach[u->matched]) {
            memcpy(out + len, io->detach, u->matched);
            len += u->matched;
            u->matched = 0;
        }
        if (in[i] == io->detach[u->matched])
            u->matched++;
        else
            out[len++] = in[i];
        u->detached = u->matched == io->n_detach;
    }
    return len;
}

/* Input of at most `room` bytes to s->out. Bytes; 0 = end of it; -1 = none now. */
static ssize_t take_input(struct pump *u, size_t room)
{
    uint8_t typed[STDIN_CHUNK], *to = u->s->out.b + PROTO_HDR;
    bool keys = u->io->n_detach > 0;
    ssize_t n = read(u->io->in, keys ? typed : to, room < STDIN_CHUNK ? room : STDIN_CHUNK);

    if (n < 0)
        return errno == EAGAIN || errno == EINTR ? -1 : 0;
    if (n == 0 || !keys)
        return n;
    size_t left = filter_keys(u, typed, (size_t)n, to);
    return left > 0 ? (ssize_t)left : -1;
}

/* Fill the empty s->out with what comes next: control first, then stdin. */
static void next_out(struct pump *u, bool in_ready)
{
    struct proto_buf *out = &u->s->out;

    if (u->n_control > 0) {
        uint32_t len = u->control[0][0]; /* CONTROL_MAX < 256 */

        memcpy(out->b, u->control[0], PROTO_HDR + len);
        out->len = PROTO_HDR + len;
        memmove(u->control[0], u->control[1], sizeof(u->control[0]) * --u->n_control);
        return;
    }
    if (!in_ready || !u->in_open || u->credit <= u->io->n_detach)
        return;
    ssize_t n = take_input(u, u->credit - u->io->n_detach);
    if (n < 0)
        return;
    if (n == 0)
        u->in_open = false;
    for (ssize_t i = 0; u->io->tty >= 0 && i < n; i++)
        u->ctrl_c = out->b[PROTO_HDR + i] == CTRL_C ? u->ctrl_c + 1 : 0;
    if (u->ctrl_c >= 2 && u->deaf_at == UINT64_MAX)
        u->deaf_at = wire_now_ms() + DEAF_MS;
    proto_header(out->b, PROTO_STDIN, 0, (uint32_t)n);
    out->len = PROTO_HDR + (size_t)n;
    u->credit -= (uint32_t)n;
}

static int push(struct pump *u, bool in_ready, struct err *e)
{
    for (;;) {
        if (u->s->out.len == 0) {
            next_out(u, in_ready);
            in_ready = false;
        }
        if (u->s->out.len == 0)
            return 0;
        int r = wire_flush(u->s);
        if (r < 0)
            return u->ended ? 0 : err_set(e, -ECONNRESET, "the machine closed the session");
        if (r == 0)
            return 0;
    }
}

/* ---- from the guest */

static struct sink *sink_of(struct pump *u, uint16_t type)
{
    return type == PROTO_STDOUT ? &u->out : &u->err;
}

/* True: the frame is written, or has no reader. */
static bool output(struct pump *u, const struct proto_frame *f)
{
    struct sink *k = sink_of(u, f->type);

    while (k->fd >= 0 && u->written < f->len) {
        ssize_t n = sink_write(k, f->p + u->written, f->len - u->written);

        if (n == 0)
            return false;
        if (n < 0) {
            /* Nobody reads it: so it shall be for the process, too. */
            sink_done(k);
            control(u, f->type, NULL, 0);
            break;
        }
        u->written += (size_t)n;
    }
    u->written = 0;
    return true;
}

static int on_frame(struct pump *u, const struct proto_frame *f, bool *done, struct err *e)
{
    struct proto_field_view v = {.p = f->p, .len = f->len};
    uint64_t n;

    *done = true;
    switch (f->type) {
    case PROTO_STDOUT:
    case PROTO_STDERR:
        *done = output(u, f);
        return 0;
    case PROTO_STDIN_ACK:
        if (proto_field_u64(&v, &n) < 0 || n > PROTO_WINDOW - u->credit)
            return err_set(e, -EPROTO, "the agent gave back more input than it got");
        u->credit += (uint32_t)n;
        return 0;
    case PROTO_EXIT:
        if (proto_field_u64(&v, &n) < 0)
            return err_set(e, -EPROTO, "the agent sent a malformed exit status");
        u->status = (int)(n & 0xffff);
        u->ended = true;
        return 0;
    case PROTO_ERROR:
        return wire_error(f, e);
    default:
        if (u->io->other)
            u->io->other(u->io->other_ctx, f);
        return 0;
    }
}

/* All whole frames that can be handled now. */
static int frames(struct pump *u, struct err *e)
{
    struct proto_frame f;
    int k = 0;
    bool done = true;
    size_t used = 0;
    struct session *s = u->s;

    while (done && !u->ended && (k = proto_next(s->in + used, s->in_len - used, &f)) > 0) {
        int r = on_frame(u, &f, &done, e);

        if (r < 0)
            return r;
        if (done)
            used += (size_t)k;
    }
    memmove(s->in, s->in + used, s->in_len - used);
    s->in_len -= used;
    return k < 0 ? err_set(e, -EPROTO, "the agent sent a malformed frame") : 0;
}

/* The output that the first frame waits for, or NULL. */
static const struct sink *blocked(struct pump *u)
{
    struct proto_frame f;

    if (proto_next(u->s->in, u->s->in_len, &f) <= 0 ||
        (f.type != PROTO_STDOUT && f.type != PROTO_STDERR))
        return NULL;
    return sink_of(u, f.type);
}

static int pull(struct pump *u, bool sock_ready, struct err *e)
{
    int r = frames(u, e);

    if (r < 0 || u->ended || !sock_ready || u->s->in_len == sizeof(u->s->in))
        return r;
    int n = wire_fill(u->s);
    if (n < 0)
        return err_set(e, -ECONNRESET, "the machine closed the session");
    if (n > 0) { /* an acknowledgement at least: it lives */
        u->ctrl_c = 0;
        u->deaf_at = UINT64_MAX;
    }
    return frames(u, e);
}

/* ---- signals, end of the machine */

static int on_signal(struct pump *u, struct err *e)
{
    struct signalfd_siginfo si;

    if (read(u->s->watch.signal_fd, &si, sizeof(si)) != sizeof(si))
        return 0;
    int sig = (int)si.ssi_signo;
    if (sig == SIGWINCH) {
        send_size(u);
        return 0;
    }
    if (u->s->watch.signal)
        *u->s->watch.signal = sig;
    uint8_t le[4] = {(uint8_t)sig};
    control(u, PROTO_SIGNAL, le, sizeof(le));
    if ((sig == SIGINT || sig == SIGTERM) && ++u->stop_asked >= 2)
        return err_set(e, -ECANCELED, "stopped by a second %s",
                       sig == SIGINT ? "Ctrl-C" : "SIGTERM");
    return 0;
}

/* The machine is gone; what it said before may still lie in the socket. */
static int last_words(struct pump *u, struct err *e)
{
    while (!u->ended) {
        int r = frames(u, e);

        if (r < 0)
            return r;
        const struct sink *k = blocked(u);
        if (k && k->fd >= 0) {
            struct pollfd p = {.fd = k->fd, .events = POLLOUT};

            if (poll(&p, 1, 1000) <= 0)
                break;
            continue;
        }
        if (!u->ended && wire_fill(u->s) <= 0)
            break;
    }
    return u->ended ? 0 : err_set(e, -ECONNRESET, "the machine ended before the command did");
}

static int turn(struct pump *u, uint64_t deadline, struct err *e)
{
    struct session *s = u->s;
    const struct sink *k = blocked(u);
    bool want_in =
        u->in_open && u->credit > u->io->n_detach && s->out.len == 0 && u->n_control == 0;
    struct pollfd p[] = {
        {.fd = s->fd, .events = (short)((k ? 0 : POLLIN) | (s->out.len ? POLLOUT : 0))},
        {.fd = s->watch.machine_fd, .events = POLLIN},
        {.fd = s->watch.signal_fd, .events = POLLIN},
        {.fd = want_in ? u->io->in : -1, .events = POLLIN},
        {.fd = k ? k->fd : -1, .events = POLLOUT},
    };
    uint64_t now = wire_now_ms(), next = deadline < u->deaf_at ? deadline : u->deaf_at;
    int r = 0;

    if (now >= deadline)
        return err_set(e, -ETIMEDOUT, "the command did not end in time");
    if (now >= u->deaf_at)
        return err_set(e, -ECANCELED, "stopped by a second Ctrl-C");
    /* Long waits in steps: poll(2) counts in int. */
    if (poll(p, ARRAY_LEN(p), next - now > STEP_MS ? STEP_MS : (int)(next - now)) < 0)
        return errno == EINTR ? 0 : err_errno(e, -errno, "poll");
    if (p[2].revents)
        r = on_signal(u, e);
    if (r == 0)
        r = pull(u, (p[0].revents & (POLLIN | POLLHUP | POLLERR)) != 0 && !k, e);
    if (r == 0 && !u->ended)
        r = push(u, p[3].revents != 0, e);
    if (r == 0 && !u->ended && p[1].revents && !p[0].revents)
        r = last_words(u, e);
    return r;
}

int session_pump(struct session *s, const struct session_streams *io, int timeout_ms, int *status,
                 struct err *e)
{
    struct pump u = {
        .s = s, .io = io, .in_open = io->in >= 0, .credit = PROTO_WINDOW, .deaf_at = UINT64_MAX};
    uint64_t deadline = timeout_ms < 0 ? UINT64_MAX : wire_now_ms() + (uint64_t)timeout_ms;
    int r = 0;

    s->out_off = s->out.len = 0;
    sink_open(&u.out, io->out);
    sink_open(&u.err, io->err);
    send_size(&u);
    r = push(&u, false, e); /* nothing may come that would wake us up for it */
    while (r == 0 && !u.ended && !u.detached)
        r = turn(&u, deadline, e);
    sink_done(&u.out);
    sink_done(&u.err);
    if (r == 0)
        *status = u.status;
    return r == 0 && u.detached ? SESSION_DETACHED : r;
}
