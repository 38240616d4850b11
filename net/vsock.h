/* net/vsock.h - the seam between a socket device and the host's end of its streams.
 *
 * The device (dev/virtio/vsock.c) speaks the guest's protocol and keeps credit; the host side
 * (vsockd.c, or a fake in a test) has the sockets. Each stream has two objects that know each
 * other: a vsock_conn in the device and a vsock_sock in the host side. Either side may end it; the
 * pair is taken apart only by host->close(), which the device calls exactly once for each pair,
 * also after the host side failed it. Thread: all of it on the I/O loop, under the board's lock. */
#ifndef NET_VSOCK_H
#define NET_VSOCK_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "base/err.h"

enum { VSOCK_CID_HOST = 2, VSOCK_CID_MIN = 3 }; /* VIRTIO 1.2, 5.10.4 */

struct vsock_conn; /* the device's end */
struct vsock_sock; /* the host's end */

/* What the device offers the host side; never called from inside a vsock_host function. */
struct vsock_guest {
    void *dev;
    /* A client of the host wants guest port `port`. 0 and *ret, *host_port (chosen by the device);
     * then accepted() or close() follows. Errors: -ENOTCONN no driver, -ENOSPC too many streams;
     * the pair was then never made. */
    int (*connect)(void *dev, uint32_t port, struct vsock_sock *s, struct vsock_conn **ret,
                   uint32_t *host_port);
    /* What watch() asked for has come about; `hangup`: the client closed both directions. */
    void (*ready)(struct vsock_conn *c, bool readable, bool writable, bool hangup);
};

/* What the host side offers the device. Descriptors are non-blocking. */
struct vsock_host {
    void *ctx;
    void (*attach)(void *ctx, const struct vsock_guest *g); /* once; *g is copied */
    /* The guest wants host port `port`. Errors: -errno, the guest gets a reset. */
    int (*open)(void *ctx, uint32_t port, struct vsock_conn *c, struct vsock_sock **ret);
    void (*accepted)(struct vsock_sock *s); /* the guest took connect()'s stream */
    /* Bytes moved; read: 0 = end of stream. Errors: -EAGAIN, other -errno: the stream is dead. */
    int64_t (*read)(struct vsock_sock *s, const struct iovec *iov, unsigned n);
    int64_t (*write)(struct vsock_sock *s, const struct iovec *iov, unsigned n);
    /* No more reads and/or writes by the device. */
    void (*shutdown)(struct vsock_sock *s, bool reads, bool writes);
    /* Which ready() the device waits for, until changed; with neither, hangups are still
     * reported (once). */
    void (*watch)(struct vsock_sock *s, bool readable, bool writable);
    void (*close)(struct vsock_sock *s); /* frees s */
    void (*destroy)(void *ctx);          /* all streams are closed; may be NULL */
};

#endif
