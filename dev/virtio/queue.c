#include "dev/virtio/queue.h"

#include <endian.h>
#include <errno.h>
#include <stdatomic.h>
#include <string.h>

#include "state/state.h"

enum { DESC_NEXT = 1, DESC_WRITE = 2, DESC_INDIRECT = 4 }; /* 2.7.5 */
enum { AVAIL_NO_INTERRUPT = 1 };                           /* 2.7.6 */

struct desc { /* 2.7.5, wire layout, little-endian */
    uint64_t addr;
    uint32_t len;
    uint16_t flags;
    uint16_t next;
};
_Static_assert(sizeof(struct desc) == 16, "VIRTIO 1.2, 2.7.5: 16 bytes each");

/* How many chains wait. Asks for a notification when there is none (2.7.10), then looks
 * again: the driver may have added one before it saw the wish. */
static int waiting(struct vq *q)
{
    uint16_t idx;

    for (int pass = 0;; pass++) {
        int r = mem_load16(q->mem, q->avail + 2, &idx);

        if (r < 0)
            return r;
        if (idx != q->next_avail || !q->event_idx || pass == 1)
            break;
        r = mem_store16(q->mem, q->used + 4 + 8ull * q->size, q->next_avail);
        if (r < 0)
            return r;
        atomic_thread_fence(memory_order_seq_cst);
    }
    uint16_t n = (uint16_t)(idx - q->next_avail);
    if (n > q->size)
        return -EPROTO; /* more entries than the ring can hold */
    return n;           /* idx was loaded before ring[] is (2.7.13.3) */
}

struct walk { /* through one table of descriptors */
    gpa_t table;
    uint32_t size; /* entries */
    bool inner;    /* the table is an indirect one */
};

static int add_seg(struct vq *q, struct vq_chain *c, const struct desc *d)
{
    struct vq_seg s = {.gpa = le64toh(d->addr), .len = le32toh(d->len)};
    struct iovec probe;

    if (s.len == 0 || c->n_out + c->n_in == VQ_SEG_MAX)
        return -EPROTO; /* nothing to transfer; or a chain too long, so perhaps a loop */
    int r = mem_iov(q->mem, s.gpa, s.len, &probe);
    if (r < 0)
        return r;
    if (le16toh(d->flags) & DESC_WRITE) {
        c->in_len += s.len;
        c->seg[c->n_out + c->n_in++] = s;
    } else if (c->n_in > 0) {
        return -EPROTO; /* 2.7.4.2: readable first */
    } else {
        c->out_len += s.len;
        c->seg[c->n_out++] = s;
    }
    return 0;
}

/* 2.7.5.3.1: only where negotiated, not inside another, not with NEXT. */
static int enter_indirect(const struct vq *q, struct walk *w, const struct desc *d)
{
    uint32_t len = le32toh(d->len);

    if (!q->indirect || w->inner || (le16toh(d->flags) & DESC_NEXT) || len == 0 ||
        len % sizeof(*d) != 0)
        return -EPROTO;
    *w =
        (struct walk){.table = le64toh(d->addr), .size = len / (uint32_t)sizeof(*d), .inner = true};
    return 0;
}

static int collect(struct vq *q, struct vq_chain *c)
{
    struct walk w = {.table = q->desc, .size = q->size};
    uint32_t i = c->head;

    for (;;) {
        struct desc d;

        if (i >= w.size)
            return -EPROTO;
        int r = mem_read(q->mem, w.table + sizeof(d) * (uint64_t)i, &d, sizeof(d));
        if (r < 0)
            return r;
        uint16_t flags = le16toh(d.flags);
        if (flags & DESC_INDIRECT) {
            r = enter_indirect(q, &w, &d);
            if (r < 0)
                return r;
            i = 0;
            continue;
        }
        r = add_seg(q, c, &d);
        if (r < 0)
            return r;
        if (!(flags & DESC_NEXT))
            return 0;
        i = le16toh(d.next);
    }
}

int vq_pop(struct vq *q, struct vq_chain *c)
{
    if (q->size == 0 || !q->ready)
        return 0;
    int r = waiting(q);
    if (r <= 0)
        return r;
    c->n_out = c->n_in = 0;
    c->out_len = c->in_len = 0;
    r = mem_load16(q->mem, q->avail + 4 + 2ull * (q->next_avail & (q->size - 1u)), &c->head);
    if (r == 0)
        r = collect(q, c);
    if (r < 0)
        return r;
    q->next_avail++;
    return 1;
}

uint16_t vq_avail_idx(const struct vq *q)
{
    uint16_t idx;

    return q->ready && mem_load16(q->mem, q->avail + 2, &idx) == 0 ? idx : q->next_avail;
}

void vq_want_kick(struct vq *q)
{
    if (q->ready && q->event_idx)
        (void)!mem_store16(q->mem, q->used + 4 + 8ull * q->size, vq_avail_idx(q));
}

