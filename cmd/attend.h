/* cmd/attend.h - a machine in the foreground: its console is this terminal, signals and a time
 * limit end it, and by its name others reach it. What kiln boot and kiln restore share. */
#ifndef CMD_ATTEND_H
#define CMD_ATTEND_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "container/rundir.h"
#include "container/vmm.h"

struct attend {
    const char *name, *note; /* name NULL: no state folder, unless `folder` */
    bool folder;             /* a state folder even without a name */
    bool console, stats;
    bool no_jail;
    uint64_t timeout_ns; /* 0 = none */
    int agent; /* of session_pair(), if `has_agent`: who is to be given an identity; taken */
    bool has_agent;
    /* private */
    int sig, keys_to, keys_from;
    struct vmm vmm;
    struct rundir dir;
};

/* Before the machine exists: signals, the console's pipe (into *c), the state folder. */
int attend_open(struct attend *a, struct vm_conf *c, struct err *e) MUST_CHECK;
/* A process for the machine. Fills in what of *c is its own to say. */
int attend_start(struct attend *a, struct vmm_conf *c, struct err *e) MUST_CHECK;
/* Stay until it ends. Returns the exit status. */
int attend(struct attend *a);
void attend_close(struct attend *a);
/* With vmm_conf.detach, in place of attend(): the machine goes on, and this process ends. */
void attend_leave(struct attend *a);

#endif
