#include "dev/virtio/virtiofs.h"

#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "state/state.h"

struct virtiofs_config { /* 5.11.4, wire layout, little-endian */
    char tag[VIRTIOFS_TAG_MAX];
    uint32_t num_request_queues;
};
_Static_assert(sizeof(struct virtiofs_config) == 40, "VIRTIO 1.2, 5.11.4");

struct virtiofs {
    struct fusefs *fs; /* owned */
    struct virtio_port *port;
    struct virtiofs_config config;
};

struct virtiofs *virtiofs_new(struct fusefs *fs, const char *tag, struct err *e)
{
    size_t len = strlen(tag);
    struct virtiofs *d = calloc(1, sizeof(*d));

    if (!d || len == 0 || len > VIRTIOFS_TAG_MAX) {
        err_set(e, d ? -EINVAL : -ENOMEM, "virtio-fs: %s",
                d ? "a tag has 1 to 36 bytes" : "out of memory");
        free(d);
        fusefs_free(fs);
        return NULL;
    }
    d->fs = fs;
    memcpy(d->config.tag, tag, len);
    d->config.num_request_queues = htole32(1);
    return d;
}

/* One chain: the readable part is the request, the writable one takes the reply (5.11.6.1). */
static int serve(struct virtiofs *d, struct vq *q, const struct vq_chain *c)
{
    struct iovec in[VQ_SEG_MAX], out[VQ_SEG_MAX];
    int n_in = vq_iov(q, c, false, 0, c->out_len, in, VQ_SEG_MAX);
    int n_out = vq_iov(q, c, true, 0, c->in_len, out, VQ_SEG_MAX);

    if (n_in < 0 || n_out < 0)
        return -EFAULT;
    size_t len = fusefs_serve(d->fs, in, (unsigned)n_in, out, (unsigned)n_out);
    vq_wrote(q, c, 0, c->in_len); /* also what a read that failed left behind */
    return vq_push(q, c->head, (uint32_t)len);
}

static void virtiofs_kick(void *dev, unsigned n)
{
    struct virtiofs *d = dev;
    struct vq *q = &d->port->q[n];
    struct vq_chain c;
    int r = 0;

    for (unsigned i = 0; i < VIRTIO_KICK_MAX; i++) {
        r = vq_pop(q, &c);
        if (r <= 0)
            break;
        r = serve(d, q, &c);
        if (r < 0)
            break;
        r = 1;
    }
    d->port->used(d->port->ctx, n);
    if (r < 0)
        d->port->broken(d->port->ctx, "request queue");
    else if (r > 0)
        d->port->again(d->port->ctx, n);
}

static uint64_t virtiofs_features(void *dev)
{
    return 0;
}

static void virtiofs_attach(void *dev, struct virtio_port *p)
{
    ((struct virtiofs *)dev)->port = p;
}

static void virtiofs_config_read(void *dev, unsigned off, void *buf, unsigned len)
{
    memcpy(buf, (const uint8_t *)&((struct virtiofs *)dev)->config + off, len);
}

static void virtiofs_reset(void *dev)
{
    fusefs_reset(((struct virtiofs *)dev)->fs);
}

/* Nodes and handles are the host's and do not move: a loaded guest finds its files stale. */
static void virtiofs_visit(void *dev, struct state_io *io)
{
    struct virtiofs *d = dev;
    struct virtiofs_config c = d->config;

    state_bytes(io, 1, c.tag, sizeof(c.tag));
    if (!state_loading(io))
        return;
    if (memcmp(c.tag, d->config.tag, sizeof(c.tag)) != 0)
        state_fail(io, "virtio-fs: another folder");
    else
        virtiofs_reset(d);
}

static void virtiofs_destroy(void *dev)
{
    struct virtiofs *d = dev;

    if (!d)
        return;
    fusefs_free(d->fs);
    free(d);
}

const struct virtio_ops virtiofs_ops = {
    .name = "virtio-fs",
    .id = 26,      /* 5.11.1 */
    .n_queues = 2, /* high priority, and one for requests (5.11.2) */
    .features = virtiofs_features,
    .attach = virtiofs_attach,
    .kick = virtiofs_kick,
    .config_len = sizeof(struct virtiofs_config),
    .config_read = virtiofs_config_read,
    .reset = virtiofs_reset,
    .visit = virtiofs_visit,
    .destroy = virtiofs_destroy,
};
