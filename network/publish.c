#include "network/publish.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "base/cleanup.h"
#include "network/netsysctl.h"

enum { FREE_TRIES = 16 }; /* for a port that is free in both families */

union address {
    struct sockaddr any;
    struct sockaddr_in in;
    struct sockaddr_in6 in6;
};

static socklen_t fill(union address *a, const struct ipaddr *ip, uint16_t port)
{
    memset(a, 0, sizeof(*a));
    if (ip->family == AF_INET) {
        a->in.sin_family = AF_INET;
        a->in.sin_port = htons(port);
        memcpy(&a->in.sin_addr, ip->bytes, 4);
        return sizeof(a->in);
    }
    a->in6.sin6_family = AF_INET6;
    a->in6.sin6_port = htons(port);
    memcpy(&a->in6.sin6_addr, ip->bytes, 16);
    return sizeof(a->in6);
}

/* Connections of an earlier listener that linger in TIME_WAIT must not count, a listener must, and
 * the next one who tries must meet ours although it does not listen: SO_REUSEADDR for the bind, a
 * moment's listen(2) to have the kernel compare strictly, then neither. */
static int hold_tcp(int fd)
{
    int no = 0;

    if (listen(fd, 1) < 0 || shutdown(fd, SHUT_RD) < 0)
        return -errno;
    return setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &no, sizeof(no)) < 0 ? -errno : 0;
}

/* The socket, or -errno. *port 0: any free one, filled in. */
static int bind_one(const struct ipaddr *ip, bool udp, uint16_t *port)
{
    CLEANUP(fd) int fd = socket(ip->family, (udp ? SOCK_DGRAM : SOCK_STREAM) | SOCK_CLOEXEC, 0);
    union address a;
    socklen_t len = fill(&a, ip, *port);
    int yes = 1;

    if (fd < 0)
        return -errno;
    if (ip->family == AF_INET6)
        (void)setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &yes, sizeof(yes));
    if (!udp)
        (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes));
    if (bind(fd, &a.any, len) < 0)
        return -errno;
    int r = udp ? 0 : hold_tcp(fd);
    if (r == 0 && getsockname(fd, &a.any, &len) < 0)
        r = -errno;
    if (r < 0)
        return r;
    *port = ntohs(ip->family == AF_INET ? a.in.sin_port : a.in6.sin6_port);
    return take_fd(&fd);
}

/* On all addresses: both families, under one number. */
static int bind_all(bool udp, uint16_t *port, int fd[2])
{
    static const struct ipaddr any4 = {.family = AF_INET}, any6 = {.family = AF_INET6};
    bool two = netsysctl_has_ipv6();
    int r = -EADDRINUSE;

    for (unsigned i = 0; i < (*port ? 1 : FREE_TRIES) && r == -EADDRINUSE; i++) {
        uint16_t n = *port;
        CLEANUP(fd) int a = bind_one(&any4, udp, &n);
        CLEANUP(fd) int b = a >= 0 && two ? bind_one(&any6, udp, &n) : -1;

        r = a < 0 ? a : two && b < 0 ? b : 0;
        if (r < 0)
            continue;
        *port = n;
        fd[0] = take_fd(&a);
        fd[1] = take_fd(&b);
    }
    return r;
}

static int hold_port(struct network_port *p, int fd[2], struct err *e)
{
    struct ipaddr ip;
    int r;

    fd[0] = fd[1] = -1;
    if (!p->host_ip[0]) {
        r = bind_all(p->udp, &p->host_port, fd);
    } else {
        r = ipaddr_parse(p->host_ip, 0, &ip, e);
        if (r < 0)
            return r;
        fd[0] = bind_one(&ip, p->udp, &p->host_port);
        r = fd[0] < 0 ? fd[0] : 0;
    }
    if (r == 0)
        return 0;
    const char *colon = strchr(p->host_ip, ':') ? "[" : "";
    return err_set(e, r, "failed to bind host port %s%s%s:%u/%s: %s", colon,
                   p->host_ip[0] ? p->host_ip : "0.0.0.0", colon[0] ? "]" : "", p->host_port,
                   p->udp ? "udp" : "tcp",
                   r == -EADDRINUSE      ? "address already in use"
                   : r == -EADDRNOTAVAIL ? "cannot assign requested address"
                                         : strerror(-r));
}

int publish_hold(const struct network_want *w, struct network_lease *l, struct err *e)
{
    if (w->n_ports > NETWORK_PORTS_MAX)
        return err_set(e, -EINVAL, "%zu published ports: at most %d", w->n_ports,
                       NETWORK_PORTS_MAX);
    for (size_t i = 0; i < w->n_ports; i++) {
        struct network_port p = w->ports[i];
        int fd[2], r = hold_port(&p, fd, e);

        if (r < 0)
            return r;
        l->port[l->n_ports++] = p;
        for (unsigned k = 0; k < 2; k++)
            if (fd[k] >= 0)
                l->hold[l->n_hold++] = fd[k];
    }
    return 0;
}

static struct nft_element translate(const struct network_port *p, const struct ipaddr *on,
                                    const struct ipaddr *to)
{
    struct nft_element el = {
        .family = to->family == AF_INET ? NFT_IP : NFT_IP6,
        .set = on ? "ports_on" : "ports",
    };

    if (on)
        nft_key_bytes(&el.key, on->bytes, ipaddr_len(on));
    nft_key_proto(&el.key, p->udp ? IPPROTO_UDP : IPPROTO_TCP);
    nft_key_port(&el.key, p->host_port);
    nft_key_bytes(&el.value, to->bytes, ipaddr_len(to));
    nft_key_port(&el.value, p->ctr_port);
    return el;
}

size_t publish_elements(const struct network_port *port, unsigned n, const struct ipaddr *ip,
                        const struct ipaddr *ip6, struct nft_element v[PUBLISH_ELEMENTS_MAX])
{
    size_t count = 0;

    for (unsigned i = 0; i < n && i < NETWORK_PORTS_MAX; i++) {
        struct ipaddr on = {0};

        if (port[i].host_ip[0] && ipaddr_parse(port[i].host_ip, 0, &on, NULL) < 0)
            continue;
        for (unsigned k = 0; k < 2; k++) {
            const struct ipaddr *to = k == 0 ? ip : ip6;

            if (to->family && (!on.family || on.family == to->family))
                v[count++] = translate(&port[i], on.family ? &on : NULL, to);
        }
    }
    return count;
}
