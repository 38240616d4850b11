/* vm/vmdisks.h - from what users write about disks to the disks of a machine: texts are read, and
 * the daemons that serve some of them are started and ended. Thread: the caller's, which must live
 * as long as the machine (block/qsd.h). */
#ifndef VM_VMDISKS_H
#define VM_VMDISKS_H

#include "block/qsd.h"
#include "vm/vm.h"

struct vmdisks { /* zeroed = none; owned: vmdisks_done() */
    struct disktext text[VM_DISKS_MAX];
    struct qsd qsd[VM_DISKS_MAX];
    unsigned slot[VM_DISKS_MAX]; /* in vm_conf.disk */
    unsigned n;
};

/* One more disk for *c, whose entry borrows from *d. Errors: -EINVAL more than VM_DISKS_MAX; as
 * disktext_parse(). */
int vmdisks_add(struct vmdisks *d, const char *text, struct vm_conf *c, struct err *e) MUST_CHECK;
/* Start what the disks of *c need, before the machine is made of it. Errors as qsd_start(). */
int vmdisks_start(struct vmdisks *d, struct vm_conf *c, struct err *e) MUST_CHECK;
/* After the machine has ended. */
void vmdisks_done(struct vmdisks *d);

#endif
