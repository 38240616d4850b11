#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "network/bridge.h"
#include "network/endpoint.h"
#include "network/leases.h"
#include "network/minder.h"
#include "network/netconf.h"
#include "network/netlock.h"
#include "network/netns.h"
#include "network/network.h"

/* Calls each() for every folder of networks, ENDPOINT_USER too, until it returns other than 0. */
static int each_folder(int dir, int (*each)(void *ctx, const char *folder), void *ctx)
{
    int copy = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    CLEANUP(dir) DIR *d = copy < 0 ? NULL : fdopendir(copy);
    struct dirent *de;
    int r = 0;

    while (d && r == 0 && (de = readdir(d)))
        if (de->d_name[0] != '.' || strcmp(de->d_name, ENDPOINT_USER) == 0)
            r = each(ctx, de->d_name);
    return r;
}

struct detach {
    const struct netlock *lock;
    const char *id;
};

static int detach_one(void *ctx, const char *folder)
{
    const struct detach *d = ctx;

    (void)endpoint_undo(d->lock, folder, d->id, false);
    return 0;
}

void network_detach(const char *store, const char *id)
{
    CLEANUP(netlock) struct netlock lock = NETLOCK_NONE;
    struct detach d = {&lock, id};

    if (netlock_take(store, &lock, NULL) == 0)
        (void)each_folder(lock.dir, detach_one, &d);
}

struct recover {
    const struct netlock *lock;
    bool (*alive)(void *ctx, const char *id);
    void *ctx;
    int removed;
};

/* Its minder was killed after the last container went. */
static void take_down_idle(const struct netlock *lock, int fd, const char *folder)
{
    struct netconf c;

    if (strcmp(folder, ENDPOINT_USER) == 0 || minder_runs(fd) ||
        netconf_use(lock, folder, &c, NULL) < 0)
        return;
    if (if_nametoindex(c.interface))
        bridge_down(&c);
    netconf_done(&c);
}

static int recover_one(void *ctx, const char *folder)
{
    struct recover *rec = ctx;
    CLEANUP(fd) int fd = openat(rec->lock->dir, folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    struct leases all = {0};

    if (fd < 0 || leases_load(fd, &all, NULL) < 0)
        return 0;
    if (all.n == 0)
        take_down_idle(rec->lock, fd, folder);
    for (size_t i = 0; i < all.n; i++)
        if (!rec->alive(rec->ctx, all.v[i].id))
            rec->removed += endpoint_undo(rec->lock, folder, all.v[i].id, true);
    leases_done(&all);
    return 0;
}

int network_recover(const char *store, bool (*alive)(void *ctx, const char *id), void *ctx,
                    struct err *e)
{
    CLEANUP(netlock) struct netlock lock = NETLOCK_NONE;
    struct recover rec = {.lock = &lock, .alive = alive, .ctx = ctx};
    int r = netlock_take(store, &lock, e);

    if (r < 0)
        return r;
    (void)each_folder(lock.dir, recover_one, &rec);
    return rec.removed;
}

/* --- networks of a container that runs */

static bool is_on(const struct netlock *lock, const char *folder, const char *id)
{
    CLEANUP(fd) int fd = openat(lock->dir, folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    struct leases all = {0};
    bool found = fd >= 0 && leases_load(fd, &all, NULL) == 0 && leases_find(&all, id);

    leases_done(&all);
    return found;
}

struct count {
    const struct netlock *lock;
    const char *id;
    unsigned n;
};

static int count_one(void *ctx, const char *folder)
{
    struct count *c = ctx;

    c->n += is_on(c->lock, folder, c->id);
    return 0;
}

/* The next interface: "eth" and the number of networks it is on; a name that is taken is answered
 * by the kernel. */
static int connect_to(const struct netlock *lock, const struct netconf *c,
                      const struct network_want *w, pid_t pid, struct network_lease *l,
                      struct err *e)
{
    struct count count = {lock, w->id, 0};
    char peer[16];

    if (is_on(lock, c->name, w->id))
        return err_set(e, -EEXIST, "endpoint with name %s already exists in network %s",
                       w->name ? w->name : w->id, c->name);
    CLEANUP(fd) int ns = netns_of(pid, e);
    if (ns < 0)
        return ns;
    (void)each_folder(lock->dir, count_one, &count);
    snprintf(peer, sizeof(peer), "eth%u", count.n);
    return endpoint_make(lock, c, w, ns, peer, count.n == 0, l, e);
}

int network_connect(const struct network_want *w, pid_t pid, struct network_lease *l, struct err *e)
{
    CLEANUP(netlock) struct netlock lock = NETLOCK_NONE;
    struct network_lease new = NETWORK_LEASE_NONE;
    struct network_want want = *w;
    struct netconf c;
    int r;

    if (w->machine)
        return err_set(e, -EOPNOTSUPP,
                       "a running machine takes no further network card; start it with --network "
                       "%s, or use --isolation=process",
                       w->network);
    if (geteuid() != 0)
        return err_set(e, -EPERM, "network %s needs root", w->network);
    want.n_ports = 0;
    r = netlock_take(w->store, &lock, e);
    if (r == 0)
        r = netconf_use(&lock, w->network, &c, e);
    if (r < 0)
        return r;
    r = connect_to(&lock, &c, &want, pid, &new, e);
    netconf_done(&c);
    if (r < 0)
        network_lease_done(&new);
    else
        *l = new;
    return r;
}

int network_disconnect(const char *store, const char *id, const char *network, struct err *e)
{
    CLEANUP(netlock) struct netlock lock = NETLOCK_NONE;
    struct netconf c;
    int r = netlock_take(store, &lock, e);

    if (r == 0)
        r = netconf_use(&lock, network, &c, e);
    if (r < 0)
        return r;
    if (endpoint_undo(&lock, c.name, id, true) == 0)
        r = err_set(e, -ENOENT, "container %s is not connected to network %s", id, c.name);
    netconf_done(&c);
    return r;
}
