#include "dev/virtio/vnet.h"

#include <endian.h>
#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "dev/virtio/vnet_priv.h"
#include "state/state.h"

enum { STATUS_LINK_UP = 1, STATUS_ANNOUNCE = 2 }; /* 5.1.4 */

struct vnet_config { /* 5.1.4, wire layout, little-endian */
    uint8_t mac[6];
    uint16_t status;
    uint16_t max_virtqueue_pairs;
    uint16_t mtu;
};
_Static_assert(sizeof(struct vnet_config) == 12, "VIRTIO 1.2, 5.1.4");

/* --- limits ---------------------------------------------------------------- */

static void rx_due(void *ctx)
{
    struct vnet *d = ctx;

    for (unsigned i = 0; i < d->pairs; i++)
        vnetrx_run(d, i);
}

static void tx_due(void *ctx)
{
    struct vnet *d = ctx;

    for (unsigned i = 0; i < d->pairs; i++)
        vnettx_run(d, i);
}

static void limit_init(struct vnet *d, struct vnet_limit *l, const struct rate_conf *c,
                       void (*due)(void *ctx))
{
    l->on = (c->bytes || c->ops) && d->clock && d->timers;
    if (!l->on)
        return;
    ratelimit_init(&l->bytes, c->bytes, c->burst, clock_ns(d->clock));
    ratelimit_init(&l->ops, c->ops, 0, clock_ns(d->clock));
    l->timer = (struct timer){.fire = due, .ctx = d};
}

bool vnet_may_pass(struct vnet *d, struct vnet_limit *l)
{
    if (!l->on)
        return true;
    ns_t now = clock_ns(d->clock);
    if (ratelimit_open(&l->bytes, now) && ratelimit_open(&l->ops, now))
        return true;
    uint64_t a = ratelimit_when(&l->bytes, now), b = ratelimit_when(&l->ops, now);
    timer_arm(d->timers, &l->timer, a > b ? a : b);
    return false;
}

void vnet_passed(struct vnet_limit *l, uint64_t bytes)
{
    if (!l->on)
        return;
    ratelimit_spend(&l->bytes, bytes);
    ratelimit_spend(&l->ops, 1);
}

/* --- the backend's calls --------------------------------------------------- */

static void on_readable(void *ctx, unsigned pair)
{
    vnetrx_run(ctx, pair);
}

static void on_writable(void *ctx, unsigned pair)
{
    struct vnet *d = ctx;

    if (d->tx_full[pair])
        vnettx_run(d, pair);
}

static void on_link(void *ctx, bool up)
{
    struct vnet *d = ctx;

    if (d->link == up)
        return;
    d->link = up;
    d->port->config_changed(d->port->ctx);
    for (unsigned i = 0; i < d->pairs; i++)
        vnettx_run(d, i); /* what waits for room is dropped now, or goes */
}

void vnet_apply(struct vnet *d)
{
    static const struct {
        uint32_t feature, offload;
    } map[] = {
        {F_GUEST_CSUM, NET_RX_CSUM}, {F_GUEST_TSO4, NET_RX_TSO4}, {F_GUEST_TSO6, NET_RX_TSO6},
        {F_GUEST_ECN, NET_RX_ECN},   {F_GUEST_UFO, NET_RX_UFO},
    };
    unsigned bits = 0;

    if (!d->net)
        return;
    for (size_t i = 0; i < sizeof(map) / sizeof(map[0]); i++)
        bits |= d->offloads & map[i].feature ? map[i].offload : 0;
    d->net->ops->set_offloads(d->net, bits & NET_RX_CSUM ? bits : 0);
    d->net->ops->set_pairs(d->net, d->pairs);
}

/* --- making ---------------------------------------------------------------- */

