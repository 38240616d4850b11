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
#include "container/session.h"
#include "container/trace.h"
#include "vm/vm.h"

struct vmm { /* owned: vmm_stop() */
    pid_t pid;
    int report_fd; /* readable: the machine ended, or never began */
    int alive_fd;
};
#define VMM_NONE ((struct vmm){0, -1, -1})

struct vmm_conf { /* borrowed */
    const struct vm_conf *vm;
    const struct rundir *dir;
    struct trace *trace; /* may be NULL */
    /* The machine does not boot but goes on from the snapshot in this folder, made with this note
     * (-ESTALE); NULL = it boots. */
    const char *seed;
    const char *code; /* file of the seed's translated code, which may be missing; NULL = none */
    const char *snapshot; /* the folder vmm_snapshot() makes, with this note; NULL = none */
    const char *note;
};

/* The machine's console goes to `console.log` in the state folder (conlog.h), and it can be reached
 * by its control socket there. Returns when the process exists; whether the machine starts is told
 * by report_fd. */
int vmm_start(const struct vmm_conf *c, struct vmm *v, struct err *e) MUST_CHECK;
/* After report_fd became readable: why, as a negative errno and a sentence. */
int vmm_why(struct vmm *v, struct err *e) MUST_CHECK;
/* While the machine runs: what its engine counted. The machine stands still afterwards. */
int vmm_counters(struct vmm *v, struct vm_report *out, struct err *e) MUST_CHECK;
/* Save the machine, which ends with it, once it has come to rest. -ECONNRESET: it ended by itself,
 * vmm_why(); as session_watch says. */
int vmm_snapshot(struct vmm *v, const struct session_watch *w, struct err *e) MUST_CHECK;
/* Write conf.code for machines that go on from the same seed. The machine stands still afterwards.
 * Returns when that is over, however it went. */
void vmm_keep_code(struct vmm *v);
void vmm_stop(struct vmm *v);

#endif
