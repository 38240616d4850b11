/* Frames on a stream socket. The peer knows no virtio header: what a frame lacks is done here. */
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "net/csum.h"
#include "net/net.h"
#include "os/loop.h"

enum {
    LEN_SIZE = 4,         /* bytes: the length before each frame, big-endian */
    IN_SIZE = 256 * 1024, /* bytes read ahead */
    FRAME_MIN = 14,
    SNDBUF = 1024 * 1024, /* asked for; the host may give less */
};

struct stream {
    struct net net;
    struct loop *loop; /* borrowed */
    struct net_card card;
    int fd; /* owned */
    struct loop_fd watch;
    bool told;              /* the card knows that the peer is gone */
    size_t out_at, out_len; /* of a frame that was sent in part: out[out_at..out_len) is left */
    size_t in_at, in_len;   /* unread bytes of in[] */
    uint8_t out[LEN_SIZE + NET_FRAME_MAX];
    uint8_t in[IN_SIZE];
};
_Static_assert((int)IN_SIZE > LEN_SIZE + NET_FRAME_MAX, "a frame fits");

static struct stream *stream_of(struct net *n)
{
    return (struct stream *)n;
}

/* The card is told by ready(), which shutdown(2) brings about. */
static void hang_up(struct stream *s)
{
    if (!s->net.link)
        return;
    s->net.link = false;
    (void)shutdown(s->fd, SHUT_RDWR);
}

/* What is left of the last frame. 0, -EAGAIN or the end. */
static int flush(struct stream *s)
{
    while (s->out_at < s->out_len) {
        struct iovec v = {s->out + s->out_at, s->out_len - s->out_at};
        ssize_t r = sendmsg(s->fd, &(struct msghdr){.msg_iov = &v, .msg_iovlen = 1},
                            MSG_NOSIGNAL | MSG_DONTWAIT);

        if (r < 0 && errno == EINTR)
            continue;
        if (r < 0)
            return -errno;
        s->out_at += (size_t)r;
    }
    s->out_at = s->out_len = 0;
    return 0;
}

static void ready(void *ctx, uint32_t events)
{
    struct stream *s = ctx;

    if (!s->card.readable)
        return;
    if (events & EPOLLIN)
        s->card.readable(s->card.ctx, 0);
    if ((events & EPOLLOUT) && s->net.link && flush(s) == 0)
        s->card.writable(s->card.ctx, 0);
    if (events & (EPOLLHUP | EPOLLERR))
        hang_up(s);
    if (!s->net.link && !s->told) {
        s->told = true;
        s->card.link(s->card.ctx, false);
    }
}

static void stream_attach(struct net *n, const struct net_card *card)
{
    stream_of(n)->card = *card;
}

/* The rest of a frame of which `sent` bytes went out. */
static void keep(struct stream *s, const struct iovec *iov, unsigned n, size_t sent)
{
    s->out_at = s->out_len = 0;
    for (unsigned i = 0; i < n; i++) {
        size_t skip = sent < iov[i].iov_len ? sent : iov[i].iov_len, k = iov[i].iov_len - skip;

        memcpy(s->out + s->out_len, (const uint8_t *)iov[i].iov_base + skip, k);
        s->out_len += k;
        sent -= skip;
    }
}

static int stream_send(struct net *n, unsigned pair, struct iovec *iov, unsigned n_iov)
{
    struct stream *s = stream_of(n);
    struct iovec v[NET_IOV_MAX + 2];
    struct csum_head head;
    uint32_t be;

    (void)pair;
    if (!s->net.link)
        return -EPIPE;
    int r = flush(s);
    if (r < 0)
        return r;
    /* The length, the headers with the checksum filled in, and the rest as it lies. */
    int k = csum_finish(iov, n_iov, &head, v + 1);
    if (k < 0)
        return k;
    if (head.frame_len > NET_FRAME_MAX)
        return -EMSGSIZE;
    be = htobe32((uint32_t)head.frame_len);
    v[0] = (struct iovec){&be, sizeof(be)};
    struct msghdr m = {.msg_iov = v, .msg_iovlen = (size_t)k + 1};
    ssize_t sent = sendmsg(s->fd, &m, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent < 0)
        return -errno;
    if ((size_t)sent < head.frame_len + sizeof(be))
        keep(s, v, (unsigned)k + 1, (size_t)sent);
    return 0;
}

