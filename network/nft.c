#include "network/nft.h"

#include <arpa/inet.h>
#include <errno.h>
#include <libmnl/libmnl.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>

#include "base/cleanup.h"

enum {
    ELEMENT_BYTES = 512,   /* more than a message of one element takes */
    ANSWER_BYTES = 16384,  /* of one read */
    ANSWER_TIMEOUT_S = 10, /* the kernel answers at once; this is against waiting forever */
};

static void nft_socket_close(struct mnl_socket **nl)
{
    if (*nl)
        mnl_socket_close(*nl);
}

static uint8_t *take(struct nft_key *k, unsigned len)
{
    uint8_t *p = k->bytes + k->len;

    BUG_ON(len > NFT_KEY_MAX - k->len);
    k->len += (len + 3) & ~3u;
    return p;
}

void nft_key_bytes(struct nft_key *k, const void *p, unsigned len)
{
    memcpy(take(k, len), p, len);
}

void nft_key_ifname(struct nft_key *k, const char *name)
{
    char text[16] = "";

    snprintf(text, sizeof(text), "%s", name);
    nft_key_bytes(k, text, sizeof(text));
}

void nft_key_proto(struct nft_key *k, uint8_t proto)
{
    *take(k, 1) = proto;
}

void nft_key_port(struct nft_key *k, uint16_t port)
{
    uint16_t be = htons(port);

    nft_key_bytes(k, &be, sizeof(be));
}

static struct nlmsghdr *put_header(char *buf, uint16_t type, uint16_t flags, uint32_t seq,
                                   uint8_t family, uint16_t res_id)
{
    struct nlmsghdr *h = mnl_nlmsg_put_header(buf);
    struct nfgenmsg *g = mnl_nlmsg_put_extra_header(h, sizeof(*g));

    h->nlmsg_type = type;
    h->nlmsg_flags = NLM_F_REQUEST | flags;
    h->nlmsg_seq = seq;
    *g = (struct nfgenmsg){family, NFNETLINK_V0, htons(res_id)};
    return h;
}

static void put_value(struct nlmsghdr *h, uint16_t type, const struct nft_key *k)
{
    struct nlattr *a = mnl_attr_nest_start(h, type);

    mnl_attr_put(h, NFTA_DATA_VALUE, k->len, k->bytes);
    mnl_attr_nest_end(h, a);
}

static struct nlmsghdr *put_element(char *buf, enum nft_what what, const struct nft_element *el,
                                    uint32_t seq)
{
    static const uint8_t families[] = {NFPROTO_IPV4, NFPROTO_IPV6, NFPROTO_BRIDGE};
    uint16_t type = what == NFT_ADD ? NFT_MSG_NEWSETELEM : NFT_MSG_DELSETELEM;
    struct nlmsghdr *h =
        put_header(buf, (uint16_t)(NFNL_SUBSYS_NFTABLES << 8 | type),
                   NLM_F_ACK | (what == NFT_ADD ? NLM_F_CREATE : 0), seq, families[el->family], 0);

    mnl_attr_put_strz(h, NFTA_SET_ELEM_LIST_TABLE, NFT_TABLE);
    mnl_attr_put_strz(h, NFTA_SET_ELEM_LIST_SET, el->set);
    struct nlattr *list = mnl_attr_nest_start(h, NFTA_SET_ELEM_LIST_ELEMENTS);
    struct nlattr *item = mnl_attr_nest_start(h, NFTA_LIST_ELEM);
    put_value(h, NFTA_SET_ELEM_KEY, &el->key);
    if (el->value.len && what == NFT_ADD)
        put_value(h, NFTA_SET_ELEM_DATA, &el->value);
    if (el->flags)
        mnl_attr_put_u32(h, NFTA_SET_ELEM_FLAGS, htonl(el->flags));
    mnl_attr_nest_end(h, item);
    mnl_attr_nest_end(h, list);
    return h;
}

/* Acknowledgements of sequence numbers 1 to n; a refused batch is answered under its beginning's
 * number, 0, alone. The first error counts. */
