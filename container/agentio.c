/* One frame goes out at a time: control frames wait in a short queue, input is taken only when
 * there is room and credit for it. So nothing here grows. */
#include "container/agentio.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

#include "base/cleanup.h"
#include "container/wire.h"

enum { QUEUE_MAX = 8, CONTROL_MAX = 16, CHUNK_MAX = 32768 };

struct agentio {
    struct session *s; /* owned */
    struct loop *loop;
    struct loop_fd h;
    struct agentio_events ev;
    uint32_t credit, events;
    bool held, over, end_asked, hungry; /* hungry: to be told when input can go on */
    unsigned n_control;
    uint8_t control[QUEUE_MAX][CONTROL_MAX];
};

static void watch(struct agentio *a)
{
    uint32_t want = (a->held ? 0 : EPOLLIN) | (a->s->out.len ? EPOLLOUT : 0);

    if (want == a->events)
        return;
    /* A socket that hung up is always ready: not to be looked at while nothing is wanted. */
    if (want == 0)
        loop_del(a->loop, &a->h);
    else if (a->events == 0)
        (void)!loop_add(a->loop, &a->h, want, NULL);
    else
        loop_mod(a->loop, &a->h, want);
    a->events = want;
}

static void broken(struct agentio *a, int code, const char *why)
{
    struct err e = {0};

    if (a->over)
        return;
    a->over = true;
    loop_del(a->loop, &a->h);
    a->events = 0;
    err_set(&e, code, "%s", why);
    a->ev.broken(a->ev.ctx, &e);
}

/* ---- to the agent */

/* Send what waits; false: the session broke, and that was told. */
static bool push(struct agentio *a)
{
    while (!a->over) {
        if (a->s->out.len == 0 && a->n_control > 0) {
            uint32_t len = a->control[0][0]; /* CONTROL_MAX < 256 */

            memcpy(a->s->out.b, a->control[0], PROTO_HDR + len);
            a->s->out.len = PROTO_HDR + len;
            a->s->out_off = 0;
            memmove(a->control[0], a->control[1], sizeof(a->control[0]) * --a->n_control);
        } else if (a->s->out.len == 0 && a->end_asked) {
            proto_header(a->s->out.b, PROTO_STDIN, 0, 0);
            a->s->out.len = PROTO_HDR;
            a->s->out_off = 0;
            a->end_asked = false;
        }
        if (a->s->out.len == 0)
            return true;
        int r = wire_flush(a->s);
        if (r == 0)
            return true;
        if (r < 0) { /* what it said before it went is still to be read */
            a->s->out.len = 0;
            a->n_control = 0;
            return true;
        }
    }
    return false;
}

static void control(struct agentio *a, enum proto_type type, const void *payload, uint32_t len)
{
    if (a->over || a->n_control == QUEUE_MAX)
        return; /* it does not take them */
    uint8_t *c = a->control[a->n_control++];
    proto_header(c, type, 0, len);
    if (len)
        memcpy(c + PROTO_HDR, payload, len);
    if (push(a))
        watch(a);
}

size_t agentio_input(struct agentio *a, const void *bytes, size_t len)
{
    size_t n = len < a->credit ? len : a->credit;

    if (n > CHUNK_MAX)
        n = CHUNK_MAX;
    if (a->over || a->s->out.len > 0 || n == 0) {
        a->hungry = true;
        return 0;
    }
    proto_header(a->s->out.b, PROTO_STDIN, 0, (uint32_t)n);
    memcpy(a->s->out.b + PROTO_HDR, bytes, n);
    a->s->out.len = PROTO_HDR + n;
    a->s->out_off = 0;
    a->credit -= (uint32_t)n;
    a->hungry = n < len;
    if (push(a))
        watch(a);
    return n;
}

size_t agentio_in_flight(const struct agentio *a)
{
    return PROTO_WINDOW - a->credit;
}

void agentio_input_end(struct agentio *a)
{
    a->end_asked = true;
    if (push(a))
        watch(a);
}

void agentio_resize(struct agentio *a, uint16_t rows, uint16_t cols)
{
    uint8_t le[4] = {(uint8_t)rows, (uint8_t)(rows >> 8), (uint8_t)cols, (uint8_t)(cols >> 8)};

    control(a, PROTO_WINSIZE, le, sizeof(le));
}

void agentio_signal(struct agentio *a, int sig)
{
    uint8_t le[4] = {(uint8_t)sig};

    control(a, PROTO_SIGNAL, le, sizeof(le));
}

