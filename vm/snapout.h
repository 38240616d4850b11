/* vm/snapout.h - the files of a snapshot to come, made by a process that may make files and filled
 * by the machine's, which may not.
 *
 *   outside:  snapout_new() ... descriptors go to the machine ... snapout_finish() or _free()
 *   machine:  snapshot_fill()
 *
 * Thread: the caller's. */
#ifndef VM_SNAPOUT_H
#define VM_SNAPOUT_H

#include "vm/snapshot.h"
#include "vm/vm.h"

struct snapout; /* owned: snapout_free() */

/* Files in a folder beside `o->dir`: -EEXIST. disks: a bit for each disk that gets a copy,
 * vm_own_disks(). With o->parent that is opened and checked: errors as snapshot_open(). */
int snapout_new(const struct snap_opts *o, uint32_t disks, struct snapout **ret,
                struct err *e) MUST_CHECK;
/* What snapshot_fill() wants; the descriptors and strings are the snapout's. */
struct snap_files snapout_files(const struct snapout *s);
/* It was filled: give it its name. Nothing is left on failure. */
int snapout_finish(struct snapout *s, struct err *e) MUST_CHECK;
void snapout_free(struct snapout *s); /* what is not finished goes; may be NULL */

#endif
