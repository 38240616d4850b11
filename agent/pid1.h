/* agent/pid1.h - the guest's PID 1: what its files share.
 *
 *   init.c     boots the guest's user space (mounts, modules, loopback), then serves until POWEROFF
 *   early.c    those first steps
 *   serve.c    the poll loop: listener, child exits, peers
 *   peer.c     one connection = one session: its frames and streams
 *   request.c  SETUP and START as structures
 *   sandbox.c  the container's PID and mount namespace with a small init of its own
 *   root.c     the container's root: image, overlay, /proc, /dev, ...
 *   mounts.c   folders, files, tmpfs and disks in it
 *   netconf.c  network cards: addresses and routes
 *   ident.c    hostname, clock, entropy, files in /etc
 *   spawn.c    start a process in the sandbox
 *   work.c     work on the container's files
 *   usage.c    what the container uses, and limits
 *   group.c    the container's control group: its processes stand still together
 *
 * The container runs in its own PID namespace, so that nothing in it can see, signal or trace the
 * agent, and its end (or `reboot` inside it) is an exit status, not the end of the machine.
 * Children of the agent enter that namespace when they are forked; orphans belong to the sandbox's
 * init.
 *
 * Thread: one. Protocol: proto/agent.h. */
#ifndef AGENT_PID1_H
#define AGENT_PID1_H

#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"
#include "base/strv.h"
#include "os/launch.h"
#include "os/user.h"
#include "proto/agent.h"

enum {
    AGENT_PEERS_MAX = 64,
    AGENT_PEER_POLLS = 5, /* socket, exec report, stdin, stdout, stderr */
    AGENT_MOUNTS_MAX = 64,
    AGENT_HOLD_MS = 5000, /* for processes to come to rest; one may wait for a slow disk */
    AGENT_DRAIN_MS =
        10000, /* for processes that do not die after SIGKILL while they hold the output */
};

/* ---- request.c */

struct setup_mount {
    char *type, *source, *target, *options; /* point into `bytes` */
    char *bytes;
};

enum { AGENT_NETS_MAX = 8, AGENT_ADDRS_MAX = 8, AGENT_ROUTES_MAX = 32 };

struct setup_route {
    uint8_t family, prefix; /* AF_INET or AF_INET6; bits */
    bool linked;            /* no gateway */
    uint8_t to[16], via[16];
};
struct setup_net { /* one card */
    bool has_mac;
    uint8_t mac[6];
    uint32_t mtu;                                                      /* 0 = as it is */
    struct setup_route addr[AGENT_ADDRS_MAX], route[AGENT_ROUTES_MAX]; /* an address is in `to` */
    unsigned n_addrs, n_routes;
};

struct setup_req {
    char *hostname, *machine_id, *root_dev, *root_fstype, *overlay_dev, *hosts, *resolv;
    bool root_ro;
    uint64_t
        overlay_bytes; /* of a writable layer in memory; 0 = half of it, as the kernel has it */
    bool wall_port;    /* this is a machine of kiln's: it has a wall clock to ask */
    uint64_t wall_ns;  /* 0 = leave the clock alone */
    uint8_t *entropy;
    uint32_t entropy_len;
    struct setup_mount mount[AGENT_MOUNTS_MAX];
    unsigned n_mounts;
    struct setup_net *net; /* owned */
    unsigned n_nets;
};
/* A SETUP, or an IDENTITY, which is a part of one. Errors: -EBADMSG, -ENOMEM. `r` is to be done in
 * each case. */
int setup_parse(const struct proto_frame *f, struct setup_req *r, struct err *e) MUST_CHECK;
void setup_done(struct setup_req *r);

struct start_req {
    struct strv argv, env;
    char *cwd, *user;
    bool tty, with_stdin, detach, beside;
    uint32_t work, flags; /* work: an enum filework_kind, in place of a command; 0 = none */
    uint16_t rows, cols;
    size_t bytes; /* payload taken so far, MOREs included */
};
/* Adds one frame's fields (MORE or START). */
int start_parse(const struct proto_frame *f, struct start_req *r, struct err *e) MUST_CHECK;
void start_done(struct start_req *r);

/* ---- group.c */

/* Mounts cgroup2 on `dir` and makes a group in it: its descriptor. -1 = this kernel has none, and
 * the container is in no group. */
int group_open(const char *dir);
/* fork(2) into the group; -1 = into none. */
pid_t group_fork(int group);
/* Returns when every process in it stands still. -EBUSY: one did not in AGENT_HOLD_MS, and all go
 * on; -ENOTSUP. */
int group_freeze(int group, struct err *e) MUST_CHECK;
void group_thaw(int group);

/* ---- sandbox.c */

struct layers { /* of the container's root: folders that it cannot see itself */
    int image, upper;
};

