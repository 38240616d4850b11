/* container/control.h - how a running machine is reached: a Unix socket `control` in its state
 * folder, one JSON object a line each way, with descriptors where said: the machine opens nothing
 * itself (jail/jail.h).
 *
 * Request {"op": NAME, ...}; answer {"ok": true, ...} or {"ok": false, "code": -errno, "error":
 * SENTENCE}. Only the machine's own user and root may ask (SO_PEERCRED). Operations:
 *   info      -> id, name, engine, cpus, ram_bytes, vsock (path of its socket), note, own_disks:
 *             numbers of those whose content is the machine's, own_paths. The machine's pid is the
 *             connection's peer.
 *   snapshot  parent?, parent_id?, compress?, stop?, with files open for writing: state, memory, a
 *             disk for each of own_disks -> pause_ns, total_ns, pages, stored_bytes. After "stop"
 *             the machine stands until another request ends it, or goes on when the connection ends
 *   fork      n, with a file for a copy of each of own_disks. Then n times: {"ready": true} is
 *             answered and {"id", "name", "vsock"} is said, with the descriptors of
 *             container/machine.h. -> machines: [id], pause_ns, total_ns
 *             all of them or none; they run once all are made
 *   pause, resume
 *   code      what was translated so far is written to control_conf.code_fd
 *   stop      ends the machine
 * control_ask() below does the caller's part of these and takes what its callers know: snapshot
 * with dir, parent?, compress?, stop?; fork with n, prefix? -> machines: [{id, name, pid, vsock}].
 * Thread: a server has one thread, which is the machine's controlling one: while it lives, nobody
 * else calls vm_pause(), vm_resume(), vm_save() or snapshot_create(). One request at a time. */
#ifndef CONTAINER_CONTROL_H
#define CONTAINER_CONTROL_H

#include <jansson.h>
#include <sys/types.h>

#include "base/err.h"
#include "container/rundir.h"
#include "vm/vm.h"

enum {
    CONTROL_LINE_MAX = 1024 * 1024, /* bytes of a request or answer */
    CONTROL_FORKS_MAX = 1000,
};

struct control;
struct thread_hook;
struct warden_link;

struct control_conf { /* borrowed but where said */
    int listen_fd;    /* of control_listen(); owned, also on failure */
    uid_t owner;      /* who may ask, besides root */
    const struct thread_hook *hook;
    struct warden_link *link; /* the machine's warden */
    int code_fd; /* where translated code is written when asked for; borrowed; -1 = nowhere */
    struct vm *vm;
    const struct rundir *dir; /* for the machine's life */
    const char *vsock;        /* path of its socket; NULL = none; copied */
    const char *note;         /* what kind of machine, kept with its snapshots; copied */
};

/* The socket in state folder `dir`, owned by the caller. Errors: what the socket calls say. */
int control_listen(const char *dir, struct err *e) MUST_CHECK;
/* Errors: what pthread_create(3) says. */
int control_serve(const struct control_conf *conf, struct control **ret, struct err *e) MUST_CHECK;
void control_free(struct control *c); /* ends a request under way; before vm_free(); may be NULL */

/* The client: find the machine by name, id or unique beginning of the id, send `req` (owned by the
 * caller), wait for the answer. *answer: owned by the caller. Errors: -ENOENT no such machine;
 * -ECONNRESET it ended; else what the machine answered, with its sentence. */
int control_ask(const char *machine, const json_t *req, json_t **answer, struct err *e) MUST_CHECK;

#endif
