#include "network/bridge.h"

#include <dirent.h>
#include <errno.h>
#include <linux/netfilter/nf_tables.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "network/netns.h"
#include "network/netsysctl.h"
#include "network/nft.h"
#include "network/nftrules.h"
#include "network/publish.h"
#include "network/rtnl.h"

enum {
    MTU_USUAL = 1500,
    NETWORK_ELEMENTS = 8,
    GUARD_ELEMENTS = 10,
    ENTRY_ELEMENTS = GUARD_ELEMENTS + PUBLISH_ELEMENTS_MAX,
};

/* --- elements */

/* [first, last + 1) of a subnet. */
static size_t put_subnet(const struct ipaddr *net, struct nft_element *v)
{
    static const char set[] = "subnets";
    enum nft_family family = net->family == AF_INET ? NFT_IP : NFT_IP6;
    struct ipaddr end = *net;
    unsigned carry = 1u << (7 - (net->bits + 7u) % 8);

    v[0] = (struct nft_element){.family = family, .set = set};
    nft_key_bytes(&v[0].key, net->bytes, ipaddr_len(net));
    for (unsigned i = (net->bits + 7u) / 8; i-- > 0 && carry; carry >>= 8) {
        carry += end.bytes[i];
        end.bytes[i] = (uint8_t)carry;
    }
    if (carry)
        return 1; /* up to the last address there is */
    v[1] = (struct nft_element){.family = family, .set = set, .flags = NFT_SET_ELEM_INTERVAL_END};
    nft_key_bytes(&v[1].key, end.bytes, ipaddr_len(net));
    return 2;
}

static size_t network_elements(const struct netconf *c, struct nft_element v[NETWORK_ELEMENTS])
{
    size_t n = 0;

    for (enum nft_family f = NFT_IP; f <= NFT_IP6; f++) {
        const struct ipaddr *net = f == NFT_IP ? &c->subnet : &c->subnet6;

        if (f == NFT_IP6 && !netsysctl_has_ipv6())
            continue;
        v[n] = (struct nft_element){.family = f, .set = "same"};
        nft_key_ifname(&v[n].key, c->interface);
        nft_key_ifname(&v[n++].key, c->interface);
        if (c->internal) {
            v[n] = (struct nft_element){.family = f, .set = "internal"};
            nft_key_ifname(&v[n++].key, c->interface);
        } else if (net->family) {
            n += put_subnet(net, v + n);
        }
    }
    return n;
}

static struct nft_element guard(const char *set, const struct leases_entry *en, bool mac,
                                const struct ipaddr *ip)
{
    struct nft_element el = {.family = NFT_BRIDGE, .set = set};

    nft_key_ifname(&el.key, en->interface);
    if (mac)
        nft_key_bytes(&el.key, en->mac, sizeof(en->mac));
    if (ip)
        nft_key_bytes(&el.key, ip->bytes, ipaddr_len(ip));
    return el;
}

/* RFC 4291, 2.5.1 and appendix A. */
static struct ipaddr link_local(const uint8_t m[6])
{
    return (struct ipaddr){.family = AF_INET6,
                           .bits = 64,
                           .bytes = {0xfe, 0x80, 0, 0, 0, 0, 0, 0, m[0] ^ 2, m[1], m[2], 0xff, 0xfe,
                                     m[3], m[4], m[5]}};
}

static size_t guard_elements(const struct leases_entry *en, struct nft_element v[GUARD_ELEMENTS])
{
    /* Duplicate address detection and group reports come from :: (RFC 4862, 5.4.2; RFC 3810,
     * 5.2.13). */
    static const struct ipaddr unspecified = {.family = AF_INET6};
    size_t n = 0;

    v[n++] = guard("macs", en, true, NULL);
    v[n] = guard("same", en, false, NULL);
    nft_key_ifname(&v[n++].key, en->interface);
    if (en->ip.family) {
        v[n++] = guard("arps", en, true, &en->ip);
        v[n++] = guard("ip4s", en, false, &en->ip);
    }
    if (en->ip6.family) {
        struct ipaddr ll = link_local(en->mac);

        v[n++] = guard("ip6s", en, false, &en->ip6);
        v[n++] = guard("ip6s", en, false, &ll);
        v[n++] = guard("ip6s", en, false, &unspecified);
        v[n++] = guard("targets", en, false, &en->ip6);
        v[n++] = guard("targets", en, false, &ll);
    }
    return n;
}

static size_t entry_elements(const struct leases_entry *en, struct nft_element v[ENTRY_ELEMENTS])
{
    size_t n = guard_elements(en, v);

    return n + publish_elements(en->port, en->n_ports, &en->ip, &en->ip6, v + n);
}

/* --- the bridge */

static unsigned wanted_mtu(const struct netconf *c, struct rtnl *n)
{
    unsigned index = 0, same, mtu = 0;
    char name[IF_NAMESIZE];

    if (c->mtu)
        return c->mtu;
    if (rtnl_way_out(n, AF_INET, &index, NULL) < 0 || !index || !if_indextoname(index, name) ||
        rtnl_find(n, name, &same, NULL, &mtu, NULL) < 0)
        return MTU_USUAL;
    return mtu < MTU_USUAL && mtu >= 1280 ? mtu : MTU_USUAL;
}

