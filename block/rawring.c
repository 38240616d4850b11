#include "block/raw.h"

#include <errno.h>
#include <liburing.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "os/loop.h"

enum { RING_ENTRIES = 128 };

struct rawring {
    struct io_uring ring;
    struct loop *loop;                   /* borrowed */
    struct loop_fd watch;                /* ring_fd: readable when something completed */
    int fd;                              /* borrowed */
    unsigned in_flight;                  /* in the ring, submitted or not */
    struct block_req *waiting, **w_tail; /* no room in the ring */
    bool retry_posted, closing;
};

static void prepare(struct rawring *g, struct block_req *r, struct io_uring_sqe *sqe)
{
    uint64_t at = r->offset + r->backend.moved;

    if (r->op == BLOCK_READ)
        io_uring_prep_readv(sqe, g->fd, r->iov, r->n_iov, at);
    else if (r->op == BLOCK_WRITE)
        io_uring_prep_writev(sqe, g->fd, r->iov, r->n_iov, at);
    else
        io_uring_prep_fsync(sqe, g->fd, IORING_FSYNC_DATASYNC);
    io_uring_sqe_set_data(sqe, r);
}

static void enqueue(struct rawring *g, struct block_req *r)
{
    struct io_uring_sqe *sqe = g->in_flight < RING_ENTRIES ? io_uring_get_sqe(&g->ring) : NULL;

    if (sqe) {
        g->in_flight++;
        prepare(g, r, sqe);
        return;
    }
    r->backend.next = NULL;
    *g->w_tail = r;
    g->w_tail = &r->backend.next;
}

void rawring_submit(struct rawring *g, struct block_req *r)
{
    enqueue(g, r);
}

static void retry(void *ctx)
{
    struct rawring *g = ctx;

    g->retry_posted = false;
    if (g->closing)
        free(g);
    else
        rawring_commit(g);
}

/* A kernel short of memory takes the entries later: they stay in the ring. */
void rawring_commit(struct rawring *g)
{
    if (io_uring_sq_ready(&g->ring) == 0)
        return;
    int r = io_uring_submit(&g->ring);
    if (r < 0 && !g->retry_posted)
        g->retry_posted = loop_post(g->loop, retry, g) == 0;
}

/* One completion. Short transfers go on; at the end of a file that shrank they fail. */
static void complete(struct rawring *g, struct block_req *r, int res)
{
    bool transfer = r->op != BLOCK_FLUSH;

    if (res > 0 && transfer)
        raw_advance(r, (uint64_t)res);
    bool more = transfer && r->backend.moved < r->len;
    if (res == -EINTR || res == -EAGAIN || (res > 0 && more)) {
        enqueue(g, r);
        return;
    }
    r->done(r, res < 0 ? res : more ? -EIO : 0);
}

static void reap(struct rawring *g)
{
    struct io_uring_cqe *cqe;

    while (io_uring_peek_cqe(&g->ring, &cqe) == 0) {
        struct block_req *r = io_uring_cqe_get_data(cqe);
        int res = cqe->res;

        io_uring_cqe_seen(&g->ring, cqe);
        g->in_flight--;
        complete(g, r, res);
    }
    while (g->waiting && g->in_flight < RING_ENTRIES) {
        struct block_req *r = g->waiting;

        g->waiting = r->backend.next;
        if (!g->waiting)
            g->w_tail = &g->waiting;
        enqueue(g, r);
    }
    rawring_commit(g);
}

static void ready(void *ctx, uint32_t events)
{
    reap(ctx);
}

bool rawring_drain(struct rawring *g)
{
    bool any = false;

    while (g->in_flight > 0 || g->waiting) {
        any = true;
        (void)io_uring_submit_and_wait(&g->ring, 1);
        reap(g);
    }
    return any;
}

/* A ring can do all that system calls can, past any list of them: this one can do what it is for.
 * io_uring_register(2), IORING_REGISTER_RESTRICTIONS. A kernel that cannot (before 5.10) has no
 * ring for us. */
static int make_ring(struct io_uring *ring)
{
    struct io_uring_restriction only[] = {
        {.opcode = IORING_RESTRICTION_SQE_OP, .sqe_op = IORING_OP_READV},
        {.opcode = IORING_RESTRICTION_SQE_OP, .sqe_op = IORING_OP_WRITEV},
        {.opcode = IORING_RESTRICTION_SQE_OP, .sqe_op = IORING_OP_FSYNC},
    };
    int r = io_uring_queue_init(RING_ENTRIES, ring, IORING_SETUP_R_DISABLED);

    if (r < 0)
        return r;
    /* The library's functions for these two are not in every build of it. */
    if (syscall(SYS_io_uring_register, ring->ring_fd, IORING_REGISTER_RESTRICTIONS, only,
                ARRAY_LEN(only)) < 0 ||
        syscall(SYS_io_uring_register, ring->ring_fd, IORING_REGISTER_ENABLE_RINGS, NULL, 0) < 0) {
        r = -errno;
        io_uring_queue_exit(ring);
    }
    return r;
}

int rawring_new(int fd, struct loop *l, struct rawring **ret, struct err *e)
{
    struct rawring *g = calloc(1, sizeof(*g));

    if (!g)
        return err_set(e, -ENOMEM, "out of memory");
    int r = make_ring(&g->ring);
    if (r < 0) {
        free(g);
        return err_errno(e, r, "io_uring");
    }
    g->loop = l;
    g->fd = fd;
    g->w_tail = &g->waiting;
    g->watch = (struct loop_fd){.fd = g->ring.ring_fd, .ready = ready, .ctx = g};
    r = loop_add(l, &g->watch, EPOLLIN, e);
    if (r < 0) {
        io_uring_queue_exit(&g->ring);
        free(g);
        return r;
    }
    *ret = g;
    return 0;
}

void rawring_free(struct rawring *g)
{
    if (!g)
        return;
    loop_del(g->loop, &g->watch);
    io_uring_queue_exit(&g->ring);
    g->closing = true;
    if (!g->retry_posted)
        free(g); /* else the posted retry does */
}
