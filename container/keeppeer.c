/* The keeper's connections: requests come in, answers and streams go out. Nothing blocks: what a
 * client does not take waits in a bounded buffer, and above PEER_HOLD the container's output is not
 * read until it is taken. One that is done with is marked, and freed between rounds of the loop. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "container/keeperpriv.h"
#include "proto/agent.h"

enum peer_state {
    PEER_READING,  /* its request */
    PEER_WAITING,  /* for an answer */
    PEER_LISTENS,  /* who started and does not stay: hears how that goes */
    PEER_ATTACHED, /* frames both ways */
    PEER_LAST,     /* let go when all is sent */
};

enum { IN_LEN = PROTO_HDR + PEER_FRAME_MAX, ACK_LEAST = PROTO_WINDOW / 4 };

struct peer {
    struct keeper *k;
    struct peer *next;
    int fd;
    struct loop_fd h;
    uint32_t events;
    enum peer_state state;
    enum peer_waits waits;
    bool dead, starter, with_stdin, owns_stdin, full;
    bool unread[2]; /* it does not read this stream */
    size_t in_len;
    uint8_t *in;      /* IN_LEN */
    uint8_t *stdin_q; /* PROTO_WINDOW bytes of input that the container did not take yet */
    size_t q_off, q_len;
    bool q_end;
    size_t unacked; /* bytes the task took that are in flight */
    uint32_t ack;   /* and those that are not any more, not yet told */
    uint8_t *out;
    size_t out_off, out_len, out_cap;
};

/* ---- output */

static void hold_or_not(struct keeper *k)
{
    bool yes = k->n_full > 0;

    if (yes == k->held || !k->task)
        return;
    k->held = yes;
    k->ops->hold(k->task, yes);
}

static void set_full(struct peer *p, bool full)
{
    if (p->full == full)
        return;
    p->full = full;
    p->k->n_full += full ? 1 : (unsigned)-1;
    hold_or_not(p->k);
}

/* The next round frees it. */
static void give_up(struct peer *p)
{
    bool owned = p->owns_stdin && p->state == PEER_ATTACHED;
    struct keeper *k = p->k;

    if (p->dead)
        return;
    p->dead = true;
    loop_del(k->loop, &p->h);
    cleanup_fd(&p->fd);
    p->fd = -1;
    set_full(p, false);
    /* As a pipe whose writer is gone. */
    if (owned && k->task && !k->rec->spec.tty)
        k->ops->input_end(k->task);
}

void peer_drop(struct keeper *k, struct peer *p)
{
    give_up(p);
}

static size_t pending(const struct peer *p)
{
    return p->out_len - p->out_off;
}

static void watch(struct peer *p)
{
    uint32_t want = (p->state == PEER_LAST ? 0 : EPOLLIN) | (pending(p) ? EPOLLOUT : 0);

    if (p->dead)
        return;
    if (want == 0) { /* PEER_LAST, and all is sent */
        give_up(p);
        return;
    }
    if (want != p->events)
        loop_mod(p->k->loop, &p->h, want);
    p->events = want;
    if (pending(p) < PEER_HOLD / 2)
        set_full(p, false);
}

static bool keep_rest(struct peer *p, const uint8_t *bytes, size_t len)
{
    if (p->out_off > 0) {
        memmove(p->out, p->out + p->out_off, pending(p));
        p->out_len -= p->out_off;
        p->out_off = 0;
    }
    if (p->out_len + len > p->out_cap) {
        size_t cap = 2 * (p->out_len + len);
        uint8_t *more = cap > 2 * (size_t)PEER_OUT_MAX ? NULL : realloc(p->out, cap);

        if (!more)
            return false;
        p->out = more;
        p->out_cap = cap;
    }
    memcpy(p->out + p->out_len, bytes, len);
    p->out_len += len;
    return true;
}