static int add_network(const struct netconf *c, struct err *e)
{
    struct nft_element v[NETWORK_ELEMENTS];
    size_t n = network_elements(c, v);
    struct err why;
    int r = nft_apply(NFT_ADD, v, n, &why);

    if (r == -ENOENT) {
        r = nftrules_load(e);
        return r < 0 ? r : nft_apply(NFT_ADD, v, n, e);
    }
    return r < 0 ? err_set(e, r, "%s", why.msg) : 0;
}

struct overlap {
    const struct netconf *c;
    struct ipaddr other;
    bool found;
};

static void compare(void *ctx, const struct ipaddr *prefix)
{
    struct overlap *o = ctx;

    if (!ipaddr_overlap(&o->c->subnet, prefix) && !ipaddr_overlap(&o->c->subnet6, prefix))
        return;
    o->found = true;
    o->other = *prefix;
}

/* What was free when the network was made may not be now: then two interfaces would lead to one
 * subnet, and answers get lost. */
static int check_free(const struct netconf *c, struct rtnl *n, struct err *e)
{
    struct overlap o = {.c = c};
    char text[IPADDR_CIDR_TEXT];
    int r = rtnl_each_prefix(n, false, compare, &o, e);

    return r == 0 && o.found
               ? err_set(e, -ENOTUNIQ, "its subnet overlaps %s, which this host has by now",
                         ipaddr_cidr(&o.other, text))
               : r;
}

static bool has_ports(const char *bridge)
{
    char path[64];

    snprintf(path, sizeof(path), "/sys/class/net/%s/brif", bridge);
    CLEANUP(dir) DIR *d = opendir(path);
    struct dirent *de;

    while (d && (de = readdir(d)))
        if (de->d_name[0] != '.')
            return true;
    return !d; /* who cannot look does not remove */
}

/* Bridges without a port, of whatever store: one that waits for its minder's end will be made again
 * when it is wanted; one whose minder was killed with its store has nobody else. Nobody is just
 * making one, since the host's lock is ours. */
static void sweep(struct rtnl *n)
{
    struct if_nameindex *all = if_nameindex();

    for (struct if_nameindex *i = all; i && i->if_name; i++)
        if (strncmp(i->if_name, NFTRULES_BRIDGE, strlen(NFTRULES_BRIDGE)) == 0 &&
            !has_ports(i->if_name))
            (void)rtnl_delete(n, i->if_name, NULL);
    if (all)
        if_freenameindex(all);
}

static int set_up(const struct netconf *c, struct rtnl *n, struct err *e)
{
    unsigned index = 0;
    uint8_t mac[6];
    int r;

    sweep(n);
    r = check_free(c, n, e);
    if (r < 0)
        return r;
    leases_mac(c->gateway.family ? &c->gateway : &c->gateway6, mac);
    mac[0] ^= 0x08; /* not what a container with that address elsewhere has */
    r = rtnl_bridge(n, c->interface, mac, wanted_mtu(c, n), &index, e);
    if (r == 0)
        r = netsysctl_bridge(c->interface, c->subnet6.family != 0, e);
    if (r == 0 && c->gateway.family)
        r = rtnl_address(n, index, &c->gateway, e);
    if (r == 0 && c->gateway6.family) {
        struct ipaddr ll = link_local(mac);

        /* Who asks for a neighbour on behalf of others does so from this one (RFC 4861, 7.2.2). */
        r = rtnl_address(n, index, &ll, e);
        if (r == 0)
            r = rtnl_address(n, index, &c->gateway6, e);
    }
    if (r == 0)
        r = add_network(c, e);
    if (r == 0 && !c->internal)
        r = netsysctl_forward(c->subnet6.family != 0, e);
    /* Up is the sign that it is whole. */
    return r < 0 ? r : rtnl_up(n, index, e);
}

int bridge_up(const struct netconf *c, struct err *e)
{
    CLEANUP(rtnl) struct rtnl n = RTNL_NONE;
    unsigned index, flags;
    int r = rtnl_open(&n, e);

    if (r < 0)
        return r;
    r = rtnl_find(&n, c->interface, &index, &flags, NULL, NULL);
    if (r == 0 && flags & IFF_UP)
        return 0;
    if (r == 0)
        r = rtnl_delete(&n, c->interface, e);
    if (r < 0 && r != -ENODEV)
        return r;
    r = set_up(c, &n, e);
    if (r < 0) {
        bridge_down(c);
        return err_wrap(e, r, "network %s", c->name);
    }
    return 0;
}

static bool any_bridge(void)
{
    struct if_nameindex *all = if_nameindex();
    bool found = !all; /* who cannot look does not remove */

    for (struct if_nameindex *i = all; i && i->if_name && !found; i++)
        found = strncmp(i->if_name, NFTRULES_BRIDGE, strlen(NFTRULES_BRIDGE)) == 0;
    if (all)
        if_freenameindex(all);
    return found;
}

