/* Network cards, by rtnetlink(7): all requests for a card go to the kernel in one datagram, which
 * it works through in order. */
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <time.h>

#include <linux/netlink.h>
#include <linux/rtnetlink.h>

#include "agent/pid1.h"
#include "base/cleanup.h"

enum { ASK_MAX = 16 * 1024, ANSWER_MAX = 16 * 1024 };
enum { LINK_PAUSE_NS = 100000, LINK_PAUSES = 2000 };

struct ask {        /* requests, one behind the other */
    int fd, ip;     /* rtnetlink, and any socket */
    uint32_t n;     /* how many: the last one's number */
    size_t len, at; /* at: the last one's start */
    uint8_t b[ASK_MAX] __attribute__((aligned(NLMSG_ALIGNTO)));
};

static void *append(struct ask *a, size_t len)
{
    uint8_t *p = a->b + a->len;

    BUG_ON(NLMSG_ALIGN(len) > sizeof(a->b) - a->len); /* AGENT_..._MAX are far below it */
    memset(p, 0, NLMSG_ALIGN(len));
    a->len += NLMSG_ALIGN(len);
    return p;
}

/* Begin a request; returns its body. */
static void *begin(struct ask *a, uint16_t type, uint16_t flags, size_t body)
{
    a->at = a->len;
    struct nlmsghdr *h = append(a, NLMSG_HDRLEN + body);

    *h = (struct nlmsghdr){.nlmsg_len = (uint32_t)(NLMSG_HDRLEN + body),
                           .nlmsg_type = type,
                           .nlmsg_flags = (uint16_t)(NLM_F_REQUEST | NLM_F_ACK | flags),
                           .nlmsg_seq = ++a->n};
    return NLMSG_DATA(h);
}

static void attribute(struct ask *a, uint16_t type, const void *p, size_t len)
{
    struct rtattr *t = append(a, RTA_LENGTH(len));

    *t = (struct rtattr){.rta_len = (uint16_t)RTA_LENGTH(len), .rta_type = type};
    memcpy(RTA_DATA(t), p, len);
    ((struct nlmsghdr *)(void *)(a->b + a->at))->nlmsg_len = (uint32_t)(a->len - a->at);
}

static size_t address_len(const struct setup_route *r)
{
    return r->family == AF_INET ? 4 : 16;
}

static void ask_link(struct ask *a, int index, const struct setup_net *n)
{
    struct ifinfomsg *i = begin(a, RTM_NEWLINK, 0, sizeof(*i));

    *i = (struct ifinfomsg){.ifi_index = index, .ifi_flags = IFF_UP, .ifi_change = IFF_UP};
    if (n->has_mac)
        attribute(a, IFLA_ADDRESS, n->mac, sizeof(n->mac));
    if (n->mtu)
        attribute(a, IFLA_MTU, &n->mtu, sizeof(n->mtu));
}

static void ask_address(struct ask *a, int index, const struct setup_route *r)
{
    struct ifaddrmsg *m = begin(a, RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE, sizeof(*m));
    bool four = r->family == AF_INET;

    *m = (struct ifaddrmsg){.ifa_family = r->family,
                            .ifa_prefixlen = r->prefix,
                            .ifa_flags = four ? 0 : IFA_F_NODAD,
                            .ifa_scope = RT_SCOPE_UNIVERSE,
                            .ifa_index = (uint32_t)index};
    attribute(a, IFA_LOCAL, r->to, address_len(r));
    attribute(a, IFA_ADDRESS, r->to, address_len(r));
    if (four && r->prefix < 31) {
        uint8_t all[4];

        for (unsigned i = 0; i < 4; i++) {
            unsigned bits = r->prefix > 8 * i ? r->prefix - 8 * i : 0;
            all[i] = (uint8_t)(r->to[i] | (bits >= 8 ? 0 : 0xff >> bits));
        }
        attribute(a, IFA_BROADCAST, all, sizeof(all));
    }
}

static bool has_ipv6(const struct setup_net *n)
{
    for (unsigned i = 0; i < n->n_addrs; i++)
        if (n->addr[i].family == AF_INET6)
            return n->has_mac;
    return false;
}

