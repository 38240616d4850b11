#include "network/rtnl.h"

#include <errno.h>
#include <libmnl/libmnl.h>
#include <linux/rtnetlink.h>
#include <string.h>

enum { DUMP_BUFFER = 32768 }; /* bytes, as rtnetlink(7) asks for */

struct walk {
    void (*each)(void *ctx, const struct ipaddr *prefix);
    void *ctx;
    unsigned out, out_metric; /* interface of the best default route so far; 0 = none */
};

static bool read_address(const struct nlattr *a, uint8_t family, uint8_t bits, struct ipaddr *out)
{
    unsigned len = family == AF_INET ? 4 : 16;

    if (mnl_attr_get_payload_len(a) != len || bits > len * 8)
        return false;
    *out = (struct ipaddr){.family = family, .bits = bits};
    memcpy(out->bytes, mnl_attr_get_payload(a), len);
    return true;
}

static bool known(uint8_t family)
{
    return family == AF_INET || family == AF_INET6;
}

static int read_ifaddr(const struct nlmsghdr *h, void *ctx)
{
    const struct walk *w = ctx;
    const struct ifaddrmsg *m = mnl_nlmsg_get_payload(h);
    const struct nlattr *a;
    struct ipaddr p;

    if (!known(m->ifa_family))
        return MNL_CB_OK;
    mnl_attr_for_each(a, h, sizeof(*m)) if (mnl_attr_get_type(a) == IFA_ADDRESS &&
                                            read_address(a, m->ifa_family, m->ifa_prefixlen, &p))
        w->each(w->ctx, &p);
    return MNL_CB_OK;
}

static int read_route(const struct nlmsghdr *h, void *ctx)
{
    struct walk *w = ctx;
    const struct rtmsg *m = mnl_nlmsg_get_payload(h);
    const struct nlattr *a;
    unsigned out = 0, metric = 0;
    struct ipaddr p = {0};

    if (!known(m->rtm_family) || m->rtm_type != RTN_UNICAST || m->rtm_flags & RTM_F_CLONED)
        return MNL_CB_OK;
    mnl_attr_for_each(a, h, sizeof(*m))
    {
        uint16_t type = mnl_attr_get_type(a);

        if (type == RTA_DST && !read_address(a, m->rtm_family, m->rtm_dst_len, &p))
            p = (struct ipaddr){0};
        if (type == RTA_OIF && mnl_attr_get_payload_len(a) == 4)
            out = mnl_attr_get_u32(a);
        if (type == RTA_PRIORITY && mnl_attr_get_payload_len(a) == 4)
            metric = mnl_attr_get_u32(a);
    }
    if (m->rtm_dst_len > 0 && p.family && w->each)
        w->each(w->ctx, &p);
    if (m->rtm_dst_len == 0 && m->rtm_table == RT_TABLE_MAIN && out &&
        (!w->out || metric < w->out_metric)) {
        w->out = out;
        w->out_metric = metric;
    }
    return MNL_CB_OK;
}

static int dump(struct rtnl *n, uint16_t type, uint8_t family, mnl_cb_t cb, struct walk *w)
{
    char buf[DUMP_BUFFER];
    struct nlmsghdr *h = mnl_nlmsg_put_header(buf);
    struct rtmsg *m = mnl_nlmsg_put_extra_header(h, sizeof(*m)); /* ifaddrmsg begins alike */
    uint32_t seq = ++n->seq;
    int r = 1;

    h->nlmsg_type = type;
    h->nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
    h->nlmsg_seq = seq;
    m->rtm_family = family;
    if (mnl_socket_sendto(n->nl, h, h->nlmsg_len) < 0)
        return -errno;
    while (r > MNL_CB_STOP) {
        ssize_t len = mnl_socket_recvfrom(n->nl, buf, sizeof(buf));

        if (len < 0 && errno == EINTR)
            continue;
        if (len < 0)
            return -errno;
        r = mnl_cb_run(buf, (size_t)len, seq, mnl_socket_get_portid(n->nl), cb, w);
    }
    return r < 0 ? -errno : 0;
}

int rtnl_each_prefix(struct rtnl *n, bool routes,
                     void (*each)(void *ctx, const struct ipaddr *prefix), void *ctx, struct err *e)
{
    struct walk w = {.each = each, .ctx = ctx};
    int r = dump(n, RTM_GETADDR, AF_UNSPEC, read_ifaddr, &w);

    if (r == 0 && routes)
        r = dump(n, RTM_GETROUTE, AF_UNSPEC, read_route, &w);
    return r < 0 ? err_errno(e, r, "addresses and routes of this host") : 0;
}

int rtnl_way_out(struct rtnl *n, uint8_t family, unsigned *index, struct err *e)
{
    struct walk w = {0};
    int r = dump(n, RTM_GETROUTE, family, read_route, &w);

    if (r < 0)
        return err_errno(e, r, "routes of this host");
    *index = w.out;
    return 0;
}
