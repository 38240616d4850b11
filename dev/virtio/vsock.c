#include "dev/virtio/vsock.h"

#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "dev/virtio/vsconn.h"
#include "state/state.h"

enum { Q_RX = 0, Q_TX = 1, Q_EVENT = 2 }; /* 5.10.2 */
#define F_STREAM 1ull                     /* 5.10.3 */
enum { EVENT_TRANSPORT_RESET = 0 };       /* 5.10.6.7 */
enum {
    RX_IOV = 160,              /* entries of one read: a burst of ordinary chains */
    PUMP_MAX = 64,             /* packets or bursts sent before others have their turn */
    FIRST_HOST_PORT = 1 << 30, /* streams the host begins come from here up */
};

struct vs_hdr { /* 5.10.6, wire layout, little-endian */
    uint64_t src_cid, dst_cid;
    uint32_t src_port, dst_port, len;
    uint16_t type, op;
    uint32_t flags, buf_alloc, fwd_cnt;
} __attribute__((packed));
_Static_assert(sizeof(struct vs_hdr) == 44, "VIRTIO 1.2, 5.10.6");
enum { HDR = 44 };

static struct vs_hdr make_hdr(const struct vsock *d, struct vs_addr a, enum vs_op op, uint32_t len)
{
    return (struct vs_hdr){.src_cid = htole64(VSOCK_CID_HOST),
                           .dst_cid = htole64(d->cid),
                           .src_port = htole32(a.host_port),
                           .dst_port = htole32(a.guest_port),
                           .len = htole32(len),
                           .type = htole16(VS_TYPE_STREAM),
                           .op = htole16(op)};
}

static struct vs_hdr conn_hdr(const struct vsock_conn *c, enum vs_op op, uint32_t len)
{
    struct vs_hdr h = make_hdr(c->dev, (struct vs_addr){c->host_port, c->guest_port}, op, len);

    h.flags = htole32(op == VS_SHUTDOWN ? c->shut_sent : 0);
    h.buf_alloc = htole32(VSOCK_BUF_MAX);
    h.fwd_cnt = htole32(c->fwd);
    return h;
}

/* A packet of c is in the guest's hands: every one carries our credit. */
static void sent(struct vsock_conn *c, enum vs_op op, uint32_t len)
{
    c->sent += len;
    c->fwd_told = c->fwd;
    c->todo &= (uint8_t) ~(1u << op | 1u << VS_CREDIT_UPDATE);
}

/* ---- towards the guest ---------------------------------------------------- */

/* One packet without payload. 1 = sent, 0 = the driver gave no buffer, -errno = broken. */
static int send_hdr(struct vsock *d, const struct vs_hdr *h)
{
    struct vq *q = &d->port->q[Q_RX];
    struct vq_chain c;
    int r = vq_pop(q, &c);

    if (r <= 0)
        return r;
    int64_t n = vq_write(q, &c, 0, h, HDR);
    if (n < HDR)
        return n < 0 ? (int)n : -EPROTO;
    r = vq_push(q, c.head, HDR);
    return r < 0 ? r : 1;
}

static int send_reply(struct vsock *d)
{
    struct vs_hdr h = make_hdr(d, d->replies[d->r_at], VS_RST, 0);
    int r = send_hdr(d, &h);

    if (r > 0) {
        d->r_at = (d->r_at + 1) % VSOCK_REPLIES_MAX;
        d->r_len--;
    }
    return r;
}

static int send_control(struct vsock_conn *c)
{
    enum vs_op op = (enum vs_op)__builtin_ctz(c->todo);
    struct vs_hdr h = conn_hdr(c, op, 0);
    int r = send_hdr(c->dev, &h);

    if (r <= 0)
        return r;
    sent(c, op, 0);
    if (c->state == VS_DEAD)
        vsconn_free(c);
    return r;
}

/* Take chains for at most `credit` bytes: iovecs of their payload in *iov, *n of them. Returns how
 * many chains (rx, rx_room), 0 = none there, -errno. */
