/* container/exec.h - a further process in a running container, of either class, with its streams
 * on descriptors of the caller.
 *
 * VM: a session of its own with the agent, over the machine's vsock socket. Process class:
 * process_exec(). Without `detach` the process belongs to the caller: a VM's is killed when that
 * dies, one of the process class goes on when its caller was killed by SIGKILL (docker leaves both
 * behind). With `detach` it goes on by itself.
 *
 * Thread: the caller's only one; exec_run() forks (process class) and polls until the process has
 * ended, so a keeper calls it in a child. */
#ifndef CONTAINER_EXEC_H
#define CONTAINER_EXEC_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "container/record.h"

struct exec_conf {           /* borrowed */
    const char *const *argv; /* NULL-terminated */
    const char *const *env;  /* "K=V", over the container's own; NULL-terminated, may be NULL */
    const char *cwd, *user;  /* NULL = the container's */
    bool tty, detach;
    bool privileged;  /* process class: all capabilities, no filter */
    int in, out, err; /* -1 = none; with a tty `err` is not used */
    /* `in` is a terminal whose size follows to the process; it is in raw mode meanwhile */
    bool terminal;
    bool signals;   /* the caller's SIGINT, SIGTERM, ... go to the process; else they stay his */
    int timeout_ms; /* -1 = none; then the process is killed and -ETIMEDOUT told */
};

enum { EXEC_KILN = 125, EXEC_CANNOT = 126, EXEC_NOT_FOUND = 127 };

/* Returns the exit status: the process's, 128 + signal where one killed it; 0 with `detach`. Where
 * it did not come to that: one of the above, and *e says why: EXEC_NOT_FOUND the command is not
 * there, EXEC_CANNOT it cannot be run, EXEC_KILN all else, -EAGAIN (paused), -ESRCH (not running)
 * and -ETIMEDOUT among it. */
int exec_run(const struct record *r, const struct exec_conf *c, struct err *e) MUST_CHECK;

#endif
