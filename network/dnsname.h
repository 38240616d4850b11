/* network/dnsname.h - what a network's own names mean. Pure; thread: the caller's. */
#ifndef NETWORK_DNSNAME_H
#define NETWORK_DNSNAME_H

#include <stdbool.h>

#include "network/dnsmsg.h"
#include "network/leases.h"
#include "network/netconf.h"

enum { DNSNAME_SHORT = 12 }; /* digits of an id that are a name */

/* Answer *q from the containers of network *c: by name, alias, the first 12 digits or all of the
 * id, each also with ".NETWORK" behind it; PTR of any address in its subnets. `turn` rotates the
 * addresses of a name that several have. false: it is not ours to answer. */
bool dnsname_answer(const struct netconf *c, const struct leases *l, const struct dnsmsg_query *q,
                    unsigned turn, struct dnsmsg_answer *out);
/* Who has this address, or NULL. */
const struct leases_entry *dnsname_owner(const struct leases *l, const struct ipaddr *ip);

#endif