static void vnet_destroy(void *dev)
{
    struct vnet *d = dev;

    if (!d)
        return;
    if (d->rx_limit.on)
        timer_cancel(d->timers, &d->rx_limit.timer);
    if (d->tx_limit.on)
        timer_cancel(d->timers, &d->tx_limit.timer);
    if (d->net)
        d->net->ops->close(d->net);
    free(d);
}

struct vnet *vnet_new(const struct vnet_conf *c, struct err *e)
{
    struct vnet *d = calloc(1, sizeof(*d));
    bool good =
        c->pairs >= 1 && c->pairs <= NET_PAIRS_MAX && (!c->net || c->net->pairs >= c->pairs);

    if (!d || !good) {
        if (c->net)
            c->net->ops->close(c->net);
        free(d);
        err_set(e, good ? -ENOMEM : -EINVAL, "virtio-net: %s",
                good ? "out of memory" : "more queue pairs than it has, or none");
        return NULL;
    }
    d->net = c->net;
    d->max_pairs = c->pairs;
    d->pairs = 1;
    d->mtu = c->mtu;
    memcpy(d->mac, c->mac, sizeof(d->mac));
    d->clock = c->clock;
    d->timers = c->timers;
    limit_init(d, &d->rx_limit, &c->rx, rx_due);
    limit_init(d, &d->tx_limit, &c->tx, tx_due);
    return d;
}

static void vnet_attach(void *dev, struct virtio_port *p)
{
    static const struct net_card calls = {
        .readable = on_readable, .writable = on_writable, .link = on_link};
    struct vnet *d = dev;
    struct net_card card = calls;

    d->port = p;
    if (!d->net)
        return;
    card.ctx = d;
    d->link = d->net->link;
    d->net->ops->attach(d->net, &card);
}

/* --- what the transport asks ----------------------------------------------- */

static uint64_t vnet_features(void *dev)
{
    const struct vnet *d = dev;
    uint64_t f = F_CSUM | F_CTRL_GUEST_OFFLOADS | F_MAC | F_GUEST_ALL | F_HOST_TSO4 | F_HOST_TSO6 |
                 F_HOST_ECN | F_HOST_UFO | F_MRG_RXBUF | F_STATUS | F_CTRL_VQ | F_CTRL_RX |
                 F_GUEST_ANNOUNCE | F_CTRL_MAC_ADDR;

    return f | (d->mtu ? F_MTU : 0) | (d->max_pairs > 1 ? F_MQ : 0);
}

static void vnet_activate(void *dev)
{
    struct vnet *d = dev;

    d->offloads = (uint32_t)d->port->features & F_GUEST_ALL;
    d->pairs = 1;
    vnet_apply(d);
}

/* 5.1.2: where MQ was not negotiated, the control queue is number 2. */
static unsigned control_queue(const struct vnet *d)
{
    return d->port->features & F_MQ ? 2 * d->max_pairs : 2;
}

/* A driver spins until its command is obeyed. A frame that comes alone among small ones
 * (acknowledgements, pings) costs less than waking another thread for it; large ones are better
 * copied beside the vCPU. */
static bool vnet_at_once(void *dev, unsigned n)
{
    const struct vnet *d = dev;

    if (n == control_queue(d))
        return true;
    return n % 2 == 1 && n / 2 < d->pairs && d->tx_small[n / 2] &&
           (uint16_t)(vq_avail_idx(&d->port->q[n]) - d->port->q[n].next_avail) <= VNET_AT_ONCE;
}

static void vnet_kick(void *dev, unsigned n)
{
    struct vnet *d = dev;

    if (n == control_queue(d))
        vnetctl_run(d, n);
    else if (n / 2 >= d->pairs)
        return; /* not in use until the driver says so: it kicks them again */
    else if (n % 2)
        vnettx_run(d, n / 2);
    else
        vnetrx_run(d, n / 2);
}

