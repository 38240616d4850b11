#include "dev/virtio/console.h"

#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "state/state.h"

enum { Q_RECEIVE = 0, Q_TRANSMIT = 1 }; /* 5.3.2 */
enum { F_SIZE = 1 };                    /* 5.3.3, VIRTIO_CONSOLE_F_SIZE */
enum { OUT_CHUNK = 4096 };              /* bytes copied out of guest memory at a time */

struct console_config { /* 5.3.4, wire layout, little-endian */
    uint16_t cols, rows;
    uint32_t max_nr_ports, emerg_wr; /* of features not offered */
};
_Static_assert(sizeof(struct console_config) == 12, "VIRTIO 1.2, 5.3.4");

struct console {
    struct console_conf c;
    struct virtio_port *port;
    uint8_t in[CONSOLE_IN_MAX];
    uint32_t n_in;    /* bytes of in[] that wait */
    uint64_t out_off; /* bytes of the first transmit chain that are out already */
    bool sized;       /* offers VIRTIO_CONSOLE_F_SIZE */
};

struct console *console_new(const struct console_conf *c, struct err *e)
{
    struct console *d = calloc(1, sizeof(*d));

    if (!d) {
        err_set(e, -ENOMEM, "virtio-console: out of memory");
        return NULL;
    }
    d->c = *c;
    d->sized = c->cols && c->rows;
    return d;
}

/* What a queue's loop ended with: r < 0 broken, r > 0 more to do. */
static void queue_end(struct console *d, unsigned n, int r)
{
    d->port->used(d->port->ctx, n);
    if (r < 0)
        d->port->broken(d->port->ctx, n == Q_RECEIVE ? "receive queue" : "transmit queue");
    else if (r > 0)
        d->port->again(d->port->ctx, n);
}

/* Hand waiting input to the driver. */
static void receive(struct console *d)
{
    struct vq *q = &d->port->q[Q_RECEIVE];
    uint32_t was = d->n_in;
    struct vq_chain c;
    int r = 0;

    if (!d->port->live)
        return;
    while (d->n_in > 0) {
        r = vq_pop(q, &c);
        if (r <= 0)
            break;
        int64_t n = vq_write(q, &c, 0, d->in, d->n_in);
        r = n < 0 ? (int)n : vq_push(q, c.head, (uint32_t)n);
        if (r < 0)
            break;
        d->n_in -= (uint32_t)n;
        memmove(d->in, d->in + n, d->n_in);
        if (n == 0) /* a chain with nothing to write into: only so many a kick */
            break;
    }
    queue_end(d, Q_RECEIVE, r);
    if (d->n_in < was && d->c.room)
        d->c.room(d->c.ctx);
}

/* One chain's bytes from out_off on. 1 = all are out, 0 = the sink is full, or -errno. */
static int send_chain(struct console *d, struct vq *q, const struct vq_chain *c)
{
    while (d->out_off < c->out_len) {
        uint8_t buf[OUT_CHUNK];
        int64_t n = vq_read(q, c, d->out_off, buf, sizeof(buf));

        if (n < 0)
            return (int)n;
        size_t took = d->c.out(d->c.ctx, buf, (size_t)n);
        d->out_off += took;
        if (took < (size_t)n)
            return 0;
    }
    d->out_off = 0;
    return 1;
}

static void transmit(struct console *d)
{
    struct vq *q = &d->port->q[Q_TRANSMIT];
    struct vq_chain c;
    int r = 0;

    if (!d->port->live)
        return;
    for (unsigned i = 0; i < VIRTIO_KICK_MAX; i++) {
        r = vq_pop(q, &c);
        if (r <= 0)
            break;
        r = send_chain(d, q, &c);
        if (r == 0)
            vq_unpop(q);
        if (r <= 0)
            break;
        r = vq_push(q, c.head, 0);
        if (r < 0)
            break;
        r = 1;
    }
    queue_end(d, Q_TRANSMIT, r);
}

static void console_kick(void *dev, unsigned n)
{
    if (n == Q_RECEIVE)
        receive(dev);
    else
        transmit(dev);
}

size_t console_room(const struct console *c)
{
    return CONSOLE_IN_MAX - c->n_in;
}

size_t console_in(struct console *c, const void *bytes, size_t len)
{
    size_t n = len < console_room(c) ? len : console_room(c);

    memcpy(c->in + c->n_in, bytes, n);
    c->n_in += (uint32_t)n;
    receive(c);
    return n;
}

void console_out_ready(struct console *c)
{
    transmit(c);
}

void console_resize(struct console *c, uint16_t cols, uint16_t rows)
{
    if (c->c.cols == cols && c->c.rows == rows)
        return;
    c->c.cols = cols;
    c->c.rows = rows;
    if (c->port->features & F_SIZE)
        c->port->config_changed(c->port->ctx);
}

static uint64_t console_features(void *dev)
{
    return ((struct console *)dev)->sized ? F_SIZE : 0;
}

static void console_attach(void *dev, struct virtio_port *p)
{
    ((struct console *)dev)->port = p;
}

static void console_config_read(void *dev, unsigned off, void *buf, unsigned len)
{
    const struct console *d = dev;
    struct console_config c = {.cols = htole16(d->c.cols), .rows = htole16(d->c.rows)};

    memcpy(buf, (const uint8_t *)&c + off, len);
}

static void console_reset(void *dev)
{
    ((struct console *)dev)->out_off = 0;
}

static void console_visit(void *dev, struct state_io *io)
{
    struct console *d = dev;

    state_u32(io, 1, &d->n_in);
    state_bytes(io, 2, d->in, sizeof(d->in));
    state_u64(io, 3, &d->out_off);
    if (state_loading(io) && d->n_in > sizeof(d->in))
        state_fail(io, "virtio-console: %u bytes of input", d->n_in);
    if (io->failed)
        d->n_in = 0;
}

static void console_destroy(void *dev)
{
    free(dev);
}

const struct virtio_ops console_ops = {
    .name = "virtio-console",
    .id = 3, /* 5.3.1 */
    .n_queues = 2,
    .features = console_features,
    .attach = console_attach,
    .kick = console_kick,
    .config_len = sizeof(struct console_config),
    .config_read = console_config_read,
    .reset = console_reset,
    .visit = console_visit,
    .destroy = console_destroy,
};
