/* vm/snapopen.h - an opened snapshot, as the files of vm/ share it. */
#ifndef VM_SNAPOPEN_H
#define VM_SNAPOPEN_H

#include "vm/snapfile.h"
#include "vm/snapshot.h"

struct snapshot {
    int dir;    /* owned, as all */
    char *path; /* absolute */
    struct snapfile f;
};

/* Descriptors of its files, for reading; owned by the caller. */
int snapshot_memory(const struct snapshot *s, struct err *e) MUST_CHECK;
int snapshot_disk(const struct snapshot *s, unsigned disk, struct err *e) MUST_CHECK;

/* The snapshot (first) and its parents, all of the same memory size. Returns how many. */
int snapshot_chain(const char *dir, struct snapshot *chain[SNAP_CHAIN_MAX],
                   struct err *e) MUST_CHECK;
void snapshot_close_chain(struct snapshot *chain[], int n);

#endif
