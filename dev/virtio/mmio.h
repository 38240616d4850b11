/* dev/virtio/mmio.h - virtio over MMIO, version 2 registers. Source: VIRTIO 1.2, 4.2. */
#ifndef DEV_VIRTIO_MMIO_H
#define DEV_VIRTIO_MMIO_H

#include "dev/virtio/device.h"
#include "hw/bus.h"
#include "hw/irq.h"
#include "mem/mem.h"

enum { VMMIO_SIZE = 0x1000, VMMIO_NOTIFY = 0x50 /* QueueNotify */ };

struct vmmio; /* opaque */

struct vmmio_conf {
    struct mem *mem;              /* borrowed */
    struct irq_line irq;          /* follows InterruptStatus != 0: good for edge and for level */
    const struct virtio_ops *ops; /* borrowed */
    void *dev;                    /* owned from here on, also on failure */
    /* A notify write: hand it to the I/O loop (an eventfd); NULL = handle at once. */
    void (*notify)(void *ctx, unsigned queue);
    void *notify_ctx;
};

struct vmmio *vmmio_new(const struct vmmio_conf *c, struct err *e);
void vmmio_free(struct vmmio *t);                         /* may be NULL */
uint64_t vmmio_read(void *t, uint64_t off, unsigned len); /* for bus_region */
void vmmio_write(void *t, uint64_t off, unsigned len, uint64_t val);
/* The I/O loop saw a notification for `queue`. */
void vmmio_kick(struct vmmio *t, unsigned queue);
void vmmio_drain(struct vmmio *t);
/* A load that fails leaves the device as after a reset. */
void vmmio_visit(struct vmmio *t, struct state_io *io);
const struct virtio_ops *vmmio_ops(const struct vmmio *t);

#endif
