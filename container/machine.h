/* container/machine.h - what machines of all verbs have in common, and those that `kiln fork`
 * makes: processes forked from a machine's own, inside its jail. Who asked for them made their
 * state folders and sockets, and left a warden for them. */
#ifndef CONTAINER_MACHINE_H
#define CONTAINER_MACHINE_H

#include <sys/types.h>

#include "base/err.h"
#include "container/ctlwire.h"
#include "container/rundir.h"
#include "vm/seed.h"

/* What comes with a machine's line, in this order; then a file for each of its own disks. */
enum machine_fd {
    MACHINE_FD_LOG, /* console.log and .old, conlog.h */
    MACHINE_FD_LOG_OLD,
    MACHINE_FD_CONTROL, /* control_listen() */
    MACHINE_FD_LINK,    /* warden_pair() */
    MACHINE_FD_VSOCK,   /* vsockd_listen(); if the machine has a vsock device */
};

struct machine_conf { /* borrowed */
    struct seed *seed;
    const char *id, *name, *vsock; /* name NULL or "" = none */
    const char *engine, *note;
    const struct thread_hook *hook;
    uid_t owner;   /* who may ask it, besides root */
    int report_fd; /* gets one struct machine_report */
    int go_fd;     /* the machine runs when a byte can be read here, and never if none comes */
};

struct machine_report { /* plain data: one write to a pipe, so it is whole */
    struct err err;     /* code 0: the machine is made */
    char id[RUNDIR_ID_LEN + 1];
};

/* In a forked child: away from the caller's terminal, streams, signals. */
void machine_detach(void);
/* In a forked child of a machine's process: be the machine. Closes what the parent had open. */
_Noreturn void machine_fork_main(const struct machine_conf *c, struct ctlwire_fds *fds);
/* The note of machines with kiln's agent inside: kiln run's. */
#define MACHINE_HAS_AGENT "run"

/* A machine with an agent, which goes on from a state that others go on from too, runs: give it an
 * identity of its own. `ours`: of session_pair(), owned from here, also on failure; end_fd:
 * readable when the machine ended. Errors as session_open(), session_identity(). */
int machine_introduce(int ours, int end_fd, const char *hostname, struct err *e) MUST_CHECK;

/* A CID that no other machine has, but for chance: VIRTIO 1.2, 5.10.4. */
uint32_t machine_cid(void);

#endif
