/* The card's control queue, 5.1.6.5. */
#include <endian.h>
#include <errno.h>
#include <string.h>

#include "dev/virtio/vnet_priv.h"

enum { /* classes and commands, 5.1.6.5 */
       CTRL_RX = 0,
       CTRL_RX_LAST = 5,
       CTRL_MAC = 1,
       CTRL_MAC_TABLE_SET = 0,
       CTRL_MAC_ADDR_SET = 1,
       CTRL_ANNOUNCE = 3,
       CTRL_ANNOUNCE_ACK = 0,
       CTRL_MQ = 4,
       CTRL_MQ_PAIRS_SET = 0,
       CTRL_OFFLOADS = 5,
       CTRL_OFFLOADS_SET = 0,
};
enum { ACK_OK = 0, ACK_ERR = 1 };
enum { HDR = 2 }; /* class, command */

/* The command's data, which must be exactly that long. */
static bool get(struct vnet *d, const struct vq *q, void *buf, size_t len)
{
    return d->chain.out_len == HDR + len && vq_read(q, &d->chain, HDR, buf, len) == (int64_t)len;
}

/* 5.1.6.5.1, .2: every frame of the wire is passed on, so any filter is satisfied. */
static uint8_t set_mac(struct vnet *d, const struct vq *q, uint8_t cmd)
{
    uint8_t mac[6];

    if (cmd == CTRL_MAC_TABLE_SET)
        return ACK_OK;
    if (cmd != CTRL_MAC_ADDR_SET || !get(d, q, mac, sizeof(mac)))
        return ACK_ERR;
    memcpy(d->mac, mac, sizeof(mac));
    return ACK_OK;
}

static uint8_t set_pairs(struct vnet *d, const struct vq *q)
{
    uint16_t le;

    if (!(d->port->features & F_MQ) || !get(d, q, &le, sizeof(le)))
        return ACK_ERR;
    unsigned n = le16toh(le);
    if (n < 1 || n > d->max_pairs)
        return ACK_ERR;
    for (unsigned i = n; i < d->pairs; i++)
        vnetrx_return(d, i);
    unsigned was = d->pairs;
    d->pairs = n;
    vnet_apply(d);
    for (unsigned i = was; i < n; i++) { /* kicks before this were not heeded */
        vnetrx_run(d, i);
        vnettx_run(d, i);
    }
    return ACK_OK;
}

static uint8_t set_offloads(struct vnet *d, const struct vq *q)
{
    uint64_t le;

    if (!(d->port->features & F_CTRL_GUEST_OFFLOADS) || !get(d, q, &le, sizeof(le)))
        return ACK_ERR;
    if (le64toh(le) & ~(d->port->features & F_GUEST_ALL))
        return ACK_ERR;
    d->offloads = (uint32_t)le64toh(le);
    vnet_apply(d);
    return ACK_OK;
}

static uint8_t obey(struct vnet *d, const struct vq *q, uint8_t class, uint8_t cmd)
{
    switch (class) {
    case CTRL_RX:
        return cmd <= CTRL_RX_LAST ? ACK_OK : ACK_ERR;
    case CTRL_MAC:
        return set_mac(d, q, cmd);
    case CTRL_ANNOUNCE:
        if (cmd == CTRL_ANNOUNCE_ACK)
            d->announce = false;
        return cmd == CTRL_ANNOUNCE_ACK ? ACK_OK : ACK_ERR;
    case CTRL_MQ:
        return cmd == CTRL_MQ_PAIRS_SET ? set_pairs(d, q) : ACK_ERR;
    case CTRL_OFFLOADS:
        return cmd == CTRL_OFFLOADS_SET ? set_offloads(d, q) : ACK_ERR;
    default:
        return ACK_ERR;
    }
}

static int command(struct vnet *d, struct vq *q)
{
    uint8_t h[HDR];

    if (d->chain.in_len < 1 || vq_read(q, &d->chain, 0, h, sizeof(h)) != (int64_t)sizeof(h))
        return -EPROTO;
    struct vq_chain c = d->chain; /* receive queues that are set going use d->chain */
    uint8_t ack = obey(d, q, h[0], h[1]);
    if (vq_write(q, &c, 0, &ack, 1) < 0)
        return -EFAULT;
    return vq_push(q, c.head, 1);
}

void vnetctl_run(struct vnet *d, unsigned n)
{
    struct vq *q = &d->port->q[n];
    unsigned i;
    int r = 0;

    for (i = 0; i < VIRTIO_KICK_MAX && d->port->live; i++) {
        r = vq_pop(q, &d->chain);
        if (r > 0)
            r = command(d, q);
        else
            break;
        if (r < 0)
            break;
    }
    if (r < 0)
        d->port->broken(d->port->ctx, "control queue");
    else if (i == VIRTIO_KICK_MAX)
        d->port->again(d->port->ctx, n);
    d->port->used(d->port->ctx, n);
}