static void send_all(struct peer *p, const void *head, size_t head_len, const void *bytes,
                     size_t len)
{
    struct iovec v[2] = {{(void *)(uintptr_t)head, head_len}, {(void *)(uintptr_t)bytes, len}};
    struct msghdr m = {.msg_iov = v, .msg_iovlen = 2};
    ssize_t n = 0;

    if (p->dead || p->state == PEER_LAST)
        return;
    if (pending(p) == 0)
        n = sendmsg(p->fd, &m, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (n < 0 && errno != EAGAIN && errno != EINTR) {
        give_up(p);
        return;
    }
    size_t sent = n > 0 ? (size_t)n : 0;
    size_t of_head = sent < head_len ? sent : head_len;
    if ((of_head < head_len &&
         !keep_rest(p, (const uint8_t *)head + of_head, head_len - of_head)) ||
        (sent < head_len + len &&
         !keep_rest(p, (const uint8_t *)bytes + (sent - of_head), len - (sent - of_head)))) {
        give_up(p);
        return;
    }
    if (pending(p) >= PEER_HOLD)
        set_full(p, true);
    watch(p);
}

static void send_frame(struct peer *p, unsigned type, const void *bytes, size_t len)
{
    uint8_t head[PROTO_HDR];

    proto_header(head, (enum proto_type)type, 0, (uint32_t)len);
    send_all(p, head, sizeof(head), bytes, len);
}

static void send_u32(struct peer *p, unsigned type, uint32_t v)
{
    uint8_t le[4] = {(uint8_t)v, (uint8_t)(v >> 8), (uint8_t)(v >> 16), (uint8_t)(v >> 24)};

    send_frame(p, type, le, sizeof(le));
}

static void send_error(struct peer *p, const struct err *e)
{
    CLEANUP(mem) struct proto_buf *b = malloc(sizeof(*b));

    if (!b) {
        give_up(p);
        return;
    }
    proto_begin(b, PROTO_ERROR, 0);
    /* A line that breaks is the keeper's own end, not its machine's. */
    proto_put_u32(b, PF_CODE, e->code == -ECONNRESET ? EIO : (uint32_t)-e->code);
    proto_put_str(b, PF_TEXT, e->msg);
    BUG_ON(proto_end(b) < 0);
    send_all(p, b->b, b->len, NULL, 0);
}

static void flush(struct peer *p)
{
    while (!p->dead && pending(p) > 0) {
        ssize_t n = send(p->fd, p->out + p->out_off, pending(p), MSG_DONTWAIT | MSG_NOSIGNAL);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN)
            break;
        if (n < 0) {
            give_up(p);
            return;
        }
        p->out_off += (size_t)n;
    }
    if (pending(p) == 0) {
        free(p->out);
        p->out = NULL;
        p->out_off = p->out_len = p->out_cap = 0;
    }
    watch(p);
}

/* ---- input */

static void acknowledge(struct peer *p)
{
    if (p->ack == 0 || (p->ack < ACK_LEAST && p->q_len > 0))
        return;
    send_u32(p, PROTO_STDIN_ACK, p->ack);
    p->ack = 0;
}

/* Credit goes back to clients only for what reached the process's side: so one sees whether it
 * lives. Whose bytes those were does not matter. */
static void arrived(struct keeper *k)
{
    size_t flying = k->task && k->ops->in_flight ? k->ops->in_flight(k->task) : 0,
           n = k->unacked > flying ? k->unacked - flying : 0;

    for (struct peer *p = k->peers; p; p = p->next) {
        size_t m = p->unacked < n ? p->unacked : n;

        p->unacked -= m;
        k->unacked -= m;
        n -= m;
        p->ack += (uint32_t)m;
        if (!p->dead && p->state == PEER_ATTACHED)
            acknowledge(p);
    }
}

static void feed(struct peer *p)
{
    struct keeper *k = p->k;

    while (p->q_len > 0 && k->task) {
        size_t n = k->ops->input(k->task, p->stdin_q + p->q_off, p->q_len);

        if (n == 0)
            break;
        p->q_off += n;
        p->q_len -= n;
        p->unacked += n;
        k->unacked += n;
    }
    if (p->q_len == 0)
        p->q_off = 0;
    if (p->q_len == 0 && p->q_end && p->owns_stdin && k->task) {
        p->q_end = p->owns_stdin = false;
        k->ops->input_end(k->task);
    }
    arrived(k);
}

static void on_stdin(struct peer *p, const struct proto_frame *f)
{
    if (!p->with_stdin)
        return;
    if (f->len == 0) {
        p->q_end = true;
    } else {
        if (!p->stdin_q)
            p->stdin_q = malloc(PROTO_WINDOW);
        if (!p->stdin_q || f->len > PROTO_WINDOW - p->q_len) { /* beyond its credit */
            give_up(p);
            return;
        }
        if (p->q_off + p->q_len + f->len > PROTO_WINDOW) {
            memmove(p->stdin_q, p->stdin_q + p->q_off, p->q_len);
            p->q_off = 0;
        }
        memcpy(p->stdin_q + p->q_off + p->q_len, f->p, f->len);
        p->q_len += f->len;
    }
    feed(p);
}

