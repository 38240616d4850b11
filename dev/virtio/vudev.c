#include "dev/virtio/vudev.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

#include "state/state.h"

enum { STOP_LOOK_MS = 2 };

static bool up(const struct vudev *d)
{
    return d->started != 0;
}

/* --- what came back -------------------------------------------------------------------------- */

static void failed(struct vudev *d, int why);
static void relay(struct vudev *d, unsigned n);

/* Requests the back end returned, into the driver's ring. Errors: -EPROTO. */
static int give_back(struct vudev *d, unsigned n)
{
    struct vq *q = &d->port->q[n];
    struct vuqueue_done done;
    int r;

    while ((r = vuqueue_next(d->queue, n, &done)) > 0) {
        if (d->port->live && q->ready && vq_push(q, done.tag, done.written) < 0)
            d->port->broken(d->port->ctx, "used ring");
    }
    return r;
}

static void call_ready(void *ctx, uint32_t events)
{
    struct vudev_call *c = ctx;
    struct vudev *d = c->dev;

    (void)events;
    vuqueue_heard(d->queue, c->queue);
    if (!(d->started & 1u << c->queue))
        return;
    int r = give_back(d, c->queue);
    if (r < 0) {
        failed(d, r);
        return;
    }
    if (d->starved & 1u << c->queue)
        relay(d, c->queue);
    d->port->used(d->port->ctx, c->queue);
}

/* --- what goes there ---------------------------------------------------------------------------
 */

static bool offer(struct vudev *d, unsigned n)
{
    const struct vq_chain *c = &d->chain;
    struct vuqueue_buf buf[VQ_SEG_MAX];

    for (unsigned i = 0; i < c->n_out + c->n_in; i++)
        buf[i] = (struct vuqueue_buf){.gpa = c->seg[i].gpa, .len = c->seg[i].len};
    return vuqueue_add(d->queue, n, c->head, buf, c->n_out, c->n_in);
}

static void relay(struct vudev *d, unsigned n)
{
    struct vq *q = &d->port->q[n];
    unsigned k;
    int r = 0;

    d->starved &= ~(1u << n);
    for (k = 0; k < VIRTIO_KICK_MAX; k++) {
        r = vq_pop(q, &d->chain);
        if (r <= 0)
            break;
        if (!offer(d, n)) {
            vq_unpop(q);
            d->starved |= 1u << n;
            break;
        }
    }
    if (k > 0)
        vuqueue_kick(d->queue, n);
    if (r < 0)
        d->port->broken(d->port->ctx, "queue");
    else if (k == VIRTIO_KICK_MAX)
        d->port->again(d->port->ctx, n);
}

/* --- starting, standing still -------------------------------------------------------------------
 */

static void tell_link(struct vudev *d)
{
    if (d->kind->link_in_config)
        d->port->config_changed(d->port->ctx);
}

/* The connection is of no use any more. */
static void failed(struct vudev *d, int why)
{
    bool waits = why == -ECONNRESET && vulink_lasting(d->link);

    d->started = 0;
    vulink_drop(d->link, waits);
    if (!waits)
        d->port->broken(d->port->ctx, "the vhost-user back end failed");
    else
        tell_link(d);
}

/* Bring the back end to life, if the driver is there and it is not yet. */
static void start(struct vudev *d)
{
    struct vhostuser *conn = vulink_conn(d->link);
    struct vhostuser_region region[MEM_REGIONS_MAX + 1];
    struct vhostuser_queue queue[VHOSTUSER_QUEUES_MAX];
    struct mem_region ram[MEM_REGIONS_MAX];
    unsigned n = mem_regions(d->mem, ram), n_queues = 0, ready = 0;

    if (!d->port->live || !conn)
        return;
    for (unsigned i = 0; i < n; i++)
        region[i] = (struct vhostuser_region){.gpa = ram[i].gpa,
                                              .size = ram[i].size,
                                              .hva = ram[i].hva,
                                              .offset = ram[i].offset,
                                              .fd = mem_fd(d->mem)};
    vuqueues_region(d->queue, &region[n]);
    for (unsigned i = 0; i < d->kind->n_queues; i++) {
        if (!d->port->q[i].ready)
            continue;
        vuqueue_again(d->queue, i);
        vuqueues_queue(d->queue, i, &queue[n_queues++]);
        ready |= 1u << i;
    }
    if (!ready)
        return;
    uint64_t f = d->port->features & ~(d->own | VIRTIO_F_INDIRECT_DESC | VIRTIO_F_EVENT_IDX);
    int r = vhostuser_start(conn, f, region, n + 1, queue, n_queues, NULL);
    if (r < 0) {
        failed(d, r);
        return;
    }
    d->started = ready;
    for (unsigned i = 0; i < d->kind->n_queues; i++) {
        if (!(ready & 1u << i))
            continue;
        vuqueue_kick(d->queue, i); /* for what was pending already */
        if (d->started)
            relay(d, i);
    }
}

/* Until nothing is pending. A ring that was stopped need not call: it is looked at, too. */
static int await_pending(struct vudev *d, unsigned n)
{
    unsigned ms = 0;
    int r = give_back(d, n);

    while (r >= 0 && vuqueue_pending(d->queue, n) > 0) {
        if (!vulink_alive(d->link))
            return -ECONNRESET;
        if (ms > d->stop_ms)
            return -ETIMEDOUT;
        ms += vuqueue_wait(d->queue, n, STOP_LOOK_MS);
        vuqueue_heard(d->queue, n);
        r = give_back(d, n);
    }
    return r;
}

/* Take back what the back end has not begun, wait for what it has. qemu-storage-daemon 7.2 loses
 * what is under way in a ring that is stopped, so a ring that becomes empty is stopped then. */
