/* container/keeperpriv.h - what the files of the keeper share. See container/keeper.h. */
#ifndef CONTAINER_KEEPERPRIV_H
#define CONTAINER_KEEPERPRIV_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "container/ctrlog.h"
#include "container/health.h"
#include "container/keeper.h"
#include "container/backoff.h"
#include "container/rundir.h"
#include "network/network.h"
#include "os/loop.h"

enum {
    PEERS_MAX = 256,            /* connections at once */
    PEER_LINE_MAX = 16 * 1024,  /* bytes of a request */
    PEER_FRAME_MAX = 40 * 1024, /* of a frame from a client: pump.c sends less */
    PEER_HOLD = 128 * 1024,     /* bytes waiting for a client: its output is held */
    PEER_OUT_MAX = 1024 * 1024, /* and never more */
};

/* Private to keeper_start(): the keeper can be reached. */
enum { KEEPER_READY = 80 };

struct peer; /* a connection: keeppeer.c */

struct probe { /* a run of the health command under way; pid 0 = none */
    pid_t pid;
    int out, end; /* its output; pidfd */
    struct loop_fd out_h, end_h;
    uint64_t began_ms, kill_at;
    struct record_probe result;
    size_t len; /* of result.output */
};

enum keeper_phase { KEEPER_STARTING, KEEPER_RUNNING, KEEPER_BACKOFF, KEEPER_OVER };

struct keeper {
    struct record *rec; /* borrowed from who forked */
    const struct keeper_conf *conf;
    const struct task_ops *ops;
    struct task *task; /* NULL: none runs */
    struct task_conf tc;
    char *store, *rootfs, *kernel, *kernel_dir;
    char fstype[16];
    struct rundir dir;
    struct loop *loop;
    struct loop_fd listen_h, signal_h;
    int alive, listen_fd, signal_fd;
    bool connected; /* the lease is one */
    struct network_want want;
    struct network_lease lease;
    struct network_port port[NETWORK_PORTS_MAX];
    size_t n_ports;
    struct ctrlog log;
    struct peer *peers;       /* list */
    unsigned n_peers, n_full; /* n_full: peers that take no more output for now */
    size_t unacked;           /* sum of the peers' */
    bool held;
    enum keeper_phase phase;
    /* of the present run */
    bool ended;     /* the task told its end */
    bool again;     /* start anew at once: asked for */
    bool timed_out; /* --timeout */
    bool unread[2]; /* its streams have no reader */
    int status;     /* as of wait(2) */
    bool oom;
    struct err lost;   /* code 0: it ended by itself */
    uint64_t began_ms; /* CLOCK_MONOTONIC */
    struct backoff backoff;
    struct health health;
    struct probe probe;
    bool stopping; /* somebody asked to stop: no restart */
    /* Deadlines, CLOCK_MONOTONIC ms; UINT64_MAX = none. */
    uint64_t kill_at, lose_at, restart_at, timeout_at;
};

uint64_t keeper_now_ms(void);

/* ---- keeppeer.c: connections. Every one that goes wrong is dropped, and that is all. */

enum peer_waits { PEER_NOTHING, PEER_END, PEER_RESTART };

/* Take a connected socket (owned from here); NULL: it was closed. */
struct peer *peer_new(struct keeper *k, int fd);
/* The one who started: attached at once. */
struct peer *peer_starter(struct keeper *k, int fd, bool attached, bool with_stdin);
void peer_drop(struct keeper *k, struct peer *p);
void peer_attach(struct keeper *k, struct peer *p, bool with_stdin, bool owns_stdin);
void peer_wait(struct peer *p, enum peer_waits what);
/* An answer in a line; the connection then ends. out: taken, NULL = {}. */
void peer_answer(struct keeper *k, struct peer *p, int code, const char *error, json_t *out);
/* A frame to the starter, sent at once if it can be: what a start says while the loop stands. */
void peer_tell_starter(struct keeper *k, unsigned type, const void *bytes, size_t len);
/* An ERROR, the last that is said; p NULL: to the starter. */
void peer_error(struct keeper *k, struct peer *p, const struct err *e);
/* To all attached: a portion of output; an end (e may be NULL), after which they are let go. */
void peers_output(struct keeper *k, enum task_stream stream, const void *bytes, size_t len);
void peers_end(struct keeper *k, int status, const struct err *e);
/* Those that wait for `what` are answered. */
void peers_answer(struct keeper *k, enum peer_waits what, int exit_code);
void peers_input_ready(struct keeper *k);
bool peers_any(const struct keeper *k, bool only_output); /* something is still to be sent */
void peers_sweep(struct keeper *k);                       /* between rounds of the loop */
void peers_free(struct keeper *k);

/* ---- keepreq.c: requests */

/* Answers, or has it answered later. */
void request_serve(struct keeper *k, struct peer *p, const char *line);

/* ---- keepnet.c */

/* Errors as network_attach(); -ESRCH the container that is to be joined does not run. */
int keeper_connect(struct keeper *k, struct err *e) MUST_CHECK;
void keeper_disconnect(struct keeper *k);

/* ---- keephealth.c */

void health_check(struct keeper *k);   /* it is time */
void health_overdue(struct keeper *k); /* of k->probe.kill_at */
void health_give_up(struct keeper *k); /* the container ended */

/* ---- keeper.c */

void keeper_save(struct keeper *k); /* the state; a full disk must not end a container */

/* In a forked child with one thread: be the keeper. `starter`: a connected socket. */
_Noreturn void keeper_main(struct keeper *k, int starter);

void keeper_signal(struct keeper *k, int sig); /* to the container; SIGKILL is seen to */
/* Ask it to end, and see to it after timeout_ms (-1 = never). */
void keeper_stop(struct keeper *k, int sig, int64_t timeout_ms);
int keeper_pause(struct keeper *k, bool yes, struct err *e) MUST_CHECK;
void keeper_unread(struct keeper *k, enum task_stream stream);
void keeper_note(struct keeper *k, const char *action, const char *const *more); /* an event */

#endif
