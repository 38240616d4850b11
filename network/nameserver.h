/* network/nameserver.h - names of a network's containers: a small DNS server at the gateway's
 * address, one process a network, started with the network's first container and ended with the
 * last.
 *
 * Why a server and not /etc/hosts in each container: names follow starts and stops at once in both
 * classes without writing into a running container, aliases may have several addresses, and what a
 * name means is decided by who asks. It reads the network's `leases`, nothing tells it of changes.
 * It answers A, AAAA and PTR of the network's containers (dnsname.h) and passes everything else on
 * to the host's resolvers, or to those that --dns named for the container that asks.
 *
 * What it is: a fork of the process that started the first container, without capabilities, as
 * nobody, in the network's folder as its root, under a seccomp list: it can read `leases` and
 * talk UDP and TCP. Thread: its own, one. */
#ifndef NETWORK_NAMESERVER_H
#define NETWORK_NAMESERVER_H

#include "base/err.h"
#include "network/netconf.h"

/* Start it unless it runs. `folder` is the network's. Returns when it listens. -EADDRINUSE: a
 * server of the host's has port 53 of all addresses. */
int nameserver_start(const struct netconf *c, int folder, struct err *e) MUST_CHECK;
/* End it, and wait until it has. */
void nameserver_stop(int folder);

#endif
