/* container/vmconf.h - a container's description as that of its machine. Thread: the caller's. */
#ifndef CONTAINER_VMCONF_H
#define CONTAINER_VMCONF_H

#include "base/err.h"
#include "container/guestconf.h"
#include "container/task.h"

enum { VMCONF_RAM_DEFAULT = 512 << 20 };

struct vmconf {
    struct guest_conf guest; /* strings borrowed from the task's description */
    struct volume volume[VOLUME_MAX];
    struct vm_net net; /* descriptors borrowed from the lease */
    struct session_net net_set;
};

/* *c is borrowed as long as *out is used. -EINVAL: what a machine cannot have. */
int vmconf_fill(const struct task_conf *c, struct vmconf *out, struct err *e) MUST_CHECK;

#endif
