/* container/control.h - how a running machine is reached: a Unix socket `control` in its state
 * folder, one JSON object a line each way.
 *
 * Request {"op": NAME, ...}; answer {"ok": true, ...} or {"ok": false, "code": -errno, "error":
 * SENTENCE}. Only the machine's own user and root may ask (SO_PEERCRED). Operations:
 *   info      -> id, name, pid, engine, cpus, ram_bytes, vsock (path of its socket), note
 *   snapshot  dir, parent?, compress?, stop? -> pause_ns, total_ns, pages, stored_bytes
 *   fork      n, prefix? -> machines: [{id, name, pid, vsock}], pause_ns, total_ns
 *             all of them or none; they run once all are made
 *   pause, resume
 *   stop      ends the machine
 * Thread: a server has one thread, which is the machine's controlling one: while it lives, nobody
 * else calls vm_pause(), vm_resume(), vm_save() or snapshot_create(). One request at a time. */
#ifndef CONTAINER_CONTROL_H
#define CONTAINER_CONTROL_H

#include <jansson.h>

#include "base/err.h"
#include "container/rundir.h"
#include "vm/vm.h"

enum {
    CONTROL_LINE_MAX = 1024 * 1024, /* bytes of a request or answer */
    CONTROL_FORKS_MAX = 1000,
};

struct control;

struct control_conf { /* borrowed but where said */
    struct vm *vm;
    const struct rundir *dir; /* for the machine's life */
    const char *vsock;        /* path of its socket; NULL = none; copied */
    const char *note;         /* what kind of machine, kept with its snapshots; copied */
};

/* Errors: what the socket calls and pthread_create(3) say. */
int control_serve(const struct control_conf *conf, struct control **ret, struct err *e) MUST_CHECK;
void control_free(struct control *c); /* ends a request under way; before vm_free(); may be NULL */

/* The client: find the machine by name, id or unique beginning of the id, send `req` (owned by the
 * caller), wait for the answer. *answer: owned by the caller. Errors: -ENOENT no such machine;
 * -ECONNRESET it ended; else what the machine answered, with its sentence. */
int control_ask(const char *machine, const json_t *req, json_t **answer, struct err *e) MUST_CHECK;

#endif
