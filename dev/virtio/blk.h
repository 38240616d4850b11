/* dev/virtio/blk.h - block device. Source: VIRTIO 1.2, 5.2.
 * Any layout of a request's segments is understood (2.7.4.2); requests in flight are bounded.
 * Thread: the I/O loop, under the board's lock. */
#ifndef DEV_VIRTIO_BLK_H
#define DEV_VIRTIO_BLK_H

#include "block/block.h"
#include "dev/virtio/device.h"

enum {
    BLK_INFLIGHT_MAX = 128,    /* requests the backend holds at once */
    BLK_SEG_MAX = 128,         /* data segments of one request (5.2.4 seg_max) */
    BLK_SIZE_MAX = 1 << 20,    /* bytes of one segment (5.2.4 size_max) */
    BLK_DISCARD_MAX = 1 << 22, /* sectors of one discard or write-zeroes range: 2 GiB */
    BLK_SERIAL_MAX = 20,       /* bytes (5.2.6, VIRTIO_BLK_T_GET_ID) */
};

struct blk; /* opaque */

/* A state saved with an empty drive (0 bytes, read-only) loads whatever read-only disk is in it
 * now, and the driver is told of the new capacity.
 *
 * `disk` is owned from here on, also on failure. `serial` (may be NULL) is copied, at most
 * BLK_SERIAL_MAX bytes of it. The result goes to vmmio_new() or board_add_virtio() with blk_ops.
 * Errors: NULL with *e: -ENOMEM. */
struct blk *blk_new(struct block *disk, const char *serial, struct err *e);

extern const struct virtio_ops blk_ops;

#endif
