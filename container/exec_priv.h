/* container/exec_priv.h - what exec.c, execvm.c and execproc.c share: one exec under way. */
#ifndef CONTAINER_EXEC_PRIV_H
#define CONTAINER_EXEC_PRIV_H

#include <signal.h>

#include "container/exec.h"
#include "container/session.h"

struct exec_process;

struct exec {
    const struct record *r;
    const struct exec_conf *c;
    struct strv env; /* whole */
    uint16_t rows, cols;
    int signal_fd; /* -1 = signals are the caller's */
    sigset_t old_mask;
    int signal;             /* the last that came */
    bool failed;            /* the command was not executed: what the start said */
    struct session *s;      /* VM */
    struct exec_process *p; /* process class */
};

/* Each class: the command runs when start returns 0; wait gives a status as of wait(2), and may
 * say -ECANCELED: a signal of the user's ended the wait; done ends what still runs. */
int exec_vm_start(struct exec *x, struct err *e) MUST_CHECK;
int exec_vm_wait(struct exec *x, int *status, struct err *e) MUST_CHECK;
void exec_vm_done(struct exec *x);
int exec_process_start(struct exec *x, struct err *e) MUST_CHECK;
int exec_process_wait(struct exec *x, int *status, struct err *e) MUST_CHECK;
void exec_process_done(struct exec *x);

/* A further session with the agent of a running VM container; HELLO is still to be awaited
 * (session_call()). -ESRCH: it does not run. */
int exec_vm_call(const struct record *r, const struct session_watch *w, struct session **s,
                 struct err *e) MUST_CHECK;

#endif
