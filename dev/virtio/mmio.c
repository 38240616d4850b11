#include "dev/virtio/mmio.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "state/state.h"

enum { /* 4.2.2, table "MMIO Device Register Layout" */
       R_MAGIC = 0x000,
       R_VERSION = 0x004,
       R_DEVICE_ID = 0x008,
       R_VENDOR_ID = 0x00c,
       R_DEVICE_FEATURES = 0x010,
       R_DEVICE_FEATURES_SEL = 0x014,
       R_DRIVER_FEATURES = 0x020,
       R_DRIVER_FEATURES_SEL = 0x024,
       R_QUEUE_SEL = 0x030,
       R_QUEUE_NUM_MAX = 0x034,
       R_QUEUE_NUM = 0x038,
       R_QUEUE_READY = 0x044,
       R_QUEUE_NOTIFY = VMMIO_NOTIFY,
       R_INTERRUPT_STATUS = 0x060,
       R_INTERRUPT_ACK = 0x064,
       R_STATUS = 0x070,
       R_QUEUE_DESC_LOW = 0x080,
       R_QUEUE_DESC_HIGH = 0x084,
       R_QUEUE_DRIVER_LOW = 0x090,
       R_QUEUE_DRIVER_HIGH = 0x094,
       R_QUEUE_DEVICE_LOW = 0x0a0,
       R_QUEUE_DEVICE_HIGH = 0x0a4,
       R_SHM_LEN_LOW = 0x0b0,
       R_SHM_BASE_HIGH = 0x0bc,
       R_CONFIG_GENERATION = 0x0fc,
       R_CONFIG = 0x100,
};

enum { /* 2.1 */
       S_ACKNOWLEDGE = 1,
       S_DRIVER = 2,
       S_DRIVER_OK = 4,
       S_FEATURES_OK = 8,
       S_NEEDS_RESET = 64,
       S_FAILED = 128,
       S_FROM_DRIVER = S_ACKNOWLEDGE | S_DRIVER | S_DRIVER_OK | S_FEATURES_OK | S_FAILED,
};

enum { INT_USED = 1, INT_CONFIG = 2 }; /* 4.2.2, InterruptStatus */

#define MAGIC 0x74726976u  /* "virt" */
#define VENDOR 0x4e4c494bu /* "KILN" */

struct vmmio {
    struct vmmio_conf c;
    struct virtio_port port;
    struct vq q[VIRTIO_QUEUES_MAX];
    uint64_t driver_features;
    uint32_t device_sel, driver_sel, queue_sel;
    uint32_t status, interrupts, generation;
    uint64_t broken; /* times the guest broke the rules; a statistic */
};

static void update_irq(struct vmmio *t)
{
    irq_set(&t->c.irq, t->interrupts != 0);
}

static void raise_irq(struct vmmio *t, uint32_t bit)
{
    bool was = t->interrupts != 0;

    t->interrupts |= bit;
    if (!was)
        update_irq(t);
}

static void port_used(void *ctx, unsigned queue)
{
    struct vmmio *t = ctx;

    if (vq_should_signal(&t->q[queue]))
        raise_irq(t, INT_USED);
}

static void port_config_changed(void *ctx)
{
    struct vmmio *t = ctx;

    t->generation++;
    if (t->status & S_DRIVER_OK)
        raise_irq(t, INT_CONFIG);
}

/* 2.1.2: the driver is told only once it is running. */
static void port_broken(void *ctx, const char *why)
{
    struct vmmio *t = ctx;

    t->broken++;
    t->port.live = false;
    if (t->status & S_NEEDS_RESET)
        return;
    t->status |= S_NEEDS_RESET;
    if (t->status & S_DRIVER_OK)
        raise_irq(t, INT_CONFIG);
}

static void port_again(void *ctx, unsigned queue)
{
    struct vmmio *t = ctx;

    if (t->c.notify)
        t->c.notify(t->c.notify_ctx, queue);
}

struct vmmio *vmmio_new(const struct vmmio_conf *c, struct err *e)
{
    struct vmmio *t = calloc(1, sizeof(*t));

