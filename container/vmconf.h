/* container/vmconf.h - a container's description as that of its machine. Thread: the keeper's only
 * one, which lives as long as the machine. */
#ifndef CONTAINER_VMCONF_H
#define CONTAINER_VMCONF_H

#include <limits.h>

#include "base/err.h"
#include "container/guestconf.h"
#include "container/task.h"
#include "vm/vmdisks.h"

enum {
    VMCONF_RAM_DEFAULT = 512 << 20,
    VMCONF_MOUNTS_MAX = 64, /* the agent's limit */
};

struct vmconf {              /* owned: vmconf_done(), after the machine's end */
    struct guest_conf guest; /* strings borrowed from the task's description, and from below */
    struct volume *volumes;
    size_t n_volumes;
    struct vm_share share[VOLUME_MAX];
    struct vm_net net; /* descriptors borrowed from the lease */
    struct session_net net_set;
    struct vmdisks disks;
    struct vm_conf disk_conf; /* where `disks` puts what it makes */
    char upper[PATH_MAX];
    /* What the guest mounts, for session_setup(): texts with NULs in them. */
    char *mount[VMCONF_MOUNTS_MAX + 1];
    size_t mount_len[VMCONF_MOUNTS_MAX];
    unsigned n_mounts;
};

/* *c is borrowed as long as *out is used. On failure *out is to be done, too. Errors: -EINVAL what
 * a machine cannot have; those of volume_prepare(), upper_disk(), vmdisks_start(). */
int vmconf_fill(const struct task_conf *c, struct vmconf *out, struct err *e) MUST_CHECK;
void vmconf_done(struct vmconf *v); /* a zeroed one is fine */
/* A device of the host that a machine can have; -ENOTSUP with a sentence. */
int vmconf_check_device(const struct spec_device *d, struct err *e) MUST_CHECK;

#endif
