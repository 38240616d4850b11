/* network/resolvers.h - the servers that the host asks. Pure but for the file. */
#ifndef NETWORK_RESOLVERS_H
#define NETWORK_RESOLVERS_H

#include <stdio.h>

#include "network/ipaddr.h"

/* The `nameserver` lines of a resolv.conf(5), at most `max`; returns how many. */
unsigned resolvers_read(FILE *f, struct ipaddr *out, unsigned max);

#endif
