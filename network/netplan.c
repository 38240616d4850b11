#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "base/cleanup.h"
#include "network/netconf.h"
#include "network/netsysctl.h"
#include "network/nftrules.h"
#include "network/rtnl.h"
#include "os/hexid.h"

/* Private addresses that others seldom begin with. The default network is a /16, named ones are
 * /24s from the other end. */
enum { POOL_A = 10, DEFAULT_FIRST = 212, DEFAULT_LAST = 222, NAMED_FIRST = 211, NAMED_LAST = 201 };
enum { SUBNET_BITS_MAX4 = 30, SUBNET_BITS_MAX6 = 125 }; /* longer ones hold no two addresses */

struct plan {
    const struct netconf *list;
    size_t n;
    const struct ipaddr *mine; /* compared now */
    struct ipaddr other;       /* that it overlaps */
    bool taken;
};

static void compare(void *ctx, const struct ipaddr *prefix)
{
    struct plan *p = ctx;

    if (p->taken || !ipaddr_overlap(p->mine, prefix))
        return;
    p->taken = true;
    p->other = *prefix;
}

/* `routes`: what the host only has a way to counts as well. */
static int is_taken(struct plan *p, const struct ipaddr *subnet, bool routes, struct err *e)
{
    CLEANUP(rtnl) struct rtnl n = RTNL_NONE;
    int r = rtnl_open(&n, e);

    p->mine = subnet;
    p->taken = false;
    for (size_t i = 0; i < p->n; i++) {
        compare(p, &p->list[i].subnet);
        compare(p, &p->list[i].subnet6);
    }
    if (r == 0 && !p->taken)
        r = rtnl_each_prefix(&n, routes, compare, p, e);
    return r < 0 ? r : p->taken;
}

static int choose4(struct plan *p, const char *name, struct ipaddr *out, struct err *e)
{
    bool usual = strcmp(name, NETCONF_DEFAULT) == 0;
    unsigned first = usual ? DEFAULT_FIRST : NAMED_FIRST, last = usual ? DEFAULT_LAST : NAMED_LAST;

    for (unsigned b = first; b != last; b += usual ? 1 : (unsigned)-1) {
        for (unsigned c = 0; c < (usual ? 1 : 256); c++) {
            struct ipaddr a = {.family = AF_INET,
                               .bits = usual ? 16 : 24,
                               .bytes = {POOL_A, (uint8_t)b, (uint8_t)c}};
            int r = is_taken(p, &a, true, e);

            if (r < 0)
                return r;
            if (r == 0) {
                *out = a;
                return 0;
            }
        }
    }
    return err_set(e, -ENOSPC,
                   "could not find an available, non-overlapping IPv4 address pool "
                   "among the defaults to assign to the network");
}

/* RFC 4193, 3.2: fd, 40 random bits, a subnet. */
static int choose6(struct ipaddr *out, struct err *e)
{
    struct ipaddr a = {.family = AF_INET6, .bits = 64, .bytes = {0xfd}};

    if (getrandom(a.bytes + 1, 5, 0) != 5)
        return err_errno(e, -errno, "getrandom");
    *out = a;
    return 0;
}

static int take_subnets(struct plan *p, const struct netconf_want *w, struct netconf *c,
                        struct err *e)
{
    char text[IPADDR_CIDR_TEXT], other[IPADDR_CIDR_TEXT];

    for (char *const *s = w->subnets; s && *s; s++) {
        struct ipaddr a;
        int r = ipaddr_parse_cidr(*s, &a, e);

        if (r < 0)
            return r;
        struct ipaddr *to = a.family == AF_INET ? &c->subnet : &c->subnet6;
        if (to->family)
            return err_set(e, -EINVAL, "bad subnet %s: a network has one of each family", *s);
        if (a.bits > (a.family == AF_INET ? SUBNET_BITS_MAX4 : SUBNET_BITS_MAX6) || a.bits < 8)
            return err_set(e, -EINVAL, "bad subnet %s: too small or too large", *s);
        *to = ipaddr_network(&a);
        r = is_taken(p, to, false, e);
        if (r != 0)
            return r < 0 ? r
                         : err_set(e, -EADDRINUSE,
                                   "invalid pool request: Pool overlaps with other one on this "
                                   "address space: %s with %s",
                                   ipaddr_cidr(to, text), ipaddr_cidr(&p->other, other));
    }
    return 0;
}

/* Each into the subnet of its family. */
static int take_gateways(const struct netconf_want *w, struct netconf *c, struct err *e)
{
    for (char *const *s = w->gateways; s && *s; s++) {
        struct ipaddr a;
        int r = ipaddr_parse(*s, 0, &a, e);

        if (r < 0)
            return r;
        const struct ipaddr *net = a.family == AF_INET ? &c->subnet : &c->subnet6;
        if (!net->family || !ipaddr_contains(net, &a) || ipaddr_index(net, &a) == 0)
            return err_set(e, -EINVAL, "no matching subnet for gateway %s", *s);
        a.bits = net->bits;
        *(a.family == AF_INET ? &c->gateway : &c->gateway6) = a;
    }
    return 0;
}

