#include "hw/timer.h"

#include <stddef.h>

void timerq_init(struct timerq *q, void (*sooner)(void *ctx), void *ctx)
{
    *q = (struct timerq){.sooner = sooner, .sooner_ctx = ctx};
    pthread_mutex_init(&q->lock, NULL);
}

void timerq_done(struct timerq *q)
{
    pthread_mutex_destroy(&q->lock);
}

static void place(struct timerq *q, unsigned i, struct timer *t)
{
    q->heap[i] = t;
    t->slot = (int)i + 1;
}

static void sift_up(struct timerq *q, unsigned i)
{
    struct timer *t = q->heap[i];

    while (i > 0 && q->heap[(i - 1) / 2]->deadline > t->deadline) {
        place(q, i, q->heap[(i - 1) / 2]);
        i = (i - 1) / 2;
    }
    place(q, i, t);
}

static void sift_down(struct timerq *q, unsigned i)
{
    struct timer *t = q->heap[i];

    for (;;) {
        unsigned c = 2 * i + 1;

        if (c >= q->n)
            break;
        if (c + 1 < q->n && q->heap[c + 1]->deadline < q->heap[c]->deadline)
            c++;
        if (q->heap[c]->deadline >= t->deadline)
            break;
        place(q, i, q->heap[c]);
        i = c;
    }
    place(q, i, t);
}

static void remove_locked(struct timerq *q, struct timer *t)
{
    if (!t->slot)
        return;
    unsigned i = (unsigned)t->slot - 1;
    struct timer *last = q->heap[--q->n];
    t->slot = 0;
    if (last == t)
        return;
    place(q, i, last);
    sift_up(q, i);
    sift_down(q, (unsigned)last->slot - 1);
}

void timer_arm(struct timerq *q, struct timer *t, ns_t deadline)
{
    bool sooner;

    pthread_mutex_lock(&q->lock);
    remove_locked(q, t);
    BUG_ON(q->n == TIMERS_MAX); /* each device has a fixed number of timers */
    t->deadline = deadline;
    place(q, q->n++, t);
    sift_up(q, q->n - 1);
    sooner = q->heap[0] == t;
    pthread_mutex_unlock(&q->lock);
    if (sooner && q->sooner)
        q->sooner(q->sooner_ctx);
}

void timer_cancel(struct timerq *q, struct timer *t)
{
    pthread_mutex_lock(&q->lock);
    remove_locked(q, t);
    pthread_mutex_unlock(&q->lock);
}

bool timer_armed(struct timerq *q, const struct timer *t)
{
    pthread_mutex_lock(&q->lock);
    bool armed = t->slot != 0;
    pthread_mutex_unlock(&q->lock);
    return armed;
}

ns_t timerq_next(struct timerq *q)
{
    pthread_mutex_lock(&q->lock);
    ns_t d = q->n ? q->heap[0]->deadline : TIMER_NEVER;
    pthread_mutex_unlock(&q->lock);
    return d;
}

unsigned timerq_run(struct timerq *q, ns_t now)
{
    unsigned n = 0;

    for (;;) {
        struct timer *t = NULL;

        pthread_mutex_lock(&q->lock);
        if (q->n && q->heap[0]->deadline <= now) {
            t = q->heap[0];
            remove_locked(q, t);
        }
        pthread_mutex_unlock(&q->lock);
        if (!t)
            return n;
        t->fire(t->ctx);
        n++;
    }
}
