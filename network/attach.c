#include <errno.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "net/net.h"
#include "network/endpoint.h"
#include "network/etcfiles.h"
#include "network/netprog.h"
#include "network/netconf.h"
#include "network/netlock.h"
#include "network/netns.h"
#include "network/network.h"
#include "network/usernet.h"

static int need_root(const struct network_want *w, struct err *e)
{
    return geteuid() == 0
               ? 0
               : err_set(e, -EPERM, "network %s needs root; without: --network user, none or host",
                         w->network);
}

static int no_ports(const struct network_want *w, struct err *e)
{
    return w->n_ports == 0
               ? 0
               : err_set(e, -EINVAL, "conflicting options: port publishing and the network %s",
                         w->network);
}

static int attach_none(const struct network_want *w, struct network_lease *l, struct err *e)
{
    l->kind = NETWORK_NOTHING;
    return etcfiles_make(w, NULL, l, e);
}

static int attach_host(const struct network_want *w, struct network_lease *l, struct err *e)
{
    if (w->machine)
        return err_set(e, -EOPNOTSUPP,
                       "network host: a machine has a network stack of its own; use "
                       "--isolation=process, or --network user with -p");
    /* docker takes and ignores -p here */
    l->kind = NETWORK_HOST;
    return etcfiles_make(w, NULL, l, e);
}

static int note(const struct network_want *w, struct network_lease *l, struct err *e)
{
    CLEANUP(netlock) struct netlock lock = NETLOCK_NONE;
    int r = netlock_take(w->store, &lock, e);

    return r < 0 ? r : endpoint_note_helper(&lock, w, l, e);
}

static int attach_user(const struct network_want *w, struct network_lease *l, struct err *e)
{
    static const char *const servers[] = {USERNET_DNS, NULL};
    int r = usernet_lease(w, l, e);

    l->kind = w->machine ? NETWORK_STREAM : NETWORK_PLUG;
    if (r == 0)
        r = etcfiles_make(w, w->dns && w->dns[0] ? NULL : servers, l, e);
    if (r < 0 || !w->machine)
        return r;
    r = usernet_stream(l, e);
    return r < 0 ? r : note(w, l, e);
}

/* A machine does not share a network stack, which is a kernel's; but passt inside that namespace
 * speaks with its addresses and ports. */
static int attach_namespace(const struct network_want *w, int fd, struct network_lease *l,
                            struct err *e)
{
    CLEANUP(fd) int ns = fd;
    int back, r;

    if (ns < 0)
        return ns;
    if (w->machine) {
        r = netns_enter(ns, &back, e);
        if (r < 0)
            return r;
        r = attach_user(w, l, e);
        netns_leave(&back);
        return r;
    }
    r = no_ports(w, e);
    if (r == 0)
        r = etcfiles_make(w, NULL, l, e);
    if (r < 0)
        return r;
    l->kind = NETWORK_NETNS;
    l->fd[0] = take_fd(&ns);
    l->n_fds = 1;
    return 0;
}

static int attach_container(const struct network_want *w, struct network_lease *l, struct err *e)
{
    if (w->join_pid <= 0)
        return err_set(e, -ENOENT, "cannot join network of a non running container: %s",
                       strchr(w->network, ':') + 1);
    return attach_namespace(w, netns_of(w->join_pid, e), l, e);
}

/* "ADDRESS/BITS" for the guest, of either family. */
static int guest_address(const char *text, uint8_t family, char *to, size_t size, unsigned *prefix,
                         struct err *e)
{
    char buf[IPADDR_TEXT];
    struct ipaddr a;
    int r = ipaddr_parse_cidr(text, &a, e);

    if (r < 0 || a.family != family)
        return r < 0 ? r : err_set(e, -EINVAL, "'%s' is of the other family", text);
    snprintf(to, size, "%s", ipaddr_text(&a, buf));
    *prefix = a.bits;
    return 0;
}

static int attach_tap(const struct network_want *w, struct network_lease *l, struct err *e)
{
    static const struct ipaddr no_address = {.family = AF_INET};
    const char *dev = strchr(w->network, ':') + 1;
    unsigned pairs = w->queues == 0 ? 1 : w->queues > NET_PAIRS_MAX ? NET_PAIRS_MAX : w->queues;
    int r = no_ports(w, e);

    if (r == 0 && !w->machine)
        r = err_set(e, -EOPNOTSUPP,
                    "network %s: a tap is a machine's; a process container takes "
                    "ns:PATH",
                    w->network);
    if (r == 0 && !if_nametoindex(dev))
        r = err_set(e, -ENOENT, "network %s: no such interface", w->network);
    if (r == 0 && w->ip)
        r = guest_address(w->ip, AF_INET, l->ip, sizeof(l->ip), &l->prefix, e);
    if (r == 0 && w->ip6)
        r = guest_address(w->ip6, AF_INET6, l->ip6, sizeof(l->ip6), &l->prefix6, e);
    if (r == 0 && w->mac)
        r = leases_parse_mac(w->mac, l->mac, e);
    else if (r == 0) {
        struct ipaddr of = no_address;

        /* of the id: where the tap leads to, others choose theirs too */
        for (unsigned i = 0; i < 4; i++)
            of.bytes[i] = (uint8_t)strtoul((char[3]){w->id[2 * i], w->id[2 * i + 1]}, NULL, 16);
        leases_mac(&of, l->mac);
    }
    if (r == 0)
        r = etcfiles_make(w, NULL, l, e);
    if (r == 0)
        r = tap_open(dev, pairs, l->fd, e);
    if (r < 0)
        return r;
    l->kind = NETWORK_TAP;
    l->n_fds = pairs;
    return 0;
}

