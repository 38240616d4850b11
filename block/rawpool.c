#include "block/raw.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "os/loop.h"

enum { ZEROES_LEN = 64 * 1024, ZEROES_IOV = 64 };

struct list {
    struct block_req *head, **tail;
};

struct rawpool {
    int fd;               /* borrowed */
    struct loop *loop;    /* borrowed */
    struct loop_fd watch; /* an eventfd (owned): something is in done */
    pthread_t thread;
    pthread_mutex_t lock; /* over what follows */
    pthread_cond_t work, idle;
    struct list todo, done;
    bool busy, stop;
    bool started; /* the thread runs */
};

static void list_init(struct list *q)
{
    q->head = NULL;
    q->tail = &q->head;
}

static void list_add(struct list *q, struct block_req *r)
{
    r->backend.next = NULL;
    *q->tail = r;
    q->tail = &r->backend.next;
}

static struct block_req *list_take(struct list *q)
{
    struct block_req *r = q->head;

    if (r) {
        q->head = r->backend.next;
        if (!q->head)
            q->tail = &q->head;
    }
    return r;
}

static int transfer(int fd, struct block_req *r)
{
    while (r->backend.moved < r->len) {
        off_t at = (off_t)(r->offset + r->backend.moved);
        ssize_t n = r->op == BLOCK_READ ? preadv(fd, r->iov, (int)r->n_iov, at)
                                        : pwritev(fd, r->iov, (int)r->n_iov, at);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n < 0 ? -errno : -EIO; /* the file shrank */
        raw_advance(r, (uint64_t)n);
    }
    return 0;
}

static int punch(int fd, int mode, const struct block_req *r)
{
    int n;

    do
        n = fallocate(fd, mode | FALLOC_FL_KEEP_SIZE, (off_t)r->offset, (off_t)r->len);
    while (n < 0 && errno == EINTR);
    return n < 0 ? -errno : 0;
}

/* Zeroes by hand, for file systems that know neither holes nor ranges of zeroes. */
static int write_zeroes(int fd, const struct block_req *r)
{
    static const uint8_t zeroes[ZEROES_LEN];
    struct iovec iov[ZEROES_IOV];
    uint64_t done = 0;

    while (done < r->len) {
        uint64_t left = r->len - done;
        int n = 0;

        while (n < ZEROES_IOV && left > 0) {
            size_t k = left < ZEROES_LEN ? left : ZEROES_LEN;
            iov[n++] = (struct iovec){(void *)(uintptr_t)zeroes, k};
            left -= k;
        }
        ssize_t w = pwritev(fd, iov, n, (off_t)(r->offset + done));
        if (w < 0 && errno == EINTR)
            continue;
        if (w <= 0)
            return w < 0 ? -errno : -EIO;
        done += (uint64_t)w;
    }
    return 0;
}

static int run(int fd, struct block_req *r)
{
    int n = -EOPNOTSUPP;

    switch (r->op) {
    case BLOCK_READ:
    case BLOCK_WRITE:
        return transfer(fd, r);
    case BLOCK_FLUSH:
        return fdatasync(fd) < 0 ? -errno : 0;
    case BLOCK_DISCARD:
        return punch(fd, FALLOC_FL_PUNCH_HOLE, r);
    case BLOCK_WRITE_ZEROES:
        if (r->unmap)
            n = punch(fd, FALLOC_FL_PUNCH_HOLE, r);
        if (n == -EOPNOTSUPP)
            n = punch(fd, FALLOC_FL_ZERO_RANGE, r);
        return n == -EOPNOTSUPP ? write_zeroes(fd, r) : n;
    }
    return -EOPNOTSUPP;
}

static void add_done(struct rawpool *p, struct block_req *r)
{
    bool first = p->done.head == NULL;

    list_add(&p->done, r);
    if (first)
        (void)!write(p->watch.fd, &(uint64_t){1}, sizeof(uint64_t));
}