struct sandbox {
    pid_t pid; /* its init as the agent sees it; 0 = none */
    int cmd;   /* socket to that init; owned */
    int group; /* the container's control group; borrowed; -1 = none */
    int mnt;   /* its mount namespace; owned */
    int root;  /* O_PATH of its root; owned */
    int ptmx;  /* O_PATH of its /dev/pts/ptmx, found before any of its processes ran; owned */
    struct layers layers; /* owned */
    bool disks;           /* what is written may be kept */
};
#define SANDBOX_NONE ((struct sandbox){0, -1, -1, -1, -1, -1, {-1, -1}, false})
/* Afterwards every child this process forks is in the sandbox's PID namespace. `base`: a folder of
 * the agent's own for mount points; `group`: of group_open(), borrowed. */
int sandbox_open(struct sandbox *s, const struct setup_req *r, const char *base, int group,
                 struct err *e) MUST_CHECK;
void sandbox_kill_all(
    struct sandbox *s); /* SIGKILL to every process but its init; returns when sent */
void sandbox_close(struct sandbox *s); /* ends its init and with it all of it */

/* ---- root.c, ident.c */

/* Make the container's root and enter it. In a mount namespace of its own. *l owned by the caller.
 */
int root_enter(const struct setup_req *r, const char *base, struct layers *l,
               struct err *e) MUST_CHECK;
/* In the container's root: one of the request's mounts. `fd`: its source, if that is a path, else
 * -1. Its options are cut up. */
int mounts_add(const struct setup_mount *m, int fd, struct err *e) MUST_CHECK;
/* In the agent: hostname, clock, entropy. Only the hostname can fail. */
int ident_machine(const struct setup_req *r, struct err *e) MUST_CHECK;
/* In the container's root, a descriptor: /etc/hostname, machine-id, hosts, resolv.conf, mtab. */
int ident_files(int root, const struct setup_req *r, struct err *e) MUST_CHECK;
/* The same from outside, in a container that is there; a root that is read-only stays as it is. */
int ident_renew(const struct sandbox *s, const struct setup_req *r, struct err *e) MUST_CHECK;

/* ---- netconf.c */

/* Before any request: what holds for every network card. */
void netconf_early(void);
/* The network cards as the request wants them, and up. Addresses count at once: duplicates are not
 * looked for, since the host gives them out. `again`: there may be addresses already. */
int netconf_apply(const struct setup_req *r, bool again, struct err *e) MUST_CHECK;

/* ---- spawn.c */

struct process {
    pid_t pid;
    int report;       /* readable: EOF = exec succeeded, else a struct spawn_failure; owned */
    int in, out, err; /* our ends, non-blocking; err -1 with a tty; in -1 without stdin; owned */
};
struct spawn_failure {
    int32_t code; /* errno, positive */
    char text[ERR_MSG_MAX];
};
int spawn(const struct sandbox *s, const struct start_req *r, struct process *p,
          struct err *e) MUST_CHECK;

/* ---- work.c */

/* In a child of the agent: do r->work in the sandbox, streams on 0 and 1, the report on 3. Returns
 * only on failure to begin. */
int work_run(const struct sandbox *s, const struct start_req *r, struct err *e);

/* ---- usage.c */

/* USAGE_IS's fields. */
void usage_put(int group, struct proto_buf *b);
/* A LIMIT. -ENOTSUP: this kernel cannot; -EBUSY: more is used now. */
int usage_limit(int group, const struct proto_frame *f, struct err *e) MUST_CHECK;

/* ---- serve.c, peer.c */

struct agent {
    const char *base; /* folder for mount points */
    bool any_peer;    /* tests: the listener is not vsock */
    int group;        /* of group_open() */
    struct sandbox box;
    pid_t
        main_pid; /* the first process; when it ends, the container does. 0 = none yet, -1 = gone */
    bool poweroff;
    bool held; /* the container's processes stand still, by a HOLD */
};

struct peer;
struct peer *peer_new(struct agent *a, int sock); /* owns sock; NULL = no memory (sock closed) */
void peer_free(struct peer *p);                   /* kills its process */
unsigned peer_polls(struct peer *p, struct pollfd *v, int *timeout_ms);
/* Handles what poll() said. False: the session is over, free it. */
bool peer_handle(struct peer *p, const struct pollfd *v);
bool peer_reaped(struct peer *p, pid_t pid, int status); /* true = was mine */

/* Until POWEROFF. `listener` is borrowed. SIGCHLD must be blocked. Errors: poll or signalfd
 * failing. */
int serve(struct agent *a, int listener, struct err *e) MUST_CHECK;

/* ---- early.c */

void early_mounts(void);
void early_modules(const char *dir);
void early_loopback(void);
int early_listen(struct err *e) MUST_CHECK;                                 /* the vsock listener */
void early_ready(void);                                                     /* tells the host */
__attribute__((format(printf, 1, 2))) void early_log(const char *fmt, ...); /* to the console */

#endif
