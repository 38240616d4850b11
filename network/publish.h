/* network/publish.h - published ports of a bridge network: a socket that holds each on the host,
 * and the elements that translate it. Thread: the caller's. */
#ifndef NETWORK_PUBLISH_H
#define NETWORK_PUBLISH_H

#include <stddef.h>

#include "base/err.h"
#include "network/ipaddr.h"
#include "network/network.h"
#include "network/nft.h"

/* Bind each port of *w on the host, so that neither another program nor another container gets it:
 * l->port (host_port filled in) and l->hold. Nothing is accepted there: what comes from outside or
 * from this host is translated before it reaches a socket. -EADDRINUSE; -EADDRNOTAVAIL: no such
 * address here. On failure network_lease_done() closes what was bound. */
int publish_hold(const struct network_want *w, struct network_lease *l, struct err *e) MUST_CHECK;

enum { PUBLISH_ELEMENTS_MAX = 2 * NETWORK_PORTS_MAX };
/* The elements of ports for a container with these addresses; returns how many. */
size_t publish_elements(const struct network_port *port, unsigned n, const struct ipaddr *ip,
                        const struct ipaddr *ip6, struct nft_element v[PUBLISH_ELEMENTS_MAX]);

#endif
