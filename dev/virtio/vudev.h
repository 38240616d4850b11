/* dev/virtio/vudev.h - a virtio device whose requests another process executes: what vhost-user
 * disks (vublk.c) and network cards (vunet.c) have in common.
 *
 * The guest's queues are read and written here as for any device; what they hold goes on through
 * queues of our own to the back end and comes back from there (vhost/vuqueue.h says why). Guest RAM
 * is a shared memfd that the back end maps, so data move without a copy.
 *
 * A back end that dies: what it had under way stays, the device stands still and goes on when there
 * is one again on the same socket. One that breaks the protocol, does not answer, or cannot come
 * back: DEVICE_NEEDS_RESET; a reset by the driver tries anew. A call may hold the I/O loop for the
 * deadlines of vhostuser.h, or VUDEV_STOP_MS. Thread: the I/O loop, under the board's lock. */
#ifndef DEV_VIRTIO_VUDEV_H
#define DEV_VIRTIO_VUDEV_H

#include "dev/virtio/device.h"
#include "os/loop.h"
#include "vhost/vulink.h"
#include "vhost/vuqueue.h"

enum { VUDEV_STOP_MS = 10000 }; /* for requests under way when the device is to stand still */

struct vudev;

struct vudev_kind {
    unsigned n_queues;
    /* A back end is there, the first or another one: take its features and configuration, and
     * check them. Errors as vhostuser_config(). */
    int (*meet)(struct vudev *d, struct vhostuser *conn, struct err *e);
    bool finishes; /* every request ends by itself, as a disk's does and a receive buffer's not */
    bool link_in_config; /* the driver is told when the back end comes and goes */
};

struct vudev { /* first member of each kind's device */
    const struct vudev_kind *kind;
    struct virtio_port *port;
    struct mem *mem;        /* borrowed */
    struct loop *loop;      /* borrowed */
    struct vulink *link;    /* owned */
    struct vuqueues *queue; /* owned */
    struct vudev_call {
        struct vudev *dev;
        unsigned queue;
        struct loop_fd watch;
    } call[VHOSTUSER_QUEUES_MAX];
    uint64_t features; /* offered to the driver */
    uint64_t own;      /* those of them that are not the back end's business */
    uint8_t config[VHOSTUSER_CONFIG_MAX];
    unsigned stop_ms;      /* VUDEV_STOP_MS, or a test's */
    unsigned started;      /* bit n: the back end serves queue n */
    unsigned starved;      /* bit n: a request of queue n waits for room */
    struct vq_chain chain; /* the one under way */
};

/* Fill *d, which is zeroed and on the heap. `link` is taken, also on failure, which frees d, too.
 * Errors: -EINVAL the machine's RAM is not shared; -ENOMEM; as vudev_kind.meet. */
int vudev_init(struct vudev *d, const struct vudev_kind *kind, struct vulink *link, struct mem *m,
               struct loop *l, struct err *e) MUST_CHECK;

/* For virtio_ops. */
uint64_t vudev_features(void *dev);
void vudev_attach(void *dev, struct virtio_port *p);
void vudev_kick(void *dev, unsigned n);
void vudev_config_read(void *dev, unsigned off, void *buf, unsigned len);
void vudev_reset(void *dev);
void vudev_drain(void *dev);
void vudev_visit(void *dev, struct state_io *io);
void vudev_destroy(void *dev); /* may be NULL */

#endif
