/* network/netconf.h - named networks as they stand on disk: ROOT/networks/NAME/config.json, written
 * once. "bridge" is made by whoever uses it first. A network's interface exists only while
 * containers are on it.
 *
 * Thread: the caller's. Changes are made under netlock_take()'s lock. */
#ifndef NETWORK_NETCONF_H
#define NETWORK_NETCONF_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/strv.h"
#include "network/ipaddr.h"
#include "network/leases.h"
#include "network/network.h"

enum {
    NETCONF_ID_LEN = 64,
    NETCONF_IFNAME = 16,  /* IFNAMSIZ */
    NETCONF_MTU_MIN = 68, /* of IPv4; 1280 with IPv6 (RFC 8200, 5) */
    NETCONF_MTU_MAX = 65535,
    NETCONF_MAX = 1024, /* networks of a store */
};

struct netlock;

#define NETCONF_DEFAULT "bridge"

struct netconf { /* owned: netconf_done() */
    char name[NETWORK_NAME_MAX + 1];
    char id[NETCONF_ID_LEN + 1]; /* hexadecimal */
    char interface[NETCONF_IFNAME];
    struct ipaddr subnet, gateway, range; /* IPv4; range: where addresses are taken from */
    struct ipaddr subnet6, gateway6, range6;
    bool internal; /* no way out: no gateway, no NAT */
    unsigned mtu;  /* 0 = 1500 */
    int64_t created_ns;
    struct strv labels; /* "K=V" */
};
void netconf_done(struct netconf *c);

/* What `kiln network create` was told; all may be NULL or empty. */
struct netconf_want {
    char *const *subnets, *const *gateways, *const *ranges; /* of either family, NULL-terminated */
    bool ipv6, no_ipv4, internal;
    const char *driver;    /* "bridge" */
    const char *interface; /* its name; NULL = made from the id */
    char *const *options;  /* "mtu=9000" */
    char *const *labels;
};

/* -EEXIST: the name is taken; -EINVAL: not a name, or a subnet that does not hold its gateway...;
 * -EADDRINUSE: a subnet overlaps one of another network or of the host; -ENOSPC. */
int netconf_create(const char *store, const char *name, const struct netconf_want *w,
                   struct netconf *out, struct err *e) MUST_CHECK;
/* By name, id or the unique beginning of an id. -ENOENT "network X not found". */
int netconf_find(const char *store, const char *text, struct netconf *out,
                 struct err *e) MUST_CHECK;
/* With the lock held, as netconf_find(); the default network is made when it is missing. */
int netconf_use(const struct netlock *l, const char *name, struct netconf *out,
                struct err *e) MUST_CHECK;
/* With the lock held: other subnets for the default network, which nobody is on. */
int netconf_move(const struct netlock *l, struct netconf *c, struct err *e) MUST_CHECK;
/* All, by name; *list owned by the caller: netconf_done() each, free(). */
int netconf_list(const char *store, struct netconf **list, size_t *n, struct err *e) MUST_CHECK;
/* Who is on it. */
int netconf_leases(const char *store, const struct netconf *c, struct leases *out,
                   struct err *e) MUST_CHECK;
/* -EBUSY: containers are on it; -EPERM: the default one. */
int netconf_remove(const char *store, const char *text, struct err *e) MUST_CHECK;

/* A name's letters, and none that is a mode ("host", "none"...). -EINVAL. */
int netconf_check_name(const char *name, struct err *e) MUST_CHECK;

/* netplan.c: what is to be made of *w: id, interface, subnets that nothing else has. `list` are the
 * networks there are. Errors of netconf_create(). */
int netconf_plan(const char *name, const struct netconf_want *w, const struct netconf *list,
                 size_t n, struct netconf *out, struct err *e) MUST_CHECK;

/* netjson.c. -EBADMSG with the member's name. */
json_t *netconf_to_json(const struct netconf *c); /* NULL = no memory */
int netconf_from_json(const json_t *j, struct netconf *out, struct err *e) MUST_CHECK;

#endif
