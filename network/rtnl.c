#include "network/rtnl.h"

#include <errno.h>
#include <libmnl/libmnl.h>
#include <linux/if.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <linux/veth.h>
#include <string.h>
#include <sys/socket.h>

#include "base/cleanup.h"

enum { BUFFER = 8192, DUMP_BUFFER = 32768 }; /* bytes; rtnetlink(7) asks for 32 KiB of a dump */

int rtnl_open(struct rtnl *n, struct err *e)
{
    struct mnl_socket *nl = mnl_socket_open2(NETLINK_ROUTE, SOCK_CLOEXEC);

    if (!nl || mnl_socket_bind(nl, 0, MNL_SOCKET_AUTOPID) < 0) {
        int r = err_errno(e, -errno, "rtnetlink");

        if (nl)
            mnl_socket_close(nl);
        return r;
    }
    *n = (struct rtnl){.nl = nl};
    return 0;
}

void rtnl_close(struct rtnl *n)
{
    if (n->nl)
        mnl_socket_close(n->nl);
    n->nl = NULL;
}

/* The answers to one request. -errno of the kernel. */
static int talk(struct rtnl *n, struct nlmsghdr *h, mnl_cb_t cb, void *ctx)
{
    char buf[DUMP_BUFFER];
    ssize_t len;
    int r = 1;

    h->nlmsg_seq = ++n->seq;
    if (mnl_socket_sendto(n->nl, h, h->nlmsg_len) < 0)
        return -errno;
    while (r > MNL_CB_STOP) {
        len = mnl_socket_recvfrom(n->nl, buf, sizeof(buf));
        if (len < 0 && errno == EINTR)
            continue;
        if (len < 0)
            return -errno;
        r = mnl_cb_run(buf, (size_t)len, n->seq, mnl_socket_get_portid(n->nl), cb, ctx);
    }
    return r < 0 ? -errno : 0;
}

static struct nlmsghdr *begin(char *buf, uint16_t type, uint16_t flags)
{
    struct nlmsghdr *h = mnl_nlmsg_put_header(buf);

    h->nlmsg_type = type;
    h->nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK | flags;
    return h;
}

static struct nlmsghdr *begin_link(char *buf, uint16_t type, uint16_t flags, unsigned index,
                                   unsigned up)
{
    struct nlmsghdr *h = begin(buf, type, flags);
    struct ifinfomsg *i = mnl_nlmsg_put_extra_header(h, sizeof(*i));

    i->ifi_index = (int)index;
    i->ifi_flags = up;
    i->ifi_change = up;
    return h;
}

/* A link that is only a way for others' frames makes no address of its own and says nothing. The
 * kernel takes this of a link that exists and is still down. Without IPv6 there is nothing to do.
 */
static int quiet(struct rtnl *n, unsigned index)
{
    char buf[BUFFER];
    struct nlmsghdr *h = begin_link(buf, RTM_NEWLINK, 0, index, 0);
    struct nlattr *spec = mnl_attr_nest_start(h, IFLA_AF_SPEC);
    struct nlattr *inet6 = mnl_attr_nest_start(h, AF_INET6);

    mnl_attr_put_u8(h, IFLA_INET6_ADDR_GEN_MODE, IN6_ADDR_GEN_MODE_NONE);
    mnl_attr_nest_end(h, inet6);
    mnl_attr_nest_end(h, spec);
    int r = talk(n, h, NULL, NULL);
    return r == -EAFNOSUPPORT ? 0 : r;
}

