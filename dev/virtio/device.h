/* dev/virtio/device.h - what a virtio device provides; the transport does the rest.
 * Source: VIRTIO 1.2, chapter 2. Threads: everything on the I/O loop or under the board's lock. */
#ifndef DEV_VIRTIO_DEVICE_H
#define DEV_VIRTIO_DEVICE_H

#include <stdbool.h>
#include <stdint.h>

#include "dev/virtio/queue.h"

enum { VIRTIO_QUEUES_MAX = 9, VIRTIO_CONFIG_MAX = 256 };
enum { VIRTIO_KICK_MAX = 256 }; /* chains one kick handles before it lets others run */
#define VIRTIO_F_INDIRECT_DESC (1ull << 28)
#define VIRTIO_F_EVENT_IDX (1ull << 29)
#define VIRTIO_F_VERSION_1 (1ull << 32)

struct state_io;

/* How a device reaches its transport. Given to the device by attach(). */
struct virtio_port {
    void *ctx;
    struct vq *q;                            /* n_queues of them; size 0 or !ready: not usable */
    uint64_t features;                       /* negotiated; valid from FEATURES_OK */
    bool live;                               /* DRIVER_OK set and no reset needed */
    void (*used)(void *ctx, unsigned queue); /* something was pushed: interrupt if wanted */
    void (*config_changed)(void *ctx);       /* 2.5 */
    void (*broken)(void *ctx,
                   const char *why); /* guest broke the rules: DEVICE_NEEDS_RESET (2.1.2) */
    /* There is more in `queue` than one kick should do: kick it again, after others had their turn.
     */
    void (*again)(void *ctx, unsigned queue);
};

struct virtio_ops {
    const char *name;
    uint16_t id; /* VIRTIO 1.2 chapter 5 */
    uint16_t n_queues;

    uint64_t (*features)(void *dev);                  /* device bits; the transport adds its own */
    void (*attach)(void *dev, struct virtio_port *p); /* once; p borrowed for the device's life */
    void (*activate)(void *dev);                      /* DRIVER_OK; may be NULL */
    /* The driver kicked queue n (or the port came alive). */
    void (*kick)(void *dev, unsigned n);
    /* Queue n is handled where the driver notifies, on its vCPU's thread, without the way through
     * the I/O loop: for short commands that the driver waits for. May be NULL: none is. */
    bool (*at_once)(void *dev, unsigned n);
    /* Config space, bytes from `off`; the transport checked off + len <= config_len. */
    uint32_t config_len;
    void (*config_read)(void *dev, unsigned off, void *buf, unsigned len);
    void (*config_write)(void *dev, unsigned off, const void *buf, unsigned len); /* may be NULL */
    void (*reset)(void *dev); /* 2.4: also finishes or drops what is in flight */
    void (*drain)(void *dev); /* before a snapshot: no request in flight after it; may be NULL */
    void (*visit)(void *dev, struct state_io *io);
    void (*destroy)(void *dev); /* may be NULL dev */
};

#endif
