/* container/run.h - one container, from a prepared image to its exit status: state folder, machine,
 * session, terminal. Thread: the caller's only one. */
#ifndef CONTAINER_RUN_H
#define CONTAINER_RUN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "container/trace.h"
#include "container/volume.h"

struct session_net;
struct vm_net;
struct vm_report;

struct run_conf {           /* borrowed */
    const char *store;      /* where templates are kept; NULL = the machine boots */
    const char *kernel;     /* path of the kernel's file */
    const char *kernel_dir; /* its folder with modules; NULL = none */
    const char *rootfs, *fstype;
    const char *engine;
    unsigned cpus;
    uint64_t ram_bytes;
    uint64_t code_cache_bytes;            /* 0 = default */
    bool perf_map;                        /* of the machine's process */
    bool count_insns;                     /* for its statistics */
    const char *name, *hostname;          /* NULL = none; the machine's id */
    const char *const *argv, *const *env; /* NULL-terminated */
    const char *cwd, *user;
    bool tty, interactive, read_only;
    const struct volume *volume;
    size_t n_volumes;                  /* <= VOLUME_MAX */
    const struct vm_net *net;          /* network cards, and ... */
    const struct session_net *net_set; /* ... what the guest makes of each; n_nets of both */
    unsigned n_nets;
    const char *hosts, *resolv; /* texts of /etc/hosts and /etc/resolv.conf; NULL = none of ours */
    int timeout_ms;             /* for all of it; -1 = none */
    /* Told once the machine boots (true) and when that is over (false); may be NULL. */
    void (*booting)(void *ctx, bool yes);
    /* After a failure of the machine: the end of its console's output; may be NULL. */
    void (*console)(void *ctx, const char *text);
    /* At the end: what the engine counted; may be NULL. */
    void (*counters)(void *ctx, const struct vm_report *r);
    void *ctx;
    struct trace *trace; /* where moments are noted; may be NULL */
};

enum { RUN_KILN = 125, RUN_CANNOT = 126, RUN_NOT_FOUND = 127, RUN_TIMEOUT = 124 };

/* Returns the exit status: the command's, 128 + signal where that killed it or stopped us, or one
 * of the above. Where kiln and not the command chose it, *e says why (e->code < 0). Nothing is left
 * behind. */
int run_container(const struct run_conf *c, struct err *e) MUST_CHECK;

#endif
