#include "network/endpoint.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "net/net.h"
#include "network/bridge.h"
#include "network/etcfiles.h"
#include "network/netprog.h"
#include "network/minder.h"
#include "network/netns.h"
#include "network/nftrules.h"
#include "network/publish.h"

static int open_folder(int dir, const char *name, struct err *e)
{
    int fd = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

    return fd < 0 ? err_errno(e, -errno, "network %s", name) : fd;
}

/* --- what it gets */

static int choose_one(const struct leases *all, const struct ipaddr *subnet,
                      const struct ipaddr *range, const struct ipaddr *gateway, const char *wanted,
                      uint8_t family, struct ipaddr *out, struct err *e)
{
    struct ipaddr a;
    int r;

    if (!wanted)
        return subnet->family ? leases_pick(all, subnet, range, gateway, out, e) : 0;
    r = ipaddr_parse(wanted, family, &a, e);
    if (r == 0)
        r = leases_check(all, subnet, gateway, &a, e);
    if (r < 0)
        return r;
    a.bits = subnet->bits;
    *out = a;
    return 0;
}

static int choose_mac(const struct leases *all, const struct network_want *w,
                      struct leases_entry *en, struct err *e)
{
    leases_mac(en->ip.family ? &en->ip : &en->ip6, en->mac);
    if (!w->mac)
        return 0;
    int r = leases_parse_mac(w->mac, en->mac, e);
    for (size_t i = 0; r == 0 && i < all->n; i++)
        if (memcmp(all->v[i].mac, en->mac, sizeof(en->mac)) == 0)
            r = err_set(e, -EADDRINUSE, "MAC address %s: address already in use", w->mac);
    return r;
}

static int copy_words(struct strv *to, const char *what, char *const *from, unsigned max,
                      struct err *e)
{
    for (char *const *s = from; s && *s; s++) {
        int r = etcfiles_check_word(what, *s, e);

        if (r == 0 && (strchr(*s, ',') || to->n == max))
            r = err_set(e, -EINVAL, "%s '%s': not a name, or more than %u", what, *s, max);
        if (r == 0)
            r = strv_add(to, *s);
        if (r < 0)
            return r;
    }
    return 0;
}

static int copy_dns(struct strv *to, char *const *from, struct err *e)
{
    for (char *const *s = from; s && *s; s++) {
        int r = ipaddr_parse(*s, 0, &(struct ipaddr){0}, e);

        if (r < 0)
            return r;
    }
    return copy_words(to, "DNS server", from, NETWORK_DNS_MAX, e);
}

static int describe(const struct network_want *w, struct leases_entry *en, struct err *e)
{
    snprintf(en->id, sizeof(en->id), "%s", w->id);
    snprintf(en->name, sizeof(en->name), "%s", w->name ? w->name : "");
    int r = copy_words(&en->alias, "network alias", w->alias, NETWORK_ALIASES_MAX, e);
    if (r == 0 && w->hostname && en->alias.n < NETWORK_ALIASES_MAX &&
        strncmp(w->hostname, w->id, strlen(w->hostname)) != 0 && !strpbrk(w->hostname, ", "))
        r = strv_add(&en->alias, w->hostname);
    return r == 0 ? copy_dns(&en->dns, w->dns, e) : r;
}

static int choose(const struct netconf *c, const struct leases *all, const struct network_want *w,
                  struct leases_entry *en, struct err *e)
{
    int r = describe(w, en, e);

    if (r == 0)
        r = choose_one(all, &c->subnet, &c->range, &c->gateway, w->ip, AF_INET, &en->ip, e);
    if (r == 0)
        r = choose_one(all, &c->subnet6, &c->range6, &c->gateway6, w->ip6, AF_INET6, &en->ip6, e);
    if (r == 0)
        r = choose_mac(all, w, en, e);
    bridge_port_name(c, w->id, w->machine, en->interface);
    return r;
}

static bool same_port(const struct network_port *a, const struct network_port *b)
{
    return a->host_port == b->host_port && a->udp == b->udp &&
           (!a->host_ip[0] || !b->host_ip[0] || strcmp(a->host_ip, b->host_ip) == 0);
}

/* Who bound a port has it: another that says it published the same was killed. Its entry stays, for
 * whoever undoes the rest of it. */
