/* network/minder.h - the process of a network that is in use: started with its first container,
 * ended with its last. It keeps the name server going, starts it anew when the host's resolvers
 * change, and takes the bridge away when the network has been without containers for a moment: so
 * that a start right after a stop finds the bridge there, which costs the kernel some fifty
 * milliseconds to make and to remove, and that nothing is left even when a container's own
 * processes were killed.
 *
 * It holds flock(2) of the file "minder" in the network's folder. Thread: the caller's, with
 * netlock_take()'s lock. */
#ifndef NETWORK_MINDER_H
#define NETWORK_MINDER_H

#include <stdbool.h>

#include "base/err.h"
#include "network/netconf.h"

enum { MINDER_LINGER_MS = 3000 }; /* without containers, before the bridge goes */

/* Start it unless it runs. `folder`: of the network. *names: a name server answers at the gateway;
 * false where another server of the host's has the port. */
int minder_start(const char *store, const struct netconf *c, int folder, bool *names,
                 struct err *e) MUST_CHECK;
/* End it at once, and the name server, and take the bridge away. */
void minder_stop(const struct netconf *c, int folder);
bool minder_runs(int folder);

#endif