static void vnet_config_read(void *dev, unsigned off, void *buf, unsigned len)
{
    const struct vnet *d = dev;
    struct vnet_config c = {
        .status = htole16(
            (uint16_t)((d->link ? STATUS_LINK_UP : 0) | (d->announce ? STATUS_ANNOUNCE : 0))),
        .max_virtqueue_pairs = htole16((uint16_t)d->max_pairs),
        .mtu = htole16(d->mtu),
    };

    memcpy(c.mac, d->mac, sizeof(c.mac));
    memcpy(buf, (const uint8_t *)&c + off, len);
}

static void vnet_reset(void *dev)
{
    struct vnet *d = dev;

    for (unsigned i = 0; i < d->max_pairs; i++) {
        vnetrx_forget(d, i);
        d->tx_full[i] = false;
    }
    d->offloads = 0;
    d->pairs = 1;
    d->announce = false;
    vnet_apply(d);
}

/* Nothing is ever in flight but buffers taken ahead. */
static void vnet_drain(void *dev)
{
    struct vnet *d = dev;

    for (unsigned i = 0; i < d->max_pairs; i++)
        vnetrx_return(d, i);
}

/* --- state ----------------------------------------------------------------- */

/* What the driver was told of the link may not be so any more. */
static void relink(struct vnet *d, bool was)
{
    bool can = d->port->features & F_GUEST_ANNOUNCE;

    d->link = d->net && d->net->link;
    if (d->link && was && can)
        d->announce = true;
    if (d->link != was || d->announce)
        d->port->config_changed(d->port->ctx);
}

static void vnet_visit(void *dev, struct state_io *io)
{
    struct vnet *d = dev;
    uint32_t pairs = d->pairs, max_pairs = d->max_pairs;
    uint16_t mtu = d->mtu;
    bool link = d->link;

    state_bytes(io, 1, d->mac, sizeof(d->mac));
    state_u16(io, 2, &mtu);
    state_u32(io, 3, &max_pairs);
    state_u32(io, 4, &pairs);
    state_bool(io, 5, &link);
    state_bool(io, 6, &d->announce);
    state_u32(io, 7, &d->offloads);
    if (!state_loading(io))
        return;
    if (max_pairs != d->max_pairs || mtu != d->mtu)
        state_fail(io, "a card of %u queue pairs and MTU %u, not %u and %u", max_pairs, mtu,
                   d->max_pairs, d->mtu);
    else if (pairs < 1 || pairs > max_pairs || (pairs > 1 && !(d->port->features & F_MQ)))
        state_fail(io, "%u queue pairs in use", pairs);
    else if (d->offloads & ~((uint32_t)d->port->features & F_GUEST_ALL))
        state_fail(io, "receive offloads 0x%x that the driver did not take", d->offloads);
    if (io->failed)
        return;
    for (unsigned i = 0; i < d->max_pairs; i++)
        vnetrx_forget(d, i);
    d->pairs = pairs;
    vnet_apply(d);
    relink(d, link);
}

#define VNET_OPS(n_pairs)                                                                     \
    {                                                                                         \
        .name = "virtio-net", .id = 1 /* 5.1.1 */, .n_queues = 2 * (n_pairs) + 1,             \
        .features = vnet_features, .attach = vnet_attach, .activate = vnet_activate,          \
        .kick = vnet_kick, .at_once = vnet_at_once, .config_len = sizeof(struct vnet_config), \
        .config_read = vnet_config_read, .reset = vnet_reset, .drain = vnet_drain,            \
        .visit = vnet_visit, .destroy = vnet_destroy                                          \
    }

const struct virtio_ops *vnet_ops(unsigned pairs)
{
    static const struct virtio_ops ops[NET_PAIRS_MAX] = {VNET_OPS(1), VNET_OPS(2), VNET_OPS(3),
                                                         VNET_OPS(4)};
    _Static_assert(2 * NET_PAIRS_MAX + 1 <= VIRTIO_QUEUES_MAX, "queues of a slot");

    return &ops[pairs - 1];
}
