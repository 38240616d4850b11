#include "os/loop.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <unistd.h>

enum { EVENTS_A_ROUND = 64 };

struct posted {
    struct posted *next;
    void (*fn)(void *ctx);
    void *ctx;
};

struct loop {
    int ep, wake_fd, timer_fd; /* owned */
    pthread_mutex_t *lock;     /* borrowed, may be NULL */
    pthread_mutex_t post_lock;
    struct posted *head, **tail;
    _Atomic bool stop;
    uint64_t (*next)(void *ctx);
    void (*due)(void *ctx);
    void *timeout_ctx;
    const struct thread_hook *hook; /* borrowed */
    uint64_t timer_set;             /* what timer_fd is set to, ns; UINT64_MAX = not */
    struct epoll_event ev[EVENTS_A_ROUND];
    int n_ev;
};

static int watch(struct loop *l, int fd, void *tag)
{
    struct epoll_event ev = {.events = EPOLLIN, .data.ptr = tag};

    return epoll_ctl(l->ep, EPOLL_CTL_ADD, fd, &ev);
}

struct loop *loop_new(pthread_mutex_t *lock, struct err *e)
{
    struct loop *l = calloc(1, sizeof(*l));

    if (!l) {
        err_set(e, -ENOMEM, "out of memory");
        return NULL;
    }
    l->lock = lock;
    l->tail = &l->head;
    l->timer_set = UINT64_MAX;
    pthread_mutex_init(&l->post_lock, NULL);
    l->ep = epoll_create1(EPOLL_CLOEXEC);
    l->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    l->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    if (l->ep < 0 || l->wake_fd < 0 || l->timer_fd < 0 || watch(l, l->wake_fd, &l->wake_fd) < 0 ||
        watch(l, l->timer_fd, &l->timer_fd) < 0) {
        err_errno(e, -errno, "make an event loop");
        loop_free(l);
        return NULL;
    }
    return l;
}

void loop_free(struct loop *l)
{
    if (!l)
        return;
    while (l->head) {
        struct posted *p = l->head;

        l->head = p->next;
        free(p);
    }
    if (l->ep >= 0)
        close(l->ep);
    if (l->wake_fd >= 0)
        close(l->wake_fd);
    if (l->timer_fd >= 0)
        close(l->timer_fd);
    pthread_mutex_destroy(&l->post_lock);
    free(l);
}

int loop_add(struct loop *l, struct loop_fd *h, uint32_t events, struct err *e)
{
    struct epoll_event ev = {.events = events, .data.ptr = h};

    if (epoll_ctl(l->ep, EPOLL_CTL_ADD, h->fd, &ev) < 0)
        return err_errno(e, -errno, "watch descriptor %d", h->fd);
    h->added = true;
    return 0;
}

void loop_mod(struct loop *l, struct loop_fd *h, uint32_t events)
{
    struct epoll_event ev = {.events = events, .data.ptr = h};

    if (h->added)
        (void)epoll_ctl(l->ep, EPOLL_CTL_MOD, h->fd, &ev);
}

void loop_del(struct loop *l, struct loop_fd *h)
{
    if (!h->added)
        return;
    h->added = false;
    (void)epoll_ctl(l->ep, EPOLL_CTL_DEL, h->fd, NULL);
    for (int i = 0; i < l->n_ev; i++) {
        if (l->ev[i].data.ptr == h)
            l->ev[i].data.ptr = NULL; /* its event of this round must not reach it */
    }
}

void loop_wake(struct loop *l)
{
    uint64_t one = 1;
    ssize_t r = write(l->wake_fd, &one, sizeof(one));

    (void)r; /* full means a wake-up is pending already */
}

int loop_post(struct loop *l, void (*fn)(void *ctx), void *ctx)
{
    struct posted *p = malloc(sizeof(*p));

    if (!p)
        return -ENOMEM;
    *p = (struct posted){.fn = fn, .ctx = ctx};
    pthread_mutex_lock(&l->post_lock);
    *l->tail = p;
    l->tail = &p->next;
    pthread_mutex_unlock(&l->post_lock);
    loop_wake(l);
    return 0;
}

void loop_set_timeout(struct loop *l, uint64_t (*next)(void *ctx), void (*due)(void *ctx),
                      void *ctx)
{
    l->next = next;
    l->due = due;
    l->timeout_ctx = ctx;
}

void loop_set_hook(struct loop *l, const struct thread_hook *hook)
{
    l->hook = hook;
}

const struct thread_hook *loop_hook(const struct loop *l)
{
    return l->hook;
}

static void run_posted(struct loop *l)
{
    pthread_mutex_lock(&l->post_lock);
    struct posted *p = l->head;
    l->head = NULL;
    l->tail = &l->head;
    pthread_mutex_unlock(&l->post_lock);
    while (p) {
        struct posted *next = p->next;

        p->fn(p->ctx);
        free(p);
        p = next;
    }
}

/* epoll_wait() counts in ms, timers in ns: a timerfd carries the deadline. */
static void set_timer(struct loop *l)
{
    uint64_t at = l->next ? l->next(l->timeout_ctx) : UINT64_MAX;
    struct itimerspec its = {0};

    if (at == l->timer_set)
        return;
    if (at != UINT64_MAX) {
        uint64_t ns = at ? at : 1; /* 0 would disarm */
        its.it_value.tv_sec = (time_t)(ns / 1000000000u);
        its.it_value.tv_nsec = (long)(ns % 1000000000u);
    }
    (void)timerfd_settime(l->timer_fd, TFD_TIMER_ABSTIME, &its, NULL);
    l->timer_set = at;
}

static void drain(int fd)
{
    uint64_t n;
    ssize_t r = read(fd, &n, sizeof(n));

    (void)r;
}

void loop_once(struct loop *l, int timeout_ms)
{
    set_timer(l);
    int n = epoll_wait(l->ep, l->ev, EVENTS_A_ROUND, timeout_ms);
    if (l->lock)
        pthread_mutex_lock(l->lock);
    l->n_ev = n > 0 ? n : 0;
    for (int i = 0; i < l->n_ev; i++) {
        void *tag = l->ev[i].data.ptr;

        if (tag == &l->wake_fd) {
            drain(l->wake_fd);
        } else if (tag == &l->timer_fd) {
            drain(l->timer_fd);
            l->timer_set = UINT64_MAX - 1; /* spent: set anew, also to the same deadline */
        } else if (tag) {
            struct loop_fd *h = tag;
            h->ready(h->ctx, l->ev[i].events);
        }
    }
    l->n_ev = 0;
    run_posted(l);
    if (l->due)
        l->due(l->timeout_ctx);
    if (l->lock)
        pthread_mutex_unlock(l->lock);
}

void loop_run(struct loop *l)
{
    while (!atomic_load(&l->stop))
        loop_once(l, -1);
}

void loop_stop(struct loop *l)
{
    atomic_store(&l->stop, true);
    loop_wake(l);
}