    if (!t || c->ops->n_queues > VIRTIO_QUEUES_MAX || c->ops->config_len > VIRTIO_CONFIG_MAX) {
        err_set(e, t ? -EINVAL : -ENOMEM, "%s: %s", c->ops->name,
                t ? "more queues or configuration than a slot has" : "out of memory");
        free(t);
        c->ops->destroy(c->dev);
        return NULL;
    }
    t->c = *c;
    for (unsigned i = 0; i < VIRTIO_QUEUES_MAX; i++)
        t->q[i].mem = c->mem;
    t->port = (struct virtio_port){.ctx = t,
                                   .q = t->q,
                                   .used = port_used,
                                   .config_changed = port_config_changed,
                                   .broken = port_broken,
                                   .again = port_again};
    c->ops->attach(c->dev, &t->port);
    return t;
}

void vmmio_free(struct vmmio *t)
{
    if (!t)
        return;
    t->port.live = false;
    t->c.ops->destroy(t->c.dev);
    free(t);
}

const struct virtio_ops *vmmio_ops(const struct vmmio *t)
{
    return t->c.ops;
}

static uint64_t offered(const struct vmmio *t)
{
    return t->c.ops->features(t->c.dev) | VIRTIO_F_INDIRECT_DESC | VIRTIO_F_EVENT_IDX |
           VIRTIO_F_VERSION_1;
}

/* The selected queue, or NULL if the device has no such (4.2.2: QueueNumMax then reads 0). */
static struct vq *selected(struct vmmio *t)
{
    return t->queue_sel < t->c.ops->n_queues ? &t->q[t->queue_sel] : NULL;
}

static uint32_t half(uint64_t v, uint32_t sel)
{
    return sel > 1 ? 0 : (uint32_t)(v >> (32 * sel));
}

static uint64_t config_read(struct vmmio *t, uint64_t off, unsigned len)
{
    uint8_t b[8] = {0};
    uint64_t v = 0;

    if (off > t->c.ops->config_len || len > t->c.ops->config_len - off || len > sizeof(b))
        return 0;
    t->c.ops->config_read(t->c.dev, (unsigned)off, b, len);
    for (unsigned i = 0; i < len; i++)
        v |= (uint64_t)b[i] << (8 * i);
    return v;
}

static void config_write(struct vmmio *t, uint64_t off, unsigned len, uint64_t val)
{
    uint8_t b[8];

    if (off > t->c.ops->config_len || len > t->c.ops->config_len - off || len > sizeof(b) ||
        !t->c.ops->config_write)
        return;
    for (unsigned i = 0; i < len; i++)
        b[i] = (uint8_t)(val >> (8 * i));
    t->c.ops->config_write(t->c.dev, (unsigned)off, b, len);
}

/* 4.2.2.2: registers are read and written as aligned 32-bit words; other accesses read 0 and
 * write nothing. So do reads of write-only and unknown registers. */
uint64_t vmmio_read(void *dev, uint64_t off, unsigned len)
{
    struct vmmio *t = dev;
    struct vq *q = selected(t);

    if (off >= R_CONFIG)
        return config_read(t, off - R_CONFIG, len);
    if (len != 4 || off % 4 != 0)
        return 0;
    switch (off) {
    case R_MAGIC:
        return MAGIC;
    case R_VERSION:
        return 2;
    case R_DEVICE_ID:
        return t->c.ops->id;
    case R_VENDOR_ID:
        return VENDOR;
    case R_DEVICE_FEATURES:
        return half(offered(t), t->device_sel);
    case R_QUEUE_NUM_MAX:
        return q ? VQ_SIZE_MAX : 0;
    case R_QUEUE_READY:
        return q && q->ready;
    case R_INTERRUPT_STATUS:
        return t->interrupts;
    case R_STATUS:
        return t->status;
    case R_CONFIG_GENERATION:
        return t->generation;
    default:
        if (off >= R_SHM_LEN_LOW && off <= R_SHM_BASE_HIGH)
            return UINT32_MAX; /* no shared memory region has this id: length and base are -1 */
        return 0;
    }
}

/* 2.4 and 4.2.2.1: back to the first state; nothing of the old driver's is touched afterwards. */
static void reset(struct vmmio *t)
{
    t->port.live = false;
    t->c.ops->reset(t->c.dev);
    for (unsigned i = 0; i < t->c.ops->n_queues; i++)
        vq_reset(&t->q[i]);
    t->port.features = t->driver_features = 0;
    t->device_sel = t->driver_sel = t->queue_sel = 0;
    t->status = t->interrupts = 0;
    update_irq(t);
}

