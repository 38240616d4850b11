/* dev/virtio/vsock.h - socket device, stream sockets. Source: VIRTIO 1.2, 5.10.
 *
 * Keeps one bounded table of streams, with credit in both directions (5.10.6.3). A stream dies with
 * a reset of the device and with a snapshot: after a load the driver is told so by the transport
 * reset event (5.10.6.7).
 * Thread: the I/O loop, under the board's lock. */
#ifndef DEV_VIRTIO_VSOCK_H
#define DEV_VIRTIO_VSOCK_H

#include "dev/virtio/device.h"
#include "net/vsock.h"

enum {
    VSOCK_CONNS_MAX = 256,
    VSOCK_BUF_MAX = 512 * 1024, /* bytes a stream may hold for a slow client: our buf_alloc */
    VSOCK_PKT_MAX = 64 * 1024,  /* bytes of payload accepted in one packet */
    VSOCK_REPLIES_MAX = 64,     /* resets waiting for packets that belong to no stream */
};

struct vsock; /* opaque */

/* `cid`: the guest's, >= VSOCK_CID_MIN. *host is copied; its ctx is owned from here on, also on
 * failure (host->destroy). Errors: NULL with *e: -ENOMEM, -EINVAL. The result goes to vmmio_new()
 * or board_add_virtio() with vsock_ops. */
struct vsock *vsock_new(uint64_t cid, const struct vsock_host *host, struct err *e);

extern const struct virtio_ops vsock_ops;

#endif
