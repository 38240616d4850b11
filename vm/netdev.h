/* vm/netdev.h - a machine's network cards: from a vm_net to a device with its backend. Thread: the
 * VM's owner. */
#ifndef VM_NETDEV_H
#define VM_NETDEV_H

#include "base/err.h"

struct vm;
struct vm_net;

int netdev_add(struct vm *vm, const struct vm_net *c, struct err *e) MUST_CHECK;

#endif
