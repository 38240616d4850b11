/* vm/workset.h - which pages of a snapshot a machine touched at first: recorded once, in the file
 * `working-set` of the snapshot's folder, and read ahead by those that come later. Advice only: a
 * file that is missing, old or hostile costs some reading and nothing else.
 *
 * "KILNWSET", u32 version, u32 number of runs, runs of u32 first page, u32 pages, u32 CRC-32C.
 * Thread: the machine's controlling one. */
#ifndef VM_WORKSET_H
#define VM_WORKSET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct vm;

enum {
    WORKSET_RUNS_MAX = 64 * 1024,
    WORKSET_BYTES_MAX = 20 + WORKSET_RUNS_MAX * 8,
};

/* The snapshot in folder `dir` has no record yet, and may get one. */
bool workset_wanted(const char *dir);
/* What `vm` has touched, as bytes of the file, owned by the caller: free(). 0: there is nothing to
 * tell, since it was grown from no snapshot or its snapshot has a record. */
size_t workset_take(const struct vm *vm, uint8_t **bytes);
/* Keep them, if they are a record and there is none. Bytes may be hostile. */
void workset_store(const char *dir, const uint8_t *bytes, size_t len);
/* Ask the kernel to read the recorded pages of memory file `memory` ahead; `dir`: the folder. */
void workset_ahead(int dir, int memory);

#endif