static int stop_queue(struct vudev *d, unsigned n)
{
    struct vhostuser *conn = vulink_conn(d->link);
    uint16_t base;
    int r = conn ? 0 : -ECONNRESET;

    if (r == 0 && d->kind->finishes)
        r = await_pending(d, n);
    if (r >= 0 || r == -ETIMEDOUT)
        r = vhostuser_stop(conn, n, &base, NULL);
    if (r == 0)
        r = give_back(d, n);
    if (r == 0) {
        r = vuqueue_take_back(d->queue, n, base);
        for (int i = 0; i < r; i++)
            vq_unpop(&d->port->q[n]);
    }
    return r < 0 ? r : await_pending(d, n);
}

static void stop(struct vudev *d)
{
    unsigned was = d->started;
    int r = 0;

    for (unsigned i = 0; r >= 0 && i < d->kind->n_queues; i++) {
        if (was & 1u << i)
            r = stop_queue(d, i);
    }
    d->started = d->starved = 0;
    if (r < 0)
        failed(d, r);
    for (unsigned i = 0; i < d->kind->n_queues; i++) {
        if (was & 1u << i)
            d->port->used(d->port->ctx, i);
    }
}

static void lost(void *ctx, int why)
{
    struct vudev *d = ctx;

    for (unsigned i = 0; i < d->kind->n_queues; i++) {
        if (!(d->started & 1u << i))
            continue;
        if (give_back(d, i) < 0)
            why = -EPROTO;
        d->port->used(d->port->ctx, i);
    }
    failed(d, why);
}

static void found(void *ctx)
{
    struct vudev *d = ctx;
    uint8_t was[sizeof(d->config)];
    int r;

    memcpy(was, d->config, sizeof(was));
    uint64_t offered = d->features;
    r = d->kind->meet(d, vulink_conn(d->link), NULL);
    if (r == 0 && (offered & ~d->features))
        r = -ENOTSUP;
    d->features = offered; /* what the driver has read stays so */
    if (r < 0) {
        memcpy(d->config, was, sizeof(was));
        failed(d, r);
        return;
    }
    if (memcmp(was, d->config, sizeof(was)) != 0)
        d->port->config_changed(d->port->ctx);
    tell_link(d);
    start(d);
}

/* --- operations ----------------------------------------------------------------------------- */

int vudev_init(struct vudev *d, const struct vudev_kind *kind, struct vulink *link, struct mem *m,
               struct loop *l, struct err *e)
{
    struct vulink_user user = {.ctx = d, .lost = lost, .found = found};
    int r = 0;

    d->kind = kind;
    d->link = link;
    d->mem = m;
    d->loop = l;
    d->stop_ms = VUDEV_STOP_MS;
    if (mem_fd(m) < 0)
        r = err_set(e, -EINVAL, "the machine's memory is not shared");
    struct vhostuser *conn = vulink_conn(link);
    if (r == 0 && !(conn->features & VIRTIO_F_VERSION_1))
        r = err_set(e, -ENOTSUP, "the vhost-user back end knows no VIRTIO 1 devices");
    if (r == 0)
        r = kind->meet(d, conn, e);
    if (r == 0) {
        d->queue = vuqueues_new(kind->n_queues, m, e);
        r = d->queue ? 0 : -ENOMEM;
    }
    for (unsigned i = 0; r == 0 && i < kind->n_queues; i++) {
        struct vudev_call *c = &d->call[i];

        *c = (struct vudev_call){.dev = d, .queue = i};
        c->watch =
            (struct loop_fd){.fd = vuqueue_call_fd(d->queue, i), .ready = call_ready, .ctx = c};
        r = loop_add(l, &c->watch, EPOLLIN, e);
    }
    if (r < 0) {
        vudev_destroy(d);
        return r;
    }
    vulink_attach(link, &user);
    return 0;
}

uint64_t vudev_features(void *dev)
{
    return ((struct vudev *)dev)->features;
}

void vudev_attach(void *dev, struct virtio_port *p)
{
    ((struct vudev *)dev)->port = p;
}

void vudev_kick(void *dev, unsigned n)
{
    struct vudev *d = dev;

    if (!up(d)) {
        vulink_try(d->link); /* found() starts it; as it does nothing where there is one */
        if (!up(d))
            start(d);
    } else if (d->started & 1u << n) {
        relay(d, n);
    }
}

void vudev_config_read(void *dev, unsigned off, void *buf, unsigned len)
{
    memcpy(buf, ((struct vudev *)dev)->config + off, len);
}

void vudev_reset(void *dev)
{
    struct vudev *d = dev;

    stop(d);
    for (unsigned i = 0; i < d->kind->n_queues; i++)
        vuqueue_clear(d->queue, i);
}

void vudev_drain(void *dev)
{
    struct vudev *d = dev;
    unsigned was = d->started;

    stop(d);
    for (unsigned i = 0; i < d->kind->n_queues; i++) {
        if (was & 1u << i)
            d->port->again(d->port->ctx, i); /* whoever runs next starts it again */
    }
}

/* Drained, it holds nothing but what the transport saves. (vm/ saves no machine that has one: what
 * lies behind it is not the machine's.) */
void vudev_visit(void *dev, struct state_io *io)
{
    struct vudev *d = dev;

    for (unsigned i = 0; state_loading(io) && i < d->kind->n_queues; i++)
        vuqueue_clear(d->queue, i);
}

void vudev_destroy(void *dev)
{
    struct vudev *d = dev;

    if (!d)
        return;
    if (d->port)
        stop(d);
    for (unsigned i = 0; i < d->kind->n_queues; i++)
        loop_del(d->loop, &d->call[i].watch);
    vulink_free(d->link);
    vuqueues_free(d->queue);
    free(d);
}
