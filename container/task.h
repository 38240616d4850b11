/* container/task.h - one running container as its keeper sees it, whatever its class: the main
 * process, its streams, its end. Two implementations: taskvm.c (a machine and a session with its
 * agent) and taskproc.c (namespaces, pipes); a fake for tests.
 *
 * Thread: the keeper's only one, which runs an os/loop; a task adds its descriptors there and calls
 * back from it. Everything a task made is undone by task_free(), and, should the keeper be killed,
 * by task_recover() from what is on disk. */
#ifndef CONTAINER_TASK_H
#define CONTAINER_TASK_H

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "container/record.h"
#include "container/rundir.h"
#include "container/trace.h"
#include "image/store.h"
#include "network/network.h"
#include "os/loop.h"

struct vm_report;

struct task;

enum task_stream { TASK_STDOUT, TASK_STDERR };

struct task_events { /* called on the loop */
    /* Bytes the process wrote. With a tty all of it is TASK_STDOUT. */
    void (*output)(void *ctx, enum task_stream stream, const void *bytes, size_t len);
    /* Room for input again, after input() took less than it was given; or fewer in_flight(). */
    void (*input_ready)(void *ctx);
    /* The end, after all output: a status as of wait(2), or e->code < 0: the container was lost,
     * and why. Nothing is called after it. */
    void (*ended)(void *ctx, int status, bool oom, const struct err *e);
    void *ctx;
};

struct task_conf {            /* borrowed until task_free() */
    const struct record *rec; /* its spec says everything that is not here */
    const struct rundir *dir; /* folder of the running container */
    struct loop *loop;
    const char *store;               /* its root */
    const char *rootfs, *fstype;     /* the image's file system image */
    const char *kernel, *kernel_dir; /* VM: its file; its folder with modules, NULL = none */
    const struct network_lease *net; /* NULL = none */
    /* Process class: its namespaces are made, its command does not run yet: network_plug(). `pid`
     * is in them. May be NULL. */
    int (*plug)(void *ctx, pid_t pid, struct err *e);
    /* A task makes its own control group, "kiln-ID" (jail/cgroup.h), so that cgroup_find() finds it
     * after a crash. */
    bool idle;       /* VM: the machine is set up and runs nothing; only free() is then called */
    bool with_stdin; /* input will come; else it reads /dev/null */
    uint16_t rows, cols; /* of the terminal at the start */
    /* signalfd(2): SIGTERM, SIGINT = give the start up; -1 = none. */
    int cancel_fd;
    uint64_t deadline_ms; /* CLOCK_MONOTONIC, for the start: -ETIMEDOUT; 0 = none */
    struct trace *trace;  /* may be NULL */
    /* VM: how the machine's process starts, told as it happens; may be NULL */
    void (*booting)(void *ctx, bool yes);
    void (*console)(void *ctx, const char *text); /* after a failure: the end of the console */
    void *ctx;
    struct task_events events;
};

struct task_limits { /* of `kiln update`; SPEC_UNSET = as it is */
    int64_t memory, memory_swap, nano_cpus, cpu_shares, pids_limit;
};

struct task_stats {                                     /* since the start, unless said */
    uint64_t cpu_ns, memory, memory_limit, memory_peak; /* bytes now */
    uint64_t net_rx, net_tx, disk_read, disk_write;     /* bytes */
    uint64_t pids;
};

struct task_ops {
    /* Make everything and run the command; returns when it runs (execve succeeded). Errors: -ENOENT
     * command not found (exit status 127); -EACCES, -ENOEXEC it cannot be run (126); -EINTR
     * cancelled; others: kiln failed (125). On failure nothing is left. */
    int (*start)(const struct task_conf *c, struct task **ret, struct err *e);
    size_t (*input)(struct task *t, const void *bytes, size_t len); /* returns how many it took */
    void (*input_end)(struct task *t);
    /* Bytes it took that did not reach the process's side yet; NULL = always 0. */
    size_t (*in_flight)(const struct task *t);
    void (*hold)(struct task *t, bool yes); /* do not read output for now */
    /* Nobody reads this stream any more: let who writes to it meet SIGPIPE. May be NULL. */
    void (*unread)(struct task *t, enum task_stream stream);
    void (*resize)(struct task *t, uint16_t rows, uint16_t cols);
    int (*kill)(struct task *t, int sig,
                struct err *e); /* to the main process, its group with a tty */
    int (*pause)(struct task *t, bool yes, struct err *e);
    int (*update)(struct task *t, const struct task_limits *l, struct err *e);
    int (*stats)(struct task *t, struct task_stats *s, struct err *e);
    /* VM: what the engine counted; -ENOTSUP else. */
    int (*counters)(struct task *t, struct vm_report *r, struct err *e);
    pid_t (*pid)(const struct task *t);    /* as of record_state.pid */
    const char *(*engine)(struct task *t); /* VM; else NULL */
    void (*free)(struct task *t);          /* ends it at once and undoes all; may be NULL */
    /* A keeper was killed, and who had record_state.pid is dead: undo what its task left behind
     * but the run folder. Idempotent; may be NULL. */
    void (*recover)(const struct record *r);
    /* The record, which does not run, is being removed: take from its folder what its owner cannot.
     * May be NULL. */
    void (*discard)(const struct record *r);
};

struct task {
    const struct task_ops *ops;
};

extern const struct task_ops task_vm, task_process;
const struct task_ops *task_class(const struct spec *s);

#endif
