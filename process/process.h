/* process/process.h - a container in namespaces and cgroups of the host's own kernel.
 *
 * What an OCI runtime does, as a library: create, start, exec, kill, freeze, delete. Source: OCI
 * runtime-spec 1.1, config.md, config-linux.md, runtime.md; struct process_conf has their fields
 * under their names, so that a config.json maps to it one to one. docker's defaults are in
 * process/defaults.h, mount option words in process/mountopt.h, seccomp profiles in
 * process/filter.h.
 *
 * How it is done. One clone3(2) makes all new namespaces; namespaces to join are joined by a stage
 * before it. The init makes its root in its own mount namespace with the new mount API and detached
 * mounts: every path inside the root is walked by openat2(2) with RESOLVE_IN_ROOT and then used as
 * a descriptor, so links of a hostile image lead nowhere. It then waits at a Unix socket "start" in
 * the container's folder; process_start() connects to it, from whichever process, and hears there
 * why a command could not be executed. Nothing of the host's stays open (close_range). The last
 * step before the command is a tiny program in a sealed memfd (process/last/), so that what
 * /proc/self/exe and a "#!/proc/self/exe" mean is never this program's file (CVE-2019-5736).
 *
 * Root file system. An image is a squashfs file: as root it is mounted from a loop device that
 * frees itself, by the caller (so that a user namespace makes no difference), and attached in the
 * container's mount namespace alone. Without root the kernel mounts no squashfs: then squashfuse(1)
 * serves it inside the container's user and mount namespace and ends with them. That and not an
 * unpacked copy in the store: nothing to unpack before the first start, nothing with foreign owners
 * to remove, and ids come out right under any mapping. Over it lies an overlay whose upper folder
 * the caller keeps, or a tmpfs.
 *
 * Without root: a user namespace mapped by newuidmap(1) and newgidmap(1) where they and
 * subordinate ids are, else the caller's one id. Limits need cgroups the user may write; asked for
 * without, create fails and says so.
 *
 * Thread: any; but who calls process_create() and process_exec(), which fork, has one thread. The
 * init and processes of process_exec() are the caller's children: it reaps them. */
#ifndef PROCESS_PROCESS_H
#define PROCESS_PROCESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/types.h>

#include "base/err.h"
#include "jail/cgroup.h"

enum {
    PROCESS_MOUNTS_MAX = 256,
    PROCESS_PATHS_MAX = 128, /* of masked and of read-only paths, each */
    PROCESS_MAPS_MAX = 32,   /* of one kind of id */
    PROCESS_DEVICES_MAX = 1024,
    PROCESS_SYSCTLS_MAX = 64,
    PROCESS_GROUPS_MAX = 1024,
    PROCESS_PASS_FDS_MAX = 32,
    PROCESS_TARGET_MAX = 4096, /* bytes of a path */
};

enum process_ns { /* in the order they are entered */
                  PROCESS_NS_USER,
                  PROCESS_NS_PID,
                  PROCESS_NS_NET,
                  PROCESS_NS_IPC,
                  PROCESS_NS_UTS,
                  PROCESS_NS_CGROUP,
                  PROCESS_NS_TIME,
                  PROCESS_NS_MNT,
                  PROCESS_NS_KINDS,
};

enum process_ns_how {
    PROCESS_NS_HOST, /* the caller's */
    PROCESS_NS_NEW,
    PROCESS_NS_PATH, /* the one this path names: "/proc/1/ns/net", a bind mount of one */
};

struct process_namespace {
    enum process_ns_how how;
    const char *path;
};

struct process_map { /* uidMappings, gidMappings */
    uint32_t inside, outside, count;
};

/* root. One of `path` and `image`. */
struct process_root {
    const char *path;   /* a folder; with `upper` or `tmpfs` the lower layer of an overlay */
    const char *image;  /* a file with a file system */
    const char *fstype; /* of it: "squashfs", "erofs" */
    /* The writable layer: a folder with (made when missing) upper/ and work/; or in memory.
     * Neither: an image is read-only, a folder is written itself. */
    const char *upper;
    /* What is written to `upper` need not survive a crash of the host: it is not flushed to the
     * disk when the container ends, which takes longer than all the rest. */
    bool volatile_upper;
    bool tmpfs;
    uint64_t tmpfs_bytes; /* at most; 0 = half of the memory, as the kernel has it */
    bool readonly;        /* after all mounts are made */
    unsigned long
        propagation; /* rootfsPropagation: MS_PRIVATE, MS_SLAVE...; 0 = MS_PRIVATE | MS_REC */
};

