#include "vhost/vuqueue.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

enum { DESC_NEXT = 1, DESC_WRITE = 2 }; /* VIRTIO 1.2, 2.7.5 */
enum { USED_NO_NOTIFY = 1 };            /* 2.7.8 */
enum { NONE = UINT16_MAX };

struct desc { /* 2.7.5, wire layout, little-endian */
    uint64_t addr;
    uint32_t len;
    uint16_t flags, next;
};

struct rings { /* one queue's shared memory; little-endian */
    struct desc desc[VUQUEUE_SIZE];
    struct { /* 2.7.6 */
        uint16_t flags;
        _Atomic uint16_t idx;
        uint16_t ring[VUQUEUE_SIZE];
        uint16_t used_event;
    } avail __attribute__((aligned(4096)));
    struct { /* 2.7.8 */
        _Atomic uint16_t flags;
        _Atomic uint16_t idx;
        struct {
            uint32_t id, len;
        } ring[VUQUEUE_SIZE];
        uint16_t avail_event;
    } used __attribute__((aligned(4096)));
};
_Static_assert(sizeof(struct desc) == 16 && sizeof(struct rings) <= VUQUEUE_BYTES,
               "VIRTIO 1.2, 2.7");

struct request { /* by the index of its first descriptor */
    bool pending;
    uint16_t tag;
    uint16_t at;     /* its avail index */
    uint64_t in_len; /* bytes */
    uint64_t seq;    /* order of adding */
};

struct vuqueue {
    struct rings *r; /* shared with the back end */
    /* From here on this process's own. */
    struct desc desc[VUQUEUE_SIZE]; /* what r->desc was given; free ones are linked by `next` */
    struct request req[VUQUEUE_SIZE];
    uint16_t order[VUQUEUE_SIZE]; /* what r->avail.ring was given */
    uint16_t free, n_free;
    uint16_t avail, used; /* free-running indexes: offered, returned */
    unsigned pending;
    uint64_t seq;
    int kick, call; /* owned */
};

struct vuqueues {
    struct mem *mem; /* borrowed */
    int fd;          /* owned */
    uint8_t *hva;    /* owned mapping */
    unsigned n;
    struct vuqueue q[];
};

/* --- making ------------------------------------------------------------------------------- */

static void clear(struct vuqueue *q)
{
    for (unsigned i = 0; i < VUQUEUE_SIZE; i++) {
        q->desc[i].next = (uint16_t)(i + 1 < VUQUEUE_SIZE ? i + 1 : NONE);
        q->req[i].pending = false;
    }
    q->free = 0;
    q->n_free = VUQUEUE_SIZE;
    q->pending = 0;
}

