/* network/etcfiles.h - the texts of a container's /etc/resolv.conf and /etc/hosts. Pure. */
#ifndef NETWORK_ETCFILES_H
#define NETWORK_ETCFILES_H

#include "base/err.h"
#include "network/network.h"

/* l->resolv and l->hosts, from *w and the addresses in *l. `servers`: who answers, NULL-terminated;
 * NULL = the host's own resolv.conf. -EINVAL: something in *w that would be another line;
 * --add-host that is not NAME:IP. */
int etcfiles_make(const struct network_want *w, const char *const *servers, struct network_lease *l,
                  struct err *e) MUST_CHECK;

/* Does `text` fit into a line as one word? */
int etcfiles_check_word(const char *what, const char *text, struct err *e) MUST_CHECK;

#endif
