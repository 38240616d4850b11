/* The card's receive queues. Frames are read straight into the driver's buffers, so that enough of
 * these for the largest frame are taken from the queue before it is known how large the next one
 * is; those that it did not fill wait for the one after. */
#include <endian.h>
#include <errno.h>
#include <string.h>

#include "dev/virtio/vnet_priv.h"

enum { FRAME_PLAIN = 1500 + 14 + 4 };

enum { NUM_BUFFERS = 10 }; /* offset in struct virtio_net_hdr, 5.1.6 */

static bool mergeable(const struct vnet *d)
{
    return d->port->features & F_MRG_RXBUF;
}

/* What is aimed at, and what must be there: a driver that takes no segments may have a queue too
 * small for the largest frame, but the wire brings none (5.1.6.3.1). */
static uint64_t wanted(const struct vnet *d)
{
    return mergeable(d) ? NET_HDR_LEN + NET_FRAME_MAX : 1;
}

static uint64_t needed(const struct vnet *d)
{
    bool segments = d->offloads & ~(uint32_t)F_GUEST_CSUM;

    return !mergeable(d) ? 1 : NET_HDR_LEN + (segments ? NET_FRAME_MAX : FRAME_PLAIN);
}

void vnetrx_forget(struct vnet *d, unsigned pair)
{
    struct vnet_rx *x = &d->rx[pair];

    x->n_bufs = x->n_segs = 0;
    x->len = 0;
}

void vnetrx_return(struct vnet *d, unsigned pair)
{
    struct vnet_rx *x = &d->rx[pair];

    for (unsigned i = 0; i < x->n_bufs; i++)
        vq_unpop(vnet_rxq(d, pair));
    vnetrx_forget(d, pair);
}

/* Take one chain; 1, 0 = none or no place for it, negative = the driver's fault. */
static int take(struct vnet *d, struct vnet_rx *x, struct vq *q)
{
    struct vq_chain *c = &d->chain;

    if (x->n_bufs == VNET_RX_BUFS)
        return 0;
    int r = vq_pop(q, c);
    if (r <= 0)
        return r;
    if (c->n_out > 0 || c->in_len < NET_HDR_LEN || c->in_len > UINT32_MAX)
        return -EPROTO;
    if (c->n_in > VNET_RX_SEGS - x->n_segs) {
        vq_unpop(q);
        return 0;
    }
    r = vq_iov(q, c, true, 0, c->in_len, x->iov + x->n_segs, c->n_in);
    if (r < 0)
        return r;
    memcpy(x->seg + x->n_segs, c->seg, c->n_in * sizeof(c->seg[0]));
    x->buf[x->n_bufs++] = (struct vnet_buf){c->head, (uint16_t)c->n_in, (uint32_t)c->in_len};
    x->n_segs += c->n_in;
    x->len += c->in_len;
    return 1;
}

/* 1: a frame can be read. A driver whose whole queue is less than the largest frame gets those that
 * fit. */
static int stock(struct vnet *d, struct vnet_rx *x, struct vq *q)
{
    int r = 1;

    while (r > 0 && x->len < wanted(d))
        r = take(d, x, q);
    if (r < 0)
        return r;
    return x->len >= needed(d) || x->n_bufs == q->size || x->n_bufs == VNET_RX_BUFS ||
           x->n_segs > VNET_RX_SEGS - VQ_SEG_MAX;
}

/* The first `n` buffers were used up. */
static void consume(struct vnet_rx *x, unsigned n)
{
    unsigned segs = 0;

    for (unsigned i = 0; i < n; i++) {
        segs += x->buf[i].n_segs;
        x->len -= x->buf[i].len;
    }
    x->n_bufs -= n;
    x->n_segs -= segs;
    memmove(x->buf, x->buf + n, x->n_bufs * sizeof(x->buf[0]));
    memmove(x->seg, x->seg + segs, x->n_segs * sizeof(x->seg[0]));
    memmove(x->iov, x->iov + segs, x->n_segs * sizeof(x->iov[0]));
}

/* 5.1.6.4: how many buffers the frame took, in its header, which may be split anyhow. */
static void put_count(struct vnet_rx *x, unsigned n)
{
    uint16_t le = htole16((uint16_t)n);
    const uint8_t *from = (const uint8_t *)&le;
    unsigned skip = NUM_BUFFERS;

    for (unsigned i = 0, put = 0; put < sizeof(le); i++) {
        size_t len = x->iov[i].iov_len;

        for (; skip < len && put < sizeof(le); skip++)
            ((uint8_t *)x->iov[i].iov_base)[skip] = from[put++];
        skip = skip < len ? skip : skip - (unsigned)len;
    }
}

/* `len` bytes lie in the first buffers: announce these to dirty log and code map, and give them
 * back, all at once (5.1.6.4). */
static int deliver(struct vnet_rx *x, struct vq *q, uint64_t len)
{
    const struct vq_seg *s = x->seg;
    unsigned n = 0;
    int r = 0;

    for (uint64_t left = len; r == 0 && left > 0; n++) {
        const struct vnet_buf *b = &x->buf[n];
        uint32_t k = left < b->len ? (uint32_t)left : b->len, in = k;

        left -= k;
        for (unsigned i = 0; i < b->n_segs; i++, s++) {
            uint32_t part = in < s->len ? in : s->len;

            mem_wrote(q->mem, s->gpa, part);
            in -= part;
        }
        r = vq_fill(q, b->head, k, (uint16_t)n);
    }
    put_count(x, n);
    if (r == 0)
        r = vq_show(q, (uint16_t)n);
    consume(x, n);
    return r;
}

/* One frame. Its bytes, 0 = nothing more for now, negative = the driver's fault. */
static int64_t receive(struct vnet *d, unsigned pair)
{
    struct vnet_rx *x = &d->rx[pair];
    struct vq *q = vnet_rxq(d, pair);
    uint8_t scratch[64];
    int r = stock(d, x, q);

    if (r <= 0)
        return r;
    unsigned segs = mergeable(d) ? x->n_segs : x->buf[0].n_segs;
    uint64_t room = mergeable(d) ? x->len : x->buf[0].len;
    struct iovec kept = x->iov[segs];
    x->iov[segs] = (struct iovec){scratch, sizeof(scratch)};
    int64_t len = d->net->ops->receive(d->net, pair, x->iov, segs + 1);
    x->iov[segs] = kept;
    if (len < 0)
        return 0;
    vnet_passed(&d->rx_limit, (uint64_t)len);
    if (len < NET_HDR_LEN || (uint64_t)len > room)
        return len > 0 ? len : 1; /* no frame, or more than the driver has room for: lost */
    r = deliver(x, q, (uint64_t)len);
    return r < 0 ? r : len;
}

void vnetrx_run(struct vnet *d, unsigned pair)
{
    uint64_t bytes = 0;
    unsigned n = 0;
    int64_t r = 0;

    if (!d->port->live || !vnet_rxq(d, pair)->ready || !d->net || !d->net->link)
        return;
    while (n < VNET_TURN_FRAMES && bytes < VNET_TURN_BYTES && vnet_may_pass(d, &d->rx_limit)) {
        r = receive(d, pair);
        if (r <= 0)
            break;
        bytes += (uint64_t)r;
        n++;
    }
    if (r < 0)
        d->port->broken(d->port->ctx, "receive queue");
    else if (n == VNET_TURN_FRAMES || bytes >= VNET_TURN_BYTES)
        d->port->again(d->port->ctx, 2 * pair);
    if (n > 0)
        d->port->used(d->port->ctx, 2 * pair);
}