static void accept_features(struct vmmio *t)
{
    uint64_t f = t->driver_features;

    if ((f & ~offered(t)) || !(f & VIRTIO_F_VERSION_1))
        return; /* 2.2.2: FEATURES_OK stays clear, which the driver reads back */
    t->status |= S_FEATURES_OK;
    t->port.features = f;
    for (unsigned i = 0; i < t->c.ops->n_queues; i++) {
        t->q[i].event_idx = f & VIRTIO_F_EVENT_IDX;
        t->q[i].indirect = f & VIRTIO_F_INDIRECT_DESC;
    }
}

/* A driver may add buffers before DRIVER_OK but not notify (3.1.1): look at every queue. */
static void kick_all(struct vmmio *t)
{
    for (unsigned i = 0; i < t->c.ops->n_queues; i++) {
        if (!t->q[i].ready)
            continue;
        if (t->c.notify)
            t->c.notify(t->c.notify_ctx, i);
        else
            vmmio_kick(t, i);
    }
}

/* 3.1.1: bits come one after another and go only by a reset. */
static void write_status(struct vmmio *t, uint32_t val)
{
    uint32_t new = val &S_FROM_DRIVER & ~t->status;

    if (val == 0) {
        reset(t);
        return;
    }
    t->status |= new &(S_ACKNOWLEDGE | S_DRIVER | S_FAILED);
    if (new &S_FEATURES_OK)
        accept_features(t);
    if (!(new &S_DRIVER_OK) || (t->status & S_NEEDS_RESET))
        return;
    if (!(t->status & S_FEATURES_OK)) {
        port_broken(t, "DRIVER_OK without FEATURES_OK");
        return;
    }
    t->status |= S_DRIVER_OK;
    t->port.live = true;
    if (t->c.ops->activate)
        t->c.ops->activate(t->c.dev);
    kick_all(t);
}

static bool in_ram(const struct vmmio *t, gpa_t gpa, uint64_t len, unsigned align)
{
    struct iovec probe;

    return gpa % align == 0 && mem_iov(t->c.mem, gpa, len, &probe) == 0;
}

/* 2.7: sizes and alignments of the three parts, each with its event field. */
static void write_ready(struct vmmio *t, struct vq *q, uint32_t val)
{
    uint64_t n = q->size;

    if (!(val & 1)) {
        if (q->ready && t->c.ops->drain)
            t->c.ops->drain(t->c.dev);
        q->ready = false;
        q->next_avail = q->next_used = q->signalled = 0;
        return;
    }
    if (q->ready)
        return;
    if (n == 0 || !in_ram(t, q->desc, 16 * n, 16) || !in_ram(t, q->avail, 6 + 2 * n, 2) ||
        !in_ram(t, q->used, 6 + 8 * n, 4)) {
        port_broken(t, "a queue outside RAM or misaligned");
        return;
    }
    q->ready = true;
}

static void set_half(uint64_t *v, bool high, uint32_t val)
{
    *v = high ? (*v & UINT32_MAX) | (uint64_t)val << 32 : (*v & ~(uint64_t)UINT32_MAX) | val;
}

/* 4.2.2: a queue's size and addresses are written only while it is not ready. */
static void write_queue(struct vmmio *t, uint64_t off, uint32_t val)
{
    struct vq *q = selected(t);

    if (!q || !(t->status & S_FEATURES_OK))
        return;
    if (off == R_QUEUE_READY) {
        write_ready(t, q, val);
        return;
    }
    if (q->ready)
        return;
    switch (off) {
    case R_QUEUE_NUM:
        if (val <= VQ_SIZE_MAX && (val & (val - 1)) == 0)
            q->size = (uint16_t)val;
        break;
    case R_QUEUE_DESC_LOW:
    case R_QUEUE_DESC_HIGH:
        set_half(&q->desc, off == R_QUEUE_DESC_HIGH, val);
        break;
    case R_QUEUE_DRIVER_LOW:
    case R_QUEUE_DRIVER_HIGH:
        set_half(&q->avail, off == R_QUEUE_DRIVER_HIGH, val);
        break;
    case R_QUEUE_DEVICE_LOW:
    case R_QUEUE_DEVICE_HIGH:
        set_half(&q->used, off == R_QUEUE_DEVICE_HIGH, val);
        break;
    }
}

