#include "dev/virtio/rng.h"

#include <errno.h>
#include <stdlib.h>

#include "state/state.h"

enum {
    RNG_CHUNK = 256,          /* bytes asked of the source at a time */
    RNG_PER_CHAIN_MAX = 4096, /* bytes; 5.4.6.2 lets us give less than asked */
};

struct rng {
    struct rng_source src;
    struct virtio_port *port;
    uint64_t served; /* bytes since creation; a statistic */
};

struct rng *rng_new(struct rng_source src, struct err *e)
{
    struct rng *d = calloc(1, sizeof(*d));

    if (!d) {
        err_set(e, -ENOMEM, "virtio-rng: out of memory");
        return NULL;
    }
    d->src = src;
    return d;
}

/* Bytes written, or -errno. A source that fails gives the guest what came before. */
static int64_t fill_chain(struct rng *d, struct vq *q, const struct vq_chain *c)
{
    uint64_t want = c->in_len < RNG_PER_CHAIN_MAX ? c->in_len : RNG_PER_CHAIN_MAX;
    uint64_t done = 0;

    while (done < want) {
        uint8_t buf[RNG_CHUNK];
        size_t n = want - done < sizeof(buf) ? want - done : sizeof(buf);

        if (d->src.fill(d->src.ctx, buf, n) < 0)
            break;
        int64_t r = vq_write(q, c, done, buf, n);
        if (r < 0)
            return r;
        done += (uint64_t)r;
    }
    return (int64_t)done;
}

static void rng_kick(void *dev, unsigned n)
{
    struct rng *d = dev;
    struct vq *q = &d->port->q[n];
    struct vq_chain c;
    int r = 0;

    for (unsigned i = 0; i < VIRTIO_KICK_MAX; i++) {
        r = vq_pop(q, &c);
        if (r <= 0)
            break;
        int64_t got = fill_chain(d, q, &c);
        r = got < 0 ? (int)got : vq_push(q, c.head, (uint32_t)got);
        if (r < 0)
            break;
        d->served += (uint64_t)got;
        r = 1;
    }
    d->port->used(d->port->ctx, n);
    if (r < 0)
        d->port->broken(d->port->ctx, "entropy queue");
    else if (r > 0)
        d->port->again(d->port->ctx, n);
}

static uint64_t rng_features(void *dev)
{
    return 0;
}

static void rng_attach(void *dev, struct virtio_port *p)
{
    ((struct rng *)dev)->port = p;
}

static void rng_reset(void *dev)
{
    (void)dev; /* no state the guest can see outside the queue */
}

static void rng_visit(void *dev, struct state_io *io)
{
    struct rng *d = dev;

    state_u64(io, 1, &d->served);
}

static void rng_destroy(void *dev)
{
    free(dev);
}

const struct virtio_ops rng_ops = {
    .name = "virtio-rng",
    .id = 4, /* VIRTIO 1.2, 5.4.1 */
    .n_queues = 1,
    .features = rng_features,
    .attach = rng_attach,
    .kick = rng_kick,
    .reset = rng_reset,
    .visit = rng_visit,
    .destroy = rng_destroy,
};
