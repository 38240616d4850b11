/* vm/workset.h - which pages of a snapshot a machine touched at first: recorded once, in the file
 * `working-set` of the snapshot's folder, and read ahead by those that come later. Advice only: a
 * file that is missing, old or hostile costs some reading and nothing else.
 *
 * "KILNWSET", u32 version, u32 number of runs, runs of u32 first page, u32 pages, u32 CRC-32C.
 * Thread: the machine's controlling one. */
#ifndef VM_WORKSET_H
#define VM_WORKSET_H

#include "base/err.h"

struct vm;

enum { WORKSET_RUNS_MAX = 64 * 1024 };

/* Record what `vm` has touched, if it was grown from a snapshot that has no record yet. */
void workset_record(struct vm *vm);
/* Ask the kernel to read the recorded pages of memory file `memory` ahead; `dir`: the folder. */
void workset_ahead(int dir, int memory);

#endif
