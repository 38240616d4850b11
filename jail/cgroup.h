/* jail/cgroup.h - control groups of one machine or container: limits, usage, freezing, killing.
 *
 * One interface over the three ways a host has them: v1 (a hierarchy a controller), v2 (one for
 * all), hybrid (v1 hierarchies and an almost empty v2). Source: Linux
 * Documentation/admin-guide/cgroup-v1/ and cgroup-v2.rst; units and meaning of limits as in the OCI
 * runtime-spec 1.1, config-linux.md, "Control groups".
 *
 * A group is "kiln-ID" below the caller's own group in each hierarchy. On v2, where a group with
 * processes may not give controllers to its children, it is below the nearest ancestor that can.
 * struct cgroup is plain data: any later process that kept it can act on the group.
 * Thread: any; no state is kept here. */
#ifndef JAIL_CGROUP_H
#define JAIL_CGROUP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"

enum cgroup_controller {
    CGROUP_MEMORY,
    CGROUP_CPU,
    CGROUP_CPUACCT, /* v1 alone: v2's cpu has it */
    CGROUP_CPUSET,
    CGROUP_PIDS,
    CGROUP_IO,      /* v1: blkio */
    CGROUP_FREEZER, /* v1 alone: v2 always can */
    CGROUP_DEVICES, /* v1 alone: a program of devfilter.h on v2 */
    CGROUP_CONTROLLERS,
};
/* "memory", "cpu"...: v1's names. Static. */
const char *cgroup_controller_name(enum cgroup_controller c);

enum cgroup_layout { CGROUP_NONE, CGROUP_V1, CGROUP_V2, CGROUP_HYBRID };
const char *cgroup_layout_name(enum cgroup_layout l); /* "none", "v1"... Static. */

enum {
    CGROUP_PATH_MAX = 240,               /* bytes of a group's path, NUL included */
    CGROUP_ID_MAX = 64,                  /* of an id */
    CGROUP_CPU_PERIOD_US = 100000,       /* when none is given */
    CGROUP_CPU_QUOTA_MIN_US = 1000,      /* the kernel's */
    CGROUP_DEVICES_MAX = 64,             /* rules */
    CGROUP_UNIFIED = CGROUP_CONTROLLERS, /* index of v2's hierarchy in `own` */
};

/* What the host has: found once, then asked for many groups. Plain data. */
struct cgroup_host {
    enum cgroup_layout layout;
    /* The caller's own group in the hierarchy of each controller as a path that can be opened; on
     * v2 the controllers have the same one. "" = not there. Two v1 controllers may share one. */
    char own[CGROUP_CONTROLLERS + 1][CGROUP_PATH_MAX];
    char top[CGROUP_CONTROLLERS + 1][CGROUP_PATH_MAX]; /* where each is mounted */
};

/* `root`: "" for this host; a folder that has proc/self/mountinfo, proc/self/cgroup and the mount
 * points in it, for tests. Without any hierarchy: 0, with layout CGROUP_NONE. */
int cgroup_host_find(const char *root, struct cgroup_host *out, struct err *e) MUST_CHECK;

struct cgroup_device { /* a rule: OCI "Allowed Device list"; the last that fits decides */
    bool allow;
    char type;        /* 'a', 'b' or 'c' */
    int major, minor; /* -1 = any */
    char access[4];   /* of "rwm" */
};

/* 0 or NULL = not asked for, unless said. Strings are borrowed. */
struct cgroup_limits {
    int64_t memory_bytes; /* -1 = none */
    int64_t
        memory_swap_bytes; /* memory and swap together, as docker and OCI v1 have it; -1 = none */
    bool swap_optional;    /* a kernel that cannot limit swap is no failure */
    int64_t memory_reservation_bytes;
    int64_t cpu_quota_us; /* in a period; --cpus 1.5 is 150000; -1 = none */
    uint64_t cpu_period_us;
    uint64_t cpu_shares;                 /* 2..262144 */
    const char *cpus, *mems;             /* of cpuset: "0-2,4" */
    int64_t pids;                        /* -1 = none */
    unsigned io_weight;                  /* 10..1000 */
    const struct cgroup_device *devices; /* NULL = any device may be used */
    size_t n_devices;
};

/* --cpus 1.5 as a quota of CGROUP_CPU_PERIOD_US. -EINVAL: not 0.01 or more, or more than the
 * host's number of CPUs, `online`. */
int cgroup_cpus(double cpus, unsigned online, int64_t *quota_us, struct err *e) MUST_CHECK;