int rtnl_bridge(struct rtnl *n, const char *name, const uint8_t mac[6], unsigned mtu,
                unsigned *index, struct err *e)
{
    char buf[BUFFER];
    struct nlmsghdr *h = begin_link(buf, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, 0, 0);

    mnl_attr_put_strz(h, IFLA_IFNAME, name);
    mnl_attr_put(h, IFLA_ADDRESS, 6, mac);
    mnl_attr_put_u32(h, IFLA_MTU, mtu);
    struct nlattr *info = mnl_attr_nest_start(h, IFLA_LINKINFO);
    mnl_attr_put_str(h, IFLA_INFO_KIND, "bridge");
    struct nlattr *data = mnl_attr_nest_start(h, IFLA_INFO_DATA);
    mnl_attr_put_u32(h, IFLA_BR_STP_STATE, 0);
    mnl_attr_put_u32(h, IFLA_BR_FORWARD_DELAY, 0);
    mnl_attr_nest_end(h, data);
    mnl_attr_nest_end(h, info);
    int r = talk(n, h, NULL, NULL);
    if (r < 0)
        return err_errno(e, r, "make bridge %s", name);
    r = rtnl_find(n, name, index, NULL, NULL, e);
    if (r < 0)
        return r;
    r = quiet(n, *index);
    return r < 0 ? err_errno(e, r, "bridge %s", name) : 0;
}

int rtnl_veth(struct rtnl *n, const struct rtnl_veth *v, struct err *e)
{
    char buf[BUFFER];
    struct nlmsghdr *h = begin_link(buf, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, 0, 0);

    mnl_attr_put_strz(h, IFLA_IFNAME, v->name);
    mnl_attr_put_u32(h, IFLA_MTU, v->mtu);
    struct nlattr *info = mnl_attr_nest_start(h, IFLA_LINKINFO);
    mnl_attr_put_str(h, IFLA_INFO_KIND, "veth");
    struct nlattr *data = mnl_attr_nest_start(h, IFLA_INFO_DATA);
    struct nlattr *peer = mnl_attr_nest_start(h, VETH_INFO_PEER);
    mnl_nlmsg_put_extra_header(h, sizeof(struct ifinfomsg));
    mnl_attr_put_strz(h, IFLA_IFNAME, v->peer);
    mnl_attr_put(h, IFLA_ADDRESS, 6, v->mac);
    mnl_attr_put_u32(h, IFLA_MTU, v->mtu);
    mnl_attr_put_u32(h, IFLA_NET_NS_FD, (uint32_t)v->netns);
    mnl_attr_nest_end(h, peer);
    mnl_attr_nest_end(h, data);
    mnl_attr_nest_end(h, info);
    unsigned index = 0;
    int r = talk(n, h, NULL, NULL);
    if (r < 0)
        return err_errno(e, r, "make interface %s", v->name);
    r = rtnl_find(n, v->name, &index, NULL, NULL, e);
    return r < 0 ? r : rtnl_enslave(n, index, v->master, v->mtu, e);
}

/* Frames may go back where they came from: a container at a port of its own that is published, on
 * hosts whose bridges show their frames to the IP layer (bridge-nf-call-iptables). */
static int reflect(struct rtnl *n, unsigned index)
{
    char buf[BUFFER];
    struct nlmsghdr *h = begin(buf, RTM_SETLINK, 0);
    struct ifinfomsg *i = mnl_nlmsg_put_extra_header(h, sizeof(*i));

    i->ifi_family = AF_BRIDGE;
    i->ifi_index = (int)index;
    struct nlattr *port = mnl_attr_nest_start(h, IFLA_PROTINFO);
    mnl_attr_put_u8(h, IFLA_BRPORT_MODE, 1);
    mnl_attr_nest_end(h, port);
    return talk(n, h, NULL, NULL);
}

int rtnl_enslave(struct rtnl *n, unsigned index, unsigned master, unsigned mtu, struct err *e)
{
    char buf[BUFFER];
    int r = quiet(n, index);

    if (r == 0) {
        struct nlmsghdr *h = begin_link(buf, RTM_NEWLINK, 0, index, IFF_UP);

        mnl_attr_put_u32(h, IFLA_MTU, mtu);
        mnl_attr_put_u32(h, IFLA_MASTER, master);
        r = talk(n, h, NULL, NULL);
    }
    if (r == 0)
        r = reflect(n, index);
    return r < 0 ? err_errno(e, r, "connect an interface with the bridge") : 0;
}

int rtnl_up(struct rtnl *n, unsigned index, struct err *e)
{
    char buf[BUFFER];
    int r = talk(n, begin_link(buf, RTM_NEWLINK, 0, index, IFF_UP), NULL, NULL);

    return r < 0 ? err_errno(e, r, "bring an interface up") : 0;
}

