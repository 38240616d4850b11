/* dev/virtio/rng.h - entropy device. Source: VIRTIO 1.2, 5.4.
 * Thread: the I/O loop, under the board's lock. */
#ifndef DEV_VIRTIO_RNG_H
#define DEV_VIRTIO_RNG_H

#include <stddef.h>

#include "dev/virtio/device.h"

struct rng; /* opaque */

/* Where bytes come from. Given, not found: a test passes a counter, the machine
 * passes getrandom(2). */
struct rng_source {
    int (*fill)(void *ctx, void *buf, size_t len); /* 0, or -errno: the guest gets nothing */
    void *ctx;                                     /* borrowed */
};

/* Errors: NULL with *e: -ENOMEM. The result goes to vmmio_new() or board_add_virtio() with
 * rng_ops. */
struct rng *rng_new(struct rng_source src, struct err *e);

extern const struct virtio_ops rng_ops;

#endif
