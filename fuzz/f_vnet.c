/* The network card against a guest made by the fuzzer; frames of any size come at any time. */
#include <assert.h>
#include <errno.h>

#include "dev/virtio/vnet.h"
#include "fuzz/virtio.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

struct wire {
    struct net n;
    struct net_card card;
    int64_t waiting[NET_PAIRS_MAX]; /* bytes of the frame that came; 0 = none */
    int refuse;
};

static void attach(struct net *n, const struct net_card *card)
{
    ((struct wire *)n)->card = *card;
}

static int take(struct net *n, unsigned pair, struct iovec *iov, unsigned n_iov)
{
    static uint8_t copy[NET_HDR_LEN + NET_FRAME_MAX];
    uint64_t len = 0;

    assert(n_iov >= 1 && n_iov <= NET_IOV_MAX && pair < n->pairs);
    for (unsigned i = 0; i < n_iov; i++) {
        assert(iov[i].iov_len <= sizeof(copy) - len);
        memcpy(copy + len, iov[i].iov_base, iov[i].iov_len); /* it must be readable */
        len += iov[i].iov_len;
    }
    return ((struct wire *)n)->refuse;
}

static int64_t give(struct net *n, unsigned pair, struct iovec *iov, unsigned n_iov)
{
    struct wire *w = (struct wire *)n;
    int64_t want = w->waiting[pair], len = 0;

    assert(n_iov >= 1 && n_iov <= NET_IOV_MAX && pair < n->pairs);
    w->waiting[pair] = 0;
    if (want == 0)
        return -EAGAIN;
    for (unsigned i = 0; i < n_iov && len < want; i++) {
        int64_t k = want - len < (int64_t)iov[i].iov_len ? want - len : (int64_t)iov[i].iov_len;

        memset(iov[i].iov_base, 0xa5, (size_t)k);
        len += k;
    }
    return len;
}

static void set(struct net *n, unsigned v)
{
    (void)n;
    (void)v;
}

static void wire_close(struct net *n)
{
    (void)n;
}

static void event(void *ctx, uint8_t arg, uint32_t value)
{
    static const int answers[] = {0, 0, -EAGAIN, -EINVAL};
    struct wire *w = ctx;
    unsigned pair = arg % w->n.pairs;

    w->refuse = answers[arg / 8 % 4];
    switch (arg / 32 % 4) {
    case 0:
        w->waiting[pair] = 1 + value % (NET_HDR_LEN + NET_FRAME_MAX);
        w->card.readable(w->card.ctx, pair);
        break;
    case 1:
        w->waiting[pair] = NET_HDR_LEN + value % 128;
        w->card.readable(w->card.ctx, pair);
        break;
    case 2:
        w->card.writable(w->card.ctx, pair);
        break;
    case 3:
        w->n.link = value % 4 != 0;
        w->card.link(w->card.ctx, w->n.link);
        break;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    static const struct net_ops ops = {.attach = attach,
                                       .send = take,
                                       .receive = give,
                                       .set_offloads = set,
                                       .set_pairs = set,
                                       .close = wire_close};
    unsigned pairs = n > 1 ? 1 + p[n - 1] % NET_PAIRS_MAX : 1;
    struct wire w = {.n = {.ops = &ops, .pairs = pairs, .link = true}};
    struct vnet_conf c = {.mac = {2}, .mtu = 1500, .pairs = pairs, .net = &w.n};

    fz_run(vnet_ops(pairs), vnet_new(&c, NULL), p, n, event, &w);
    return 0;
}
