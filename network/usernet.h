/* network/usernet.h - a network without privileges: passt beside a machine, pasta beside a network
 * namespace, one process a container. The container has fixed private addresses; what it sends
 * comes out of sockets of the host's. The gateway does not reach the host's own 127.0.0.1.
 * Thread: the caller's. */
#ifndef NETWORK_USERNET_H
#define NETWORK_USERNET_H

#include "base/err.h"
#include "network/network.h"

#define USERNET_DNS "10.0.2.3" /* where the container finds the host's resolver */

/* The addresses, and the published ports with numbers; whether they are free. */
int usernet_lease(const struct network_want *w, struct network_lease *l, struct err *e) MUST_CHECK;
/* VM: passt; l->fd[0], l->helper. */
int usernet_stream(struct network_lease *l, struct err *e) MUST_CHECK;
/* Process class: pasta for the namespace of `pid`; l->helper. */
int usernet_plug(struct network_lease *l, pid_t pid, struct err *e) MUST_CHECK;

#endif