static void *worker(void *ctx)
{
    struct rawpool *p = ctx;
    struct block_req *r;

    thread_enter(loop_hook(p->loop), THREAD_BLOCK);
    pthread_mutex_lock(&p->lock);
    while (!p->stop) {
        r = list_take(&p->todo);
        if (!r) {
            pthread_cond_wait(&p->work, &p->lock);
            continue;
        }
        p->busy = true;
        pthread_mutex_unlock(&p->lock);
        r->backend.result = run(p->fd, r);
        pthread_mutex_lock(&p->lock);
        p->busy = false;
        add_done(p, r);
        pthread_cond_signal(&p->idle);
    }
    pthread_mutex_unlock(&p->lock);
    return NULL;
}

/* Signals are for other threads. */
static int start_thread(struct rawpool *p)
{
    sigset_t all, old;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    int r = pthread_create(&p->thread, NULL, worker, p);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    p->started = r == 0;
    return -r;
}

/* The thread comes with the first request: until a machine runs its process has one thread, which
 * the kernel asks of those that change their namespaces. */
void rawpool_submit(struct rawpool *p, struct block_req *r)
{
    pthread_mutex_lock(&p->lock);
    int n = p->started ? 0 : start_thread(p);
    if (n == 0) {
        list_add(&p->todo, r);
        pthread_cond_signal(&p->work);
    } else {
        r->backend.result = n;
        add_done(p, r);
    }
    pthread_mutex_unlock(&p->lock);
}

/* Report what is done. Returns false if there was nothing. */
static bool report(struct rawpool *p)
{
    struct block_req *r;

    pthread_mutex_lock(&p->lock);
    r = p->done.head;
    list_init(&p->done);
    pthread_mutex_unlock(&p->lock);
    bool any = r != NULL;
    while (r) {
        struct block_req *next = r->backend.next; /* r is its owner's again in done() */

        r->done(r, r->backend.result);
        r = next;
    }
    return any;
}

static void ready(void *ctx, uint32_t events)
{
    struct rawpool *p = ctx;
    uint64_t n;

    (void)!read(p->watch.fd, &n, sizeof(n));
    (void)report(p);
}

bool rawpool_drain(struct rawpool *p)
{
    bool any = false;

    do {
        pthread_mutex_lock(&p->lock);
        while (p->busy || p->todo.head) {
            any = true;
            pthread_cond_wait(&p->idle, &p->lock);
        }
        pthread_mutex_unlock(&p->lock);
    } while (report(p));
    return any;
}

int rawpool_new(int fd, struct loop *l, struct rawpool **ret, struct err *e)
{
    struct rawpool *p = calloc(1, sizeof(*p));

    if (!p)
        return err_set(e, -ENOMEM, "out of memory");
    p->fd = fd;
    p->loop = l;
    pthread_mutex_init(&p->lock, NULL);
    pthread_cond_init(&p->work, NULL);
    pthread_cond_init(&p->idle, NULL);
    list_init(&p->todo);
    list_init(&p->done);
    int ev = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    p->watch = (struct loop_fd){.fd = ev, .ready = ready, .ctx = p};
    int r = ev < 0 ? err_errno(e, -errno, "eventfd") : loop_add(l, &p->watch, EPOLLIN, e);
    if (r < 0) {
        rawpool_free(p);
        return r;
    }
    *ret = p;
    return 0;
}

void rawpool_free(struct rawpool *p)
{
    if (!p)
        return;
    if (p->started) {
        pthread_mutex_lock(&p->lock);
        p->stop = true;
        pthread_cond_signal(&p->work);
        pthread_mutex_unlock(&p->lock);
        pthread_join(p->thread, NULL);
    }
    if (p->watch.fd >= 0) {
        loop_del(p->loop, &p->watch);
        (void)close(p->watch.fd);
    }
    pthread_cond_destroy(&p->idle);
    pthread_cond_destroy(&p->work);
    pthread_mutex_destroy(&p->lock);
    free(p);
}
