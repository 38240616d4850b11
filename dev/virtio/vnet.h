/* dev/virtio/vnet.h - network card. Source: VIRTIO 1.2, 5.1.
 *
 * It offers the same features whatever its backend (net/net.h sees to that), so that a saved card
 * goes on with another backend, or with none: then it has no link. A card that was saved with
 * a link and has one again asks the driver to announce itself (5.1.6.5.4).
 * Thread: the I/O loop, under the board's lock. */
#ifndef DEV_VIRTIO_VNET_H
#define DEV_VIRTIO_VNET_H

#include "dev/virtio/device.h"
#include "hw/clock.h"
#include "hw/timer.h"
#include "net/net.h"
#include "net/ratelimit.h"

enum {
    VNET_TURN_FRAMES = 256,       /* one kick moves no more than this, ... */
    VNET_TURN_BYTES = 512 * 1024, /* ... nor more than this and a frame */
    VNET_RX_BUFS = 128,           /* chains taken from a receive queue ahead of their frames */
};

struct vnet; /* opaque */

struct vnet_conf {
    uint8_t mac[6];
    uint16_t mtu;            /* told to the driver (VIRTIO_NET_F_MTU); 0 = not */
    unsigned pairs;          /* queue pairs offered, 1 to NET_PAIRS_MAX */
    struct net *net;         /* owned from here on, also on failure; NULL = no link */
    struct rate_conf rx, tx; /* limits, as the guest sees the directions */
    struct clock *clock;     /* borrowed, for the limits; may be NULL where there are none */
    struct timerq *timers;   /* likewise */
};

/* Errors: NULL with *e: -ENOMEM, -EINVAL. */
struct vnet *vnet_new(const struct vnet_conf *c, struct err *e);
/* The table for a card of so many pairs. */
const struct virtio_ops *vnet_ops(unsigned pairs);

#endif
