#include "dev/virtio/blk.h"

#include <endian.h>
#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "state/state.h"

enum { /* feature bits, 5.2.3 */
       F_SIZE_MAX = 1 << 1,
       F_SEG_MAX = 1 << 2,
       F_RO = 1 << 5,
       F_BLK_SIZE = 1 << 6,
       F_FLUSH = 1 << 9,
       F_TOPOLOGY = 1 << 10,
       F_DISCARD = 1 << 13,
       F_WRITE_ZEROES = 1 << 14,
};

enum { /* request types, 5.2.6 */
       T_IN = 0,
       T_OUT = 1,
       T_FLUSH = 4,
       T_GET_ID = 8,
       T_DISCARD = 11,
       T_WRITE_ZEROES = 13,
};

enum { S_OK = 0, S_IOERR = 1, S_UNSUPP = 2 }; /* 5.2.6 */

struct blk_hdr { /* 5.2.6, wire layout, little-endian */
    uint32_t type, reserved;
    uint64_t sector;
};
_Static_assert(sizeof(struct blk_hdr) == 16, "VIRTIO 1.2, 5.2.6");

struct blk_range { /* 5.2.6, struct virtio_blk_discard_write_zeroes */
    uint64_t sector;
    uint32_t num_sectors;
    uint32_t flags; /* bit 0: unmap */
};
_Static_assert(sizeof(struct blk_range) == 16, "VIRTIO 1.2, 5.2.6");

struct blk_config { /* 5.2.4, wire layout, little-endian */
    uint64_t capacity;
    uint32_t size_max, seg_max;
    uint32_t geometry;
    uint32_t blk_size;
    uint8_t physical_block_exp, alignment_offset;
    uint16_t min_io_size;
    uint32_t opt_io_size;
    uint8_t writeback, unused0;
    uint16_t num_queues;
    uint32_t max_discard_sectors, max_discard_seg, discard_sector_alignment;
    uint32_t max_write_zeroes_sectors, max_write_zeroes_seg;
    uint8_t write_zeroes_may_unmap, unused1[3];
};
enum { BLK_CONFIG_LEN = 60 };
_Static_assert(offsetof(struct blk_config, write_zeroes_may_unmap) == 56, "VIRTIO 1.2, 5.2.4");

struct blk_cmd { /* one request in flight */
    struct blk *blk;
    struct blk_cmd *next_free;
    struct block_req req;
    struct vq_chain chain;
    struct iovec iov[BLOCK_IOV_MAX];
    bool flush_after; /* a write for a driver that knows no flush */
};

struct blk {
    struct block *disk; /* owned */
    struct virtio_port *port;
    struct blk_config config;
    char serial[BLK_SERIAL_MAX];
    struct blk_cmd cmd[BLK_INFLIGHT_MAX];
    struct blk_cmd *free;
    bool starved;  /* chains wait for a free command */
    bool draining; /* start nothing new */
};

static void run_queue(struct blk *d);

static unsigned log2_of(uint32_t v)
{
    unsigned n = 0;

    while (v > 1) {
        v >>= 1;
        n++;
    }
    return n;
}

static struct blk_config make_config(const struct block_info *i)
{
    uint32_t sectors = i->block_size / BLOCK_SECTOR;

    return (struct blk_config){
        .capacity = htole64(i->size / BLOCK_SECTOR),
        .size_max = htole32(BLK_SIZE_MAX),
        .seg_max = htole32(BLK_SEG_MAX),
        .blk_size = htole32(BLOCK_SECTOR),
        .physical_block_exp = (uint8_t)log2_of(sectors),
        .min_io_size = htole16(sectors ? (uint16_t)sectors : 1),
        .writeback = 1,
        .num_queues = htole16(1),
        .max_discard_sectors = htole32(BLK_DISCARD_MAX),
        .max_discard_seg = htole32(1),
        .discard_sector_alignment = htole32(sectors ? sectors : 1),
        .max_write_zeroes_sectors = htole32(BLK_DISCARD_MAX),
        .max_write_zeroes_seg = htole32(1),
        .write_zeroes_may_unmap = 1,
    };
}

struct blk *blk_new(struct block *disk, const char *serial, struct err *e)
{
    struct blk *d = calloc(1, sizeof(*d));

    if (!d) {
        disk->ops->close(disk);
        err_set(e, -ENOMEM, "virtio-blk: out of memory");
        return NULL;
    }
    d->disk = disk;
    d->config = make_config(&disk->info);
    if (serial)
        memcpy(d->serial, serial, strnlen(serial, sizeof(d->serial)));
    for (unsigned i = 0; i < BLK_INFLIGHT_MAX; i++) {
        d->cmd[i].blk = d;
        d->cmd[i].next_free = d->free;
        d->free = &d->cmd[i];
    }
    return d;
}

