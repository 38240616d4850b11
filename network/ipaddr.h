/* network/ipaddr.h - IPv4 and IPv6 addresses and prefixes as numbers. Pure; thread: any. */
#ifndef NETWORK_IPADDR_H
#define NETWORK_IPADDR_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

enum { IPADDR_TEXT = INET6_ADDRSTRLEN, IPADDR_CIDR_TEXT = INET6_ADDRSTRLEN + 4 };

struct ipaddr {
    uint8_t family;    /* AF_INET, AF_INET6; 0 = none */
    uint8_t bits;      /* of the prefix; of a single address all of them */
    uint8_t bytes[16]; /* network order; the first 4 of IPv4 */
};

unsigned ipaddr_len(const struct ipaddr *a);                       /* bytes: 4, 16, 0 */
bool ipaddr_equal(const struct ipaddr *a, const struct ipaddr *b); /* of the address alone */

/* "10.0.0.1", "fd00::1" without a prefix; family 0 = either. -EINVAL with a sentence. */
int ipaddr_parse(const char *text, uint8_t family, struct ipaddr *out, struct err *e) MUST_CHECK;
/* "10.0.0.0/24": the address as written, with its prefix. -EINVAL. */
int ipaddr_parse_cidr(const char *text, struct ipaddr *out, struct err *e) MUST_CHECK;
/* Returns buf; family 0 gives "". */
const char *ipaddr_text(const struct ipaddr *a, char buf[IPADDR_TEXT]);
const char *ipaddr_cidr(const struct ipaddr *a, char buf[IPADDR_CIDR_TEXT]); /* with "/BITS" */

/* The bits behind the prefix are 0: the network it is in. */
struct ipaddr ipaddr_network(const struct ipaddr *a);
bool ipaddr_contains(const struct ipaddr *prefix, const struct ipaddr *a); /* a with its prefix */
bool ipaddr_overlap(const struct ipaddr *a, const struct ipaddr *b);

/* How many addresses a prefix has, at most 2^62. */
uint64_t ipaddr_count(const struct ipaddr *prefix);
/* Address number n < ipaddr_count() of a prefix; the result keeps its bits. */
struct ipaddr ipaddr_nth(const struct ipaddr *prefix, uint64_t n);
/* What ipaddr_nth() would need; a must be in the prefix. At most 2^62. */
uint64_t ipaddr_index(const struct ipaddr *prefix, const struct ipaddr *a);

#endif
