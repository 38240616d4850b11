/* dev/virtio/console.h - console device, one port (no MULTIPORT). Source: VIRTIO 1.2, 5.3.
 * Thread: the I/O loop, under the board's lock; so are the functions below. */
#ifndef DEV_VIRTIO_CONSOLE_H
#define DEV_VIRTIO_CONSOLE_H

#include <stddef.h>

#include "dev/virtio/device.h"

enum { CONSOLE_IN_MAX = 4096 }; /* bytes of input kept until the driver takes them */

struct console; /* opaque */

struct console_conf {
    /* Bytes from the guest. Returns how many were taken; less than len stops the guest's output
     * until console_out_ready(). */
    size_t (*out)(void *ctx, const void *bytes, size_t len);
    /* The guest took input: console_room() grew. May be NULL. */
    void (*room)(void *ctx);
    void *ctx;           /* borrowed */
    uint16_t cols, rows; /* 0 = unknown: VIRTIO_CONSOLE_F_SIZE is then not offered */
};

/* Copies *c. Errors: NULL with *e: -ENOMEM. The result goes to vmmio_new() or board_add_virtio()
 * with console_ops. */
struct console *console_new(const struct console_conf *c, struct err *e);

/* Input for the guest. Returns bytes taken: at most console_room(). */
size_t console_in(struct console *c, const void *bytes, size_t len);
size_t console_room(const struct console *c);
void console_out_ready(struct console *c);
/* Tells the driver, if it asked for sizes. */
void console_resize(struct console *c, uint16_t cols, uint16_t rows);

extern const struct virtio_ops console_ops;

#endif
