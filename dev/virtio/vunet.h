/* dev/virtio/vunet.h - network card (VIRTIO 1.2, 5.1) that another process serves, a switch such as
 * Open vSwitch; see vudev.h. One pair of queues, no control queue. The card's link is down while
 * there is no back end. Thread: the I/O loop, under the board's lock. */
#ifndef DEV_VIRTIO_VUNET_H
#define DEV_VIRTIO_VUNET_H

#include "dev/virtio/vudev.h"

/* `link` is owned from here on, also on failure; the others are borrowed. `mtu` 0: not told to the
 * driver. The result goes to board_add_virtio() with vunet_ops. Errors: NULL with *e as
 * vudev_init(). */
struct vudev *vunet_new(struct vulink *link, const uint8_t mac[6], uint16_t mtu, struct mem *m,
                        struct loop *l, struct err *e);

extern const struct virtio_ops vunet_ops;

#endif
