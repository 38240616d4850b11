/* network/endpoint.h - a container's place on one named network: chosen, written down, made,
 * undone.
 *
 * Thread: the caller's, with netlock_take()'s lock. */
#ifndef NETWORK_ENDPOINT_H
#define NETWORK_ENDPOINT_H

#include "base/err.h"
#include "network/leases.h"
#include "network/netconf.h"
#include "network/netlock.h"
#include "network/network.h"

/* Folder of what passt and pasta serve: no network has a name with a dot in front. */
#define ENDPOINT_USER ".user"

/* Connect with network *c. `netns`, `peer`: where the other end goes (process class); -1: a tap,
 * whose descriptors come into *l. `way_out`: its default route as well. Fills in addresses, ports
 * and name servers of *l. On failure nothing is left but what network_lease_done() closes. */
int endpoint_make(const struct netlock *lock, const struct netconf *c, const struct network_want *w,
                  int netns, const char *peer, bool way_out, struct network_lease *l,
                  struct err *e) MUST_CHECK;

/* Write down the helper of a container in user mode. */
int endpoint_note_helper(const struct netlock *lock, const struct network_want *w,
                         const struct network_lease *l, struct err *e) MUST_CHECK;

/* Undo the place of container `id` in the folder of this name, a network or ENDPOINT_USER; the last
 * one takes the bridge with it (minder.h). `links`: its interface is deleted; else that is left to
 * the end of the namespace or the descriptors it belongs to, which the kernel does behind our back
 * in a tenth of the time. Returns 1 when there was one, 0 when not. */
int endpoint_undo(const struct netlock *lock, const char *folder, const char *id, bool links);

#endif
