#include "dev/virtio/vsconn.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define DUE(op) ((uint8_t)(1u << (op)))

/* The guest is told of forwarded bytes when a quarter of its window is new to it. */
enum { CREDIT_STEP = VSOCK_BUF_MAX / 4 };

static struct vsock_conn **bucket(struct vsock *d, uint32_t host_port, uint32_t guest_port)
{
    return &d->bucket[(host_port * 31 + guest_port) % VS_BUCKETS];
}

struct vsock_conn *vsconn_find(struct vsock *d, uint32_t host_port, uint32_t guest_port)
{
    struct vsock_conn *c = *bucket(d, host_port, guest_port);

    while (c && (c->host_port != host_port || c->guest_port != guest_port))
        c = c->hash_next;
    return c;
}

struct vsock_conn *vsconn_new(struct vsock *d, enum vs_state state, uint32_t host_port,
                              uint32_t guest_port)
{
    struct vsock_conn **b = bucket(d, host_port, guest_port);

    for (unsigned i = 0; i < VSOCK_CONNS_MAX; i++) {
        struct vsock_conn *c = &d->conn[i];

        if (c->state != VS_FREE)
            continue;
        *c = (struct vsock_conn){.dev = d,
                                 .state = state,
                                 .host_port = host_port,
                                 .guest_port = guest_port,
                                 .hash_next = *b};
        *b = c;
        return c;
    }
    return NULL;
}

static void unhash(struct vsock_conn *c)
{
    struct vsock_conn **p = bucket(c->dev, c->host_port, c->guest_port);

    while (*p && *p != c)
        p = &(*p)->hash_next;
    if (*p)
        *p = c->hash_next;
}

static void unqueue(struct vsock_conn *c)
{
    struct vsock_conn **p = &c->dev->run_head;

    if (!c->queued)
        return;
    while (*p != c)
        p = &(*p)->run_next;
    *p = c->run_next;
    if (!c->run_next)
        c->dev->run_tail = p;
    c->queued = false;
}

struct vsock_conn *vsconn_next(struct vsock *d)
{
    struct vsock_conn *c = d->run_head;

    if (c)
        unqueue(c);
    return c;
}

void vsconn_requeue(struct vsock_conn *c)
{
    struct vsock *d = c->dev;

    c->run_next = d->run_head;
    d->run_head = c;
    if (!c->run_next)
        d->run_tail = &c->run_next;
    c->queued = true;
}

/* The client's end, and what was kept for it. */
static void drop_client(struct vsock_conn *c)
{
    if (c->sock)
        c->dev->host.close(c->sock);
    c->sock = NULL;
    free(c->buf);
    c->buf = NULL;
    c->fwd += c->buf_len;
    c->buf_len = 0;
    c->readable = false;
}

void vsconn_free(struct vsock_conn *c)
{
    drop_client(c);
    unqueue(c);
    unhash(c);
    c->state = VS_FREE;
}

void vsconn_kill(struct vsock_conn *c)
{
    drop_client(c);
    c->state = VS_DEAD;
    c->todo = DUE(VS_RST);
    vsconn_update(c);
}

void vsconn_clear(struct vsock *d)
{
    for (unsigned i = 0; i < VSOCK_CONNS_MAX; i++) {
        if (d->conn[i].state != VS_FREE)
            vsconn_free(&d->conn[i]);
    }
}

/* 5.10.6.3: peer_buf_alloc - (tx_cnt - peer_fwd_cnt), with numbers that may be lies. */
uint32_t vsconn_credit(const struct vsock_conn *c)
{
    uint32_t in_flight = c->sent - c->peer_fwd;

    return in_flight < c->peer_alloc ? c->peer_alloc - in_flight : 0;
}

static bool may_send(const struct vsock_conn *c)
{
    return c->state == VS_OPEN && c->readable && !(c->shut_got & VS_SHUT_RECEIVE);
}

void vsconn_update(struct vsock_conn *c)
{
    struct vsock *d = c->dev;
    bool r = c->state == VS_OPEN && !c->readable && !c->eof && !(c->shut_got & VS_SHUT_RECEIVE);
    bool w = c->buf_len > 0;

    if (c->state == VS_FREE)
        return;
    if (may_send(c) && vsconn_credit(c) == 0 && !c->asked) {
        c->asked = true;
        c->todo |= DUE(VS_CREDIT_REQUEST);
    }
    if (c->fwd - c->fwd_told >= CREDIT_STEP && c->state == VS_OPEN)
        c->todo |= DUE(VS_CREDIT_UPDATE);
    if (!c->queued && (c->todo || (may_send(c) && vsconn_credit(c) > 0))) {
        c->run_next = NULL;
        *d->run_tail = c;
        d->run_tail = &c->run_next;
        c->queued = true;
    }
    if (c->sock && (r != c->watch_read || w != c->watch_write)) {
        c->watch_read = r;
        c->watch_write = w;
        d->host.watch(c->sock, r, w);
    }
}

/* Both directions of the client are over: the guest answers this with a reset when it has read
 * what came before. */
static void client_gone(struct vsock_conn *c)
{
    if (c->state == VS_LINGER) {
        vsconn_free(c);
        return;
    }
    if (c->shut_got == VS_SHUT_BOTH) {
        vsconn_kill(c);
        return;
    }
    drop_client(c);
    c->eof = true;
    c->shut_sent = VS_SHUT_BOTH;
    c->todo |= DUE(VS_SHUTDOWN);
}