static int take_ranges(const struct netconf_want *w, struct netconf *c, struct err *e)
{
    for (char *const *s = w->ranges; s && *s; s++) {
        struct ipaddr a;
        int r = ipaddr_parse_cidr(*s, &a, e);

        if (r < 0)
            return r;
        const struct ipaddr *net = a.family == AF_INET ? &c->subnet : &c->subnet6;
        if (!net->family || !ipaddr_contains(net, &a))
            return err_set(e, -EINVAL, "no matching subnet for range %s", *s);
        *(a.family == AF_INET ? &c->range : &c->range6) = ipaddr_network(&a);
    }
    return 0;
}

static void fill(struct ipaddr *gateway, struct ipaddr *range, const struct ipaddr *subnet)
{
    if (!subnet->family)
        return;
    if (!gateway->family)
        *gateway = ipaddr_nth(subnet, 1);
    if (!range->family)
        *range = *subnet;
}

static int take_options(const struct netconf_want *w, struct netconf *c, struct err *e)
{
    for (char *const *s = w->options; s && *s; s++) {
        const char *value = strchr(*s, '=');
        size_t len = value ? (size_t)(value - *s) : 0;
        char *end;

        /* docker's long name of the same, too */
        if (!((len == 3 && strncmp(*s, "mtu", len) == 0) ||
              (len == 29 && strncmp(*s, "com.docker.network.driver.mtu", len) == 0)))
            return err_set(e, -EINVAL, "unsupported network option '%s': there is mtu=BYTES", *s);
        unsigned long v = strtoul(value + 1, &end, 10);
        unsigned long min = c->subnet6.family ? 1280 : NETCONF_MTU_MIN;
        if (!value[1] || *end || v < min || v > NETCONF_MTU_MAX)
            return err_set(e, -EINVAL, "mtu '%s' is not a number from %lu to %d", value + 1, min,
                           NETCONF_MTU_MAX);
        c->mtu = (unsigned)v;
    }
    return strv_add_all(&c->labels, w->labels);
}

static int take_interface(const struct netconf_want *w, struct plan *p, struct netconf *c,
                          struct err *e)
{
    const char *name = w->interface;

    if (!name) {
        snprintf(c->interface, sizeof(c->interface), NFTRULES_BRIDGE "%.12s", c->id);
        return 0;
    }
    if (strncmp(name, NFTRULES_BRIDGE, strlen(NFTRULES_BRIDGE)) != 0 ||
        strlen(name) >= sizeof(c->interface) || strpbrk(name, "/ :%\"") || strlen(name) < 4)
        return err_set(e, -EINVAL,
                       "interface name '%s': it begins with \"" NFTRULES_BRIDGE
                       "\" and has at most %zu letters",
                       name, sizeof(c->interface) - 1);
    for (size_t i = 0; i < p->n; i++)
        if (strcmp(p->list[i].interface, name) == 0)
            return err_set(e, -EEXIST, "interface name %s is used by network %s", name,
                           p->list[i].name);
    snprintf(c->interface, sizeof(c->interface), "%s", name);
    return 0;
}

static int make_id(struct netconf *c, struct err *e)
{
    struct timespec now;
    int r = hexid(c->id, NETCONF_ID_LEN, e);

    if (r < 0)
        return r;
    clock_gettime(CLOCK_REALTIME, &now);
    c->created_ns = (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
    return 0;
}

static int make(const char *name, const struct netconf_want *w, struct plan *p, struct netconf *c,
                struct err *e)
{
    int r = make_id(c, e);

    snprintf(c->name, sizeof(c->name), "%s", name);
    c->internal = w->internal;
    if (r == 0)
        r = take_interface(w, p, c, e);
    if (r == 0)
        r = take_subnets(p, w, c, e);
    if (r == 0 && !c->subnet.family && !w->no_ipv4)
        r = choose4(p, name, &c->subnet, e);
    /* The default network has what the host has; who asked is told. */
    if (r == 0 && !c->subnet6.family && w->ipv6 && netsysctl_has_ipv6())
        r = choose6(&c->subnet6, e);
    if (r == 0 && !c->subnet.family && !c->subnet6.family)
        r = err_set(e, -EINVAL, "a network needs addresses of one family");
    if (r == 0)
        r = take_gateways(w, c, e);
    if (r == 0)
        r = take_ranges(w, c, e);
    fill(&c->gateway, &c->range, &c->subnet);
    fill(&c->gateway6, &c->range6, &c->subnet6);
    return r < 0 ? r : take_options(w, c, e);
}

int netconf_plan(const char *name, const struct netconf_want *w, const struct netconf *list,
                 size_t n, struct netconf *out, struct err *e)
{
    struct plan p = {.list = list, .n = n};
    struct netconf c = {0};
    int r = w->driver && strcmp(w->driver, "bridge") != 0
                ? err_set(e, -EINVAL, "unsupported driver %s: there is bridge", w->driver)
                : make(name, w, &p, &c, e);

    if (r < 0)
        netconf_done(&c);
    else
        *out = c;
    return r;
}