static int take_chains(struct vsock *d, uint32_t credit, struct iovec *iov, unsigned *n)
{
    struct vq *q = &d->port->q[Q_RX];
    int k = 0;

    *n = 0;
    while (k < VS_RX_BURST && credit > 0 && *n < RX_IOV) {
        struct vq_chain *c = &d->rx[k];
        int r = vq_pop(q, c);

        if (r == 0)
            break;
        if (r < 0 || c->in_len <= HDR)
            return r < 0 ? r : -EPROTO;
        uint64_t room = c->in_len - HDR < VSOCK_PKT_MAX ? c->in_len - HDR : VSOCK_PKT_MAX;
        r = vq_iov(q, c, true, HDR, room < credit ? room : credit, iov + *n, RX_IOV - *n);
        if (r < 0)
            return r;
        d->rx_room[k] = 0;
        for (int i = 0; i < r; i++)
            d->rx_room[k] += (uint32_t)iov[*n + (unsigned)i].iov_len;
        credit -= d->rx_room[k++];
        *n += (unsigned)r;
    }
    return k;
}

/* Make packets of `got` bytes that lie in the first of `k` chains; the others go back. */
static int push_chains(struct vsock_conn *conn, int k, uint64_t got)
{
    struct vsock *d = conn->dev;
    struct vq *q = &d->port->q[Q_RX];
    int used = 0;

    for (; used < k && got > 0; used++) {
        struct vq_chain *c = &d->rx[used];
        uint32_t len = got < d->rx_room[used] ? (uint32_t)got : d->rx_room[used];
        struct vs_hdr h = conn_hdr(conn, VS_RW, len);

        if (vq_write(q, c, 0, &h, HDR) != HDR)
            return -EFAULT;
        vq_wrote(q, c, HDR, len);
        int r = vq_push(q, c->head, HDR + len);
        if (r < 0)
            return r;
        sent(conn, VS_RW, len);
        got -= len;
    }
    for (; used < k; used++)
        vq_unpop(q);
    return 0;
}

/* One read from the client straight into as many of the driver's buffers as it fills. */
static int send_data(struct vsock_conn *c)
{
    struct vsock *d = c->dev;
    struct iovec iov[RX_IOV];
    unsigned n;
    uint64_t room = 0;
    int k = take_chains(d, vsconn_credit(c), iov, &n);

    if (k <= 0)
        return k;
    for (int i = 0; i < k; i++)
        room += d->rx_room[i];
    int64_t got = d->host.read(c->sock, iov, n);
    int r = push_chains(c, k, got > 0 ? (uint64_t)got : 0);
    if (r < 0)
        return r;
    if (got == -EAGAIN || (got > 0 && (uint64_t)got < room))
        c->readable = false;
    else if (got <= 0)
        vsconn_eof(c);
    return 1;
}

/* 5.10.6.7. Linux drops every stream it knows when it reads this, and takes the packets of the
 * receive queue at the same time: so nothing else is sent until it has come back from that, which
 * the buffer shows that it puts in place of this one. */
static void send_event(struct vsock *d)
{
    struct vq *q = &d->port->q[Q_EVENT];
    uint32_t id = htole32(EVENT_TRANSPORT_RESET);
    struct vq_chain c;
    int r;

    if (!d->reset_event)
        return;
    r = vq_pop(q, &c);
    if (r == 0)
        return; /* a driver that does not listen */
    if (r > 0)
        r = vq_write(q, &c, 0, &id, sizeof(id)) == sizeof(id) ? vq_push(q, c.head, sizeof(id))
                                                              : -EPROTO;
    if (r < 0) {
        d->port->broken(d->port->ctx, "event queue");
        return;
    }
    d->reset_event = false;
    d->resetting = true;
    d->reset_idx = vq_avail_idx(q);
    vq_want_kick(q);
    d->port->used(d->port->ctx, Q_EVENT);
}

/* Send what is due, a packet or a burst from each stream in turn. */
static void pump(struct vsock *d)
{
    unsigned n;
    int r = 1;

    if (!d->port->live)
        return;
    send_event(d);
    if (d->resetting)
        return;
    for (n = 0; n < PUMP_MAX && r > 0; n++) {
        struct vsock_conn *c = NULL;

        if (d->r_len > 0) {
            r = send_reply(d);
            continue;
        }
        c = vsconn_next(d);
        if (!c)
            break;
        if (c->todo)
            r = send_control(c);
        else if (c->readable && c->sock && vsconn_credit(c) > 0)
            r = send_data(c);
        if (r == 0)
            vsconn_requeue(c);
        else if (r > 0)
            vsconn_update(c);
    }
    d->port->used(d->port->ctx, Q_RX);
    if (r < 0) {
        d->port->broken(d->port->ctx, "receive queue");
        return;
    }
    if (n == PUMP_MAX)
        d->port->again(d->port->ctx, Q_RX);
    if (d->tx_stalled && d->r_len < VSOCK_REPLIES_MAX) {
        d->tx_stalled = false;
        d->port->again(d->port->ctx, Q_TX);
    }
}

