/* The card's transmit queues: frames are written straight from the driver's buffers. */
#include <errno.h>

#include "dev/virtio/vnet_priv.h"

enum { ETH_HLEN_MIN = 14 };

/* Send the frame in d->chain, or drop it where there is no link. 0 = it is done with; -EAGAIN. */
static int send_chain(struct vnet *d, unsigned pair)
{
    const struct vq_chain *c = &d->chain;

    if (!d->net || !d->net->link || c->out_len < NET_HDR_LEN + ETH_HLEN_MIN ||
        c->out_len > NET_HDR_LEN + NET_FRAME_MAX)
        return 0;
    int n = vq_iov(vnet_txq(d, pair), c, false, 0, c->out_len, d->iov, NET_IOV_MAX);
    if (n < 0)
        return n;
    int r = d->net->ops->send(d->net, pair, d->iov, (unsigned)n);
    if (r == -EAGAIN)
        return r;
    vnet_passed(&d->tx_limit, c->out_len - NET_HDR_LEN);
    return 0;
}

void vnettx_run(struct vnet *d, unsigned pair)
{
    struct vq *q = vnet_txq(d, pair);
    uint64_t bytes = 0;
    unsigned n = 0;
    int r = 0;

    if (!d->port->live || !q->ready)
        return;
    d->tx_full[pair] = false;
    while (n < VNET_TURN_FRAMES && bytes < VNET_TURN_BYTES && vnet_may_pass(d, &d->tx_limit)) {
        r = vq_pop(q, &d->chain);
        if (r <= 0)
            break;
        if (d->chain.n_in > 0 || d->chain.out_len < NET_HDR_LEN) {
            r = -EPROTO;
            break;
        }
        r = send_chain(d, pair);
        if (r == -EAGAIN) {
            vq_unpop(q);
            d->tx_full[pair] = true;
            break;
        }
        if (r == 0)
            r = vq_push(q, d->chain.head, 0);
        if (r < 0)
            break;
        d->tx_small[pair] = d->chain.out_len <= VNET_SMALL;
        bytes += d->chain.out_len;
        n++;
    }
    if (r < 0 && r != -EAGAIN)
        d->port->broken(d->port->ctx, "transmit queue");
    else if (n == VNET_TURN_FRAMES || bytes >= VNET_TURN_BYTES)
        d->port->again(d->port->ctx, 2 * pair + 1);
    if (n > 0)
        d->port->used(d->port->ctx, 2 * pair + 1);
}
