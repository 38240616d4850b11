/* container/vmmproc.h - what runs in the processes of vmm.h; private to it. */
#ifndef CONTAINER_VMMPROC_H
#define CONTAINER_VMMPROC_H

#include <limits.h>
#include <stdint.h>

#include "container/vmm.h"
#include "vm/snapshot.h"

/* What the owner writes to alive_fd. */
enum { ASK_COUNTERS = 's', ASK_SNAPSHOT = 't', ASK_END = 'e' };

struct vmm_told { /* one write to a pipe, so it is whole */
    int32_t end;  /* enum vm_end; VM_RUNNING: only counters, as asked */
    uint32_t value;
    struct err err;
    struct vm_report counters;
};
_Static_assert(sizeof(struct vmm_told) <= PIPE_BUF, "written at once");

struct vmm_ends {                /* the processes' */
    int report, alive, why, own; /* own: the warden's, to the owner */
    int code;
    struct snap_files files; /* of conf.snapshot */
};

/* In the child of jail_fork(): be the warden, and fork the machine's process. */
_Noreturn void vmmproc_main(const struct vmm_conf *c, const struct vmm_ends *ends);

#endif
