/* network/rtnl.h - links, addresses and routes over rtnetlink(7). Thread: one at a time a socket.
 */
#ifndef NETWORK_RTNL_H
#define NETWORK_RTNL_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "network/ipaddr.h"

struct mnl_socket;

struct rtnl { /* owned: rtnl_close() */
    struct mnl_socket *nl;
    uint32_t seq;
};
#define RTNL_NONE ((struct rtnl){0})

/* In the network namespace of the calling thread; it stays there whatever the thread does then. */
int rtnl_open(struct rtnl *n, struct err *e) MUST_CHECK;
void rtnl_close(struct rtnl *n);
static inline void cleanup_rtnl(struct rtnl *n)
{
    rtnl_close(n);
}

/* A bridge that is still down, without spanning tree and without an IPv6 address of its own making.
 * Its index in *index. -EEXIST. */
int rtnl_bridge(struct rtnl *n, const char *name, const uint8_t mac[6], unsigned mtu,
                unsigned *index, struct err *e) MUST_CHECK;

struct rtnl_veth {    /* borrowed */
    const char *name; /* the host's end */
    unsigned master;  /* bridge, by index */
    unsigned mtu;
    int netns; /* where the other end goes */
    const char *peer;
    const uint8_t *mac; /* the other end's */
};
/* A pair; the host's end is a port of the bridge and up, the other end is down. -EEXIST. */
int rtnl_veth(struct rtnl *n, const struct rtnl_veth *v, struct err *e) MUST_CHECK;

/* Make an existing link a port of the bridge, and up; frames may go back to where they came from.
 */
int rtnl_enslave(struct rtnl *n, unsigned index, unsigned master, unsigned mtu,
                 struct err *e) MUST_CHECK;
int rtnl_up(struct rtnl *n, unsigned index, struct err *e) MUST_CHECK;
/* 0 also when there is none. */
int rtnl_delete(struct rtnl *n, const char *name, struct err *e);
/* Index in the socket's namespace. -ENODEV. *flags: IFF_*, *mtu: bytes; both may be NULL. */
int rtnl_find(struct rtnl *n, const char *name, unsigned *index, unsigned *flags, unsigned *mtu,
              struct err *e) MUST_CHECK;

/* Without duplicate address detection: kiln has made sure. An address that is there already: 0. */
int rtnl_address(struct rtnl *n, unsigned index, const struct ipaddr *a, struct err *e) MUST_CHECK;
int rtnl_default_route(struct rtnl *n, unsigned index, const struct ipaddr *gateway,
                       struct err *e) MUST_CHECK;

/* Prefixes this host has to do with: its addresses with their prefixes and, with `routes`, the
 * targets of its routes but the default ones. */
int rtnl_each_prefix(struct rtnl *n, bool routes,
                     void (*each)(void *ctx, const struct ipaddr *prefix), void *ctx,
                     struct err *e) MUST_CHECK;
/* The interface of the main default route of this family; 0 = there is none. */
int rtnl_way_out(struct rtnl *n, uint8_t family, unsigned *index, struct err *e) MUST_CHECK;

#endif
