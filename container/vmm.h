/* container/vmm.h - the process of one machine: jailed (jail/jail.h), with nothing of the caller's
 * open but what it needs, and beside it a warden (container/warden.h), which is its parent.
 *
 * It ends with its owner, however that ends (the warden then wipes the state folder), and its end
 * is seen on report_fd. Thread: the caller's must be its only one when it forks. */
#ifndef CONTAINER_VMM_H
#define CONTAINER_VMM_H

#include <sys/types.h>

#include "base/err.h"
#include "container/rundir.h"
#include "container/session.h"
#include "container/trace.h"
#include "vm/vm.h"

struct cgroup;
struct seed;
struct snapout;

struct vmm {       /* owned: vmm_stop() */
    pid_t pid;     /* of the machine's process, on this host; not a child of ours */
    int report_fd; /* readable: the machine ended, or never began */
    int alive_fd;
    int pidfd, why_fd, ward_fd; /* ward_fd: the warden's end is seen there */
    pid_t warden;               /* our child */
    struct snapout *out;        /* of conf.snapshot */
    int code_fd;                /* of conf.code, while it is to be kept */
    char *code;                 /* its path */
};
#define VMM_NONE   \
    ((struct vmm){ \
        .report_fd = -1, .alive_fd = -1, .pidfd = -1, .why_fd = -1, .ward_fd = -1, .code_fd = -1})

struct vmm_conf { /* borrowed */
    const struct vm_conf *vm;
    const struct rundir *dir; /* RUNDIR_NONE inside: no folder, and nobody reaches the machine */
    struct trace *trace;      /* may be NULL */
    const char *what; /* kind of machine, kept with its snapshots; NULL = MACHINE_HAS_AGENT */
    /* The machine does not boot but goes on from the snapshot in this folder, made with this note
     * (-ESTALE); NULL = it boots. */
    const char *seed;
    struct seed *from; /* likewise, opened already; the child takes it */
    const char *code;  /* file of the seed's translated code, which may be missing; NULL = none */
    bool keep_code;    /* it may be asked for by vmm_keep_code() */
    const char *snapshot; /* the folder vmm_snapshot() makes, with this note; NULL = none */
    const char *note;
    bool console; /* vm->console_in and _out are the console, not the log in the state folder */
    bool stderr_stays; /* for messages of vm->differs */
    bool detach;       /* it does not end with its owner: once it was started, vmm_leave() */
    bool no_jail;
    const struct cgroup *cgroup; /* both processes are put in; NULL = none */
};

/* With conf.detach: returns when the machine runs, or why it does not.
 * The machine's console goes to `console.log` in the state folder (conlog.h), and it can be reached
 * by its control socket there. Returns when the process exists; whether the machine starts is told
 * by report_fd. */
int vmm_start(const struct vmm_conf *c, struct vmm *v, struct err *e) MUST_CHECK;
/* After report_fd became readable: why, as a negative errno and a sentence. */
int vmm_why(struct vmm *v, struct err *e) MUST_CHECK;

struct vmm_end {
    enum vm_end end;
    uint32_t value; /* of the exit port */
    struct vm_report counters;
};
/* Likewise, for who takes no end for a failure but these: VM_FAILED, and that the process was
 * killed. */
int vmm_ended(struct vmm *v, struct vmm_end *out, struct err *e) MUST_CHECK;
/* As vm_stop(). */
void vmm_end(struct vmm *v);
/* While the machine runs: what its engine counted. The machine stands still afterwards. */
int vmm_counters(struct vmm *v, struct vm_report *out, struct err *e) MUST_CHECK;
/* Save the machine, which ends with it, once it has come to rest. -ECONNRESET: it ended by itself,
 * vmm_why(); as session_watch says. */
int vmm_snapshot(struct vmm *v, const struct session_watch *w, struct err *e) MUST_CHECK;
/* Make conf.code for machines that go on from the same seed; this one, whose id is `id`, goes on.
 * They execute it: to be called before anything that is not to be trusted has run in the machine.
 * Returns when that is over, however it went. */
void vmm_keep_code(struct vmm *v, const char *id);
void vmm_stop(struct vmm *v);
/* Let one that was started with conf.detach go on alone; its warden removes its folder. */
void vmm_leave(struct vmm *v);

#endif
