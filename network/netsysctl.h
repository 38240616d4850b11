/* network/netsysctl.h - settings below /proc/sys/net that a bridge needs. Thread: any. */
#ifndef NETWORK_NETSYSCTL_H
#define NETWORK_NETSYSCTL_H

#include <stdbool.h>

#include "base/err.h"

/* The host becomes a router, and stays one: others may have begun to count on it by the time the
 * last bridge goes. With IPv6 an interface that configures itself by router advertisements would
 * lose them and its default route with that (ip-sysctl.rst, accept_ra), so those are told to go on
 * first. What is set already is not written. */
int netsysctl_forward(bool ip6, struct err *e) MUST_CHECK;

/* Of a bridge: no router advertisements from containers; the host's 127.0.0.1 may be translated to
 * them; IPv6 or none. */
int netsysctl_bridge(const char *name, bool ip6, struct err *e) MUST_CHECK;

bool netsysctl_has_ipv6(void);

#endif
