/* vm/vm.h - the life of one machine: threads, the run loop between engine and board, stop, pause,
 * state, change of engine.
 *
 * Threads: one per vCPU and one I/O loop, owned here. The functions below are for one controlling
 * thread. */
#ifndef VM_VM_H
#define VM_VM_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "cpu/cpu.h"
#include "net/net.h"
#include "net/ratelimit.h"

struct vm;
struct loop;
struct vulink_dial;
struct thread_hook;
struct vsockd_dial;

enum {
    VM_DISKS_MAX = 8,
    VM_SHARES_MAX = 7,
    VM_NETS_MAX = 4,
    VM_RAM_MIN_MIB = 32,
    VM_CPUS_MAX = 32
};

struct vm_disk {
    const char
        *path; /* NULL: an empty drive, which a machine loaded from this one may have filled */
    bool read_only;
    bool any;           /* an empty drive that any medium may fill, also a read-only one */
    const char *serial; /* virtio-blk id, up to 20 bytes; may be NULL */
    bool opened;        /* use descriptor `fd` (borrowed) instead of opening the path */
    int fd;
    /* A vhost-user-blk back end serves it; `path` is its name only. RAM is then a shared memfd, and
     * the machine cannot be saved or forked. The socket it listens on, or NULL with `vhost_fd`: a
     * socket connected to it (borrowed). */
    bool vhost;
    const char *vhost_socket;
    int vhost_fd;
};

struct vm_share {           /* a folder of the host, by virtio-fs */
    const char *path, *tag; /* path: NULL as of a disk; tag: what the guest mounts, 1 to 36 bytes */
    bool read_only;
    bool opened; /* use these descriptors (borrowed) of it and of /proc, not the path */
    int fd, proc_fd;
    const char *only; /* of that folder, this file alone is shown; "" = all */
};

enum vm_net_kind {
    VM_NET_NONE,   /* a card without a link, which a machine loaded from this one may get */
    VM_NET_TAP,    /* fd[]: tap descriptors, one a queue pair (net/net.h, tap_net()) */
    VM_NET_STREAM, /* fd[0]: passt's socket (stream_net()) */
    VM_NET_VHOST,  /* a vhost-user back end; RAM is then as with vm_disk.vhost */
};

struct vm_net { /* a network card: virtio-net */
    enum vm_net_kind kind;
    uint8_t mac[6];
    uint16_t mtu;          /* told by the device; 0 = not, the guest has its own idea */
    unsigned pairs;        /* queue pairs, 1 to NET_PAIRS_MAX; 0 = 1 */
    int fd[NET_PAIRS_MAX]; /* borrowed during vm_new(), which duplicates them */
    /* VM_NET_VHOST: where the back end listens, looked for again when it dies; NULL: fd[0] is
     * connected to it. Without limits. */
    const char *vhost_socket;
    bool vhost_listen;       /* the back end connects to it instead; vm_new() waits for that */
    struct rate_conf rx, tx; /* limits, as the guest sees the directions; 0 = none */
};

struct vm_conf { /* borrowed during vm_new() */
    unsigned cpus;
    uint64_t ram_bytes;
    const char *engine;                           /* "auto", "kvm", ... */
    uint64_t code_cache_bytes;                    /* bt: CPU_CODE_CACHE_MIN..MAX; 0 = default */
    bool perf_map;                                /* bt: write /tmp/perf-PID.map */
    void (*differs)(void *ctx, const char *text); /* engine "lockstep": cpu_vm_conf.differs */
    void *differs_ctx;
    /* Once the machine runs this process can make no connections: a vhost-user back end that dies
     * is not looked for again. */
    bool no_sockets;
    const struct vulink_dial
        *vhost_dial;             /* who does, then; NULL = nobody; borrowed as the VM lives */
    bool count_insns;            /* bt: count instructions, which costs time */
    const char *kernel, *initrd; /* paths; initrd may be NULL */
    int initrd_fd;               /* instead of initrd; -1 = none */
    const char *cmdline;
    struct vm_disk disk[VM_DISKS_MAX];
    unsigned n_disks;
    struct vm_share share[VM_SHARES_MAX];
    unsigned n_shares;
    struct vm_net net[VM_NETS_MAX];
    unsigned n_nets;
    const char *vsock_path; /* Unix socket of the host side; NULL = no vsock device */
    /* A connected stream socket, taken as a client of vsock_path that was accepted. 0 = none. Taken
     * by vm_new(), also on failure. */
    int vsock_client;
    int vsock_listen; /* a socket that listens on vsock_path; taken, also on failure. 0 = none yet
                       */
    const struct vsockd_dial *vsock_dial; /* who connects for the guest; NULL = this process */
    uint32_t vsock_cid;                   /* >= 3 */
    bool console, rng; /* virtio-console on the same stream as serial; virtio-rng */
    int host_fd; /* of the engine (cpu_vm_conf), where it cannot be opened; borrowed; 0 = none */
    const struct thread_hook *hook; /* what each thread calls first; borrowed for the VM's life */
    int console_in, console_out;    /* descriptors (borrowed for the VM's life); -1 = none */
};

