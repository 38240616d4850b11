/* What a peer on a stream socket sends, cut anywhere, as frames for a card; and the frames of a
 * guest, whose headers say where a checksum is to be filled in. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "net/csum.h"
#include "net/net.h"
#include "os/loop.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

static void ignore(void *ctx, unsigned pair)
{
    (void)ctx;
    (void)pair;
}

static void ignore_link(void *ctx, bool up)
{
    (void)ctx;
    (void)up;
}

static void take_all(struct net *net)
{
    static uint8_t room[NET_HDR_LEN + NET_FRAME_MAX];
    struct iovec v[] = {{room, 7}, {room + 7, 90}, {room + 97, sizeof(room) - 97}};
    int64_t r;

    while ((r = net->ops->receive(net, 0, v, 3)) > 0)
        assert(r >= NET_HDR_LEN + 14 && r <= (int64_t)sizeof(room));
}

static void from_peer(const uint8_t *p, size_t n, size_t step)
{
    struct net_card card = {.readable = ignore, .writable = ignore, .link = ignore_link};
    struct loop *l = loop_new(NULL, NULL);
    struct net *net = NULL;
    int s[2];

    if (!l || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, s) < 0)
        abort();
    if (stream_net(s[0], l, &net, NULL) < 0)
        abort();
    net->ops->attach(net, &card);
    for (size_t at = 0; at < n && net->link; at += step) {
        size_t k = n - at < step ? n - at : step;

        if (send(s[1], p + at, k, MSG_NOSIGNAL | MSG_DONTWAIT) != (ssize_t)k)
            break;
        take_all(net);
        loop_once(l, 0);
    }
    net->ops->close(net);
    close(s[1]);
    loop_free(l);
}

static void from_guest(const uint8_t *p, size_t n, size_t cut)
{
    struct csum_head *h = malloc(sizeof(*h));
    uint8_t *copy = malloc(n + 1);
    struct iovec in[3], out[4];
    size_t a = cut < n ? cut : n, b = n - a < cut ? n - a : cut, sum = 0;

    if (!h || !copy)
        abort();
    memcpy(copy, p, n);
    in[0] = (struct iovec){copy, a};
    in[1] = (struct iovec){copy + a, b};
    in[2] = (struct iovec){copy + a + b, n - a - b};
    int k = csum_finish(in, 3, h, out);
    assert(k <= 4);
    for (int i = 0; i < k; i++)
        sum += out[i].iov_len;
    assert(k < 0 || sum == n - NET_HDR_LEN);
    assert(memcmp(copy, p, n) == 0); /* the guest's memory is not written */
    free(copy);
    free(h);
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    if (n < 2)
        return 0;
    if (p[0] & 1)
        from_guest(p + 2, n - 2, (size_t)p[1] + 1);
    else
        from_peer(p + 2, n - 2, (size_t)p[1] + 1);
    return 0;
}