/* ---- from the guest --------------------------------------------------------- */

static void reply_reset(struct vsock *d, const struct vs_hdr *h)
{
    unsigned at = (d->r_at + d->r_len) % VSOCK_REPLIES_MAX;

    d->replies[at] = (struct vs_addr){le32toh(h->dst_port), le32toh(h->src_port)};
    d->r_len++; /* the caller saw that there is room */
}

static void on_request(struct vsock *d, const struct vs_hdr *h)
{
    uint32_t port = le32toh(h->dst_port);
    struct vsock_conn *c = vsconn_new(d, VS_OPEN, port, le32toh(h->src_port));

    if (c && d->host.open(d->host.ctx, port, c, &c->sock) < 0) {
        c->sock = NULL;
        vsconn_free(c);
        c = NULL;
    }
    if (!c) {
        reply_reset(d, h);
        return;
    }
    c->peer_alloc = le32toh(h->buf_alloc);
    c->peer_fwd = le32toh(h->fwd_cnt);
    c->todo = 1u << VS_RESPONSE;
    vsconn_update(c);
}

static bool deliver(struct vsock_conn *c, const struct vq_chain *chain, uint32_t len)
{
    struct iovec iov[VQ_SEG_MAX];
    int n = vq_iov(&c->dev->port->q[Q_TX], chain, false, HDR, len, iov, VQ_SEG_MAX);

    return n >= 0 && vsconn_deliver(c, iov, (unsigned)n, len) == 0;
}

/* A packet of a stream that exists. False: it is not one the guest may send now. */
static bool on_packet(struct vsock_conn *c, const struct vs_hdr *h, const struct vq_chain *chain)
{
    uint32_t len = le32toh(h->len);
    bool open = c->state == VS_OPEN;

    c->peer_alloc = le32toh(h->buf_alloc);
    c->peer_fwd = le32toh(h->fwd_cnt);
    c->asked &= vsconn_credit(c) == 0;
    switch (le16toh(h->op)) {
    case VS_RESPONSE:
        if (c->state != VS_CONNECTING)
            return false;
        vsconn_accepted(c);
        return true;
    case VS_SHUTDOWN:
        if (open)
            vsconn_shutdown(c, le32toh(h->flags));
        return open;
    case VS_RW:
        return open && !(c->shut_got & VS_SHUT_SEND) && deliver(c, chain, len);
    case VS_CREDIT_UPDATE:
        return open;
    case VS_CREDIT_REQUEST:
        c->todo |= 1u << VS_CREDIT_UPDATE;
        return open;
    default:
        return false;
    }
}

/* 5.10.6.4: what is not understood is answered with a reset. */
static void on_chain(struct vsock *d, const struct vs_hdr *h, const struct vq_chain *chain)
{
    struct vsock_conn *c;

    if (le64toh(h->src_cid) != d->cid || le64toh(h->dst_cid) != VSOCK_CID_HOST)
        return; /* from or to someone else */
    c = vsconn_find(d, le32toh(h->dst_port), le32toh(h->src_port));
    bool good = le16toh(h->type) == VS_TYPE_STREAM && le32toh(h->len) <= VSOCK_PKT_MAX &&
                le32toh(h->len) <= chain->out_len - HDR;
    if (le16toh(h->op) == VS_RST) {
        if (c)
            vsconn_reset(c);
    } else if (!c) {
        if (good && le16toh(h->op) == VS_REQUEST)
            on_request(d, h);
        else
            reply_reset(d, h);
    } else if (c->state == VS_DEAD) {
        return; /* its reset is on the way */
    } else if (good && on_packet(c, h, chain)) {
        vsconn_update(c);
    } else {
        vsconn_kill(c);
    }
}

static void transmit(struct vsock *d)
{
    struct vq *q = &d->port->q[Q_TX];
    struct vq_chain c;
    unsigned n;
    int r = 0;

    for (n = 0; n < VIRTIO_KICK_MAX; n++) {
        struct vs_hdr h;

        d->tx_stalled = d->r_len == VSOCK_REPLIES_MAX;
        if (d->tx_stalled)
            break;
        r = vq_pop(q, &c);
        if (r <= 0)
            break;
        if (vq_read(q, &c, 0, &h, HDR) != HDR) {
            r = -EPROTO;
            break;
        }
        on_chain(d, &h, &c);
        r = vq_push(q, c.head, 0);
        if (r < 0)
            break;
    }
    d->port->used(d->port->ctx, Q_TX);
    if (r < 0)
        d->port->broken(d->port->ctx, "transmit queue");
    else if (n == VIRTIO_KICK_MAX)
        d->port->again(d->port->ctx, Q_TX);
    pump(d);
}

