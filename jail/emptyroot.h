/* jail/emptyroot.h - namespaces and the empty root of a machine's process; private to jail/. */
#ifndef JAIL_EMPTYROOT_H
#define JAIL_EMPTYROOT_H

#include "base/err.h"
#include "jail/jail.h"

/* Leave the host's namespaces, each that this host lets go of; with a mount namespace, turn the
 * shares and proc_fd of *c into mounts that lead nowhere else, and make the root an empty read-only
 * folder. -EPERM when a share cannot be fenced in. */
int emptyroot_enter(const struct jail_conf *c, struct err *e) MUST_CHECK;

#endif
