/* network/nftrules.h - the rules of kiln's bridges: one table "kiln" in each of nftables' families
 * ip, ip6 and bridge, made with the first bridge and removed with the last. What belongs to a
 * network or a container is elements of their sets. No table but these is touched.
 *
 * Loaded as a text by nft(8): rules read as rules, and it happens once a host, not once a start. */
#ifndef NETWORK_NFTRULES_H
#define NETWORK_NFTRULES_H

#include "base/err.h"

/* Prefixes of interfaces, by which the rules know them: a bridge; a machine's tap; the host's end
 * of a namespace's pair. */
#define NFTRULES_BRIDGE "kn-"
#define NFTRULES_TAP "kt-"
#define NFTRULES_PAIR "kp-"

/* In one transaction; repeating it changes nothing. -ENOENT: no nft on this host. */
int nftrules_load(struct err *e) MUST_CHECK;
void nftrules_unload(void);

#endif
