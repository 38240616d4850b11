/* dev/virtio/vnet_priv.h - what the parts of the network card share: vnet.c (configuration, link,
 * state), vnetrx.c, vnettx.c, vnetctl.c (the control queue). */
#ifndef DEV_VIRTIO_VNET_PRIV_H
#define DEV_VIRTIO_VNET_PRIV_H

#include "dev/virtio/netbits.h"
#include "dev/virtio/vnet.h"

enum { VNET_AT_ONCE = 4 /* frames */, VNET_SMALL = 2048 /* bytes */ };
enum { VNET_RX_SEGS = NET_IOV_MAX - 1 };

struct vnet_rx { /* chains taken from the queue, not yet filled */
    struct vnet_buf {
        uint16_t head, n_segs;
        uint32_t len; /* bytes */
    } buf[VNET_RX_BUFS];
    struct vq_seg seg[VNET_RX_SEGS];
    struct iovec iov[NET_IOV_MAX]; /* of the segments; the last one is the scratch */
    unsigned n_bufs, n_segs;
    uint64_t len; /* bytes of all buffers */
};

struct vnet_limit {
    struct ratelimit bytes, ops;
    struct timer timer;
    bool on;
};

struct vnet {
    struct net *net; /* owned; NULL = none */
    struct virtio_port *port;
    unsigned max_pairs, pairs; /* offered; in use by the driver */
    uint8_t mac[6];
    uint16_t mtu;
    bool link;         /* as the driver is told */
    bool announce;     /* the driver is asked to announce itself */
    uint32_t offloads; /* GUEST_ features in force, as bits of them */
    struct vnet_rx rx[NET_PAIRS_MAX];
    struct vq_chain chain; /* the one being sent, or a command */
    struct iovec iov[NET_IOV_MAX];
    bool tx_full[NET_PAIRS_MAX];  /* the backend had no room: writable() goes on */
    bool tx_small[NET_PAIRS_MAX]; /* the last frame was one of VNET_SMALL bytes at most */
    struct vnet_limit rx_limit, tx_limit;
    struct clock *clock;
    struct timerq *timers;
};

/* vnet.c: apply `offloads` and `pairs` to the backend. */
void vnet_apply(struct vnet *d);
/* May a frame pass? If not, the timer kicks the direction's queues when it may. */
bool vnet_may_pass(struct vnet *d, struct vnet_limit *l);
void vnet_passed(struct vnet_limit *l, uint64_t bytes);
static inline struct vq *vnet_rxq(struct vnet *d, unsigned pair)
{
    return &d->port->q[2 * pair];
}
static inline struct vq *vnet_txq(struct vnet *d, unsigned pair)
{
    return &d->port->q[2 * pair + 1];
}

/* vnetrx.c: move frames to the guest; give back the buffers that were taken ahead; forget them. */
void vnetrx_run(struct vnet *d, unsigned pair);
void vnetrx_return(struct vnet *d, unsigned pair);
void vnetrx_forget(struct vnet *d, unsigned pair);
/* vnettx.c */
void vnettx_run(struct vnet *d, unsigned pair);
/* vnetctl.c: `n` is the control queue's number. */
void vnetctl_run(struct vnet *d, unsigned n);

#endif
