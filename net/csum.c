#include "net/csum.h"

#include <endian.h>
#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include "net/net.h"

enum { NEEDS_CSUM = 1 }; /* VIRTIO 1.2, 5.1.6 */

struct vnet_hdr { /* VIRTIO 1.2, 5.1.6, wire layout, little-endian */
    uint8_t flags, gso_type;
    uint16_t hdr_len, gso_size, csum_start, csum_offset, num_buffers;
};
_Static_assert(sizeof(struct vnet_hdr) == NET_HDR_LEN, "VIRTIO 1.2, 5.1.6");

/* Copies up to `len` bytes from byte `off`. Returns how many. */
static size_t gather(const struct iovec *iov, unsigned n, size_t off, void *to, size_t len)
{
    size_t done = 0;

    for (unsigned i = 0; i < n && done < len; i++) {
        if (off >= iov[i].iov_len) {
            off -= iov[i].iov_len;
            continue;
        }
        size_t k = iov[i].iov_len - off;
        k = k < len - done ? k : len - done;
        memcpy((uint8_t *)to + done, (const uint8_t *)iov[i].iov_base + off, k);
        done += k;
        off = 0;
    }
    return done;
}

/* One's complement sum of bytes, as 16-bit words in the host's order (RFC 1071, 2 (B): the order
 * does not matter). `odd`: the first byte is the second half of a word. */
static uint64_t sum_bytes(const uint8_t *p, size_t len, bool odd)
{
    uint64_t sum = 0;

    for (; len >= 4; p += 4, len -= 4) {
        uint32_t w;

        memcpy(&w, p, sizeof(w));
        sum += w;
    }
    if (len > 0) {
        uint32_t w = 0;

        memcpy(&w, p, len);
        sum += w;
    }
    while (sum >> 16)
        sum = (sum & 0xffff) + (sum >> 16);
    return odd ? (sum & 0xff) << 8 | sum >> 8 : sum;
}

/* The checksum of bytes from `start` to the end of head and tail. */
static uint16_t checksum(const struct csum_head *h, size_t start, const struct iovec *tail,
                         unsigned n)
{
    uint64_t sum = sum_bytes(h->bytes + start, h->len - start, false);
    size_t at = h->len - start;

    for (unsigned i = 0; i < n; i++) {
        sum += sum_bytes(tail[i].iov_base, tail[i].iov_len, at & 1);
        at += tail[i].iov_len;
    }
    while (sum >> 16)
        sum = (sum & 0xffff) + (sum >> 16);
    return (uint16_t)~sum;
}

/* The iovecs behind byte `off`. */
static unsigned tail_of(const struct iovec *iov, unsigned n, size_t off, struct iovec *out)
{
    unsigned k = 0;

    for (unsigned i = 0; i < n; i++) {
        if (off >= iov[i].iov_len) {
            off -= iov[i].iov_len;
            continue;
        }
        out[k++] = (struct iovec){(uint8_t *)iov[i].iov_base + off, iov[i].iov_len - off};
        off = 0;
    }
    return k;
}

int csum_finish(const struct iovec *iov, unsigned n, struct csum_head *h, struct iovec *out)
{
    struct vnet_hdr v;
    size_t total = 0;

    for (unsigned i = 0; i < n; i++)
        total += iov[i].iov_len;
    if (gather(iov, n, 0, &v, sizeof(v)) != sizeof(v))
        return -EINVAL;
    h->frame_len = total - sizeof(v);
    if (!(v.flags & NEEDS_CSUM)) {
        h->len = 0;
        return (int)tail_of(iov, n, sizeof(v), out);
    }
    size_t start = le16toh(v.csum_start), place = start + le16toh(v.csum_offset);
    h->len = gather(iov, n, sizeof(v), h->bytes, sizeof(h->bytes));
    if (place + 2 > h->len)
        return -EINVAL;
    unsigned k = tail_of(iov, n, sizeof(v) + h->len, out + 1);
    uint16_t sum = checksum(h, start, out + 1, k);
    if (sum == 0)
        sum = 0xffff; /* RFC 768: 0 would say that there is none; for TCP both are right */
    memcpy(h->bytes + place, &sum, sizeof(sum));
    out[0] = (struct iovec){h->bytes, h->len};
    return (int)k + 1;
}
