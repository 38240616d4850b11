/* jail/jail.h - what a machine's process gives up before the guest's first instruction.
 *
 * Two processes. The *warden* stays outside and does nothing but what its owner wrote for it; it is
 * process 1 of a new PID namespace (without root: of a new user namespace, too). The machine's
 * process is its child. It opens what it needs while it still can, and then calls jail_enter():
 *
 *   mount, network, ipc, uts and cgroup namespaces of its own; an empty read-only root; a user that
 *   nobody else has (root alone can do that), no groups, no capabilities, not even in the bounding
 *   set; no_new_privs; not dumpable; no writable memory becomes code (PR_SET_MDWE); no core files;
 *   landlock: no file can be opened by name, no socket outside be reached, nobody signalled.
 *
 * A shared folder stays reachable: its descriptor becomes one of a mount that begins there, without
 * devices, set-user-ID and programs, and landlock lets just that through. A machine of root's with
 * shares keeps CAP_CHOWN, CAP_DAC_OVERRIDE, CAP_FOWNER and CAP_FSETID on the thread that serves
 * them.
 *
 * Then every thread installs the list of system calls of its role (os/role.h) as it starts. The
 * lists are in jail/calls.h and compiled by libseccomp when kiln is built. A call outside of its
 * list ends the process, and jail_why() names the call and the role.
 *
 * What cannot be had on this host is left out, and jail_probe() tells: `kiln check` shows it.
 * docs/isolation.md says what is reachable from inside, and why. Thread: as said. */
#ifndef JAIL_JAIL_H
#define JAIL_JAIL_H

#include <stdbool.h>
#include <sys/types.h>

#include "base/err.h"
#include "os/role.h"

enum { JAIL_SHARES_MAX = 8, JAIL_KEEP_MAX = 64 };

/* fork(2) into a new PID namespace as its process 1, or what of it this host allows; `off`: a plain
 * fork. Returns the pid in the parent, 0 in the child. The caller has one thread. The child does
 * not return from its function: it forks the machine's process with fork(2), reaps, and ends when
 * no child is left. */
pid_t jail_fork(bool off, struct err *e) MUST_CHECK;

struct jail_share {
    int fd;           /* of the folder: replaced by one that leads nowhere else */
    int proc_fd;      /* of /proc: replaced by one that shows this process alone */
    const char *path; /* of it, borrowed */
    bool read_only;
};

struct jail_conf { /* borrowed */
    bool off;      /* --no-jail: nothing is given up, and no calls are filtered */
    int why_fd;    /* a pipe's end, for jail_why() */
    struct jail_share share[JAIL_SHARES_MAX];
    unsigned n_shares;
};

struct jail; /* what the threads need to know; lives as long as the process */

/* In the machine's process, which has one thread and all it needs open. On failure the process is
 * of no use any more. `*hook` is for the threads that are started from now on: borrowed for ever.
 * Errors: -EPERM and others, with the step that failed. */
int jail_enter(const struct jail_conf *c, struct thread_hook *hook, struct err *e) MUST_CHECK;

/* In a fork(2) of the machine's process that has closed what is not its own, and that nobody reads
 * a report of: it goes to stderr's place. */
void jail_forked(const struct thread_hook *hook);

/* In another process, when the machine's has ended: what it did that it may not. 0: nothing. Else
 * -EPERM and the sentence. */
int jail_why(int why_fd, struct err *e) MUST_CHECK;

/* --- what this host has ----------------------------------------------------------- */

enum jail_layer {
    JAIL_USER,     /* an own user, or a user namespace */
    JAIL_PID,      /* PID namespace */
    JAIL_MOUNT,    /* mount namespace and empty root */
    JAIL_NET,      /* network, ipc, uts, cgroup namespaces */
    JAIL_CAPS,     /* no capabilities, no_new_privs */
    JAIL_SECCOMP,  /* lists of system calls */
    JAIL_LANDLOCK, /* and which ABI */
    JAIL_MDWE,     /* memory is never writable and executable */
    JAIL_LAYERS
};

struct jail_state {
    const char *name; /* "seccomp"...; static */
    bool on;
    char text[80]; /* "landlock ABI 7"; "off: ..." */
    char fix[160]; /* "" = nothing to do */
};

/* Tried out in a child. Errors: of fork(2) and pipe(2). */
int jail_probe(struct jail_state state[JAIL_LAYERS], struct err *e) MUST_CHECK;

#endif
