/* vhost/vhostuser.h - the vhost-user protocol, front end: one connection to a process that serves
 * the queues of a device. Source: QEMU, docs/interop/vhost-user.rst; the section is named where one
 * is followed.
 *
 * The back end is another program and may be wrong, hostile or dead. Every answer has a deadline,
 * is checked for kind, size and content, and a descriptor sent with one is dropped. What the back
 * end can do by design is read and write all of the machine's RAM.
 *
 * After an error the connection is of no use any more: close it. Errors of all functions:
 * -ETIMEDOUT no answer in time; -ECONNRESET the back end is gone; -EPROTO it breaks the protocol;
 * -ENOTSUP it lacks what is needed; -EREMOTEIO it refused. Thread: the caller's; a call may wait
 * for its deadline. */
#ifndef VHOST_VHOSTUSER_H
#define VHOST_VHOSTUSER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

enum {
    VHOSTUSER_CONFIG_MAX = 256, /* bytes ("Virtio device config space") */
    VHOSTUSER_REGIONS_MAX = 8,  /* "Memory regions description" */
    VHOSTUSER_QUEUES_MAX = 8,
    VHOSTUSER_HELLO_MS = 20000,  /* for a machine's first questions: the back end may just start */
    VHOSTUSER_ANSWER_MS = 10000, /* for what is asked later, while the machine runs */
};

struct vhostuser { /* owned: vhostuser_close() */
    int fd;
    uint64_t features;  /* the device's, as the back end offers them */
    uint64_t protocol;  /* "Protocol features" both know */
    unsigned queues;    /* it serves at most; 0 = does not say */
    unsigned answer_ms; /* VHOSTUSER_ANSWER_MS, or a test's */
    uint64_t deadline;  /* CLOCK_MONOTONIC ns, of the call under way; private */
};
#define VHOSTUSER_NONE ((struct vhostuser){.fd = -1})

/* A connected socket to the one at `path`: a descriptor, the caller's. What connect(2) says. */
int vhostuser_connect(const char *path, struct err *e) MUST_CHECK;
/* Begin on a connected socket, which is taken, also on failure: features, owner; in `ms` at most.
 * *v is owned. */
int vhostuser_open(int fd, unsigned ms, struct vhostuser *v, struct err *e) MUST_CHECK;
void vhostuser_close(struct vhostuser *v); /* a VHOSTUSER_NONE one is fine */

/* Between calls: 0, all is well; -EPROTO: something came that nobody asked for; -ECONNRESET. */
int vhostuser_peek(const struct vhostuser *v) MUST_CHECK;
/* The first `len` bytes of the device's configuration (VHOST_USER_GET_CONFIG). */
int vhostuser_config(struct vhostuser *v, void *buf, size_t len, struct err *e) MUST_CHECK;

struct vhostuser_region { /* memory the back end maps */
    uint64_t gpa, size;   /* bytes; as descriptors name it */
    const void *hva;      /* as this process has it: how ring addresses are told */
    uint64_t offset;      /* in `fd` */
    int fd;               /* borrowed */
};

struct vhostuser_queue {
    unsigned index;
    uint16_t size; /* entries */
    uint16_t base; /* avail index to begin with */
    const void *desc, *avail, *used;
    int kick, call; /* eventfds, borrowed */
};

/* The device goes live: features the driver took, memory, then every queue. */
int vhostuser_start(struct vhostuser *v, uint64_t features, const struct vhostuser_region *region,
                    unsigned n_regions, const struct vhostuser_queue *queue, unsigned n_queues,
                    struct err *e) MUST_CHECK;
/* Stop queue `index` (VHOST_USER_GET_VRING_BASE). *base: the avail index it would go on with; what
 * it took before may still be under way. */
int vhostuser_stop(struct vhostuser *v, unsigned index, uint16_t *base, struct err *e) MUST_CHECK;

#endif