/* The stream has no reader any more: none of the others', and this was the one it was for. */
static void on_unread(struct peer *p, enum task_stream stream)
{
    struct keeper *k = p->k;

    p->unread[stream] = true;
    for (const struct peer *q = k->peers; q; q = q->next)
        if (!q->dead && q->state == PEER_ATTACHED && !q->unread[stream])
            return;
    if (p->starter)
        keeper_unread(k, stream);
}

static void on_frame(struct peer *p, const struct proto_frame *f)
{
    struct keeper *k = p->k;

    switch (f->type) {
    case PROTO_STDIN:
        on_stdin(p, f);
        break;
    case PROTO_STDOUT:
    case PROTO_STDERR:
        on_unread(p, f->type == PROTO_STDOUT ? TASK_STDOUT : TASK_STDERR);
        break;
    case PROTO_WINSIZE:
        if (f->len == 4 && k->task)
            k->ops->resize(k->task, (uint16_t)(f->p[0] | f->p[1] << 8),
                           (uint16_t)(f->p[2] | f->p[3] << 8));
        break;
    case PROTO_SIGNAL:
        if (f->len == 4)
            keeper_signal(k, f->p[0]);
        break;
    default:
        break;
    }
}

static void frames(struct peer *p)
{
    struct proto_frame f;
    size_t used = 0;
    int n = 0;

    while (!p->dead && (n = proto_next(p->in + used, p->in_len - used, &f)) > 0) {
        used += (size_t)n;
        on_frame(p, &f);
    }
    if (p->dead)
        return;
    memmove(p->in, p->in + used, p->in_len - used);
    p->in_len -= used;
    if (n < 0 || p->in_len == IN_LEN)
        give_up(p);
}

static void request(struct peer *p)
{
    size_t len = p->in_len < PEER_LINE_MAX ? p->in_len : PEER_LINE_MAX;
    char *end = memchr(p->in, '\n', len);

    if (!end) {
        if (len == PEER_LINE_MAX)
            give_up(p);
        return;
    }
    size_t used = (size_t)(end + 1 - (char *)p->in);
    CLEANUP(mem) char *line = strndup((char *)p->in, used - 1);
    memmove(p->in, p->in + used, p->in_len - used);
    p->in_len -= used;
    if (!line) {
        give_up(p);
        return;
    }
    p->state = PEER_WAITING;
    request_serve(p->k, p, line);
}

static void ready(void *ctx, uint32_t events)
{
    struct peer *p = ctx;

    if (events & EPOLLOUT)
        flush(p);
    if (p->dead || !(events & (EPOLLIN | EPOLLHUP | EPOLLERR)))
        return;
    if (p->state == PEER_LAST) { /* hung up with bytes of ours unread */
        give_up(p);
        return;
    }
    ssize_t n = recv(p->fd, p->in + p->in_len, IN_LEN - p->in_len, MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0) {
        give_up(p);
        return;
    }
    p->in_len += (size_t)n;
    if (p->state == PEER_READING)
        request(p);
    if (p->state == PEER_ATTACHED)
        frames(p);
    else if (p->in_len == IN_LEN)
        give_up(p); /* it has nothing more to say */
}

/* ---- life */

struct peer *peer_new(struct keeper *k, int fd)
{
    struct peer *p = k->n_peers < PEERS_MAX ? calloc(1, sizeof(*p)) : NULL;
    uint8_t *in = p ? malloc(IN_LEN) : NULL;

    if (in) {
        *p = (struct peer){.k = k, .fd = fd, .in = in, .events = EPOLLIN, .next = k->peers};
        p->h = (struct loop_fd){.fd = fd, .ready = ready, .ctx = p};
    }
    if (!in || loop_add(k->loop, &p->h, EPOLLIN, NULL) < 0) {
        free(in);
        free(p);
        close(fd);
        return NULL;
    }
    k->peers = p;
    k->n_peers++;
    return p;
}