static int attach_vhost_user(const struct network_want *w, struct network_lease *l, struct err *e)
{
    const char *path = strchr(w->network, ':') + 1;
    int r = no_ports(w, e);

    if (r == 0 && !w->machine)
        r = err_set(e, -EOPNOTSUPP, "network %s: only a machine speaks vhost-user", w->network);
    if (r == 0 && (path[0] != '/' || strlen(path) >= sizeof(l->path)))
        r = err_set(e, -EINVAL, "network %s: not an absolute path of at most %zu letters",
                    w->network, sizeof(l->path) - 1);
    if (r < 0)
        return r;
    snprintf(l->path, sizeof(l->path), "%s", path);
    l->kind = NETWORK_VHOST_USER;
    return etcfiles_make(w, NULL, l, e);
}

static int attach_bridge(const struct network_want *w, const char *name, struct network_lease *l,
                         struct err *e)
{
    CLEANUP(netlock) struct netlock lock = NETLOCK_NONE;
    struct netconf c;
    int r = need_root(w, e);

    if (r == 0)
        r = netlock_take(w->store, &lock, e);
    if (r == 0)
        r = netconf_use(&lock, name, &c, e);
    if (r < 0)
        return r;
    (void)endpoint_undo(&lock, c.name, w->id, true); /* what a killed keeper of it left */
    CLEANUP(fd) int ns = w->machine ? -1 : netns_new(e);
    if (!w->machine && ns < 0)
        r = ns;
    if (r == 0)
        r = endpoint_make(&lock, &c, w, ns, "eth0", true, l, e);
    /* Nobody chose the default network's subnet, so nobody minds another. */
    if (r == -ENOTUNIQ && strcmp(c.name, NETCONF_DEFAULT) == 0 &&
        netconf_move(&lock, &c, NULL) == 0) {
        network_lease_done(l);
        r = endpoint_make(&lock, &c, w, ns, "eth0", true, l, e);
    }
    netconf_done(&c);
    if (r < 0)
        return r;
    l->kind = w->machine ? NETWORK_TAP : NETWORK_NETNS;
    if (!w->machine) {
        l->fd[0] = take_fd(&ns);
        l->n_fds = 1;
    }
    return 0;
}

/* What stands behind "MODE:", or NULL. */
static const char *behind(const char *network, const char *mode)
{
    size_t n = strlen(mode);

    return strncmp(network, mode, n) == 0 && network[n] == ':' && network[n + 1] ? network + n + 1
                                                                                 : NULL;
}

static int attach(const struct network_want *w, struct network_lease *l, struct err *e)
{
    const char *n = w->network;

    snprintf(l->network, sizeof(l->network), "%s", n);
    if (strcmp(n, "none") == 0)
        return attach_none(w, l, e);
    if (strcmp(n, "host") == 0)
        return attach_host(w, l, e);
    if (strcmp(n, "user") == 0)
        return attach_user(w, l, e);
    if (behind(n, "container"))
        return attach_container(w, l, e);
    if (behind(n, "ns"))
        return attach_namespace(w, netns_open(behind(n, "ns"), e), l, e);
    if (behind(n, "tap"))
        return attach_tap(w, l, e);
    if (behind(n, "vhost-user"))
        return attach_vhost_user(w, l, e);
    return attach_bridge(w, strcmp(n, "default") == 0 ? NETCONF_DEFAULT : n, l, e);
}

int network_attach(const struct network_want *w, struct network_lease *l, struct err *e)
{
    struct network_want want = *w;
    struct network_lease new = NETWORK_LEASE_NONE;

    if (!want.network)
        want.network = geteuid() == 0 ? NETCONF_DEFAULT : "user";
    int r = attach(&want, &new, e);
    if (r < 0) {
        netprog_end(new.helper, netprog_start_time(new.helper));
        network_lease_done(&new);
        network_detach(w->store, w->id);
        return r;
    }
    *l = new;
    return 0;
}

int network_plug(const struct network_want *w, struct network_lease *l, pid_t pid, struct err *e)
{
    int r = usernet_plug(l, pid, e);

    if (r == 0)
        r = note(w, l, e);
    if (r < 0 && l->helper)
        netprog_end(l->helper, netprog_start_time(l->helper));
    return r;
}

void network_lease_done(struct network_lease *l)
{
    for (unsigned i = 0; i < l->n_fds; i++)
        cleanup_fd(&l->fd[i]);
    for (unsigned i = 0; i < l->n_hold; i++)
        cleanup_fd(&l->hold[i]);
    free(l->resolv);
    free(l->hosts);
    *l = NETWORK_LEASE_NONE;
}