/* 1: a whole frame lies at in_at. 0: not yet, and the socket is empty. */
static int fill(struct stream *s, uint32_t *len)
{
    for (;;) {
        uint32_t be = 0;
        size_t have = s->in_len - s->in_at;

        if (have >= LEN_SIZE) {
            memcpy(&be, s->in + s->in_at, sizeof(be));
            *len = be32toh(be);
            if (*len < FRAME_MIN || *len > NET_FRAME_MAX)
                return -EPROTO; /* it is not a frame's length: all is lost behind it */
            if (have - LEN_SIZE >= *len)
                return 1;
        }
        memmove(s->in, s->in + s->in_at, have);
        s->in_at = 0;
        s->in_len = have;
        ssize_t r = recv(s->fd, s->in + have, sizeof(s->in) - have, MSG_DONTWAIT);
        if (r < 0 && errno == EINTR)
            continue;
        if (r <= 0)
            return r == 0 ? -EPIPE : errno == EAGAIN ? 0 : -errno;
        s->in_len += (size_t)r;
    }
}

static int64_t stream_receive(struct net *n, unsigned pair, struct iovec *iov, unsigned n_iov)
{
    static const uint8_t hdr[NET_HDR_LEN];
    struct stream *s = stream_of(n);
    uint32_t len = 0;
    size_t at = 0;

    (void)pair;
    if (!s->net.link)
        return -EPIPE;
    int r = fill(s, &len);
    if (r < 0)
        hang_up(s);
    if (r <= 0)
        return r < 0 ? r : -EAGAIN;
    const uint8_t *from = s->in + s->in_at + LEN_SIZE;
    s->in_at += LEN_SIZE + len;
    for (unsigned i = 0; i < n_iov && at < NET_HDR_LEN + len; i++) {
        uint8_t *to = iov[i].iov_base;
        size_t room = iov[i].iov_len, h = at < NET_HDR_LEN ? NET_HDR_LEN - at : 0;

        h = h < room ? h : room;
        memcpy(to, hdr, h);
        size_t k = NET_HDR_LEN + len - at - h;
        k = k < room - h ? k : room - h;
        if (k > 0)
            memcpy(to + h, from + (at + h - NET_HDR_LEN), k);
        at += h + k;
    }
    return (int64_t)at;
}

static void stream_set_offloads(struct net *n, unsigned offloads)
{
    (void)n;
    (void)offloads; /* frames come finished */
}

static void stream_set_pairs(struct net *n, unsigned pairs)
{
    (void)n;
    (void)pairs;
}

static void stream_close(struct net *n)
{
    struct stream *s = stream_of(n);

    loop_del(s->loop, &s->watch);
    close(s->fd);
    free(s);
}

static const struct net_ops stream_ops = {
    .attach = stream_attach,
    .send = stream_send,
    .receive = stream_receive,
    .set_offloads = stream_set_offloads,
    .set_pairs = stream_set_pairs,
    .close = stream_close,
};

int stream_net(int fd, struct loop *l, struct net **ret, struct err *e)
{
    struct stream *s = calloc(1, sizeof(*s));
    int size = SNDBUF, type = 0;
    socklen_t len = sizeof(type);

    if (!s) {
        close(fd);
        return err_set(e, -ENOMEM, "out of memory");
    }
    s->net = (struct net){.ops = &stream_ops, .pairs = 1, .link = true};
    s->loop = l;
    s->fd = fd;
    s->watch = (struct loop_fd){.fd = fd, .ready = ready, .ctx = s};
    int r = getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len) < 0 ? -errno
            : type != SOCK_STREAM                                ? -EPROTOTYPE
                                                                 : 0;
    if (r < 0) {
        stream_close(&s->net);
        return err_errno(e, r, "network socket");
    }
    (void)setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size)); /* else as it is */
    r = loop_add(l, &s->watch, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, e);
    if (r < 0) {
        stream_close(&s->net);
        return r;
    }
    *ret = &s->net;
    return 0;
}