/* RFC 4291, 2.5.6 and appendix A: fe80::/64 and the hardware's address with ff:fe in its middle. */
static void ask_link_local(struct ask *a, int index, const struct setup_net *n)
{
    const uint8_t *m = n->mac;
    struct setup_route own = {
        .family = AF_INET6,
        .prefix = 64,
        .to = {0xfe, 0x80, [8] = m[0] ^ 2, m[1], m[2], 0xff, 0xfe, m[3], m[4], m[5]}};

    ask_address(a, index, &own);
}

static void ask_route(struct ask *a, int index, const struct setup_route *r)
{
    struct rtmsg *m = begin(a, RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, sizeof(*m));

    *m = (struct rtmsg){.rtm_family = r->family,
                        .rtm_dst_len = r->prefix,
                        .rtm_table = RT_TABLE_MAIN,
                        .rtm_protocol = RTPROT_STATIC,
                        .rtm_scope = r->linked ? RT_SCOPE_LINK : RT_SCOPE_UNIVERSE,
                        .rtm_type = RTN_UNICAST,
                        .rtm_flags = r->linked ? 0 : RTNH_F_ONLINK};
    if (r->prefix > 0)
        attribute(a, RTA_DST, r->to, address_len(r));
    if (!r->linked)
        attribute(a, RTA_GATEWAY, r->via, address_len(r));
    attribute(a, RTA_OIF, &index, sizeof(index));
}

/* Old addresses, and with them their routes. A dump of them comes as requests to remove them are
 * collected. */
static void ask_removal(struct ask *a, const struct nlmsghdr *h, int index)
{
    const struct ifaddrmsg *had = NLMSG_DATA(h);
    size_t left = h->nlmsg_len - NLMSG_LENGTH(sizeof(*had));

    if (had->ifa_index != (uint32_t)index || a->len > sizeof(a->b) / 2)
        return;
    struct ifaddrmsg *m = begin(a, RTM_DELADDR, 0, sizeof(*m));
    *m = *had;
    for (const struct rtattr *t = IFA_RTA(had); RTA_OK(t, left); t = RTA_NEXT(t, left))
        if (t->rta_type == IFA_LOCAL || t->rta_type == IFA_ADDRESS)
            attribute(a, t->rta_type, RTA_DATA(t), RTA_PAYLOAD(t));
}

static int ask_removals(struct ask *a, int index)
{
    struct {
        struct nlmsghdr h;
        struct ifaddrmsg m;
    } dump = {.h = {.nlmsg_len = sizeof(dump),
                    .nlmsg_type = RTM_GETADDR,
                    .nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP}};
    uint8_t b[ANSWER_MAX] __attribute__((aligned(NLMSG_ALIGNTO)));

    if (send(a->fd, &dump, sizeof(dump), 0) < 0)
        return -errno;
    for (;;) {
        ssize_t got = recv(a->fd, b, sizeof(b), 0);
        size_t left = got < 0 ? 0 : (size_t)got;

        if (got < 0)
            return -errno;
        for (struct nlmsghdr *h = (void *)b; NLMSG_OK(h, left); h = NLMSG_NEXT(h, left)) {
            if (h->nlmsg_type == NLMSG_DONE || h->nlmsg_type == NLMSG_ERROR)
                return 0;
            if (h->nlmsg_type == RTM_NEWADDR)
                ask_removal(a, h, index);
        }
    }
}

/* Send what was collected; the first error of any. */
static int answers(struct ask *a)
{
    uint8_t b[ANSWER_MAX] __attribute__((aligned(NLMSG_ALIGNTO)));
    uint32_t seen = 0;
    int r = 0;

    if (send(a->fd, a->b, a->len, 0) < 0)
        return -errno;
    while (seen < a->n) {
        ssize_t got = recv(a->fd, b, sizeof(b), 0);
        size_t left = got < 0 ? 0 : (size_t)got;

        if (got < 0)
            return -errno;
        for (struct nlmsghdr *h = (void *)b; NLMSG_OK(h, left); h = NLMSG_NEXT(h, left)) {
            if (h->nlmsg_type != NLMSG_ERROR)
                continue;
            const struct nlmsgerr *n = NLMSG_DATA(h);
            if (n->error < 0 && r == 0)
                r = n->error;
            seen++;
        }
    }
    a->n = 0;
    a->len = 0;
    return r;
}

/* Addresses are the host's to give: none by router advertisement or from the hardware's, which
 * changes, and no doubt about them. A kernel without IPv6 has no such files. */