static int hear(struct mnl_socket *nl, size_t n)
{
    char buf[ANSWER_BYTES];
    size_t heard = 0;
    int result = 0;

    while (heard < n) {
        ssize_t got = mnl_socket_recvfrom(nl, buf, sizeof(buf));
        int len = (int)got;

        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return -errno;
        for (struct nlmsghdr *h = (struct nlmsghdr *)buf; mnl_nlmsg_ok(h, len);
             h = mnl_nlmsg_next(h, &len)) {
            const struct nlmsgerr *m = mnl_nlmsg_get_payload(h);

            if (h->nlmsg_type != NLMSG_ERROR ||
                mnl_nlmsg_get_payload_len(h) < sizeof(struct nlmsgerr))
                continue;
            if (result == 0)
                result = m->error;
            if (h->nlmsg_seq == 0)
                return result;
            heard++;
        }
    }
    return result;
}

static struct mnl_socket *open_socket(void)
{
    struct mnl_socket *nl = mnl_socket_open2(NETLINK_NETFILTER, SOCK_CLOEXEC);
    struct timeval patience = {ANSWER_TIMEOUT_S, 0};
    int big = 1 << 20;

    if (!nl)
        return NULL;
    (void)setsockopt(mnl_socket_get_fd(nl), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
    (void)setsockopt(mnl_socket_get_fd(nl), SOL_SOCKET, SO_SNDBUF, &big, sizeof(big));
    (void)setsockopt(mnl_socket_get_fd(nl), SOL_SOCKET, SO_RCVBUF, &big, sizeof(big));
    if (mnl_socket_bind(nl, 0, MNL_SOCKET_AUTOPID) < 0) {
        int saved = errno;

        mnl_socket_close(nl);
        errno = saved;
        return NULL;
    }
    return nl;
}

static void *close_it(void *nl)
{
    mnl_socket_close(nl);
    return NULL;
}

/* Closing a socket that deleted something waits until no processor can still see it (some ten
 * milliseconds), for nobody's good: a thread of its own does that. */
static void close_later(struct mnl_socket *nl)
{
    pthread_attr_t a;
    pthread_t t;

    if (pthread_attr_init(&a) != 0) {
        mnl_socket_close(nl);
        return;
    }
    (void)pthread_attr_setdetachstate(&a, PTHREAD_CREATE_DETACHED);
    if (pthread_create(&t, &a, close_it, nl) != 0)
        mnl_socket_close(nl);
    pthread_attr_destroy(&a);
}

static int apply(enum nft_what what, const struct nft_element *v, size_t n)
{
    __attribute__((cleanup(nft_socket_close))) struct mnl_socket *nl = open_socket();
    CLEANUP(mem) char *buf = malloc((n + 2) * ELEMENT_BYTES);
    size_t at = 0;

    if (!nl || !buf)
        return -errno;
    at += put_header(buf, NFNL_MSG_BATCH_BEGIN, 0, 0, AF_UNSPEC, NFNL_SUBSYS_NFTABLES)->nlmsg_len;
    for (size_t i = 0; i < n; i++)
        at += put_element(buf + at, what, &v[i], (uint32_t)i + 1)->nlmsg_len;
    at += put_header(buf + at, NFNL_MSG_BATCH_END, 0, (uint32_t)n + 1, AF_UNSPEC,
                     NFNL_SUBSYS_NFTABLES)
              ->nlmsg_len;
    if (mnl_socket_sendto(nl, buf, at) < 0)
        return -errno;
    int r = hear(nl, n);
    if (what == NFT_DELETE)
        close_later(take_ptr(&nl));
    return r;
}

int nft_apply(enum nft_what what, const struct nft_element *v, size_t n, struct err *e)
{
    int r = n ? apply(what, v, n) : 0;

    return r < 0 ? err_errno(e, r, "nftables") : 0;
}

void nft_forget(const struct nft_element *v, size_t n)
{
    if (n == 0 || apply(NFT_DELETE, v, n) == 0)
        return;
    for (size_t i = 0; i < n; i++)
        (void)apply(NFT_DELETE, &v[i], 1);
}
