#include "container/wire.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

uint64_t wire_now_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static int take_signal(const struct session_watch *w, struct err *e)
{
    struct signalfd_siginfo si;

    if (read(w->signal_fd, &si, sizeof(si)) != sizeof(si))
        return 0;
    int sig = (int)si.ssi_signo;
    if (sig != SIGINT && sig != SIGTERM && sig != SIGHUP && sig != SIGQUIT)
        return 0; /* nothing runs yet that could want it */
    if (w->signal)
        *w->signal = sig;
    return err_set(e, -EINTR, "interrupted (%s)", strsignal(sig));
}

int wire_wait(int fd, short events, const struct session_watch *w, uint64_t deadline_ms,
              struct err *e)
{
    if (w->deadline_ms && w->deadline_ms < deadline_ms)
        deadline_ms = w->deadline_ms;
    for (;;) {
        struct pollfd p[] = {
            {.fd = fd, .events = events},
            {.fd = w->machine_fd, .events = POLLIN},
            {.fd = w->signal_fd, .events = POLLIN},
        };
        uint64_t now = wire_now_ms();
        int left = deadline_ms == UINT64_MAX ? -1
                   : deadline_ms <= now      ? 0
                                             : (int)(deadline_ms - now);
        int n = poll(p, 3, left);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return err_errno(e, -errno, "poll");
        if (n == 0)
            return err_set(e, -ETIMEDOUT, "no answer from the machine in time");
        if (p[2].revents) {
            int r = take_signal(w, e);

            if (r < 0)
                return r;
        }
        if (p[0].revents)
            return 0;
        if (p[1].revents)
            return err_set(e, -ECONNRESET, "the machine ended");
    }
}

int wire_flush(struct session *s)
{
    while (s->out_off < s->out.len) {
        ssize_t n = send(s->fd, s->out.b + s->out_off, s->out.len - s->out_off, MSG_NOSIGNAL);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return errno == EAGAIN ? 0 : -errno;
        s->out_off += (size_t)n;
    }
    s->out_off = s->out.len = 0;
    return 1;
}

int wire_send(struct session *s, uint64_t deadline_ms, struct err *e)
{
    s->out_off = 0;
    for (;;) {
        int r = wire_flush(s);

        if (r < 0)
            return err_errno(e, r, "talk to the agent");
        if (r == 1)
            return 0;
        r = wire_wait(s->fd, POLLOUT, &s->watch, deadline_ms, e);
        if (r < 0)
            return r;
    }
}

int wire_fill(struct session *s)
{
    for (;;) {
        ssize_t n = recv(s->fd, s->in + s->in_len, sizeof(s->in) - s->in_len, 0);

        if (n > 0) {
            s->in_len += (size_t)n;
            return (int)n;
        }
        if (n < 0 && errno == EINTR)
            continue;
        return n < 0 && errno == EAGAIN ? 0 : -ECONNRESET;
    }
}

int wire_next(struct session *s, uint64_t deadline_ms, struct proto_frame *f, struct err *e)
{
    for (;;) {
        int r = proto_next(s->in, s->in_len, f);

        if (r < 0)
            return err_set(e, -EPROTO, "the agent sent a malformed frame");
        if (r > 0)
            return 0;
        r = wire_wait(s->fd, POLLIN, &s->watch, deadline_ms, e);
        if (r == 0 && wire_fill(s) < 0)
            r = err_set(e, -ECONNRESET, "the agent closed the connection");
        if (r < 0)
            return r;
    }
}

void wire_drop(struct session *s, const struct proto_frame *f)
{
    size_t used = PROTO_HDR + f->len;

    memmove(s->in, s->in + used, s->in_len - used);
    s->in_len -= used;
}

int wire_error(const struct proto_frame *f, struct err *e)
{
    struct proto_field_view v;
    char text[ERR_MSG_MAX] = "no reason given";
    uint64_t code = EIO;
    size_t pos = 0;

    while (proto_field_next(f, &pos, &v) == 1) {
        if (v.id == PF_CODE && (proto_field_u64(&v, &code) < 0 || code == 0 || code > 4095))
            code = EIO;
        if (v.id == PF_TEXT) {
            size_t n = v.len < sizeof(text) - 1 ? v.len : sizeof(text) - 1;

            memcpy(text, v.p, n);
            text[n] = '\0';
        }
    }
    /* It goes to a terminal, and it is the guest's. */
    for (char *c = text; *c; c++)
        if ((unsigned char)*c < ' ' || *c == 0x7f)
            *c = '?';
    return err_set(e, -(int)code, "%s", text);
}
