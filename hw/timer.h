/* hw/timer.h - one-shot timers on machine time.
 *
 * Devices arm; the machine's I/O loop asks for the next deadline and runs what
 * is due. A test drives the same queue with a fake clock.
 * Threads: arm/cancel from any thread. fire() runs on the I/O loop with the
 * board's lock held (as its driver arranges), never with the queue's own. A timer
 * cancelled while its fire() is already under way may still fire once. */
#ifndef HW_TIMER_H
#define HW_TIMER_H

#include <pthread.h>
#include <stdbool.h>
#include "base/err.h"
#include "hw/clock.h"

struct timer {
    void (*fire)(void *ctx);
    void *ctx;     /* borrowed */
    ns_t deadline; /* private from here */
    int slot;      /* heap index + 1; 0 = not armed */
};

enum { TIMERS_MAX = 512 };

struct timerq {
    pthread_mutex_t lock;
    struct timer *heap[TIMERS_MAX];
    unsigned n;
    /* Called (any thread, lock not held) when the earliest deadline got earlier. */
    void (*sooner)(void *ctx);
    void *sooner_ctx;
};

#define TIMER_NEVER UINT64_MAX

void timerq_init(struct timerq *q, void (*sooner)(void *ctx), void *ctx);
void timerq_done(struct timerq *q);
void timer_arm(struct timerq *q, struct timer *t, ns_t deadline); /* re-arms */
void timer_cancel(struct timerq *q, struct timer *t);
bool timer_armed(struct timerq *q, const struct timer *t);
ns_t timerq_next(struct timerq *q); /* TIMER_NEVER if none */
/* Fire all with deadline <= now. Returns how many. */
unsigned timerq_run(struct timerq *q, ns_t now);

#endif