static bool take_over(struct leases *all, const struct network_lease *l)
{
    bool changed = false;

    for (size_t i = 0; i < all->n; i++) {
        struct leases_entry *en = &all->v[i];
        bool dead = false;

        for (unsigned k = 0; k < en->n_ports * l->n_ports; k++)
            dead |= same_port(&en->port[k / l->n_ports], &l->port[k % l->n_ports]);
        if (!dead)
            continue;
        bridge_unpublish(en);
        en->n_ports = 0;
        changed = true;
    }
    return changed;
}

static void take_over_elsewhere(const struct netlock *lock, const char *own,
                                const struct network_lease *l)
{
    int copy = openat(lock->dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    CLEANUP(dir) DIR *d = copy < 0 ? NULL : fdopendir(copy);
    struct dirent *de;

    while (d && (de = readdir(d))) {
        struct leases all = {0};

        if (de->d_name[0] == '.' || strcmp(de->d_name, own) == 0)
            continue;
        CLEANUP(fd) int fd = open_folder(lock->dir, de->d_name, NULL);
        if (fd >= 0 && leases_load(fd, &all, NULL) == 0 && take_over(&all, l))
            (void)leases_save(fd, &all, NULL);
        leases_done(&all);
    }
}

static int choose_ports(const struct netconf *c, const struct network_want *w,
                        struct leases_entry *en, struct network_lease *l, struct err *e)
{
    if (w->n_ports == 0)
        return 0;
    if (c->internal)
        return err_set(e, -EINVAL, "network %s is internal: no port of it can be published",
                       c->name);
    int r = publish_hold(w, l, e);
    if (r < 0)
        return r;
    en->port = malloc(l->n_ports * sizeof(*en->port));
    if (!en->port)
        return err_errno(e, -ENOMEM, "ports");
    memcpy(en->port, l->port, l->n_ports * sizeof(*en->port));
    en->n_ports = l->n_ports;
    return 0;
}

/* --- making it */

static int plug_tap(const struct netconf *c, const struct leases_entry *en, unsigned queues,
                    struct network_lease *l, struct err *e)
{
    unsigned pairs = queues == 0 ? 1 : queues > NET_PAIRS_MAX ? NET_PAIRS_MAX : queues;
    int r = tap_open(en->interface, pairs, l->fd, e);

    if (r < 0)
        return r;
    l->n_fds = pairs;
    return bridge_plug_tap(c, en, e);
}

struct place { /* where it goes */
    int netns; /* -1: a tap */
    const char *peer;
    bool way_out;
};

static int make(const struct netconf *c, const struct network_want *w,
                const struct leases_entry *en, const struct place *p, struct network_lease *l,
                struct err *e)
{
    int r = bridge_up(c, e);

    if (r == 0)
        r = bridge_admit(c, en, e);
    if (r < 0)
        return r;
    return p->netns >= 0 ? bridge_plug(c, en, p->netns, p->peer, p->way_out, e)
                         : plug_tap(c, en, w->queues, l, e);
}

static void fill_lease(const struct netconf *c, const struct leases_entry *en,
                       struct network_lease *l)
{
    snprintf(l->network, sizeof(l->network), "%s", c->name);
    memcpy(l->mac, en->mac, sizeof(l->mac));
    l->mtu = bridge_mtu(c);
    if (en->ip.family) {
        char text[IPADDR_TEXT];

        snprintf(l->ip, sizeof(l->ip), "%.15s", ipaddr_text(&en->ip, text));
        if (!c->internal)
            snprintf(l->gateway, sizeof(l->gateway), "%.15s", ipaddr_text(&c->gateway, text));
        l->prefix = en->ip.bits;
    }
    if (en->ip6.family) {
        ipaddr_text(&en->ip6, l->ip6);
        if (!c->internal)
            ipaddr_text(&c->gateway6, l->gateway6);
        l->prefix6 = en->ip6.bits;
    }
}

/* Without a name server of the network's the container asks those of the host. */
static int make_texts(const struct netconf *c, const struct network_want *w, bool names,
                      struct network_lease *l, struct err *e)
{
    char text[IPADDR_TEXT];
    const char *const servers[] = {
        ipaddr_text(c->gateway.family ? &c->gateway : &c->gateway6, text), NULL};

    return etcfiles_make(w, names ? servers : NULL, l, e);
}

/* `links`: with the interface, which else goes with its namespace or its descriptors. */
static void undo(const struct netconf *c, int folder, struct leases *all, struct leases_entry *en,
                 bool links)
{
    bridge_forbid(en);
    if (links)
        bridge_unplug(en);
    leases_remove(all, en);
    if (all->n == 0 && !minder_runs(folder))
        bridge_down(c);
    /* Last: until then the next one would find it and undo it again. */
    (void)leases_save(folder, all, NULL);
}

static int place_it(const struct netlock *lock, const struct netconf *c,
                    const struct network_want *w, const struct place *p, struct network_lease *l,
                    struct err *e)
{
    CLEANUP(fd) int folder = open_folder(lock->dir, c->name, e);
    struct leases all = {0};
    struct leases_entry en = {0}, *placed = NULL;
    bool names = false;
    int r = folder < 0 ? folder : leases_load(folder, &all, e);

    if (r == 0)
        r = choose(c, &all, w, &en, e);
    if (r == 0)
        r = choose_ports(c, w, &en, l, e);
    if (r == 0 && l->n_ports > 0) {
        (void)take_over(&all, l);
        take_over_elsewhere(lock, c->name, l);
    }
    if (r == 0)
        r = leases_add(&all, &en, e);
    leases_entry_done(&en);
    if (r == 0) {
        placed = &all.v[all.n - 1];
        r = leases_save(folder, &all, e);
    }
    if (r == 0)
        r = make(c, w, placed, p, l, e);
    if (r == 0)
        r = minder_start(w->store, c, folder, &names, e);
    if (r == 0) {
        fill_lease(c, placed, l);
        r = make_texts(c, w, names, l, e);
    }
    if (r < 0 && placed)
        undo(c, folder, &all, placed, true);
    leases_done(&all);
    return r;
}

int endpoint_make(const struct netlock *lock, const struct netconf *c, const struct network_want *w,
                  int netns, const char *peer, bool way_out, struct network_lease *l, struct err *e)
{
    struct place p = {netns, peer, way_out};

    return place_it(lock, c, w, &p, l, e);
}

/* --- user mode */

int endpoint_note_helper(const struct netlock *lock, const struct network_want *w,
                         const struct network_lease *l, struct err *e)
{
    if (mkdirat(lock->dir, ENDPOINT_USER, 0755) < 0 && errno != EEXIST)
        return err_errno(e, -errno, ENDPOINT_USER);
    CLEANUP(fd) int folder = open_folder(lock->dir, ENDPOINT_USER, e);
    struct leases all = {0};
    struct leases_entry en = {.helper = l->helper, .helper_start = netprog_start_time(l->helper)};
    int r = folder < 0 ? folder : leases_load(folder, &all, e);

    memcpy(en.mac, l->mac, sizeof(en.mac));
    snprintf(en.id, sizeof(en.id), "%s", w->id);
    snprintf(en.name, sizeof(en.name), "%s", w->name ? w->name : "");
    if (r == 0)
        r = leases_add(&all, &en, e);
    if (r == 0)
        r = leases_save(folder, &all, e);
    leases_done(&all);
    return r;
}

/* --- undoing it */

static int undo_bridge(const struct netlock *lock, int folder, const char *name, struct leases *all,
                       struct leases_entry *en, bool links)
{
    struct netconf c;

    if (netconf_use(lock, name, &c, NULL) < 0)
        return 0;
    undo(&c, folder, all, en, links);
    netconf_done(&c);
    return 1;
}

int endpoint_undo(const struct netlock *lock, const char *folder, const char *id, bool links)
{
    CLEANUP(fd) int fd = open_folder(lock->dir, folder, NULL);
    struct leases all = {0};
    struct leases_entry *en =
        fd < 0 || leases_load(fd, &all, NULL) < 0 ? NULL : leases_find(&all, id);
    int found = 0;

    if (en && strcmp(folder, ENDPOINT_USER) == 0) {
        netprog_end(en->helper, en->helper_start);
        leases_remove(&all, en);
        (void)leases_save(fd, &all, NULL);
        found = 1;
    } else if (en) {
        found = undo_bridge(lock, fd, folder, &all, en, links);
    }
    leases_done(&all);
    return found;
}