/* The descriptors *c holds: who closes all others before vm_new() leaves these. Fills fd[], returns
 * how many. */
enum { VM_CONF_FDS_MAX = 8 + 2 * VM_DISKS_MAX + 2 * VM_SHARES_MAX + VM_NETS_MAX * NET_PAIRS_MAX };
unsigned vm_conf_fds(const struct vm_conf *c, int fd[VM_CONF_FDS_MAX]);

/* Until vm_start() the process has no thread but the caller's, and nobody looks at RAM. */
void vm_alone(struct vm *vm);

/* A folder that is served: whoever fences the process in replaces both descriptors by others of the
 * same folder and of /proc. Borrowed. */
struct vm_fence {
    int fd, proc_fd;
    const char *path;
    bool read_only;
};
unsigned vm_fences(const struct vm *vm, struct vm_fence out[VM_SHARES_MAX]);

enum vm_end {
    VM_RUNNING,
    VM_POWEROFF,
    VM_RESET,
    VM_EXIT_PORT,
    VM_SHUTDOWN /* triple fault */,
    VM_FAILED,
    VM_STOPPED
};

int vm_new(const struct vm_conf *c, struct vm **ret, struct err *e) MUST_CHECK;
void vm_free(struct vm *vm); /* stops it first; may be NULL */
int vm_start(struct vm *vm, struct err *e) MUST_CHECK;
/* Wait up to timeout_ms (-1 = for ever). *value: exit port's value. VM_FAILED fills *e. */
enum vm_end vm_wait(struct vm *vm, int timeout_ms, uint32_t *value, struct err *e);
/* Becomes readable when the machine has ended; borrowed. */
int vm_end_fd(const struct vm *vm);
void vm_stop(struct vm *vm); /* any thread, async-signal-safe; vm_wait gives VM_STOPPED */

int vm_pause(struct vm *vm,
             struct err *e) MUST_CHECK; /* all vCPUs between instructions, devices drained */
int vm_resume(struct vm *vm, struct err *e) MUST_CHECK;
/* Move the paused machine to another engine. On failure it stays on the old one. */
int vm_switch_engine(struct vm *vm, const char *engine, struct err *e) MUST_CHECK;
/* State of a paused machine but its RAM. Buffer owned by the caller. */
int vm_save(struct vm *vm, uint8_t **buf, size_t *len, struct err *e) MUST_CHECK;
int vm_load(struct vm *vm, const void *buf, size_t len,
            struct err *e) MUST_CHECK; /* not started, or paused */

/* Translated code for other machines grown from the same snapshot, on this host by this program.
 * save: paused, and grown from one; load: not started. Errors: -ENOTSUP the engine has none;
 * -ESTALE, -EBADMSG: the machine is as before. */
int vm_code_save(struct vm *vm, int fd, struct err *e) MUST_CHECK;
int vm_code_load(struct vm *vm, int fd, struct err *e) MUST_CHECK;
/* As save, of any machine, for those that go on from its RAM as it is now. */
int vm_code_share(struct vm *vm, int fd, struct err *e) MUST_CHECK;
/* This machine was loaded from a state that others may be loaded from, too: tell the guest by a new
 * generation ID (VMGenID). Paused or not started. */
int vm_renew(struct vm *vm, struct err *e) MUST_CHECK;

/* Where disk `i` is; NULL = nowhere. Borrowed. */
const char *vm_disk_path(const struct vm *vm, unsigned i);
/* A bit for each disk whose content belongs to the machine: a snapshot has a copy. */
uint32_t vm_own_disks(const struct vm *vm);
const char *vm_engine(const struct vm *vm);
struct mem *vm_mem(struct vm *vm);
int vm_cpu_state(struct vm *vm, unsigned cpu, struct cpu_state *s,
                 struct err *e) MUST_CHECK; /* paused */
/* Counters of all vCPUs; exact while paused or ended. */
void vm_stats(struct vm *vm, struct cpu_stats *sum);

enum { VM_TOP_OPS = 16 };
struct vm_op {
    char name[24]; /* mnemonic */
    uint64_t count;
};
struct vm_report { /* plain data: it goes through a pipe */
    char engine[16];
    unsigned cpus;
    struct cpu_stats sum;
    struct vm_op
        op[VM_TOP_OPS]; /* what the interpreter was given one by one, most frequent first */
    unsigned n_ops;
};
/* Likewise, and who it was. */
void vm_report(struct vm *vm, struct vm_report *r);

#endif
