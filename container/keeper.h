/* container/keeper.h - the one process that minds a running container, and how it is reached.
 *
 * keeper_start() forks it from whoever starts the container; it is nobody's to wait for. It holds
 * the record's `alive` lock, makes what the container needs, starts the task (container/task.h),
 * writes the log, serves its clients, keeps the health check and the restart policy, and undoes
 * everything at the end: after that alone clients hear of the end, so that whoever hears of it
 * finds nothing left. Thread: it has one.
 *
 * It is reached by the Unix socket `keeper` in its run folder (record_state.run), by its own user
 * and root. One request a connection: a JSON object in a line, {"op": NAME, ...}; the answer
 * likewise, {"ok": true, ...} or {"ok": false, "code": -errno, "error": SENTENCE}:
 *   kill     signal: number
 *   stop     signal?: number, timeout_s?: -1 = none; then SIGKILL -> exit_code. Answered when it
 *            has ended
 *   restart  as stop, and answered when it runs again
 *   wait     -> exit_code; answered when the present run is over and cleaned up
 *   pause, resume
 *   resize   rows, cols
 *   update   memory?, memory_swap?, nano_cpus?, cpu_shares?, pids_limit?: struct task_limits
 *   stats    -> what struct task_stats has, by its members' names; engine, pid
 *   renamed  the record has another name
 *   attach   stdin?: bool. Instead of an answer the connection goes on in frames of proto/agent.h,
 *            to be read by session_pump(). From the keeper: STARTED, or ERROR; then STDIN_ACK,
 *            STDOUT, STDERR and at last EXIT, or ERROR if the container was lost. To it: STDIN,
 *            WINSIZE, SIGNAL. Who hangs up is detached. A client that does not read holds the
 *            container's output as a full pipe would.
 * A keeper that is about to start something answers when that is done. While it is, SIGTERM to the
 * keeper gives the start up.
 *
 * Commands inside are no matter of the keeper: a machine's agent is called by run/vsock
 * (container/session.h), a process joins the namespaces of record_state.pid. */
#ifndef CONTAINER_KEEPER_H
#define CONTAINER_KEEPER_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"
#include "container/record.h"
#include "container/session.h"
#include "container/task.h"
#include "container/trace.h"

struct vm_report;

/* Frames of the keeper's own, to clients that started or attached. */
enum keeper_frame {
    KEEPER_BOOTING = 64, /* u8: a machine boots, or no longer */
    KEEPER_CONSOLE,      /* text: after a failure, the end of the machine's console */
    KEEPER_COUNTERS,     /* struct vm_report, before EXIT; asked for by keeper_conf */
};

/* Exit statuses of kiln's own. */
enum { KEEPER_KILN = 125, KEEPER_CANNOT = 126, KEEPER_NOT_FOUND = 127, KEEPER_TIMEOUT = 124 };

/* A client that hears how a start goes, or is attached. */
struct keeper_line { /* owned: keeper_hang_up() */
    struct session *s;
    pid_t keeper; /* the caller's child, when it started it; else 0 */
    bool started; /* keeper_await() said so */
    bool over;    /* it has told the end */
    /* What is told besides streams; NULL = not of interest. Set by the caller. */
    void (*booting)(void *ctx, bool yes);
    void (*console)(void *ctx, const char *text);
    void (*counters)(void *ctx, const struct vm_report *r);
    void *ctx;
};

struct keeper_conf {         /* borrowed for the call */
    const char *store;       /* root; NULL = default */
    bool attach, with_stdin; /* the starter stays attached, and gives input */
    bool counters;           /* what the engine counted is told at the end */
    uint16_t rows, cols;     /* of its terminal; 0 = not known */
    struct trace *trace;     /* may be NULL */
    const struct session_watch *watch;
    const struct task_ops *task; /* NULL: that of its class */
};

/* Start container `r`, locked (RECORD_CHANGE), whose lock is given back. Returns when its keeper
 * lives; how the start goes is told by keeper_await(). -EALREADY it runs; -ENOENT its image or
 * kernel is gone. */
int keeper_start(struct record *r, const struct keeper_conf *c, struct keeper_line *l,
                 struct err *e) MUST_CHECK;
/* Until the command runs, or cannot. Errors as task_ops.start; -EINTR as session_watch says. */
int keeper_await(struct keeper_line *l, struct err *e) MUST_CHECK;
/* The exit status for what keeper_await() said. */
int keeper_start_status(int code);
/* Give up what is being started, or end what runs, at once; returns when it is cleaned up. For the
 * starter. */
void keeper_give_up(struct keeper_line *l);
void keeper_hang_up(struct keeper_line *l);

/* Attach to a running one. -ESRCH: it does not run. */
int keeper_attach(const struct record *r, bool with_stdin, const struct session_watch *w,
                  struct keeper_line *l, struct err *e) MUST_CHECK;
/* session_pump() with what the line tells besides. When that ends with the container, all is
 * cleaned up. */
int keeper_pump(struct keeper_line *l, struct session_streams *io, int *status,
                struct err *e) MUST_CHECK;

/* Ask and wait for the answer. *answer (may be NULL) owned by the caller. r must not be locked.
 * -ESRCH: it does not run; -ECONNRESET: its keeper was killed; -ETIMEDOUT (timeout_ms >= 0); else
 * what it answered. */
int keeper_ask(const struct record *r, const json_t *req, int timeout_ms, json_t **answer,
               struct err *e) MUST_CHECK;
/* The same, {"op": op}. */
int keeper_do(const struct record *r, const char *op, struct err *e) MUST_CHECK;
/* Ask, with a request that ends it, also one that is about to start: that is given up. */
int keeper_end(const struct record *r, const json_t *req, struct err *e) MUST_CHECK;
/* A connection on which nothing is asked: it ends with the keeper. Owned by the caller. */
int keeper_watch_fd(const struct record *r, struct err *e) MUST_CHECK;

#endif