static int make_memory(struct vuqueues *s, struct err *e)
{
    size_t len = (size_t)s->n * VUQUEUE_BYTES;

    s->fd = memfd_create("kiln-rings", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (s->fd < 0 || ftruncate(s->fd, (off_t)len) < 0 ||
        fcntl(s->fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0)
        return err_errno(e, -errno, "make memory for the rings of a device");
    void *p = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED, s->fd, 0);
    if (p == MAP_FAILED)
        return err_errno(e, -errno, "map the rings of a device");
    s->hva = p;
    return 0;
}

struct vuqueues *vuqueues_new(unsigned n, struct mem *m, struct err *e)
{
    BUG_ON(n == 0 || n > VHOSTUSER_QUEUES_MAX);
    struct vuqueues *s = calloc(1, sizeof(*s) + n * sizeof(s->q[0]));

    if (!s) {
        err_set(e, -ENOMEM, "out of memory");
        return NULL;
    }
    s->mem = m;
    s->n = n;
    s->fd = -1;
    for (unsigned i = 0; i < n; i++)
        s->q[i].kick = s->q[i].call = -1;
    int r = make_memory(s, e);
    for (unsigned i = 0; r == 0 && i < n; i++) {
        struct vuqueue *q = &s->q[i];

        q->r = (struct rings *)(s->hva + (size_t)i * VUQUEUE_BYTES);
        clear(q);
        q->kick = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        q->call = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        if (q->kick < 0 || q->call < 0)
            r = err_errno(e, -errno, "make an event descriptor");
    }
    if (r < 0) {
        vuqueues_free(s);
        return NULL;
    }
    return s;
}

void vuqueues_free(struct vuqueues *s)
{
    if (!s)
        return;
    for (unsigned i = 0; i < s->n; i++) {
        if (s->q[i].kick >= 0)
            close(s->q[i].kick);
        if (s->q[i].call >= 0)
            close(s->q[i].call);
    }
    if (s->hva)
        munmap(s->hva, (size_t)s->n * VUQUEUE_BYTES);
    if (s->fd >= 0)
        close(s->fd);
    free(s);
}

void vuqueues_region(const struct vuqueues *s, struct vhostuser_region *region)
{
    *region = (struct vhostuser_region){
        .gpa = VUQUEUE_GPA, .size = (uint64_t)s->n * VUQUEUE_BYTES, .hva = s->hva, .fd = s->fd};
}

void vuqueues_queue(const struct vuqueues *s, unsigned i, struct vhostuser_queue *q)
{
    const struct vuqueue *v = &s->q[i];

    *q = (struct vhostuser_queue){.index = i,
                                  .size = VUQUEUE_SIZE,
                                  .base = 0,
                                  .desc = v->r->desc,
                                  .avail = &v->r->avail,
                                  .used = &v->r->used,
                                  .kick = v->kick,
                                  .call = v->call};
}

int vuqueue_call_fd(const struct vuqueues *s, unsigned i)
{
    return s->q[i].call;
}

void vuqueue_heard(struct vuqueues *s, unsigned i)
{
    uint64_t n;
    ssize_t r = read(s->q[i].call, &n, sizeof(n));

    (void)r; /* nothing there: somebody heard it already */
}

/* --- offering -------------------------------------------------------------------------------- */

static void offer(struct vuqueue *q, uint16_t head)
{
    q->order[q->avail % VUQUEUE_SIZE] = head;
    q->req[head].at = q->avail;
    q->r->avail.ring[q->avail % VUQUEUE_SIZE] = htole16(head);
    q->avail++;
}

/* 2.7.13.3: entries before idx. */
static void publish(struct vuqueue *q)
{
    atomic_store_explicit(&q->r->avail.idx, htole16(q->avail), memory_order_release);
}

bool vuqueue_add(struct vuqueues *s, unsigned i, uint16_t tag, const struct vuqueue_buf *buf,
                 unsigned n_out, unsigned n_in)
{
    struct vuqueue *q = &s->q[i];
    unsigned n = n_out + n_in;
    uint16_t head = q->free, at = head;

    if (n == 0 || n > q->n_free)
        return false;
    struct request *req = &q->req[head];
    *req = (struct request){.pending = true, .tag = tag, .seq = q->seq++};
    for (unsigned k = 0; k < n; k++) {
        struct desc *d = &q->desc[at];
        uint16_t next = d->next;
        uint16_t flags = (uint16_t)((k >= n_out ? DESC_WRITE : 0) | (k + 1 < n ? DESC_NEXT : 0));

        *d = (struct desc){.addr = buf[k].gpa, .len = buf[k].len, .flags = flags, .next = next};
        q->r->desc[at] = (struct desc){.addr = htole64(d->addr),
                                       .len = htole32(d->len),
                                       .flags = htole16(flags),
                                       .next = htole16(flags & DESC_NEXT ? next : 0)};
        if (k >= n_out)
            req->in_len += buf[k].len;
        at = next;
    }
    q->free = at;
    q->n_free = (uint16_t)(q->n_free - n);
    q->pending++;
    offer(q, head);
    publish(q);
    return true;
}

void vuqueue_kick(struct vuqueues *s, unsigned i)
{
    struct vuqueue *q = &s->q[i];
    uint64_t one = 1;

    atomic_thread_fence(memory_order_seq_cst); /* idx before the wish (2.7.13.4) */
    if (le16toh(atomic_load(&q->r->used.flags)) & USED_NO_NOTIFY)
        return;
    ssize_t r = write(q->kick, &one, sizeof(one));
    (void)r; /* full: it was told */
}

/* --- what comes back ----------------------------------------------------------------------------
 */

/* The request's descriptors become free; with `wrote` the writable ones are reported. */
static void finish(struct vuqueues *s, struct vuqueue *q, uint16_t head, bool wrote)
{
    uint16_t at = head, last;

    do {
        last = at;
        if (wrote && (q->desc[at].flags & DESC_WRITE))
            mem_wrote(s->mem, q->desc[at].addr, q->desc[at].len);
        q->n_free++;
        at = q->desc[at].next;
    } while (q->desc[last].flags & DESC_NEXT);
    q->desc[last].next = q->free;
    q->free = head;
    q->req[head].pending = false;
    q->pending--;
}

int vuqueue_next(struct vuqueues *s, unsigned i, struct vuqueue_done *d)
{
    struct vuqueue *q = &s->q[i];
    uint16_t idx = le16toh(atomic_load_explicit(&q->r->used.idx, memory_order_acquire));
    uint16_t n = (uint16_t)(idx - q->used);

    if (n == 0)
        return 0;
    if (n > q->pending)
        return -EPROTO;
    const volatile uint32_t *id = &q->r->used.ring[q->used % VUQUEUE_SIZE].id;
    const volatile uint32_t *len = &q->r->used.ring[q->used % VUQUEUE_SIZE].len;
    uint32_t head = le32toh(*id), written = le32toh(*len);
    if (head >= VUQUEUE_SIZE || !q->req[head].pending)
        return -EPROTO;
    const struct request *req = &q->req[head];
    *d = (struct vuqueue_done){.tag = req->tag,
                               .written = written < req->in_len ? written : (uint32_t)req->in_len};
    finish(s, q, (uint16_t)head, true);
    q->used++;
    return 1;
}

static uint64_t now_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

unsigned vuqueue_wait(const struct vuqueues *s, unsigned i, unsigned timeout_ms)
{
    struct pollfd p = {.fd = s->q[i].call, .events = POLLIN};
    uint64_t began = now_ms();

    (void)poll(&p, 1, (int)timeout_ms);
    return (unsigned)(now_ms() - began) + 1;
}

unsigned vuqueue_pending(const struct vuqueues *s, unsigned i)
{
    return s->q[i].pending;
}

/* --- stopping and starting ------------------------------------------------------------------ */

int vuqueue_take_back(struct vuqueues *s, unsigned i, uint16_t base)
{
    struct vuqueue *q = &s->q[i];
    uint16_t n = (uint16_t)(q->avail - base);

    if (n > q->pending)
        return -EPROTO;
    for (uint16_t at = base; at != q->avail; at++) {
        const struct request *req = &q->req[q->order[at % VUQUEUE_SIZE]];

        if (!req->pending || req->at != at) /* it returned one that it says it never took */
            return -EPROTO;
    }
    while (q->avail != base)
        finish(s, q, q->order[--q->avail % VUQUEUE_SIZE], false);
    publish(q);
    return n;
}

static int by_seq(const void *a, const void *b, void *ctx)
{
    const struct vuqueue *q = ctx;
    uint64_t x = q->req[*(const uint16_t *)a].seq, y = q->req[*(const uint16_t *)b].seq;

    return x < y ? -1 : x > y;
}

void vuqueue_again(struct vuqueues *s, unsigned i)
{
    struct vuqueue *q = &s->q[i];
    uint16_t head[VUQUEUE_SIZE];
    unsigned n = 0;

    for (uint16_t k = 0; k < VUQUEUE_SIZE; k++)
        if (q->req[k].pending)
            head[n++] = k;
    qsort_r(head, n, sizeof(head[0]), by_seq, q);
    memset(q->r, 0, sizeof(*q->r));
    for (unsigned k = 0; k < VUQUEUE_SIZE; k++)
        q->r->desc[k] = (struct desc){.addr = htole64(q->desc[k].addr),
                                      .len = htole32(q->desc[k].len),
                                      .flags = htole16(q->desc[k].flags),
                                      .next = htole16(q->desc[k].next)};
    q->avail = q->used = 0;
    for (unsigned k = 0; k < n; k++)
        offer(q, head[k]);
    publish(q);
}

void vuqueue_clear(struct vuqueues *s, unsigned i)
{
    struct vuqueue *q = &s->q[i];

    for (uint16_t head = 0; head < VUQUEUE_SIZE; head++)
        if (q->req[head].pending)
            finish(s, q, head, true); /* half done, perhaps */
    clear(q);
}
