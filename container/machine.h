/* container/machine.h - a process that is one machine and nobody's child to wait for: what `kiln
 * fork` and `kiln restore --detach` leave behind. It has a state folder of its own with control
 * socket, vsock and console log, and removes it when the machine ends or SIGTERM comes. */
#ifndef CONTAINER_MACHINE_H
#define CONTAINER_MACHINE_H

#include <sys/types.h>

#include "base/err.h"
#include "container/rundir.h"
#include "vm/seed.h"

struct machine_conf { /* borrowed */
    struct seed *seed;
    const char *name; /* NULL = none */
    const char *engine, *note;
    int report_fd; /* gets one struct machine_report */
    int go_fd;     /* the machine runs when a byte can be read here, and never if none comes; -1 =
                    * at once */
};

struct machine_report { /* plain data: one write to a pipe, so it is whole */
    struct err err;     /* code 0: the machine is made */
    pid_t pid;
    char id[RUNDIR_ID_LEN + 1];
    char name[RUNDIR_NAME_MAX + 1];
    char vsock[RUNDIR_PATH_MAX + 16]; /* "" = it has none */
};

/* In a forked child: away from the caller's terminal, streams, signals. */
void machine_detach(void);
/* In a forked child with one thread: be the machine. Closes what the caller had open. */
_Noreturn void machine_main(const struct machine_conf *c);
/* The note of machines with kiln's agent inside: kiln run's. */
#define MACHINE_HAS_AGENT "run"

/* A machine with an agent, which goes on from a state that others go on from too, runs: give it an
 * identity of its own. `ours`: of session_pair(), owned from here, also on failure; end_fd:
 * readable when the machine ended. Errors as session_open(), session_identity(). */
int machine_introduce(int ours, int end_fd, const char *hostname, struct err *e) MUST_CHECK;

/* A CID that no other machine has, but for chance: VIRTIO 1.2, 5.10.4. */
uint32_t machine_cid(void);

#endif