void vq_unpop(struct vq *q)
{
    q->next_avail--;
}

int vq_fill(struct vq *q, uint16_t head, uint32_t written, uint16_t ahead)
{
    uint32_t elem[2] = {htole32(head), htole32(written)};
    uint16_t at = (uint16_t)(q->next_used + ahead) & (uint16_t)(q->size - 1u);

    return mem_write(q->mem, q->used + 4 + 8ull * at, elem, sizeof(elem));
}

int vq_show(struct vq *q, uint16_t n)
{
    q->next_used = (uint16_t)(q->next_used + n);
    return mem_store16(q->mem, q->used + 2, q->next_used); /* after its elements (2.7.8.2) */
}

int vq_push(struct vq *q, uint16_t head, uint32_t written)
{
    int r = vq_fill(q, head, written, 0);

    return r < 0 ? r : vq_show(q, 1);
}

bool vq_should_signal(struct vq *q)
{
    uint16_t v, was = q->signalled;

    if (q->size == 0 || !q->ready || was == q->next_used)
        return false;
    q->signalled = q->next_used;
    atomic_thread_fence(memory_order_seq_cst); /* used.idx before the driver's wish (2.7.7.2) */
    if (!q->event_idx)
        return mem_load16(q->mem, q->avail, &v) < 0 || !(v & AVAIL_NO_INTERRUPT);
    if (mem_load16(q->mem, q->avail + 4 + 2ull * q->size, &v) < 0)
        return true;
    return (uint16_t)(q->next_used - v - 1) < (uint16_t)(q->next_used - was);
}

/* Segments of one direction; *n of them. */
static const struct vq_seg *side(const struct vq_chain *c, bool in, unsigned *n)
{
    *n = in ? c->n_in : c->n_out;
    return in ? c->seg + c->n_out : c->seg;
}

int vq_iov(const struct vq *q, const struct vq_chain *c, bool in, uint64_t off, uint64_t len,
           struct iovec *iov, unsigned max)
{
    unsigned n, used = 0;
    const struct vq_seg *s = side(c, in, &n);

    for (; n > 0 && used < max && len > 0; s++, n--) {
        if (off >= s->len) {
            off -= s->len;
            continue;
        }
        uint64_t k = s->len - off < len ? s->len - off : len;
        int r = mem_iov(q->mem, s->gpa + off, k, &iov[used]);
        if (r < 0)
            return r;
        used++;
        len -= k;
        off = 0;
    }
    return (int)used;
}

int64_t vq_read(const struct vq *q, const struct vq_chain *c, uint64_t off, void *dst, size_t len)
{
    struct iovec iov[VQ_SEG_MAX];
    int n = vq_iov(q, c, false, off, len, iov, VQ_SEG_MAX);
    size_t done = 0;

    if (n < 0)
        return n;
    for (int i = 0; i < n; i++) {
        memcpy((uint8_t *)dst + done, iov[i].iov_base, iov[i].iov_len);
        done += iov[i].iov_len;
    }
    return (int64_t)done;
}

int64_t vq_write(const struct vq *q, const struct vq_chain *c, uint64_t off, const void *src,
                 size_t len)
{
    struct iovec iov[VQ_SEG_MAX];
    int n = vq_iov(q, c, true, off, len, iov, VQ_SEG_MAX);
    size_t done = 0;

    if (n < 0)
        return n;
    for (int i = 0; i < n; i++) {
        memcpy(iov[i].iov_base, (const uint8_t *)src + done, iov[i].iov_len);
        done += iov[i].iov_len;
    }
    vq_wrote(q, c, off, done);
    return (int64_t)done;
}

void vq_wrote(const struct vq *q, const struct vq_chain *c, uint64_t off, uint64_t len)
{
    unsigned n;
    const struct vq_seg *s = side(c, true, &n);

    for (; n > 0 && len > 0; s++, n--) {
        if (off >= s->len) {
            off -= s->len;
            continue;
        }
        uint64_t k = s->len - off < len ? s->len - off : len;
        mem_wrote(q->mem, s->gpa + off, k);
        len -= k;
        off = 0;
    }
}

void vq_reset(struct vq *q)
{
    *q = (struct vq){.mem = q->mem};
}

void vq_visit(struct vq *q, struct state_io *io)
{
    state_u16(io, 1, &q->size);
    state_bool(io, 2, &q->ready);
    state_bool(io, 3, &q->event_idx);
    state_bool(io, 4, &q->indirect);
    state_u64(io, 5, &q->desc);
    state_u64(io, 6, &q->avail);
    state_u64(io, 7, &q->used);
    state_u16(io, 8, &q->next_avail);
    state_u16(io, 9, &q->next_used);
    state_u16(io, 10, &q->signalled);
    if (!state_loading(io))
        return;
    if (q->size > VQ_SIZE_MAX || (q->size & (q->size - 1)) || (q->ready && q->size == 0))
        state_fail(io, "a virtqueue of %u entries", q->size);
}