void agentio_unread(struct agentio *a, enum task_stream stream)
{
    control(a, stream == TASK_STDOUT ? PROTO_STDOUT : PROTO_STDERR, NULL, 0);
}

/* ---- from the agent */

static void on_frame(struct agentio *a, const struct proto_frame *f)
{
    struct proto_field_view v = {.p = f->p, .len = f->len};
    uint64_t n = 0;
    struct err e = {0};

    switch (f->type) {
    case PROTO_STDOUT:
    case PROTO_STDERR:
        if (f->len > 0)
            a->ev.output(a->ev.ctx, f->type == PROTO_STDOUT ? TASK_STDOUT : TASK_STDERR, f->p,
                         f->len);
        break;
    case PROTO_STDIN_ACK:
        if (proto_field_u64(&v, &n) < 0 || n > PROTO_WINDOW - a->credit) {
            broken(a, -EPROTO, "the agent gave back more input than it got");
            break;
        }
        a->credit += (uint32_t)n;
        a->hungry = true;
        break;
    case PROTO_EXIT:
        if (proto_field_u64(&v, &n) < 0) {
            broken(a, -EPROTO, "the agent sent a malformed exit status");
            break;
        }
        a->over = true;
        loop_del(a->loop, &a->h);
        a->events = 0;
        a->ev.exited(a->ev.ctx, (int)(n & 0xffff));
        break;
    case PROTO_ERROR:
        broken(a, wire_error(f, &e), e.msg);
        break;
    default:
        break;
    }
}

static void frames(struct agentio *a)
{
    struct session *s = a->s;
    struct proto_frame f;
    size_t used = 0;
    int k = 0;

    while (!a->over && !a->held && (k = proto_next(s->in + used, s->in_len - used, &f)) > 0) {
        used += (size_t)k;
        on_frame(a, &f);
    }
    if (k < 0)
        broken(a, -EPROTO, "the agent sent a malformed frame");
    if (a->over)
        return;
    memmove(s->in, s->in + used, s->in_len - used);
    s->in_len -= used;
}

static void feed(struct agentio *a)
{
    if (a->over || !a->hungry || a->s->out.len > 0 || a->credit == 0)
        return;
    a->hungry = false;
    a->ev.input_ready(a->ev.ctx);
}

static void ready(void *ctx, uint32_t events)
{
    struct agentio *a = ctx;

    if (!a->held) {
        int n = events & (EPOLLIN | EPOLLHUP | EPOLLERR) ? wire_fill(a->s) : 0;

        frames(a);
        if (n < 0 && !a->over && !a->held)
            broken(a, -ECONNRESET, "the machine closed the session");
    }
    if (a->over || !push(a))
        return;
    feed(a);
    if (!a->over)
        watch(a);
}

static void resume(void *ctx)
{
    struct agentio *a = ctx;

    if (a->held || a->over)
        return;
    frames(a);
    if (!a->over)
        watch(a);
}

void agentio_hold(struct agentio *a, bool yes)
{
    if (a->held == yes || a->over)
        return;
    a->held = yes;
    if (yes)
        watch(a);
    else
        resume(a);
}

void agentio_last_words(struct agentio *a)
{
    while (!a->over && !a->held) {
        int n = wire_fill(a->s);

        frames(a);
        if (n <= 0)
            break;
    }
    if (!a->over && !a->held)
        broken(a, -ECONNRESET, "the machine ended before the command did");
}

int agentio_new(struct session *s, struct loop *l, const struct agentio_events *ev,
                struct agentio **ret, struct err *e)
{
    struct agentio *a = calloc(1, sizeof(*a));

    if (!a) {
        session_close(s);
        return err_set(e, -ENOMEM, "out of memory");
    }
    *a = (struct agentio){.s = s, .loop = l, .ev = *ev, .credit = PROTO_WINDOW};
    a->h = (struct loop_fd){.fd = s->fd, .ready = ready, .ctx = a};
    s->out_off = s->out.len = 0;
    /* Ready at once: frames may have come with the answer to START. */
    a->events = EPOLLIN | EPOLLOUT;
    int r = loop_add(l, &a->h, a->events, e);
    if (r < 0) {
        agentio_free(a);
        return r;
    }
    *ret = a;
    return 0;
}

void agentio_free(struct agentio *a)
{
    if (!a)
        return;
    loop_del(a->loop, &a->h);
    session_close(a->s);
    free(a);
}
