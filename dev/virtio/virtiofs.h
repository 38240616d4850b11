/* dev/virtio/virtiofs.h - file system device: one request queue, no DAX window. Source:
 * VIRTIO 1.2, 5.11. Requests are served on the I/O loop, one after another. Thread: the I/O loop,
 * under the board's lock. */
#ifndef DEV_VIRTIO_VIRTIOFS_H
#define DEV_VIRTIO_VIRTIOFS_H

#include "dev/virtio/device.h"
#include "fs/fusefs.h"

enum { VIRTIOFS_TAG_MAX = 36 }; /* bytes (5.11.4) */

struct virtiofs; /* opaque */

/* `fs` is owned from here on, also on failure. `tag` is what the guest mounts. Errors: NULL with
 * *e: -ENOMEM, -EINVAL (a tag that is empty or too long). The result goes to board_add_virtio()
 * with virtiofs_ops. */
struct virtiofs *virtiofs_new(struct fusefs *fs, const char *tag, struct err *e);

extern const struct virtio_ops virtiofs_ops;

#endif
