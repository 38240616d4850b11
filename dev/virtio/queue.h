/* dev/virtio/queue.h - device side of a split virtqueue. Source: VIRTIO 1.2, 2.7.
 *
 * The ring lies in memory the guest may change at any moment: each descriptor is copied
 * once, the copy is checked, only the copy is used. Indirect descriptors (2.7.5.3) and EVENT_IDX
 * (2.7.7) are handled here. Thread: the I/O loop, under the board's lock. */
#ifndef DEV_VIRTIO_QUEUE_H
#define DEV_VIRTIO_QUEUE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "mem/mem.h"

struct state_io;

enum {
    VQ_SIZE_MAX = 256, /* entries offered; 2.7 allows 32768 */
    VQ_SEG_MAX = 130,  /* descriptors accepted in one chain (seg_max 128 + header, status) */
};

struct vq {
    struct mem *mem; /* borrowed */
    uint16_t size;   /* entries, power of two; 0 = not set up */
    bool ready;
    bool event_idx, indirect; /* negotiated */
    gpa_t desc, avail, used;
    uint16_t next_avail, next_used; /* free-running, wrap at 2^16 */
    uint16_t signalled;             /* used idx when the driver was last signalled */
};

struct vq_seg {
    gpa_t gpa;
    uint32_t len; /* bytes */
};

struct vq_chain {
    uint16_t head;        /* give back to vq_push() */
    unsigned n_out, n_in; /* device-readable segments come first (2.7.4.2) */
    struct vq_seg seg[VQ_SEG_MAX];
    uint64_t out_len, in_len; /* bytes in all */
};

/* Next chain. 1 and *c; 0 = none (driver notifications re-enabled). Errors: -EPROTO = ring format
 * broken (loop, index, order, zero length...); -EFAULT = outside RAM. Both: DEVICE_NEEDS_RESET. */
int vq_pop(struct vq *q, struct vq_chain *c) MUST_CHECK;
/* How many chains the driver has added since the queue began, as the ring says (wraps). */
uint16_t vq_avail_idx(const struct vq *q);
/* Have the driver notify of the next chain it adds, whatever lies in the queue already. */
void vq_want_kick(struct vq *q);
/* Un-take the last popped chain (not yet pushed); again for the one before. */
void vq_unpop(struct vq *q);
/* Give chain `head` back with `written` bytes. Errors as vq_pop. */
int vq_push(struct vq *q, uint16_t head, uint32_t written) MUST_CHECK;
/* The same in two steps, for chains that the driver must see together: the element `ahead` places
 * behind the last one shown, then show `n` of them. */
int vq_fill(struct vq *q, uint16_t head, uint32_t written, uint16_t ahead) MUST_CHECK;
int vq_show(struct vq *q, uint16_t n) MUST_CHECK;
/* Does the driver want an interrupt for what was pushed since the last call? */
bool vq_should_signal(struct vq *q);

/* Copy from the readable part at byte `off` / to the writable part. Returns bytes copied (less than
 * len at the end of the chain), or -EFAULT. */
int64_t vq_read(const struct vq *q, const struct vq_chain *c, uint64_t off, void *dst, size_t len);
int64_t vq_write(const struct vq *q, const struct vq_chain *c, uint64_t off, const void *src,
                 size_t len);
/* iovecs of the readable (in = false) or writable part from byte `off`, at most `max` entries and
 * `len` bytes. Returns entries, or -EFAULT. */
int vq_iov(const struct vq *q, const struct vq_chain *c, bool in, uint64_t off, uint64_t len,
           struct iovec *iov, unsigned max);
/* After the host wrote through vq_iov(): dirty log and code map. */
void vq_wrote(const struct vq *q, const struct vq_chain *c, uint64_t off, uint64_t len);

void vq_reset(struct vq *q);
void vq_visit(struct vq *q, struct state_io *io);

#endif
