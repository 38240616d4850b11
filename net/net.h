/* net/net.h - a network as a card sees it: Ethernet frames in iovecs, no guest addresses.
 *
 * Backends: tap.c (one tap descriptor per queue pair), stream.c (passt: frames on a Unix stream
 * socket), a fake for tests. A card whose backend is NULL has no link. Each frame is preceded, in
 * both directions, by a 12-byte struct virtio_net_hdr_v1 (VIRTIO 1.2, 5.1.6), little-endian, whose
 * num_buffers the backend leaves alone.
 *
 * What a card may ask of a backend is the same for all of them, so that a saved machine can go on
 * with another one: send() takes frames whose checksum is still to be filled in (NEEDS_CSUM), and
 * TCP (IPv4, IPv6; also with ECN) and UDP (fragments) segments of up to NET_FRAME_MAX bytes. A
 * backend that cannot pass these on does the work itself.
 *
 * Threads: everything on the I/O loop; callbacks come from there, never inside a call. */
#ifndef NET_NET_H
#define NET_NET_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "base/err.h"

struct loop;
struct net;

enum {
    NET_HDR_LEN = 12,               /* bytes; VIRTIO 1.2, 5.1.6 */
    NET_FRAME_MAX = 65535 + 14 + 4, /* bytes: an IP packet, Ethernet's header, a VLAN tag */
    NET_PAIRS_MAX = 4,              /* queue pairs of one card */
    NET_IOV_MAX = 256,              /* entries of one transfer */
    NET_MTU_MIN = 68,
    NET_MTU_MAX = 65535,
};

/* What the guest takes on receive; without any: whole frames with right checksums. */
enum net_offload {
    NET_RX_CSUM = 1 << 0, /* frames may lack their checksum; the others need this one */
    NET_RX_TSO4 = 1 << 1,
    NET_RX_TSO6 = 1 << 2,
    NET_RX_ECN = 1 << 3,
    NET_RX_UFO = 1 << 4,
};

struct net_card { /* the device's side; copied by attach() */
    void *ctx;
    /* Frames may have come for `pair` since receive() last said -EAGAIN. */
    void (*readable)(void *ctx, unsigned pair);
    /* There may be room again since send() said -EAGAIN. */
    void (*writable)(void *ctx, unsigned pair);
    void (*link)(void *ctx, bool up); /* changed */
};

struct net_ops {
    void (*attach)(struct net *n, const struct net_card *card); /* once */
    /* One frame, header first; the iovecs (at most NET_IOV_MAX) may be consumed. Returns 0 when it
     * was taken; -EAGAIN: no room, writable() follows; other -errno: it was dropped. */
    int (*send)(struct net *n, unsigned pair, struct iovec *iov, unsigned n_iov);
    /* One frame, header first. Returns its bytes with the header, also when only the first of them
     * fitted; -EAGAIN: none, readable() follows when there is one; other -errno: none is to be had,
     * link() has told or will. */
    int64_t (*receive)(struct net *n, unsigned pair, struct iovec *iov, unsigned n_iov);
    /* Bits of net_offload from now on. Before the first call: none. */
    void (*set_offloads)(struct net *n, unsigned offloads);
    /* The guest uses the first `pairs` pairs; frames come for these only. 1 before the first call.
     */
    void (*set_pairs)(struct net *n, unsigned pairs);
    void (*close)(struct net *n); /* frees n */
};

struct net { /* first member of each backend */
    const struct net_ops *ops;
    unsigned pairs; /* it can serve, 1 to NET_PAIRS_MAX */
    bool link;      /* is up */
};

/* net/tap.c: `fd` are open tap descriptors (IFF_TAP | IFF_NO_PI | IFF_VNET_HDR, IFF_MULTI_QUEUE
 * where pairs > 1), one a pair, taken also on failure. `l` is borrowed and outlives it. -EINVAL:
 * not such a tap; what ioctl(2) says. */
int tap_net(const int *fd, unsigned pairs, struct loop *l, struct net **ret,
            struct err *e) MUST_CHECK;
/* net/tapopen.c: Open the tap interface `name` (which may exist already) `pairs` times. Descriptors
 * are the caller's. -EINVAL: the name; -EPERM, -EBUSY and others as open(2) and TUNSETIFF say. */
int tap_open(const char *name, unsigned pairs, int fd[NET_PAIRS_MAX], struct err *e) MUST_CHECK;
/* net/stream.c: frames on a connected stream socket, each behind its length (u32, big-endian), as
 * QEMU's stream netdev and passt do. Segments go out unsegmented: the peer takes frames of up to
 * NET_FRAME_MAX bytes, as passt does. `fd` is taken, also on failure. When the peer hangs up the
 * link goes down. */
int stream_net(int fd, struct loop *l, struct net **ret, struct err *e) MUST_CHECK;

#endif
