/* net/csum.h - finish what a card left to the network: the Internet checksum (RFC 1071) of a frame
 * that has only its place marked (VIRTIO 1.2, 5.1.6.2, VIRTIO_NET_HDR_F_NEEDS_CSUM). The frame lies
 * in guest memory, which is not written: its first bytes are copied. Thread: none of its own. */
#ifndef NET_CSUM_H
#define NET_CSUM_H

#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

enum { CSUM_HEAD_MAX = 512 }; /* bytes: the checksum lies within so many */

struct csum_head {
    size_t frame_len; /* bytes, without the virtio header */
    size_t len;
    uint8_t bytes[CSUM_HEAD_MAX];
};

/* iov: a virtio header of NET_HDR_LEN bytes and a frame. Fills out[] (room for n + 1 entries) with
 * the frame as it is to be sent: the head, which is in *h, and the rest where it is. Returns the
 * number of entries; -EINVAL: the header speaks of bytes that the frame has not. */
int csum_finish(const struct iovec *iov, unsigned n, struct csum_head *h, struct iovec *out);

#endif
