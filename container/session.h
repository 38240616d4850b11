/* container/session.h - the host's end of one agent session: SETUP, START, then the streams until
 * EXIT. Source: proto/agent.h. Thread: one; it runs its own poll loop. */
#ifndef CONTAINER_SESSION_H
#define CONTAINER_SESSION_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

struct session;

struct session_route { /* borrowed; NULL or "" as gateway: on the link */
    const char *to, *via;
    unsigned prefix;
};

/* A network card: the first is eth0, in the order of the machine's. Borrowed; NULL, "" and 0 =
 * leave as it is or without. */
struct session_net {
    uint8_t mac[6];
    unsigned mtu;
    const char *ip, *gateway, *ip6, *gateway6;
    unsigned prefix, prefix6;          /* bits */
    const struct session_route *route; /* besides those to the gateways */
    unsigned n_routes;
};

struct session_setup { /* all borrowed; NULL or 0 = leave out */
    const char *hostname, *machine_id, *root_dev, *root_fstype, *overlay_dev;
    bool root_ro;
    uint64_t overlay_bytes;    /* of the writable layer where it is in memory */
    const char *const *mounts; /* NULL-terminated "type\0source\0target\0options" */
    const size_t *mount_len;
    const char *hosts, *resolv;
    const struct session_net *net;
    unsigned n_nets;
};

struct session_process {                  /* all borrowed */
    const char *const *argv, *const *env; /* NULL-terminated */
    const char *cwd, *user;
    bool beside; /* not the container's first process, though none was before */
    bool tty, with_stdin;
    bool detach; /* it goes on when the session ends, and what it writes is nobody's */
    uint16_t rows, cols;
};

/* What else may end a wait. -1 = none. Borrowed. */
struct session_watch {
    int machine_fd; /* readable = the machine ended: -ECONNRESET */
    /* signalfd(2) of signals the caller blocked. Before session_pump() SIGINT, SIGTERM, SIGHUP and
     * SIGQUIT end a wait: -EINTR. */
    int signal_fd;
    int *signal;          /* the last one taken from signal_fd; may be NULL */
    uint64_t deadline_ms; /* CLOCK_MONOTONIC: no wait is longer, -ETIMEDOUT; 0 = none */
};

/* Listen for the agent's ready call on `<vsock_path>_1025`; made before the machine starts. */
int session_listen(const char *vsock_path, int *listen_fd, struct err *e) MUST_CHECK;
/* Wait for ready (listen_fd -1: the agent is known to listen), then connect (CONNECT 1024) and say
 * HELLO. -ETIMEDOUT, and as session_watch says. */
int session_open(const char *vsock_path, int listen_fd, const struct session_watch *w,
                 int timeout_ms, struct session **ret, struct err *e) MUST_CHECK;
/* A machine that has an agent waiting: two ends of a socket, one for vm_conf.vsock_client, the
 * other for session_open_pair(). Both owned by the caller. */
int session_pair(int *theirs, int *ours, struct err *e) MUST_CHECK;
/* The agent behind `ours` (owned from here, also on failure). Errors as session_open(). */
int session_open_pair(int ours, const struct session_watch *w, int timeout_ms, struct session **ret,
                      struct err *e) MUST_CHECK;
/* The same without waiting for anything: HELLO, session_setup() and session_start() are sent, so
 * that all of them are there when the machine comes to itself, and each session_await() gives what
 * the next of the three would have returned. */
int session_call(int ours, const struct session_watch *w, struct session **ret,
                 struct err *e) MUST_CHECK;
int session_await(struct session *s, int timeout_ms, struct err *e) MUST_CHECK;
/* The same over a connected stream socket `fd` (owned from here, also on failure). */
int session_open_fd(int fd, const struct session_watch *w, int timeout_ms, struct session **ret,
                    struct err *e) MUST_CHECK;
void session_close(struct session *s);
/* A machine that goes on from a saved state becomes one of its own: fresh entropy, the time, names.
 * Only hostname, machine_id, hosts, resolv and the cards of *c are used. */
int session_identity(struct session *s, const struct session_setup *c, struct err *e) MUST_CHECK;
int session_setup(struct session *s, const struct session_setup *c, struct err *e) MUST_CHECK;
/* -ENOENT: command not found (exit 127); -EINVAL: no such user or working directory (125); others:
 * it cannot be run (126). -EPROTO: the agent broke the protocol. */
int session_start(struct session *s, const struct session_process *p, struct err *e) MUST_CHECK;

/* A process whose START another one sent: over `fd` (owned from here, also on failure) come its
 * streams. */
int session_join(int fd, const struct session_watch *w, struct session **ret,
                 struct err *e) MUST_CHECK;

struct proto_frame;

struct session_streams { /* borrowed; -1 = none */
    int in, out, err;
    int tty; /* a SIGWINCH sends the size of this terminal; input is then a terminal's in raw mode
              */
    const uint8_t *detach; /* keys that end the pump; they are not sent unless others follow */
    size_t n_detach;       /* 0 = none */
    void (*other)(void *ctx, const struct proto_frame *f); /* frames of no stream; may be NULL */
    void *other_ctx;
};
enum { SESSION_DETACHED = 1, SESSION_DETACH_MAX = 32 };
/* Copy streams until EXIT; *status as from wait(2). SESSION_DETACHED: the keys were typed. Signals
 * of the watch are forwarded, SIGWINCH as a size. SIGPIPE must be ignored: an output that nobody
 * reads is closed in the guest too. -ECANCELED: a second SIGINT or SIGTERM, or with a terminal two
 * Ctrl-C that the guest took no notice of. -ETIMEDOUT after timeout_ms (-1 = never). */
int session_pump(struct session *s, const struct session_streams *io, int timeout_ms, int *status,
                 struct err *e) MUST_CHECK;
/* Work on the container's files in place of a command, then session_pump(): its streams are those
 * of proto/filework.h, its input is open for FILEWORK_PUT. */
int session_work(struct session *s, unsigned kind, unsigned flags, const char *path,
                 const char *name, struct err *e) MUST_CHECK;

struct session_usage { /* 0 = not known; since the start, or now */
    uint64_t cpu_ns, memory, memory_total, pids, net_rx, net_tx, disk_read, disk_write;
};
/* As the guest sees it. */
int session_usage(struct session *s, int timeout_ms, struct session_usage *u,
                  struct err *e) MUST_CHECK;
struct session_limit {             /* 0 = leave as it is, UINT64_MAX = none */
    uint64_t memory, pids, cpu_us; /* bytes; of CPU time in 100 ms */
};
/* From now on. -ENOTSUP, -EBUSY more memory is used now. */
int session_limit(struct session *s, const struct session_limit *l, struct err *e) MUST_CHECK;
/* No process of the container runs until session_close(): PROTO_HOLD. Errors: what the agent says:
 * -EBUSY one does not come to rest, or another session holds them; -ENOTSUP. */
int session_hold(struct session *s, struct err *e) MUST_CHECK;
int session_poweroff(struct session *s, struct err *e) MUST_CHECK;

#endif
