#include "vm/netdev.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "dev/virtio/vnet.h"
#include "dev/virtio/vunet.h"
#include "net/net.h"
#include "vm/devices.h"
#include "vm/served.h"
#include "vm/vm_private.h"

static int duplicate(const struct vm_net *c, unsigned pairs, int fd[NET_PAIRS_MAX], struct err *e)
{
    for (unsigned i = 0; i < pairs; i++) {
        fd[i] = fcntl(c->fd[i], F_DUPFD_CLOEXEC, 0);
        if (fd[i] < 0) {
            int r = err_errno(e, -errno, "descriptor %d", c->fd[i]);

            while (i-- > 0)
                close(fd[i]);
            return r;
        }
    }
    return 0;
}

/* What the card is connected to; NULL = nothing. */
static int connect_card(struct vm *vm, const struct vm_net *c, unsigned pairs, struct net **ret,
                        struct err *e)
{
    int fd[NET_PAIRS_MAX];

    *ret = NULL;
    if (c->kind == VM_NET_NONE)
        return 0;
    if (pairs > NET_PAIRS_MAX || (c->kind == VM_NET_STREAM && pairs > 1))
        return err_set(e, -EINVAL, "%u queue pairs", pairs);
    int r = duplicate(c, pairs, fd, e);
    if (r < 0)
        return r;
    return c->kind == VM_NET_TAP ? tap_net(fd, pairs, vm->loop, ret, e)
                                 : stream_net(fd[0], vm->loop, ret, e);
}

/* A card that another process serves. */
static int add_served(struct vm *vm, const struct vm_net *c, struct err *e)
{
    struct served_place p = {.socket = c->vhost_socket, .listen = c->vhost_listen, .fd = c->fd[0]};
    struct vulink *link = NULL;
    if (c->pairs > 1)
        return err_set(e, -EINVAL, "%u queue pairs", c->pairs);
    int r = served_link(vm, &p, &link, e);
    struct vudev *d = r == 0 ? vunet_new(link, c->mac, c->mtu, vm->mem, vm->loop, e) : NULL;
    if (!d)
        return err_wrap(e, r < 0 ? r : -EPROTO, "network card '%s'",
                        c->vhost_socket ? c->vhost_socket : "vhost-user");
    return devices_put(vm, &vunet_ops, d, e);
}

int netdev_add(struct vm *vm, const struct vm_net *c, struct err *e)
{
    if (c->kind == VM_NET_VHOST)
        return add_served(vm, c, e);
    struct vnet_conf vc = {.mtu = c->mtu,
                           .pairs = c->pairs ? c->pairs : 1,
                           .rx = c->rx,
                           .tx = c->tx,
                           .clock = &vm->clock,
                           .timers = &vm->timers};
    int r = connect_card(vm, c, vc.pairs, &vc.net, e);

    if (r < 0)
        return err_wrap(e, r, "network card");
    memcpy(vc.mac, c->mac, sizeof(vc.mac));
    struct vnet *d = vnet_new(&vc, e);
    return d ? devices_put(vm, vnet_ops(vc.pairs), d, e) : -EINVAL;
}
