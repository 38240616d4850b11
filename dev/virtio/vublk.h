/* dev/virtio/vublk.h - block device (VIRTIO 1.2, 5.2) that another process serves; see vudev.h.
 * Thread: the I/O loop, under the board's lock. */
#ifndef DEV_VIRTIO_VUBLK_H
#define DEV_VIRTIO_VUBLK_H

#include "dev/virtio/vudev.h"

/* `link` is owned from here on, also on failure; the others are borrowed. The result goes to
 * board_add_virtio() with vublk_ops. Errors: NULL with *e as vudev_init(); -ENOTSUP the back end
 * serves no disk. */
struct vudev *vublk_new(struct vulink *link, struct mem *m, struct loop *l, struct err *e);
uint64_t vublk_size(const struct vudev *d); /* bytes */
bool vublk_read_only(const struct vudev *d);

extern const struct virtio_ops vublk_ops;

#endif