struct process_mount {                  /* mounts[]; see mountopt.h for options as words */
    const char *target, *type, *source; /* type "bind" or a flag MS_BIND: source is a path */
    unsigned long flags;                /* MS_* of mount(2) that are to be set */
    unsigned long clear;                /* ...and to be cleared */
    unsigned long rec_flags, rec_clear; /* of the whole tree: "rro", "rnosuid"... */
    unsigned long propagation;          /* MS_SLAVE | MS_REC...; 0 = none */
    const char *data; /* what the file system itself takes: "size=64m,mode=1777" */
    bool optional;    /* a file system the kernel does not have is no failure */
};

struct process_caps { /* bit n = capability n of linux/capability.h */
    uint64_t bounding, effective, inheritable, permitted, ambient;
};

struct process_rlimit {
    int resource; /* RLIMIT_* */
    struct rlimit limit;
};

struct process_device { /* devices[]: made, or bound from the host in a user namespace */
    const char *path;   /* in the container */
    char type;          /* 'c', 'b', 'u', 'p' */
    unsigned major, minor;
    mode_t mode; /* permissions; 0 = 0666 */
    uid_t uid;
    gid_t gid;
};

struct process_sysctl {
    const char *name, *value; /* "net.ipv4.ip_forward" or with slashes */
};

struct process_filter { /* a compiled seccomp filter: filter.h */
    const void *insns;  /* struct sock_filter[]; borrowed */
    size_t n;
    unsigned flags; /* SECCOMP_FILTER_FLAG_*: SPEC_ALLOW, LOG, TSYNC is of no use here */
};

/* process: of create and of exec. */
struct process_user {
    const char *name; /* as in an image: "user", "uid", "user:group"; resolved in the container's
                       * /etc/passwd and group; NULL = the numbers below */
    uid_t uid;
    gid_t gid;
    const gid_t *groups; /* additionalGids */
    size_t n_groups;
    const char *const
        *more_groups; /* names or numbers, resolved as `name`; NULL-terminated, or NULL */
    mode_t umask;
    bool has_umask; /* false = 022 */
};

struct process_proc {                     /* all borrowed for the call */
    const char *const *args, *const *env; /* NULL-terminated */
    bool fill_env;   /* PATH, HOSTNAME, HOME, TERM as docker sets them where they are missing */
    const char *cwd; /* absolute; made when missing */
    struct process_user user;
    struct process_caps caps;
    const struct process_rlimit *rlimits;
    size_t n_rlimits;
    const struct process_filter *filter; /* NULL = none */
    bool no_new_privileges;
    bool has_oom_score_adj;
    int oom_score_adj;
    bool terminal;
    uint16_t rows, cols; /* of the terminal; 0 = as the kernel makes it */
    int io[3];           /* without terminal: its descriptors 0, 1, 2; -1 = /dev/null */
    /* LISTEN_FDS and the like: become 3, 4, ... of the process; at most PROCESS_PASS_FDS_MAX. */
    const int *pass_fds;
    unsigned n_pass_fds;
};

struct process_conf { /* all borrowed for the call */
    const char *id;   /* names the cgroup */
    const char *dir;  /* the container's folder: mount point of the root in its mount namespace, the
                       * socket "start" */
    /* Whoever creates it starts it, by process_start_child(): no socket is made that others could
     * do it by, and should the caller end before, so does the init. */
    bool own_start;
    /* With own_start: it does not wait. process_start_child() only tells how it went. */
    bool start_now;
    struct process_proc process;
    struct process_root root;
    const char *hostname, *domainname;
    struct process_namespace ns[PROCESS_NS_KINDS];
    const struct process_map *uid_maps, *gid_maps; /* none: see process_rootless_maps() */
    size_t n_uid_maps, n_gid_maps;
    const struct process_mount *mounts;
    size_t n_mounts;
    const struct process_device *devices;
    size_t n_devices;
    const char *const *masked_paths, *const *readonly_paths; /* NULL-terminated, may be NULL */
    const struct process_sysctl *sysctls;
    size_t n_sysctls;
    const char *cgroup_path; /* cgroupsPath; NULL = "kiln-ID" below the caller's group */
    struct cgroup_limits resources;
    bool no_cgroup;          /* for those that make their own */
    const char *cgroup_root; /* of cgroup_host_find(); NULL = "" */
};

