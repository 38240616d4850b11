/* network/bridge.h - a network's bridge, and a container's port of it, in the kernel. What stands
 * here is made of netconf and leases alone, so that any process can take it down.
 *
 * Thread: the caller's, with netlock_take()'s lock. */
#ifndef NETWORK_BRIDGE_H
#define NETWORK_BRIDGE_H

#include "base/err.h"
#include "network/leases.h"
#include "network/netconf.h"

/* The bridge with its addresses, rules and settings. One that is there is taken as it is. -EPERM:
 * not root; -ENOTUNIQ: its subnet is in use elsewhere on this host. */
int bridge_up(const struct netconf *c, struct err *e) MUST_CHECK;
/* Away with it, and with the rules when it was the host's last. */
void bridge_down(const struct netconf *c);
unsigned bridge_mtu(const struct netconf *c); /* of the bridge as it stands */

/* The host's end for container `id` on this network. */
void bridge_port_name(const struct netconf *c, const char *id, bool machine, char name[16]);

/* Let the container's addresses and published ports pass. -ENOENT: the rules are gone. */
int bridge_admit(const struct netconf *c, const struct leases_entry *en, struct err *e) MUST_CHECK;
/* A pair of interfaces, the other end as `peer` in this network namespace, set up. `way_out`: its
 * default route too. */
int bridge_plug(const struct netconf *c, const struct leases_entry *en, int netns, const char *peer,
                bool way_out, struct err *e) MUST_CHECK;
/* The tap en->interface, which is there, becomes a port. */
int bridge_plug_tap(const struct netconf *c, const struct leases_entry *en,
                    struct err *e) MUST_CHECK;
/* Of admit: the published ports alone. */
void bridge_unpublish(const struct leases_entry *en);
/* Undo admit, whatever of it was done: from here on what it sends is dropped. */
void bridge_forbid(const struct leases_entry *en);
/* Undo plug: the interface goes. */
void bridge_unplug(const struct leases_entry *en);

#endif