static void settle_ipv6(const char *name)
{
    static const struct {
        const char *file, *value;
    } set[] = {
        {"accept_dad", "0"}, {"dad_transmits", "0"}, {"accept_ra", "0"}, {"addr_gen_mode", "1"}};
    char path[96];

    for (size_t i = 0; i < ARRAY_LEN(set); i++) {
        snprintf(path, sizeof(path), "/proc/sys/net/ipv6/conf/%s/%s", name, set[i].file);
        CLEANUP(fd) int fd = open(path, O_WRONLY | O_CLOEXEC);
        if (fd >= 0)
            (void)!write(fd, set[i].value, 1);
    }
}

static void raise_link(int fd, const char *name)
{
    struct ifreq r = {0};

    snprintf(r.ifr_name, sizeof(r.ifr_name), "%s", name);
    if (ioctl(fd, SIOCGIFFLAGS, &r) < 0)
        return;
    r.ifr_flags |= IFF_UP;
    (void)ioctl(fd, SIOCSIFFLAGS, &r);
}

/* Linux calls a card running up to a second after it has a link; the carrier is what counts. */
static bool has_carrier(const char *name)
{
    char path[64], c = 0;

    snprintf(path, sizeof(path), "/sys/class/net/%s/carrier", name);
    CLEANUP(fd) int fd = open(path, O_RDONLY | O_CLOEXEC);
    return fd >= 0 && read(fd, &c, 1) == 1 && c == '1';
}

/* The driver hears of its link beside us, and what is sent before that is lost. A card without one
 * is not waited for long. */
static void await_link(int fd, const char *name)
{
    struct timespec pause = {.tv_nsec = LINK_PAUSE_NS};
    struct ifreq r = {0};

    snprintf(r.ifr_name, sizeof(r.ifr_name), "%s", name);
    for (unsigned i = 0; i < LINK_PAUSES; i++) {
        if (ioctl(fd, SIOCGIFFLAGS, &r) < 0 || (r.ifr_flags & IFF_RUNNING) || has_carrier(name))
            return;
        nanosleep(&pause, NULL);
    }
}

void netconf_early(void)
{
    CLEANUP(fd) int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    struct if_nameindex *all = if_nameindex();

    for (struct if_nameindex *i = all; i && i->if_name; i++) {
        if (strncmp(i->if_name, "eth", 3) != 0)
            continue;
        settle_ipv6(i->if_name);
        raise_link(fd,
                   i->if_name); /* its buffers are made now, and once for all who go on from here */
    }
    if (all)
        if_freenameindex(all);
}

static int apply(struct ask *a, unsigned i, const struct setup_net *n, bool again, struct err *e)
{
    char name[IF_NAMESIZE];

    snprintf(name, sizeof(name), "eth%u", i);
    int index = (int)if_nametoindex(name);
    if (index == 0)
        return err_set(e, -ENODEV, "no network card %s: the kernel has no driver for it", name);
    int r = again && n->n_addrs > 0 ? ask_removals(a, index) : 0;
    if (r == 0) {
        ask_link(a, index, n);
        for (unsigned k = 0; k < n->n_addrs; k++)
            ask_address(a, index, &n->addr[k]);
        if (has_ipv6(n))
            ask_link_local(a, index, n);
        for (unsigned k = 0; k < n->n_routes; k++)
            ask_route(a, index, &n->route[k]);
        r = answers(a);
    }
    if (r == 0)
        await_link(a->ip, name);
    return r < 0 ? err_errno(e, r, "network card %s", name) : 0;
}

int netconf_apply(const struct setup_req *r, bool again, struct err *e)
{
    CLEANUP(fd)
    int fd = r->n_nets ? socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE) : -1;
    CLEANUP(mem) struct ask *a = r->n_nets ? calloc(1, sizeof(*a)) : NULL;
    int rc = 0;

    CLEANUP(fd) int ip = r->n_nets ? socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0) : -1;
    if (r->n_nets > 0 && (fd < 0 || ip < 0 || !a))
        return err_errno(e, fd < 0 ? -errno : -ENOMEM, "network cards");
    for (unsigned i = 0; rc == 0 && i < r->n_nets; i++) {
        a->fd = fd;
        a->ip = ip;
        rc = apply(a, i, &r->net[i], again, e);
    }
    return rc;
}
