/* container/vmm.h - the process of one machine: forked, with nothing of the caller's open but what
 * it needs.
 *
 * It ends with its parent, however that ends (it then wipes the state folder itself), and its end
 * is seen on report_fd. Thread: the caller's must be its only one when it forks. */
#ifndef CONTAINER_VMM_H
#define CONTAINER_VMM_H

#include <sys/types.h>

#include "base/err.h"
#include "container/rundir.h"
#include "container/trace.h"
#include "vm/vm.h"

struct vmm { /* owned: vmm_stop() */
    pid_t pid;
    int report_fd; /* readable: the machine ended, or never began */
    int alive_fd;
};
#define VMM_NONE ((struct vmm){0, -1, -1})

/* The machine's console goes to `console.log` in the state folder (conlog.h), and it can be reached
 * by its control socket there. Returns when the process exists; whether the machine starts is told
 * by report_fd. */
int vmm_start(const struct vm_conf *c, const struct rundir *dir, struct trace *t, struct vmm *v,
              struct err *e) MUST_CHECK;
/* After report_fd became readable: why, as a negative errno and a sentence. */
int vmm_why(struct vmm *v, struct err *e) MUST_CHECK;
/* While the machine runs: what its engine counted. The machine stands still afterwards. */
int vmm_counters(struct vmm *v, struct vm_report *out, struct err *e) MUST_CHECK;
void vmm_stop(struct vmm *v);

#endif
