#include "dev/virtio/vublk.h"

#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"

enum { /* feature bits, 5.2.3 */
       F_SIZE_MAX = 1 << 1,
       F_SEG_MAX = 1 << 2,
       F_GEOMETRY = 1 << 4,
       F_RO = 1 << 5,
       F_BLK_SIZE = 1 << 6,
       F_FLUSH = 1 << 9,
       F_TOPOLOGY = 1 << 10,
       F_DISCARD = 1 << 13,
       F_WRITE_ZEROES = 1 << 14,
       F_KNOWN = F_SIZE_MAX | F_SEG_MAX | F_GEOMETRY | F_RO | F_BLK_SIZE | F_FLUSH | F_TOPOLOGY |
                 F_DISCARD | F_WRITE_ZEROES,
};

enum { /* 5.2.4: configuration */
       CONFIG_LEN = 60,
       C_CAPACITY = 0,    /* u64, sectors */
       C_SIZE_MAX = 8,    /* u32 */
       C_SEG_MAX = 12,    /* u32 */
       C_NUM_QUEUES = 34, /* u16 */
       SECTOR = 512,
       SEG_MAX = VQ_SEG_MAX - 2, /* header and status are segments, too */
};

static uint64_t capacity(const struct vudev *d)
{
    uint64_t raw;

    memcpy(&raw, d->config + C_CAPACITY, sizeof(raw));
    return le64toh(raw);
}

static int meet(struct vudev *d, struct vhostuser *conn, struct err *e)
{
    uint32_t seg_max, size_max;
    uint16_t one = htole16(1);
    int r = vhostuser_config(conn, d->config, CONFIG_LEN, e);

    if (r < 0)
        return r;
    d->features = conn->features & F_KNOWN;
    memcpy(&size_max, d->config + C_SIZE_MAX, sizeof(size_max));
    if (size_max == 0) /* qemu-storage-daemon offers it and leaves it empty */
        d->features &= ~(uint64_t)F_SIZE_MAX;
    memcpy(&seg_max, d->config + C_SEG_MAX, sizeof(seg_max));
    if (le32toh(seg_max) > SEG_MAX)
        seg_max = htole32(SEG_MAX);
    memcpy(d->config + C_SEG_MAX, &seg_max, sizeof(seg_max));
    memcpy(d->config + C_NUM_QUEUES, &one, sizeof(one));
    if (capacity(d) == 0 || capacity(d) > INT64_MAX / SECTOR)
        return err_set(e, -EPROTO, "the vhost-user back end has a disk of %llu sectors",
                       (unsigned long long)capacity(d));
    return 0;
}

static const struct vudev_kind kind = {.n_queues = 1, .meet = meet, .finishes = true};

struct vudev *vublk_new(struct vulink *link, struct mem *m, struct loop *l, struct err *e)
{
    struct vudev *d = calloc(1, sizeof(*d));

    if (!d) {
        vulink_free(link);
        err_set(e, -ENOMEM, "vhost-user-blk: out of memory");
        return NULL;
    }
    return vudev_init(d, &kind, link, m, l, e) < 0 ? NULL : d;
}

uint64_t vublk_size(const struct vudev *d)
{
    return capacity(d) * SECTOR;
}

bool vublk_read_only(const struct vudev *d)
{
    return d->features & F_RO;
}

const struct virtio_ops vublk_ops = {
    .name = "vhost-user-blk",
    .id = 2, /* 5.2.1 */
    .n_queues = 1,
    .features = vudev_features,
    .attach = vudev_attach,
    .kick = vudev_kick,
    .config_len = CONFIG_LEN,
    .config_read = vudev_config_read,
    .reset = vudev_reset,
    .drain = vudev_drain,
    .visit = vudev_visit,
    .destroy = vudev_destroy,
};
