/* container/warden.h - the process beside a machine's that stays outside its jail (jail/jail.h).
 *
 * It does what the machine cannot: it connects for the guest to `<vsock>_PORT`, and again to the
 * back ends that serve its devices, and keeps a snapshot's working set. It removes what a machine
 * leaves when nobody else is there to do it. It is process 1 of the machine's PID namespace: it
 * reaps, and stays while copies of the machine
 * (`kiln fork`) live there. What a machine asks for comes over a socket and is hostile.
 *
 * Thread: the server has a process of its own; the client's functions may be called by any. */
#ifndef CONTAINER_WARDEN_H
#define CONTAINER_WARDEN_H

#include <pthread.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"
#include "container/rundir.h"
#include "net/vsockd.h"
#include "vhost/vulink.h"
#include "vm/vm.h"

/* --- the server -------------------------------------------------------------- */

struct ward {                 /* a machine that is looked after */
    int link;                 /* ends when the machine does; owned. -1 = it has ended */
    struct rundir dir;        /* RUNDIR_NONE: none */
    const char *vsock;        /* path; borrowed; NULL = the guest connects to nobody */
    const struct vm_conf *vm; /* whose vhost-user back ends it may reach; borrowed; NULL = none */
    const char *snapshot;     /* folder of that whose working set it may tell; NULL = none */
};

/* A link for a new machine. */
int warden_pair(int *ours, int *theirs, struct err *e) MUST_CHECK;
/* To the owner, before warden_main(): the machine's process. warden_await() takes it there: a
 * pidfd, owned by the caller, and the pid; -ECONNRESET: the warden died. */
bool warden_present(int owner, int pidfd);
int warden_await(int ward_fd, pid_t *pid, struct err *e) MUST_CHECK;
/* Until all of them have ended, and no child is left. The folder of each is removed when it ends;
 * with an `owner` (a socket, -1 = none) only if that has ended, which also ends `machine` (0 =
 * none). The owner reads a byte 's' when its machine is gone but copies of it stay, or the end. */
_Noreturn void warden_main(struct ward *w, unsigned n, int owner, pid_t machine);

/* --- the machine's side ------------------------------------------------------- */

struct warden_link {
    int fd;       /* owned */
    uint32_t seq; /* under the lock */
    pthread_mutex_t lock;
    struct vsockd_dial dial;  /* for vm_conf.vsock_dial */
    struct vulink_dial back;  /* for vm_conf.vhost_dial */
    const struct vm_conf *vm; /* as the ward's; borrowed */
};
/* In place: it stays where it is for the process's life. */
void warden_link_init(struct warden_link *l, int fd, const struct vm_conf *vm);
/* Bytes of vm/workset.h. Best effort. */
void warden_workset(struct warden_link *l, const void *bytes, size_t len);

#endif