/* The client reads no more; what it wrote may still be on its way to the guest. */
static void client_deaf(struct vsock_conn *c)
{
    if (c->eof || c->state == VS_LINGER || c->shut_got == VS_SHUT_BOTH) {
        client_gone(c);
        return;
    }
    c->fwd += c->buf_len;
    c->buf_len = 0;
    c->shut_sent |= VS_SHUT_RECEIVE;
    c->todo |= DUE(VS_SHUTDOWN);
}

/* Nothing is buffered any more: do what waited for it. */
static void flushed(struct vsock_conn *c)
{
    if (c->state == VS_LINGER)
        vsconn_free(c);
    else if (c->shut_got == VS_SHUT_BOTH)
        vsconn_kill(c);
    else if ((c->shut_got & VS_SHUT_SEND) && c->sock)
        c->dev->host.shutdown(c->sock, false, true);
}

static void flush(struct vsock_conn *c)
{
    while (c->buf_len > 0) {
        uint32_t first = VSOCK_BUF_MAX - c->buf_at;
        struct iovec iov[2] = {{c->buf + c->buf_at, first < c->buf_len ? first : c->buf_len},
                               {c->buf, first < c->buf_len ? c->buf_len - first : 0}};
        int64_t n = c->dev->host.write(c->sock, iov, iov[1].iov_len ? 2 : 1);

        if (n == -EAGAIN)
            return;
        if (n < 0) {
            client_deaf(c);
            return;
        }
        c->buf_at = (c->buf_at + (uint32_t)n) % VSOCK_BUF_MAX;
        c->buf_len -= (uint32_t)n;
        c->fwd += (uint32_t)n;
    }
    flushed(c);
}

static void keep(struct vsock_conn *c, const uint8_t *p, size_t n)
{
    uint32_t at = (c->buf_at + c->buf_len) % VSOCK_BUF_MAX;
    size_t first = VSOCK_BUF_MAX - at < n ? VSOCK_BUF_MAX - at : n;

    memcpy(c->buf + at, p, first);
    memcpy(c->buf, p + first, n - first);
    c->buf_len += (uint32_t)n;
}

int vsconn_deliver(struct vsock_conn *c, struct iovec *iov, unsigned n, uint32_t len)
{
    int64_t took = 0;

    if (len > VSOCK_BUF_MAX - c->buf_len)
        return -ENOBUFS;
    if (!c->sock || (c->shut_sent & VS_SHUT_RECEIVE)) {
        c->fwd += len; /* to nobody */
        return 0;
    }
    if (c->buf_len == 0 && len > 0)
        took = c->dev->host.write(c->sock, iov, n);
    if (took < 0 && took != -EAGAIN) {
        c->fwd += len;
        client_deaf(c);
        return 0;
    }
    size_t skip = took > 0 ? (size_t)took : 0;
    c->fwd += (uint32_t)skip;
    if (skip < len && !c->buf)
        c->buf = malloc(VSOCK_BUF_MAX);
    if (skip < len && !c->buf)
        return -ENOBUFS;
    for (unsigned i = 0; i < n; i++) {
        size_t s = skip < iov[i].iov_len ? skip : iov[i].iov_len;

        if (s < iov[i].iov_len)
            keep(c, (const uint8_t *)iov[i].iov_base + s, iov[i].iov_len - s);
        skip -= s;
    }
    return 0;
}

void vsconn_shutdown(struct vsock_conn *c, uint32_t flags)
{
    uint8_t new = (uint8_t)(flags & VS_SHUT_BOTH & ~c->shut_got);

    c->shut_got |= new;
    if ((new &VS_SHUT_RECEIVE) && c->sock && c->shut_got != VS_SHUT_BOTH)
        c->dev->host.shutdown(c->sock, true, false);
    if (c->buf_len == 0 && new)
        flushed(c);
}

void vsconn_reset(struct vsock_conn *c)
{
    if (c->state != VS_OPEN || c->shut_got != VS_SHUT_BOTH || c->buf_len == 0) {
        vsconn_free(c);
        return;
    }
    unqueue(c);
    unhash(c);
    c->todo = 0;
    c->state = VS_LINGER;
    vsconn_update(c);
}

void vsconn_accepted(struct vsock_conn *c)
{
    c->state = VS_OPEN;
    c->dev->host.accepted(c->sock);
}

void vsconn_eof(struct vsock_conn *c)
{
    c->readable = false;
    c->eof = true;
    if (c->hangup || (c->shut_sent & VS_SHUT_RECEIVE)) {
        client_gone(c);
        return;
    }
    c->shut_sent |= VS_SHUT_SEND;
    c->todo |= DUE(VS_SHUTDOWN);
}

void vsconn_ready(struct vsock_conn *c, bool readable, bool writable, bool hangup)
{
    c->hangup |= hangup;
    if (writable && c->sock)
        flush(c);
    if (!c->sock)
        return;
    if (readable && c->state == VS_OPEN && !c->eof)
        c->readable = true;
    if (!hangup)
        return;
    if (c->state == VS_CONNECTING)
        vsconn_kill(c);
    else if (c->eof || c->state == VS_LINGER || (c->shut_got & VS_SHUT_RECEIVE))
        client_gone(c);
}