struct peer *peer_starter(struct keeper *k, int fd, bool attached, bool with_stdin)
{
    struct peer *p = peer_new(k, fd);

    if (!p)
        return NULL;
    p->starter = true;
    p->state = PEER_LISTENS;
    if (attached)
        peer_attach(k, p, with_stdin, true);
    return p;
}

void peer_attach(struct keeper *k, struct peer *p, bool with_stdin, bool owns_stdin)
{
    p->state = PEER_ATTACHED;
    p->with_stdin = with_stdin;
    p->owns_stdin = with_stdin && owns_stdin;
    if (!p->starter)
        send_frame(p, PROTO_STARTED, NULL, 0);
}

void peer_wait(struct peer *p, enum peer_waits what)
{
    p->waits = what;
}

static void let_go(struct peer *p)
{
    if (p->dead)
        return;
    p->state = PEER_LAST;
    watch(p);
}

void peer_answer(struct keeper *k, struct peer *p, int code, const char *error, json_t *out)
{
    json_t *j = out ? out : json_object();

    json_object_set_new(j, "ok", json_boolean(code >= 0));
    if (code < 0) {
        json_object_set_new(j, "code", json_integer(code));
        json_object_set_new(j, "error", json_string(error ? error : "refused"));
    }
    CLEANUP(mem) char *text = json_dumps(j, JSON_COMPACT);
    json_decref(j);
    if (text)
        send_all(p, text, strlen(text), "\n", 1);
    let_go(p);
}

static struct peer *starter(struct keeper *k)
{
    struct peer *p = k->peers;

    while (p && (!p->starter || p->dead))
        p = p->next;
    return p;
}

void peer_tell_starter(struct keeper *k, unsigned type, const void *bytes, size_t len)
{
    struct peer *p = starter(k);

    if (p)
        send_frame(p, type, bytes, len);
    if (p && type == PROTO_STARTED && p->state == PEER_LISTENS)
        let_go(p);
}

void peer_error(struct keeper *k, struct peer *p, const struct err *e)
{
    if (!p)
        p = starter(k);
    if (!p)
        return;
    send_error(p, e);
    let_go(p);
}

void peers_output(struct keeper *k, enum task_stream stream, const void *bytes, size_t len)
{
    for (struct peer *p = k->peers; p; p = p->next)
        if (!p->dead && p->state == PEER_ATTACHED && !p->unread[stream])
            send_frame(p, stream == TASK_STDOUT ? PROTO_STDOUT : PROTO_STDERR, bytes, len);
}

void peers_end(struct keeper *k, int status, const struct err *e)
{
    for (struct peer *p = k->peers; p; p = p->next) {
        if (p->dead || (p->state != PEER_ATTACHED && p->state != PEER_LISTENS))
            continue;
        p->owns_stdin = false;
        if (e && e->code < 0)
            send_error(p, e);
        else
            send_u32(p, PROTO_EXIT, (uint32_t)status);
        let_go(p);
    }
}

void peers_answer(struct keeper *k, enum peer_waits what, int exit_code)
{
    for (struct peer *p = k->peers; p; p = p->next) {
        if (p->dead || p->state != PEER_WAITING || p->waits != what)
            continue;
        p->waits = PEER_NOTHING;
        peer_answer(k, p, 0, NULL, json_pack("{s:i}", "exit_code", exit_code));
    }
}

void peers_input_ready(struct keeper *k)
{
    for (struct peer *p = k->peers; p; p = p->next)
        if (!p->dead && p->state == PEER_ATTACHED)
            feed(p);
    arrived(k);
}

bool peers_any(const struct keeper *k, bool only_output)
{
    for (const struct peer *p = k->peers; p; p = p->next)
        if (!p->dead && (!only_output || p->state == PEER_LAST))
            return true;
    return false;
}

void peers_sweep(struct keeper *k)
{
    for (struct peer **at = &k->peers; *at;) {
        struct peer *p = *at;

        if (!p->dead) {
            at = &p->next;
            continue;
        }
        *at = p->next;
        k->n_peers--;
        k->unacked -= p->unacked;
        free(p->in);
        free(p->stdin_q);
        free(p->out);
        free(p);
    }
}

void peers_free(struct keeper *k)
{
    for (struct peer *p = k->peers; p; p = p->next)
        give_up(p);
    peers_sweep(k);
}
