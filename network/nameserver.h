/* network/nameserver.h - names of a network's containers: a small DNS server at the gateway's
 * address.
 *
 * Why a server and not /etc/hosts in each container: names follow starts and stops at once in both
 * classes without writing into a running container, aliases may have several addresses, and a
 * resolver's own cache and search rules apply. It reads the network's `leases`; nothing tells it of
 * changes. It answers A, AAAA and PTR of the network's containers (dnsname.h) and passes everything
 * else on to the host's resolvers, or to those that --dns named for the container that asks.
 *
 * It runs as nobody, without capabilities, in the network's folder as its root, under a seccomp
 * list (dnsjail.h), as the child of the network's minder (minder.h). */
#ifndef NETWORK_NAMESERVER_H
#define NETWORK_NAMESERVER_H

#include <sys/types.h>

#include "base/err.h"
#include "network/dnsserve.h"
#include "network/netconf.h"

struct nameserver { /* owned: nameserver_close() */
    int udp[DNSSERVE_LISTEN_MAX], tcp[DNSSERVE_LISTEN_MAX];
};
#define NAMESERVER_NONE ((struct nameserver){{-1, -1}, {-1, -1}})

/* Sockets at port 53 of the gateway's addresses, which the bridge has. -EADDRINUSE: another server
 * has that port on all addresses. */
int nameserver_open(const struct netconf *c, struct nameserver *n, struct err *e) MUST_CHECK;
void nameserver_close(struct nameserver *n);

/* Fork the process that serves them; it ends with the caller. The pid, or -errno. */
pid_t nameserver_fork(const struct netconf *c, int folder, const struct nameserver *n);

#endif
