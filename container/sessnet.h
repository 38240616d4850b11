/* container/sessnet.h - network cards in SETUP and IDENTITY: addresses as text become fields of
 * proto/agent.h. Thread: none of its own. */
#ifndef CONTAINER_SESSNET_H
#define CONTAINER_SESSNET_H

#include "container/session.h"
#include "proto/agent.h"

/* Append a PF_NET for each card of *c. -EINVAL: what is no address; -E2BIG, -ENOMEM. */
int sessnet_put(struct proto_buf *out, const struct session_setup *c, struct err *e) MUST_CHECK;

#endif
