/* os/loop.h - an epoll loop: descriptors, posted functions, one timeout source.
 *
 * Threads: loop_run() on one thread; add/mod/del on that thread or before it
 * runs; loop_post() and loop_stop() from any thread. A handler may delete
 * itself or any other handler, also one whose event is pending in this round. */
#ifndef OS_LOOP_H
#define OS_LOOP_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "os/role.h"

struct loop;

struct loop_fd { /* embedded in its owner, must stay until loop_del() */
    int fd;      /* borrowed */
    void (*ready)(void *ctx, uint32_t events); /* EPOLLIN | EPOLLOUT | EPOLLHUP ... */
    void *ctx;
    bool added; /* private */
};

/* `lock`, if not NULL, is held while handlers run (borrowed).
 * Errors: NULL with *e. */
struct loop *loop_new(pthread_mutex_t *lock, struct err *e);
void loop_free(struct loop *l);

int loop_add(struct loop *l, struct loop_fd *h, uint32_t events, struct err *e) MUST_CHECK;
void loop_mod(struct loop *l, struct loop_fd *h, uint32_t events);
void loop_del(struct loop *l, struct loop_fd *h); /* idempotent */

/* Run fn(ctx) on the loop's thread, in order of posting. Errors: -ENOMEM. */
int loop_post(struct loop *l, void (*fn)(void *ctx), void *ctx) MUST_CHECK;

/* Asked before each wait: CLOCK_MONOTONIC ns of the next wake-up, or UINT64_MAX;
 * `due` runs after each wait. One pair per loop. loop_wake() makes it ask again. */
void loop_set_timeout(struct loop *l, uint64_t (*next)(void *ctx), void (*due)(void *ctx),
                      void *ctx);
void loop_wake(struct loop *l); /* any thread, async-signal-safe */

/* What a thread that works for this loop calls first (os/role.h); NULL = nothing. Borrowed. */
void loop_set_hook(struct loop *l, const struct thread_hook *hook);
const struct thread_hook *loop_hook(const struct loop *l);

void loop_run(struct loop *l);                  /* until loop_stop() */
void loop_once(struct loop *l, int timeout_ms); /* one round; for tests */
void loop_stop(struct loop *l);                 /* any thread, async-signal-safe */

#endif