/* Plain data: with it any process acts on the container, also after its creator crashed. */
struct process_state {
    pid_t pid;           /* the init, in the caller's PID namespace */
    uint64_t start_time; /* clock ticks since boot, field 22 of proc_pid_stat(5) */
    char boot_id[37];    /* of that boot: pids of another mean nothing */
    bool user_ns;        /* it has one of its own */
    bool pid_ns;
    struct cgroup cgroup;
    char dir[PROCESS_TARGET_MAX];
};

struct process_child { /* owned: process_child_done() */
    pid_t pid;         /* a child of the caller, to be reaped by it */
    int pidfd;         /* readable = it ended */
    int terminal;      /* the master end; -1 = none */
    pid_t server;      /* a child that serves the image and ends after the container; 0 = none */
    int start;         /* of conf.own_start: process_start_child(); -1 = none */
};
#define PROCESS_CHILD_NONE ((struct process_child){0, -1, -1, 0, -1})
void process_child_done(struct process_child *c); /* closes; kills nothing */
/* When the container is gone: wait for its server, too. */
void process_child_reap(struct process_child *c);

/* All is made and the init waits for process_start(). Its streams are those of conf->process.
 * Errors, each with a sentence: -EINVAL of the configuration; -ENOENT (a source, the root; the
 * sentence says which); -EPERM; -EOPNOTSUPP = this kernel cannot; what the init met, in its words.
 * Nothing is left on failure. */
int process_create(const struct process_conf *c, struct process_state *st,
                   struct process_child *child, struct err *e) MUST_CHECK;

/* Execute the command of create. Returns once that happened. Errors of the command, after which the
 * init ends with status 127 or 126: -ENOENT = not found (127), -EINVAL = no such user or working
 * directory (126), others = it cannot be run (126). -ESRCH: the init has ended; -EALREADY: it was
 * started before. */
int process_start(const struct process_state *st, struct err *e) MUST_CHECK;
int process_start_child(struct process_child *c, struct err *e) MUST_CHECK;

/* A further process in a running container: its namespaces, cgroups, and root; restrictions are
 * those of `p`. Returns when it was executed. Errors as process_start()'s; -EAGAIN: it is frozen.
 */
int process_exec(const struct process_state *st, const struct process_proc *p,
                 struct process_child *child, struct err *e) MUST_CHECK;

enum process_status { PROCESS_GONE, PROCESS_CREATED, PROCESS_RUNNING, PROCESS_PAUSED };
/* A zombie is gone. */
enum process_status process_status(const struct process_state *st);
/* A descriptor of the init for poll(2): readable when it ended. -ESRCH: it has, and what has its
 * pid now is another. Owned by the caller. */
int process_pidfd(const struct process_state *st, struct err *e) MUST_CHECK;

/* To the init; `all`: to every process of the container. -ESRCH: it has ended. */
int process_kill(const struct process_state *st, int signal, bool all, struct err *e) MUST_CHECK;
/* Errors as cgroup_freeze(). */
int process_freeze(const struct process_state *st, bool frozen, struct err *e) MUST_CHECK;
/* Its processes as the host numbers them: the cgroup's, else those of its PID namespace. *list
 * owned by the caller. */
int process_pids(const struct process_state *st, pid_t **list, size_t *n, struct err *e) MUST_CHECK;

/* Remove what is left: cgroups, the socket. With `force` what runs is killed first, else -EBUSY.
 * One that is gone: 0. The caller reaps its own children. */
int process_delete(const struct process_state *st, bool force, struct err *e) MUST_CHECK;

/* What a user namespace of the caller, who is not root, may map: its own id as 0, and its
 * subordinate ids from 1 on when newuidmap(1) and newgidmap(1) are installed. */
struct process_maps {
    struct process_map uid[PROCESS_MAPS_MAX], gid[PROCESS_MAPS_MAX];
    size_t n_uid, n_gid;
};
int process_rootless_maps(struct process_maps *out, struct err *e) MUST_CHECK;
/* Run fn(ctx) as root of a user namespace with these ids, in a child that ends with what it
 * returns, 0 or more: for files that containers of such a namespace left. -EIO: it did not. */
int process_rootless_call(const struct process_maps *m, int (*fn)(void *ctx), void *ctx,
                          struct err *e) MUST_CHECK;

#endif