static void vsock_kick(void *dev, unsigned n)
{
    struct vsock *d = dev;

    if (n == Q_TX)
        transmit(d);
    else if (n == Q_RX)
        pump(d);
    else {
        /* A load kicks every queue: only another buffer says that the driver came back. */
        d->resetting &= vq_avail_idx(&d->port->q[Q_EVENT]) == d->reset_idx;
        pump(d);
    }
}

/* ---- from the host side ---------------------------------------------------- */

static uint32_t free_port(struct vsock *d, uint32_t guest_port)
{
    uint32_t p;

    do {
        p = d->next_port++;
        if (d->next_port < FIRST_HOST_PORT)
            d->next_port = FIRST_HOST_PORT;
    } while (vsconn_find(d, p, guest_port)); /* there are fewer streams than ports */
    return p;
}

static int on_connect(void *dev, uint32_t port, struct vsock_sock *s, struct vsock_conn **ret,
                      uint32_t *host_port)
{
    struct vsock *d = dev;

    if (!d->port || !d->port->live)
        return -ENOTCONN;
    uint32_t from = free_port(d, port);
    struct vsock_conn *c = vsconn_new(d, VS_CONNECTING, from, port);
    if (!c)
        return -ENOSPC;
    c->sock = s;
    c->todo = 1u << VS_REQUEST;
    *ret = c;
    *host_port = from;
    vsconn_update(c);
    pump(d);
    return 0;
}

static void on_ready(struct vsock_conn *c, bool readable, bool writable, bool hangup)
{
    vsconn_ready(c, readable, writable, hangup);
    vsconn_update(c);
    pump(c->dev);
}

/* ---- the device -------------------------------------------------------------- */

struct vsock *vsock_new(uint64_t cid, const struct vsock_host *host, struct err *e)
{
    struct vsock *d = calloc(1, sizeof(*d));

    /* 5.10.4: 0, 1, 2 and all ones are reserved, and the upper half is zero. */
    if (!d || cid < VSOCK_CID_MIN || cid >= UINT32_MAX) {
        if (d)
            err_set(e, -EINVAL, "virtio-vsock: no guest has CID %llu", (unsigned long long)cid);
        else
            err_set(e, -ENOMEM, "virtio-vsock: out of memory");
        free(d);
        if (host->destroy)
            host->destroy(host->ctx);
        return NULL;
    }
    d->cid = cid;
    d->host = *host;
    d->next_port = FIRST_HOST_PORT;
    d->run_tail = &d->run_head;
    struct vsock_guest g = {.dev = d, .connect = on_connect, .ready = on_ready};
    d->host.attach(d->host.ctx, &g);
    return d;
}

static uint64_t vsock_features(void *dev)
{
    return F_STREAM;
}

static void vsock_attach(void *dev, struct virtio_port *p)
{
    ((struct vsock *)dev)->port = p;
}

static void vsock_config_read(void *dev, unsigned off, void *buf, unsigned len)
{
    uint64_t cid = htole64(((struct vsock *)dev)->cid); /* 5.10.4 */

    memcpy(buf, (const uint8_t *)&cid + off, len);
}

static void vsock_reset(void *dev)
{
    struct vsock *d = dev;

    vsconn_clear(d);
    d->r_len = 0;
    d->tx_stalled = false;
    d->reset_event = d->resetting = false;
}

static void vsock_visit(void *dev, struct state_io *io)
{
    struct vsock *d = dev;
    uint32_t port = d->next_port;

    state_u32(io, 1, &port);
    if (!state_loading(io))
        return;
    vsock_reset(d);
    d->next_port = port < FIRST_HOST_PORT ? FIRST_HOST_PORT : port;
    d->reset_event = d->port->live;
}

static void vsock_destroy(void *dev)
{
    struct vsock *d = dev;

    if (!d)
        return;
    vsconn_clear(d);
    if (d->host.destroy)
        d->host.destroy(d->host.ctx);
    free(d);
}

const struct virtio_ops vsock_ops = {
    .name = "virtio-vsock",
    .id = 19, /* 5.10.1 */
    .n_queues = 3,
    .features = vsock_features,
    .attach = vsock_attach,
    .kick = vsock_kick,
    .config_len = 8,
    .config_read = vsock_config_read,
    .reset = vsock_reset,
    .visit = vsock_visit,
    .destroy = vsock_destroy,
};
