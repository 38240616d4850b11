/* vhost/vuqueue.h - queues between this process and a vhost-user back end: split rings (VIRTIO 1.2,
 * 2.7) in a shared memfd of their own, this side being the driver.
 *
 * The guest's rings are not the back end's. What the guest offers is copied and checked once, then
 * offered here; what the back end returns is looked at here, before the guest sees it. So the guest
 * cannot run what a read just put into RAM before mem_wrote() told the engines, a back end that
 * died finds what it had under way offered again, and neither side's nonsense reaches the other.
 *
 * The back end may write anything anywhere in the shared memory at any time. Nothing is taken from
 * it but the used ring's entries, each checked against a copy it cannot reach.
 * Thread: the I/O loop. */
#ifndef VHOST_VUQUEUE_H
#define VHOST_VUQUEUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "mem/mem.h"
#include "vhost/vhostuser.h"

enum {
    VUQUEUE_SIZE = 1024,       /* descriptors, shared by all requests under way */
    VUQUEUE_BYTES = 32 * 1024, /* of shared memory, one queue */
};
/* Where the rings lie for the back end: above all RAM, so that no descriptor of a guest reaches
 * them. */
#define VUQUEUE_GPA (MEM_HIGH_BASE + MEM_SIZE_MAX)

struct vuqueue_buf { /* a piece of guest RAM; checked to be such */
    gpa_t gpa;
    uint32_t len; /* bytes */
};

struct vuqueue_done {
    uint16_t tag;     /* as given to vuqueue_add() */
    uint32_t written; /* bytes, at most the writable ones there were */
};

struct vuqueues; /* opaque: all queues of one device */

/* `n` queues, at most VHOSTUSER_QUEUES_MAX. *m is borrowed and outlives them. Errors: NULL with *e:
 * -ENOMEM, what memfd_create(2), mmap(2), eventfd(2) say. */
struct vuqueues *vuqueues_new(unsigned n, struct mem *m, struct err *e);
void vuqueues_free(struct vuqueues *s); /* may be NULL */
/* For the back end: the memory they lie in, and queue `i` from its beginning. */
void vuqueues_region(const struct vuqueues *s, struct vhostuser_region *region);
void vuqueues_queue(const struct vuqueues *s, unsigned i, struct vhostuser_queue *q);
/* Readable when the back end has returned something from queue `i`; borrowed. vuqueue_heard() makes
 * it unreadable again. */
int vuqueue_call_fd(const struct vuqueues *s, unsigned i);
void vuqueue_heard(struct vuqueues *s, unsigned i);

/* Offer a request: n_out readable pieces, then n_in writable ones. False: no room now. */
bool vuqueue_add(struct vuqueues *s, unsigned i, uint16_t tag, const struct vuqueue_buf *buf,
                 unsigned n_out, unsigned n_in) MUST_CHECK;
/* Tell the back end that there are new ones, unless it does not want to be told. */
void vuqueue_kick(struct vuqueues *s, unsigned i);
/* The next returned request: 1 and *d, its writable pieces reported to mem_wrote(); 0 = none.
 * Errors: -EPROTO, the back end returned what it does not have. */
int vuqueue_next(struct vuqueues *s, unsigned i, struct vuqueue_done *d) MUST_CHECK;
/* Wait until vuqueue_call_fd() may be readable, or the time is up. Returns how long that took, ms,
 * at least 1. */
unsigned vuqueue_wait(const struct vuqueues *s, unsigned i, unsigned timeout_ms);
unsigned vuqueue_pending(const struct vuqueues *s, unsigned i); /* offered, not returned */

/* The back end stopped and would go on at avail index `base`: requests behind that are taken back.
 * Returns how many; they are the last ones added. Errors: -EPROTO, it never was that far. */
int vuqueue_take_back(struct vuqueues *s, unsigned i, uint16_t base) MUST_CHECK;
/* For a back end that begins: a ring from index 0 that offers again all that is pending. */
void vuqueue_again(struct vuqueues *s, unsigned i);
void vuqueue_clear(struct vuqueues *s, unsigned i); /* forget what is pending */

#endif