void bridge_down(const struct netconf *c)
{
    CLEANUP(rtnl) struct rtnl n = RTNL_NONE;
    struct nft_element v[NETWORK_ELEMENTS];

    if (rtnl_open(&n, NULL) == 0)
        (void)rtnl_delete(&n, c->interface, NULL);
    if (any_bridge())
        nft_forget(v, network_elements(c, v));
    else
        nftrules_unload();
}

unsigned bridge_mtu(const struct netconf *c)
{
    CLEANUP(rtnl) struct rtnl n = RTNL_NONE;
    unsigned index, mtu = 0;

    if (rtnl_open(&n, NULL) < 0 || rtnl_find(&n, c->interface, &index, NULL, &mtu, NULL) < 0)
        return MTU_USUAL;
    return mtu;
}

/* --- ports of it */

static unsigned hex_digit(char c)
{
    return c <= '9' ? (unsigned)c & 15 : ((unsigned)c & 15) + 9;
}

/* Two ids, both random: their difference is as good a name as each. */
void bridge_port_name(const struct netconf *c, const char *id, bool machine, char name[16])
{
    uint64_t both = 0;

    for (unsigned i = 0; i < 12 && id[i] && c->id[i]; i++)
        both = both << 4 | (hex_digit(id[i]) ^ hex_digit(c->id[i]));
    snprintf(name, 16, "%s%012llx", machine ? NFTRULES_TAP : NFTRULES_PAIR,
             (unsigned long long)(both & 0xffffffffffffull));
}

int bridge_admit(const struct netconf *c, const struct leases_entry *en, struct err *e)
{
    struct nft_element v[ENTRY_ELEMENTS];
    int r = nft_apply(NFT_ADD, v, entry_elements(en, v), e);

    if (r == -EBUSY || r == -EEXIST)
        return err_set(e, -EADDRINUSE, "network %s: a published port: address already in use",
                       c->name);
    return r < 0 ? err_wrap(e, r, "network %s", c->name) : 0;
}

static int set_up_inside(const struct netconf *c, const struct leases_entry *en, const char *peer,
                         bool way_out, struct err *e)
{
    CLEANUP(rtnl) struct rtnl n = RTNL_NONE;
    unsigned index = 0;
    int r = rtnl_open(&n, e);

    if (r == 0)
        r = rtnl_find(&n, peer, &index, NULL, NULL, e);
    if (r == 0)
        r = rtnl_up(&n, index, e);
    if (r == 0 && en->ip.family)
        r = rtnl_address(&n, index, &en->ip, e);
    if (r == 0 && en->ip6.family)
        r = rtnl_address(&n, index, &en->ip6, e);
    if (r == 0 && way_out && en->ip.family && !c->internal)
        r = rtnl_default_route(&n, index, &c->gateway, e);
    if (r == 0 && way_out && en->ip6.family && !c->internal)
        r = rtnl_default_route(&n, index, &c->gateway6, e);
    return r;
}

int bridge_plug(const struct netconf *c, const struct leases_entry *en, int netns, const char *peer,
                bool way_out, struct err *e)
{
    CLEANUP(rtnl) struct rtnl n = RTNL_NONE;
    struct rtnl_veth v = {.name = en->interface, .netns = netns, .peer = peer, .mac = en->mac};
    int back, r = rtnl_open(&n, e);

    if (r == 0)
        r = rtnl_find(&n, c->interface, &v.master, NULL, &v.mtu, e);
    if (r == 0)
        r = rtnl_veth(&n, &v, e);
    if (r == 0)
        r = netns_enter(netns, &back, e);
    if (r == 0) {
        r = set_up_inside(c, en, peer, way_out, e);
        netns_leave(&back);
    }
    return r < 0 ? err_wrap(e, r, "network %s", c->name) : 0;
}

int bridge_plug_tap(const struct netconf *c, const struct leases_entry *en, struct err *e)
{
    CLEANUP(rtnl) struct rtnl n = RTNL_NONE;
    unsigned master = 0, index = 0, mtu = 0;
    int r = rtnl_open(&n, e);

    if (r == 0)
        r = rtnl_find(&n, c->interface, &master, NULL, &mtu, e);
    if (r == 0)
        r = rtnl_find(&n, en->interface, &index, NULL, NULL, e);
    if (r == 0)
        r = rtnl_enslave(&n, index, master, mtu, e);
    return r < 0 ? err_wrap(e, r, "network %s", c->name) : 0;
}

void bridge_unpublish(const struct leases_entry *en)
{
    struct nft_element v[PUBLISH_ELEMENTS_MAX];

    nft_forget(v, publish_elements(en->port, en->n_ports, &en->ip, &en->ip6, v));
}

void bridge_forbid(const struct leases_entry *en)
{
    struct nft_element v[ENTRY_ELEMENTS];

    nft_forget(v, entry_elements(en, v));
}

void bridge_unplug(const struct leases_entry *en)
{
    CLEANUP(rtnl) struct rtnl n = RTNL_NONE;

    if (en->interface[0] && rtnl_open(&n, NULL) == 0)
        (void)rtnl_delete(&n, en->interface, NULL);
}