static void put_cmd(struct blk_cmd *c)
{
    c->next_free = c->blk->free;
    c->blk->free = c;
}

/* Gives the chain back with its status byte, which is the last one the device may write. A device
 * that was reset or broken meanwhile touches no ring. */
static void finish(struct blk_cmd *c, uint8_t status)
{
    struct blk *d = c->blk;
    struct vq *q = &d->port->q[0];
    bool filled = status == S_OK && c->req.op == BLOCK_READ;
    uint32_t written = filled ? (uint32_t)c->chain.in_len : 1;

    if (d->port->live && q->ready &&
        (vq_write(q, &c->chain, c->chain.in_len - 1, &status, 1) < 0 ||
         vq_push(q, c->chain.head, written) < 0))
        d->port->broken(d->port->ctx, "used ring");
    put_cmd(c);
}

static void done(struct block_req *r, int result)
{
    struct blk_cmd *c = r->ctx;
    struct blk *d = c->blk;

    if (r->op == BLOCK_READ)
        vq_wrote(&d->port->q[0], &c->chain, 0, r->len); /* also half of a failed read */
    if (result == 0 && c->flush_after) {
        c->flush_after = false;
        r->op = BLOCK_FLUSH;
        d->disk->ops->submit(d->disk, r);
        if (d->disk->ops->commit)
            d->disk->ops->commit(d->disk);
        return;
    }
    finish(c, result == 0 ? S_OK : result == -EOPNOTSUPP ? S_UNSUPP : S_IOERR);
    if (d->starved && !d->draining && d->port->live) {
        d->starved = false;
        run_queue(d);
    }
    d->port->used(d->port->ctx, 0);
}

static bool on_disk(const struct blk *d, uint64_t sector, uint64_t bytes)
{
    uint64_t sectors = d->disk->info.size / BLOCK_SECTOR;

    return bytes % BLOCK_SECTOR == 0 && sector <= sectors &&
           bytes / BLOCK_SECTOR <= sectors - sector;
}

/* Reads and writes: data follow the header, or precede the status. Returns a status, or -1 when
 * the request is on its way. */
static int start_rw(struct blk_cmd *c, uint64_t sector, bool in)
{
    struct blk *d = c->blk;
    uint64_t off = in ? 0 : sizeof(struct blk_hdr),
             len = in ? c->chain.in_len - 1 : c->chain.out_len - off;
    uint64_t covered = 0;

    if (!on_disk(d, sector, len) || (!in && d->disk->info.read_only))
        return S_IOERR;
    if (len == 0)
        return S_OK;
    int n = vq_iov(&d->port->q[0], &c->chain, in, off, len, c->iov, BLOCK_IOV_MAX);
    for (int i = 0; i < n; i++)
        covered += c->iov[i].iov_len;
    if (covered != len)
        return S_IOERR;                                     /* more segments than seg_max */
    c->flush_after = !in && !(d->port->features & F_FLUSH); /* 5.2.6.2: then write through */
    c->req = (struct block_req){.op = in ? BLOCK_READ : BLOCK_WRITE,
                                .offset = sector * BLOCK_SECTOR,
                                .len = len,
                                .iov = c->iov,
                                .n_iov = (unsigned)n};
    return -1;
}

/* One range a request, as max_discard_seg says. 5.2.6.2: unknown flags, and unmap in a discard, are
 * unsupported. */
static int start_range(struct blk_cmd *c, bool zeroes)
{
    struct blk *d = c->blk;
    const struct block_info *info = &d->disk->info;
    struct blk_range r;

    if (info->read_only)
        return S_IOERR;
    if (!(zeroes ? info->can_write_zeroes : info->can_discard))
        return S_UNSUPP;
    if (c->chain.out_len != sizeof(struct blk_hdr) + sizeof(r) ||
        vq_read(&d->port->q[0], &c->chain, sizeof(struct blk_hdr), &r, sizeof(r)) != sizeof(r))
        return S_IOERR;
    uint32_t flags = le32toh(r.flags), n = le32toh(r.num_sectors);
    if (flags & ~(zeroes ? 1u : 0u))
        return S_UNSUPP;
    if (n > BLK_DISCARD_MAX || !on_disk(d, le64toh(r.sector), (uint64_t)n * BLOCK_SECTOR))
        return S_IOERR;
    if (n == 0)
        return S_OK;
    c->req = (struct block_req){.op = zeroes ? BLOCK_WRITE_ZEROES : BLOCK_DISCARD,
                                .offset = le64toh(r.sector) * BLOCK_SECTOR,
                                .len = (uint64_t)n * BLOCK_SECTOR,
                                .unmap = flags & 1};
    return -1;
}

