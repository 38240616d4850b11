/* vm/vm_private.h - the machine's object, shared by the files of vm/ and by nobody else.
 *
 * Locks: `lock` is the board's: every device register, queue and interrupt pin. `ctl` guards
 * pausing and ending of vCPU threads. Neither is taken while holding the other. */
#ifndef VM_VM_PRIVATE_H
#define VM_VM_PRIVATE_H

#include <pthread.h>
#include <stdatomic.h>

#include "machine/board.h"
#include "os/loop.h"
#include "vm/devices.h"
#include "vm/shape.h"
#include "vm/snapshot.h"
#include "vm/vm.h"

struct lazymem;

struct vm_cpu {
    struct vm *vm;
    struct vcpu *v; /* owned */
    pthread_t thread;
    bool started;
};

/* Since which snapshot it is known what the machine has written: what a diff is made of. */
struct track {
    enum {
        TRACK_NONE,
        TRACK_PRIVATE, /* since it was grown from that snapshot: pages that are this process's own
                        */
        TRACK_LOG,     /* mem's dirty log, and `more` */
    } how;
    char id[SNAP_ID_LEN + 1];
    uint64_t *more; /* owned, may be NULL: pages fetched from the log for a snapshot that failed */
};

struct vm {
    const struct cpu_engine *engine;
    struct cpu_vm *cpus; /* owned, as all below */
    struct vm_cpu cpu[VM_CPUS_MAX];
    unsigned n_cpus;
    struct mem *mem;
    struct cpu_model model;
    uint64_t code_cache_bytes; /* for engines that keep code */
    void (*differs)(void *ctx, const char *text);
    void *differs_ctx;
    bool perf_map, count_insns;
    const struct thread_hook *hook; /* borrowed; NULL = none */
    struct clock clock;
    struct timerq timers;
    struct board *board;
    struct loop *loop;
    struct devices dev;
    struct shape shape;
    struct fusefs *share[VM_SHARES_MAX]; /* borrowed: the devices' */
    int disk_fd[VM_DISKS_MAX];           /* owned; what a snapshot copies disks from */
    struct track track;
    struct lazymem *lazy; /* owned: its RAM is still being filled, or was; NULL = by nobody */
    bool workset_wanted;  /* grown from a snapshot whose working set nobody has recorded */
    bool extint;          /* level of the 8259's output, for a new engine */
    int host_fd;          /* vm_conf */
    bool no_sockets;      /* vm_conf */
    const struct vulink_dial *vhost_dial; /* vm_conf */
    bool served;                          /* another process serves one of its devices */

    pthread_mutex_t lock;
    pthread_cond_t io_cond; /* with lock: frozen changed */
    bool frozen;            /* the I/O thread stands still */
    pthread_t io;
    bool io_started;

    pthread_mutex_t ctl;
    pthread_cond_t ctl_cond; /* with ctl: paused, quit, parked changed */
    bool paused, quit;
    unsigned parked;

    _Atomic int end; /* enum vm_end */
    _Atomic uint32_t end_value;
    int end_fd;         /* readable once ended */
    struct err end_err; /* under lock */
};

/* vm_new(); of a machine that ran before with RAM `mem` (taken, also on failure) and the shape
 * `like`, which gives the CPU model. Both may be NULL. */
int vm_build(const struct vm_conf *c, struct mem *mem, const struct shape *like, struct vm **ret,
             struct err *e) MUST_CHECK;
/* vm/load.c: read kernel and initrd, enter them on the boot CPU. */
int vm_boot(struct vm *vm, const struct vm_conf *c, struct err *e) MUST_CHECK;
/* An engine's half of the machine: VM and vCPUs. On failure nothing is left. */
int vm_make_cpus(struct vm *vm, const struct cpu_engine *eng, struct cpu_vm **cpus, struct vcpu **v,
                 struct err *e) MUST_CHECK;
void vm_free_cpus(struct vm *vm);
void vm_kick_all(struct vm *vm);
/* vm/lazymem.h's: a page cannot be had. Takes no lock: who holds one may wait for the page. */
void vm_lost(void *vm, const struct err *e);
/* Everything of RAM is there. Before memory is looked at as a whole, or shared with a fork. */
int vm_whole(struct vm *vm, struct err *e) MUST_CHECK;
/* What cannot be saved or copied: -ENOTSUP and a sentence. */
int vm_check_whole(const struct vm *vm, struct err *e) MUST_CHECK;

#endif
