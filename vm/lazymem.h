/* vm/lazymem.h - RAM that is filled from snapshots while the machine runs already: a page when it
 * is first touched (userfaultfd(2)), the others meanwhile. What a chain of compressed snapshots is
 * restored by when asked: mapping (vm/snapmem.h) is as lazy, but only of plain files.
 *
 * A page that cannot be read ends the machine: its first reader stands until then.
 * Thread: one of its own, which ends when all is there; the functions are for the machine's
 * controlling thread. */
#ifndef VM_LAZYMEM_H
#define VM_LAZYMEM_H

#include "base/err.h"
#include "mem/mem.h"
#include "os/role.h"
#include "vm/snapopen.h"

struct lazymem;

/* Over a chain, newest first, which it owns once it is made. Errors: as snapmem_load(). */
int lazymem_new(struct snapshot *chain[], int n, struct lazymem **ret, struct err *e) MUST_CHECK;
/* `m`: empty, borrowed until lazymem_free(). `failed`: called on its thread, once, when a page
 * cannot be had. Errors: -EPERM: not without root or the sysctl vm.unprivileged_userfaultfd;
 * -ENOSYS; -EINVAL: RAM is shared. */
int lazymem_start(struct lazymem *l, struct mem *m, void (*failed)(void *ctx, const struct err *e),
                  void *ctx, struct err *e) MUST_CHECK;
/* Its thread ends for now: nobody touches memory until it goes on, calling `hook` first. */
void lazymem_hold(struct lazymem *l);
int lazymem_go(struct lazymem *l, const struct thread_hook *hook, struct err *e) MUST_CHECK;
/* Until every page is there. Errors: why one is not. */
int lazymem_wait(struct lazymem *l, struct err *e) MUST_CHECK;
/* The descriptors it holds: fills fd[], returns how many, at most 2 a snapshot of the chain. */
unsigned lazymem_fds(const struct lazymem *l, int fd[]);
void lazymem_free(struct lazymem *l); /* no vCPU runs; may be NULL */

#endif
