/* vm/seed.h - what a machine is made from that has run before: its RAM, its state, its shape. A
 * seed comes from a snapshot on disk or from a running machine by fork(2), and the machine grown
 * from it goes on where the saved one stood. One mechanism for `kiln restore`, templates and `kiln
 * fork`:
 *
 *   snapshot:  seed_open(dir) ........................ seed_grow(seed, conf) -> vm -> vm_start()
 *   fork:      seed_fork(vm) -> in the child process .. seed_grow(seed, conf) -> vm -> vm_start()
 *
 * RAM is private to the process: mapped copy-on-write from the snapshot's memory file, page by page
 * as the guest touches it, or shared copy-on-write with the parent by fork(2). Nothing costs in
 * proportion to the size of guest RAM.
 *
 * The grown machine is the saved one to the bit; what must differ (entropy, CID, MAC, host name...)
 * is the caller's, between seed_grow() and vm_start(), and the agent's. What seed_grow() does by
 * itself: vsock streams are reset (the guest's driver gets a transport reset event and reads
 * conf->vsock_cid anew), the clock goes on from where it stood (monotonic time never jumps
 * back). Thread: one. */
#ifndef VM_SEED_H
#define VM_SEED_H

#include <sys/types.h>

#include "vm/shape.h"
#include "vm/snapshot.h"
#include "vm/vm.h"

struct seed;

enum { SEED_FDS_MAX = VM_DISKS_MAX + 2 + 2 * VM_SHARES_MAX + 2 * SNAP_CHAIN_MAX };

/* Open, check and map the snapshot in folder `dir` with all its parents. The memory files are not
 * read, but for small pieces of a chain and compressed ones. Errors, each with a sentence: -ENOENT
 * no snapshot there, or a file of it is missing; -EBADMSG damaged, truncated or not a snapshot;
 * -EPROTONOSUPPORT of another version; -ENOTSUP this host's CPU lacks what the guest was offered.
 */
int seed_open(const char *dir, struct seed **ret, struct err *e) MUST_CHECK;

/* The same, but the machine grown from it reads memory as it is touched, from compressed snapshots
 * too (vm/lazymem.h). seed_grow() then says also what lazymem_start() does. */
int seed_open_lazy(const char *dir, struct seed **ret, struct err *e) MUST_CHECK;

/* fork(2) this process with the machine: pauses it, saves its state, forks, lets it go on. Returns
 * the child's pid in the parent, and 0 in the child, where *ret is the seed and only the calling
 * thread exists: `vm` is to be forgotten there (not freed), its descriptors are the parent's still
 * (close_range(2) all but what is wanted). The child may fork(2) again, one process a machine.
 * copies: an empty file for each of vm_own_disks(), taken also on failure; NULL = they are made.
 * *pause_ns (may be NULL; parent): how long the guest stood. Errors: -ENOMEM, -EAGAIN. */
pid_t seed_fork(struct vm *vm, const int *copies, struct seed **ret, uint64_t *pause_ns,
                struct err *e) MUST_CHECK;
/* Files for the copies of its own disks that seed_grow() makes, one each (-EINVAL): where no file
 * can be made. Taken. */
int seed_copies(struct seed *s, const int *fd, unsigned n, struct err *e) MUST_CHECK;

/* The descriptors a seed holds: not to be closed. Fills fd[], returns how many. */
unsigned seed_fds(const struct seed *s, int fd[SEED_FDS_MAX]);
const struct shape *seed_shape(const struct seed *s);
/* What snapshot_create() was given as note; "" = nothing. */
const char *seed_note(const struct seed *s);

/* Make the machine; it is not running yet: vm_start(). Takes the RAM out of the seed: one machine a
 * seed and process. *c must have the seed's devices slot by slot (begin with shape_conf()); engine,
 * console, vsock path and CID are free. A writable disk whose path is NULL or unchanged gets a copy
 * of its own, without a name, of the snapshot's or parent's (by reflink where the file system can):
 * the original is never written. Another path: that file, of the same size, is used as it is; a
 * drive or share that was empty may be filled with anything.
 * Errors: -EINVAL it does not fit; -EBADMSG the state is damaged; as vm_new(). */
int seed_grow(struct seed *s, const struct vm_conf *c, struct vm **ret, struct err *e) MUST_CHECK;
void seed_free(struct seed *s); /* may be NULL */

#endif
