/* A tap interface of the host's kernel, which takes and gives struct virtio_net_hdr itself
 * (Documentation/networking/tuntap.rst): checksums and segments pass through unfinished. */
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <net/if.h>
#include <unistd.h>

#include "net/net.h"
#include "os/loop.h"

struct tap_queue {
    struct tap *tap;
    int fd;  /* owned */
    bool on; /* attached: the kernel hands it frames */
    struct loop_fd watch;
};

struct tap {
    struct net net;
    struct loop *loop; /* borrowed */
    struct net_card card;
    struct tap_queue q[NET_PAIRS_MAX];
};

static struct tap *tap_of(struct net *n)
{
    return (struct tap *)n;
}

/* Edge-triggered: the card reads until there is nothing, or comes back by itself. */
static void queue_ready(void *ctx, uint32_t events)
{
    struct tap_queue *q = ctx;
    struct tap *t = q->tap;
    unsigned pair = (unsigned)(q - t->q);

    if (!t->card.readable)
        return;
    if ((events & EPOLLERR) && t->net.link) {
        t->net.link = false; /* the interface was removed */
        t->card.link(t->card.ctx, false);
        return;
    }
    if (events & EPOLLIN)
        t->card.readable(t->card.ctx, pair);
    if (events & EPOLLOUT)
        t->card.writable(t->card.ctx, pair);
}

static void tap_attach(struct net *n, const struct net_card *card)
{
    tap_of(n)->card = *card;
}

static int tap_send(struct net *n, unsigned pair, struct iovec *iov, unsigned n_iov)
{
    ssize_t r = writev(tap_of(n)->q[pair].fd, iov, (int)n_iov);

    return r < 0 ? -errno : 0;
}

static int64_t tap_receive(struct net *n, unsigned pair, struct iovec *iov, unsigned n_iov)
{
    ssize_t r = readv(tap_of(n)->q[pair].fd, iov, (int)n_iov);

    return r < 0 ? -errno : r;
}

static void tap_set_offloads(struct net *n, unsigned offloads)
{
    static const struct {
        unsigned offload, flag;
    } map[] = {
        {NET_RX_CSUM, TUN_F_CSUM},   {NET_RX_TSO4, TUN_F_TSO4}, {NET_RX_TSO6, TUN_F_TSO6},
        {NET_RX_ECN, TUN_F_TSO_ECN}, {NET_RX_UFO, TUN_F_UFO},
    };
    unsigned long flags = 0;

    for (size_t i = 0; i < sizeof(map) / sizeof(map[0]); i++)
        flags |= offloads & map[i].offload ? map[i].flag : 0;
    /* A kernel without one of them leaves all as it was, so without: then the host does the work.
     */
    if (ioctl(tap_of(n)->q[0].fd, TUNSETOFFLOAD, flags) < 0)
        (void)!ioctl(tap_of(n)->q[0].fd, TUNSETOFFLOAD, flags & ~(unsigned long)TUN_F_UFO);
}

/* A queue that the guest does not use gets no frames while it is detached. */
static void set_queue(struct tap_queue *q, bool on)
{
    struct ifreq r = {.ifr_flags = on ? IFF_ATTACH_QUEUE : IFF_DETACH_QUEUE};

    if (q->on != on && ioctl(q->fd, TUNSETQUEUE, &r) == 0)
        q->on = on;
}

static void tap_set_pairs(struct net *n, unsigned pairs)
{
    struct tap *t = tap_of(n);

    for (unsigned i = 0; t->net.pairs > 1 && i < t->net.pairs; i++)
        set_queue(&t->q[i], i < pairs);
}

static void tap_close(struct net *n)
{
    struct tap *t = tap_of(n);

    for (unsigned i = 0; i < t->net.pairs; i++) {
        loop_del(t->loop, &t->q[i].watch);
        close(t->q[i].fd);
    }
    free(t);
}

static int prepare(int fd, bool multi, struct err *e)
{
    const short must = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR;
    struct ifreq r = {0};
    int size = NET_HDR_LEN, le = 1;

    if (ioctl(fd, TUNGETIFF, &r) < 0)
        return err_errno(e, -errno, "not a tap descriptor");
    if ((r.ifr_flags & must) != must || (multi && !(r.ifr_flags & IFF_MULTI_QUEUE)))
        return err_set(e, -EINVAL, "tap '%.*s' was opened without %s", IFNAMSIZ, r.ifr_name,
                       (r.ifr_flags & must) != must ? "IFF_TAP, IFF_NO_PI or IFF_VNET_HDR"
                                                    : "IFF_MULTI_QUEUE");
    if (ioctl(fd, TUNSETVNETHDRSZ, &size) < 0 || ioctl(fd, TUNSETVNETLE, &le) < 0)
        return err_errno(e, -errno, "tap '%.*s'", IFNAMSIZ, r.ifr_name);
    if (fcntl(fd, F_SETFL, O_NONBLOCK) < 0)
        return err_errno(e, -errno, "tap");
    return 0;
}

static const struct net_ops tap_ops = {
    .attach = tap_attach,
    .send = tap_send,
    .receive = tap_receive,
    .set_offloads = tap_set_offloads,
    .set_pairs = tap_set_pairs,
    .close = tap_close,
};

int tap_net(const int *fd, unsigned pairs, struct loop *l, struct net **ret, struct err *e)
{
    struct tap *t = pairs >= 1 && pairs <= NET_PAIRS_MAX ? calloc(1, sizeof(*t)) : NULL;
    int r = 0;

    if (!t) {
        for (unsigned i = 0; i < pairs; i++)
            close(fd[i]);
        return err_set(e, pairs >= 1 && pairs <= NET_PAIRS_MAX ? -ENOMEM : -EINVAL,
                       "a card of %u queue pairs", pairs);
    }
    t->net = (struct net){.ops = &tap_ops, .pairs = pairs, .link = true};
    t->loop = l;
    for (unsigned i = 0; i < pairs; i++)
        t->q[i] = (struct tap_queue){.tap = t,
                                     .fd = fd[i],
                                     .on = true,
                                     .watch = {.fd = fd[i], .ready = queue_ready, .ctx = &t->q[i]}};
    for (unsigned i = 0; r == 0 && i < pairs; i++) {
        r = prepare(fd[i], pairs > 1, e);
        if (r == 0)
            r = loop_add(l, &t->q[i].watch, EPOLLIN | EPOLLOUT | EPOLLET, e);
    }
    if (r < 0) {
        tap_close(&t->net);
        return r;
    }
    tap_set_offloads(&t->net, 0);
    tap_set_pairs(&t->net, 1);
    *ret = &t->net;
    return 0;
}
