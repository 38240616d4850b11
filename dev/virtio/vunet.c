#include "dev/virtio/vunet.h"

#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "dev/virtio/netbits.h"

enum {
    F_KNOWN = F_CSUM | F_GUEST_CSUM | F_GUEST_TSO4 | F_GUEST_TSO6 | F_GUEST_ECN | F_GUEST_UFO |
              F_HOST_TSO4 | F_HOST_TSO6 | F_HOST_ECN | F_HOST_UFO | F_MRG_RXBUF,
    F_OWN = F_MAC | F_STATUS, /* answered here; and F_MTU where one is set */
};

enum { /* 5.1.4: configuration */
       C_MAC = 0,
       C_STATUS = 6, /* u16 */
       C_MTU = 10,   /* u16 */
       CONFIG_LEN = 12,
       S_LINK_UP = 1,
};

static int meet(struct vudev *d, struct vhostuser *conn, struct err *e)
{
    (void)e;
    d->features = (conn->features & F_KNOWN) | d->own;
    return 0;
}

static const struct vudev_kind kind = {.n_queues = 2, .meet = meet, .link_in_config = true};

struct vudev *vunet_new(struct vulink *link, const uint8_t mac[6], uint16_t mtu, struct mem *m,
                        struct loop *l, struct err *e)
{
    struct vudev *d = calloc(1, sizeof(*d));
    uint16_t raw = htole16(mtu);

    if (!d) {
        vulink_free(link);
        err_set(e, -ENOMEM, "vhost-user-net: out of memory");
        return NULL;
    }
    d->own = F_OWN | (mtu ? F_MTU : 0);
    memcpy(d->config + C_MAC, mac, 6);
    memcpy(d->config + C_MTU, &raw, sizeof(raw));
    return vudev_init(d, &kind, link, m, l, e) < 0 ? NULL : d;
}

static void config_read(void *dev, unsigned off, void *buf, unsigned len)
{
    struct vudev *d = dev;
    uint16_t status = htole16(vulink_conn(d->link) ? S_LINK_UP : 0);

    memcpy(d->config + C_STATUS, &status, sizeof(status));
    vudev_config_read(d, off, buf, len);
}

const struct virtio_ops vunet_ops = {
    .name = "vhost-user-net",
    .id = 1, /* 5.1.1 */
    .n_queues = 2,
    .features = vudev_features,
    .attach = vudev_attach,
    .kick = vudev_kick,
    .config_len = CONFIG_LEN,
    .config_read = config_read,
    .reset = vudev_reset,
    .drain = vudev_drain,
    .visit = vudev_visit,
    .destroy = vudev_destroy,
};