int rtnl_delete(struct rtnl *n, const char *name, struct err *e)
{
    char buf[BUFFER];
    struct nlmsghdr *h = begin_link(buf, RTM_DELLINK, 0, 0, 0);

    mnl_attr_put_strz(h, IFLA_IFNAME, name);
    int r = talk(n, h, NULL, NULL);
    return r < 0 && r != -ENODEV ? err_errno(e, r, "remove interface %s", name) : 0;
}

struct link {
    unsigned index, flags, mtu;
};

static int read_link(const struct nlmsghdr *h, void *ctx)
{
    struct link *l = ctx;
    const struct ifinfomsg *i = mnl_nlmsg_get_payload(h);
    const struct nlattr *a;

    l->index = (unsigned)i->ifi_index;
    l->flags = i->ifi_flags;
    mnl_attr_for_each(a, h, sizeof(*i)) if (mnl_attr_get_type(a) == IFLA_MTU &&
                                            mnl_attr_get_payload_len(a) >= 4) l->mtu =
        mnl_attr_get_u32(a);
    return MNL_CB_OK;
}

int rtnl_find(struct rtnl *n, const char *name, unsigned *index, unsigned *flags, unsigned *mtu,
              struct err *e)
{
    char buf[BUFFER];
    struct link l = {0};
    struct nlmsghdr *h = begin_link(buf, RTM_GETLINK, 0, 0, 0);

    mnl_attr_put_strz(h, IFLA_IFNAME, name);
    int r = talk(n, h, read_link, &l);
    if (r < 0)
        return err_errno(e, r, "interface %s", name);
    *index = l.index;
    if (flags)
        *flags = l.flags;
    if (mtu)
        *mtu = l.mtu;
    return 0;
}

int rtnl_address(struct rtnl *n, unsigned index, const struct ipaddr *a, struct err *e)
{
    char buf[BUFFER], text[IPADDR_CIDR_TEXT];
    struct nlmsghdr *h = begin(buf, RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL);
    struct ifaddrmsg *m = mnl_nlmsg_put_extra_header(h, sizeof(*m));
    unsigned len = ipaddr_len(a);

    m->ifa_family = a->family;
    m->ifa_prefixlen = a->bits;
    m->ifa_scope = RT_SCOPE_UNIVERSE;
    m->ifa_index = index;
    mnl_attr_put(h, IFA_LOCAL, len, a->bytes);
    mnl_attr_put(h, IFA_ADDRESS, len, a->bytes);
    if (a->family == AF_INET6)
        mnl_attr_put_u32(h, IFA_FLAGS, IFA_F_NODAD | IFA_F_PERMANENT);
    if (a->family == AF_INET && a->bits < 31) {
        struct ipaddr all = ipaddr_nth(a, ipaddr_count(a) - 1);

        mnl_attr_put(h, IFA_BROADCAST, len, all.bytes);
    }
    int r = talk(n, h, NULL, NULL);
    return r < 0 && r != -EEXIST ? err_errno(e, r, "address %s", ipaddr_cidr(a, text)) : 0;
}

int rtnl_default_route(struct rtnl *n, unsigned index, const struct ipaddr *gateway, struct err *e)
{
    char buf[BUFFER], text[IPADDR_TEXT];
    struct nlmsghdr *h = begin(buf, RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL);
    struct rtmsg *m = mnl_nlmsg_put_extra_header(h, sizeof(*m));

    m->rtm_family = gateway->family;
    m->rtm_table = RT_TABLE_MAIN;
    m->rtm_protocol = RTPROT_BOOT;
    m->rtm_scope = RT_SCOPE_UNIVERSE;
    m->rtm_type = RTN_UNICAST;
    mnl_attr_put(h, RTA_GATEWAY, ipaddr_len(gateway), gateway->bytes);
    mnl_attr_put_u32(h, RTA_OIF, index);
    int r = talk(n, h, NULL, NULL);
    return r < 0 && r != -EEXIST ? err_errno(e, r, "route over %s", ipaddr_text(gateway, text)) : 0;
}