static int get_id(struct blk_cmd *c)
{
    struct blk *d = c->blk;
    uint64_t room = c->chain.in_len - 1;
    size_t n = room < sizeof(d->serial) ? room : sizeof(d->serial);

    return vq_write(&d->port->q[0], &c->chain, 0, d->serial, n) < 0 ? S_IOERR : S_OK;
}

/* Returns 0, or -EPROTO when the chain has no room for header and status. */
static int start(struct blk_cmd *c)
{
    struct blk *d = c->blk;
    struct blk_hdr h;
    int status;

    if (c->chain.in_len < 1 ||
        vq_read(&d->port->q[0], &c->chain, 0, &h, sizeof(h)) != (int64_t)sizeof(h))
        return -EPROTO;
    c->flush_after = false;
    c->req = (struct block_req){.op = BLOCK_FLUSH};
    switch (le32toh(h.type)) {
    case T_IN:
    case T_OUT:
        status = start_rw(c, le64toh(h.sector), le32toh(h.type) == T_IN);
        break;
    case T_FLUSH:
        status = d->disk->info.read_only || d->disk->info.size == 0 ? S_OK : -1;
        break;
    case T_GET_ID:
        status = get_id(c);
        break;
    case T_DISCARD:
    case T_WRITE_ZEROES:
        status = start_range(c, le32toh(h.type) == T_WRITE_ZEROES);
        break;
    default:
        status = S_UNSUPP;
    }
    if (status >= 0) {
        finish(c, (uint8_t)status);
        return 0;
    }
    c->req.done = done;
    c->req.ctx = c;
    d->disk->ops->submit(d->disk, &c->req);
    return 0;
}

static void run_queue(struct blk *d)
{
    struct vq *q = &d->port->q[0];
    unsigned n;
    int r = 0;

    for (n = 0; n < VIRTIO_KICK_MAX; n++) {
        struct blk_cmd *c = d->free;

        if (!c) {
            d->starved = true;
            break;
        }
        r = vq_pop(q, &c->chain);
        if (r <= 0)
            break;
        d->free = c->next_free;
        r = start(c);
        if (r < 0) {
            put_cmd(c);
            break;
        }
    }
    if (d->disk->ops->commit)
        d->disk->ops->commit(d->disk);
    if (r < 0)
        d->port->broken(d->port->ctx, "request queue");
    else if (n == VIRTIO_KICK_MAX)
        d->port->again(d->port->ctx, 0);
}

static void blk_kick(void *dev, unsigned n)
{
    struct blk *d = dev;

    run_queue(d);
    d->port->used(d->port->ctx, n);
}

static uint64_t blk_features(void *dev)
{
    const struct block_info *i = &((struct blk *)dev)->disk->info;
    uint64_t f = F_SIZE_MAX | F_SEG_MAX | F_BLK_SIZE | F_FLUSH | F_TOPOLOGY;

    if (i->read_only)
        return f | F_RO;
    return f | (i->can_discard ? F_DISCARD : 0) | (i->can_write_zeroes ? F_WRITE_ZEROES : 0);
}

static void blk_attach(void *dev, struct virtio_port *p)
{
    ((struct blk *)dev)->port = p;
}

static void blk_config_read(void *dev, unsigned off, void *buf, unsigned len)
{
    struct blk *d = dev;

    memcpy(buf, (const uint8_t *)&d->config + off, len);
}

static void blk_drain(void *dev)
{
    struct blk *d = dev;

    d->draining = true;
    d->disk->ops->drain(d->disk);
    d->draining = false;
    if (d->starved)
        d->port->again(d->port->ctx, 0); /* what waits is for whoever runs next */
    d->starved = false;
}

static void blk_visit(void *dev, struct state_io *io)
{
    struct blk *d = dev;
    uint64_t size = d->disk->info.size;

    state_u64(io, 1, &size);
    if (!state_loading(io) || size == d->disk->info.size)
        return;
    if (size == 0)
        d->port->config_changed(d->port->ctx); /* somebody put a disk into the drive */
    else
        state_fail(io, "the disk has %llu bytes, not the %llu it had",
                   (unsigned long long)d->disk->info.size, (unsigned long long)size);
}

static void blk_destroy(void *dev)
{
    struct blk *d = dev;

    if (!d)
        return;
    if (d->port)
        blk_drain(d);
    d->disk->ops->close(d->disk);
    free(d);
}

const struct virtio_ops blk_ops = {
    .name = "virtio-blk",
    .id = 2, /* 5.2.1 */
    .n_queues = 1,
    .features = blk_features,
    .attach = blk_attach,
    .kick = blk_kick,
    .config_len = BLK_CONFIG_LEN,
    .config_read = blk_config_read,
    .reset = blk_drain,
    .drain = blk_drain,
    .visit = blk_visit,
    .destroy = blk_destroy,
};
