/* container/guestconf.h - what the machine of a container is made of: command line, disk, shares,
 * socket. Thread: the caller's. */
#ifndef CONTAINER_GUESTCONF_H
#define CONTAINER_GUESTCONF_H

#include <stdbool.h>

#include "container/run.h"
#include "vm/vm.h"

/* What the guest mounts as volume `i`. Static. */
const char *guestconf_tag(unsigned i);

/* A machine for *c, strings borrowed from it and `vsock`; the initramfs is the caller's. `slots`:
 * one like a template's: with shares, if there are any, in all of their slots. */
void guestconf_fill(const struct run_conf *c, const char *vsock, bool slots, struct vm_conf *out);
/* What initrd_build() must add for it. */
unsigned guestconf_modules(const struct vm_conf *vc);
/* The template's own machine: nothing is in the slots yet. */
void guestconf_empty(struct vm_conf *vc);

#endif
