/* cmd/netverb.h - the verbs of `kiln network`, in two files: netverb.c makes, lists and removes;
 * netinspect.c shows and connects. */
#ifndef CMD_NETVERB_H
#define CMD_NETVERB_H

#include <limits.h>

#include "base/err.h"
#include "cmd/flag.h"
#include "network/netconf.h"

extern const struct command network_inspect, network_connect_verb, network_disconnect_verb;

/* The store's root, which the network layer wants named. */
int netverb_root(char root[PATH_MAX], struct err *e) MUST_CHECK;
/* What `kiln network inspect` shows; owned by the caller. NULL: -ENOENT and others. */
json_t *netverb_inspect(const char *root, const char *name, struct err *e);
/* For `kiln events`. */
void netverb_note(const char *action, const struct netconf *c, const char *container);

#endif