static void notified(struct vmmio *t, uint32_t queue)
{
    if (queue >= t->c.ops->n_queues || !t->port.live)
        return;
    if (t->c.notify && !(t->c.ops->at_once && t->c.ops->at_once(t->c.dev, queue)))
        t->c.notify(t->c.notify_ctx, queue);
    else
        vmmio_kick(t, queue);
}

void vmmio_write(void *dev, uint64_t off, unsigned len, uint64_t val)
{
    struct vmmio *t = dev;
    uint32_t v = (uint32_t)val;

    if (off >= R_CONFIG) {
        config_write(t, off - R_CONFIG, len, val);
        return;
    }
    if (len != 4 || off % 4 != 0)
        return;
    switch (off) {
    case R_DEVICE_FEATURES_SEL:
        t->device_sel = v;
        break;
    case R_DRIVER_FEATURES_SEL:
        t->driver_sel = v;
        break;
    case R_DRIVER_FEATURES:
        if (!(t->status & S_FEATURES_OK) && t->driver_sel <= 1)
            set_half(&t->driver_features, t->driver_sel == 1, v);
        break;
    case R_QUEUE_SEL:
        t->queue_sel = v;
        break;
    case R_QUEUE_NOTIFY:
        notified(t, v);
        break;
    case R_INTERRUPT_ACK:
        t->interrupts &= ~v;
        update_irq(t);
        break;
    case R_STATUS:
        write_status(t, v);
        break;
    default:
        write_queue(t, off, v);
    }
}

void vmmio_kick(struct vmmio *t, unsigned queue)
{
    if (queue < t->c.ops->n_queues && t->port.live && t->q[queue].ready)
        t->c.ops->kick(t->c.dev, queue);
}

void vmmio_drain(struct vmmio *t)
{
    if (t->c.ops->drain)
        t->c.ops->drain(t->c.dev);
}

static void check_loaded(struct vmmio *t, struct state_io *io)
{
    for (unsigned i = 0; i < t->c.ops->n_queues; i++) {
        const struct vq *q = &t->q[i];
        uint64_t n = q->size;

        if (q->ready && (!in_ram(t, q->desc, 16 * n, 16) || !in_ram(t, q->avail, 6 + 2 * n, 2) ||
                         !in_ram(t, q->used, 6 + 8 * n, 4)))
            state_fail(io, "%s: queue %u lies outside RAM", t->c.ops->name, i);
    }
    if (t->port.features & ~offered(t))
        state_fail(io, "%s: features this machine does not offer", t->c.ops->name);
    if (t->status & ~(uint32_t)(S_FROM_DRIVER | S_NEEDS_RESET))
        state_fail(io, "%s: status 0x%x", t->c.ops->name, t->status);
}

void vmmio_visit(struct vmmio *t, struct state_io *io)
{
    uint16_t id = t->c.ops->id;

    state_u16(io, 1, &id);
    if (state_loading(io) && id != t->c.ops->id)
        state_fail(io, "the slot holds a device of kind %u, not %u (%s)", id, t->c.ops->id,
                   t->c.ops->name);
    state_u64(io, 2, &t->driver_features);
    state_u64(io, 3, &t->port.features);
    state_u32(io, 4, &t->device_sel);
    state_u32(io, 5, &t->driver_sel);
    state_u32(io, 6, &t->queue_sel);
    state_u32(io, 7, &t->status);
    state_u32(io, 8, &t->interrupts);
    state_u32(io, 9, &t->generation);
    for (unsigned i = 0; i < t->c.ops->n_queues; i++) {
        state_begin(io, (uint16_t)(16 + i), "virtqueue");
        vq_visit(&t->q[i], io);
        state_end(io);
    }
    if (state_loading(io)) {
        check_loaded(t, io);
        t->port.live = !io->failed && (t->status & S_DRIVER_OK) && !(t->status & S_NEEDS_RESET);
    }
    state_begin(io, 32, t->c.ops->name);
    t->c.ops->visit(t->c.dev, io);
    state_end(io);
    if (io->saving)
        return;
    if (io->failed) {
        reset(t); /* half a state is none */
        return;
    }
    update_irq(t);
    if (t->port.live && t->c.notify)
        kick_all(t); /* notifications on their way were not saved */
}