struct cgroup {                /* plain data: remembered with the container */
    enum cgroup_layout layout; /* CGROUP_NONE: there is no group, and every call below but
                                * cgroup_update() does nothing and succeeds */
    char path[CGROUP_CONTROLLERS + 1][CGROUP_PATH_MAX]; /* folders; "" = not in this hierarchy */
};

/* Make the group of `id` (letters, digits, '-', '_', '.') with these limits (NULL = none). A host
 * that gives the caller no groups: 0 with layout CGROUP_NONE when no limit is asked for, else
 * -EACCES or -EOPNOTSUPP with a sentence. -EEXIST: there is one with processes in it; an empty one
 * is taken over. -EINVAL: what the kernel says of a limit. Nothing is left on failure. */
int cgroup_make(const struct cgroup_host *h, const char *id, const struct cgroup_limits *l,
                struct cgroup *out, struct err *e) MUST_CHECK;
/* The same at `path`, OCI's cgroupsPath: absolute from the root of each hierarchy, else below the
 * caller's own group. */
int cgroup_make_at(const struct cgroup_host *h, const char *path, const struct cgroup_limits *l,
                   struct cgroup *out, struct err *e) MUST_CHECK;
/* Change limits of one that runs. What is not asked for stays. -EOPNOTSUPP: no such controller.
 * -EBUSY: memory in use is more than the new limit and cannot be reclaimed. */
int cgroup_update(const struct cgroup *c, const struct cgroup_limits *l, struct err *e) MUST_CHECK;

/* Put process `pid` in; 0 = the caller, which must have one thread and pays less: no lock of all
 * processes is taken. */
int cgroup_enter(const struct cgroup *c, pid_t pid, struct err *e) MUST_CHECK;
/* For a child that will no longer see the folders: open what it writes to, in the parent (n of at
 * most CGROUP_CONTROLLERS + 1; owned by the caller), and enter with them. No heap is used. */
int cgroup_open_enter(const struct cgroup *c, int fd[CGROUP_CONTROLLERS + 1], unsigned *n,
                      struct err *e) MUST_CHECK;
int cgroup_enter_fds(const int *fd, unsigned n) MUST_CHECK;

/* Stop or go on. Freezing returns when all have stopped. -EOPNOTSUPP: no freezer; -ETIMEDOUT:
 * some process did not stop (it goes on then). */
int cgroup_freeze(const struct cgroup *c, bool frozen, int timeout_ms, struct err *e) MUST_CHECK;
/* 1 = frozen, 0 = not (or no freezer). */
int cgroup_frozen(const struct cgroup *c, struct err *e) MUST_CHECK;

struct cgroup_usage {                                             /* what is not known is 0 */
    uint64_t memory_bytes, memory_peak_bytes, memory_limit_bytes; /* limit 0 = none */
    uint64_t memory_cache_bytes; /* of memory_bytes: inactive file pages; `docker stats` takes them
                                  * off */
    uint64_t cpu_ns, cpu_throttled_ns;
    uint64_t pids, pids_limit; /* limit 0 = none */
    uint64_t io_read_bytes, io_written_bytes;
    uint64_t oom_kills;
};
int cgroup_usage(const struct cgroup *c, struct cgroup_usage *out, struct err *e) MUST_CHECK;

/* The processes in it and in groups below. *list owned by the caller. -E2BIG: more than `max`. */
int cgroup_pids(const struct cgroup *c, size_t max, pid_t **list, size_t *n,
                struct err *e) MUST_CHECK;
/* SIGKILL to all, again until none is left; frozen ones are thawed. -ETIMEDOUT. */
int cgroup_kill(const struct cgroup *c, int timeout_ms, struct err *e) MUST_CHECK;
/* Remove it and groups below it. Processes that are just ending are waited for. -EBUSY: some are
 * left. One that is gone already: 0. */
int cgroup_remove(const struct cgroup *c, int timeout_ms, struct err *e) MUST_CHECK;

/* Groups "kiln-ID" where cgroup_make() would put them, each id once, whoever made them: what a
 * crash left is among them. Errors: those of opendir(3). */
int cgroup_each(const struct cgroup_host *h, void (*each)(void *ctx, const char *id), void *ctx,
                struct err *e) MUST_CHECK;
/* The group of `id` as it is found: for one whose struct was lost. -ENOENT. */
int cgroup_find(const struct cgroup_host *h, const char *id, struct cgroup *out,
                struct err *e) MUST_CHECK;
/* The same for one of cgroup_make_at(). */
int cgroup_find_at(const struct cgroup_host *h, const char *path, struct cgroup *out,
                   struct err *e) MUST_CHECK;

#endif
