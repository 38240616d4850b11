/* vm/snapshot.h - snapshots on disk: made from a machine, listed, verified. docs/snapshots.md has
 * the format; vm/seed.h starts machines from them.
 *
 * A snapshot is a folder: `state` (tagged fields under a checksum: facts, shape, devices, CPUs, and
 * which pages the memory file holds), `memory` (sparse; page n at offset n * 4096, zero pages left
 * out) or `memory.zst`, `diskN` for each writable disk. It is made in a folder with a temporary
 * name beside the final one, synced, then renamed: a folder with a final name is whole. A diff
 * holds only the pages written since its parent and names the parent by identity and path.
 *
 * Thread: the machine's controlling one. */
#ifndef VM_SNAPSHOT_H
#define VM_SNAPSHOT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "vm/shape.h"

struct vm;
struct snapshot;

enum {
    SNAP_VERSION = 2,
    SNAP_CHAIN_MAX = 64,       /* a snapshot and all its parents */
    SNAP_NOTE_MAX = 64 * 1024, /* bytes */
    SNAP_ID_LEN = 32,          /* hex digits */
    SNAP_DISKS_MAX = 8,        /* as of a machine */
};

struct snap_opts {      /* borrowed */
    const char *dir;    /* the folder to make; must not exist: -EEXIST */
    const char *parent; /* folder of the parent: make a diff; NULL = whole */
    const char *note;   /* any text of the caller's, kept with the snapshot; NULL = none */
    bool compress;      /* memory as zstd: smaller, but read at once when restored */
    bool stop;          /* the machine stays paused, to be ended by the caller */
};

struct snap_report {
    uint64_t pause_ns; /* the guest stood still; with stop: until all was written */
    uint64_t total_ns;
    uint64_t pages;        /* stored in the memory file */
    uint64_t stored_bytes; /* of memory and disks on disk, as far as written */
};

/* Snapshot a machine that runs, is paused, or was never started. The guest stands while its state
 * and disks are copied; its memory is written by a forked copy of this process while it runs on.
 * Afterwards (unless stop) mem's dirty log runs, so that a diff of this one can be made. Errors:
 * -EEXIST; -ESTALE: the machine's changes are not tracked since `parent`; -ENOSPC and others of the
 * host; then nothing of the new snapshot is left, and older ones are as they were. */
int snapshot_create(struct vm *vm, const struct snap_opts *o, struct snap_report *rep,
                    struct err *e) MUST_CHECK;

struct snap_files { /* open for writing and empty; borrowed while a snapshot is made */
    int state, memory;
    int disk[SNAP_DISKS_MAX];        /* of each disk that gets a copy; -1 */
    const char *parent;              /* path; NULL = a whole one */
    char parent_id[SNAP_ID_LEN + 1]; /* its identity */
};
#define SNAP_FILES_NONE \
    ((struct snap_files){.state = -1, .memory = -1, .disk = {-1, -1, -1, -1, -1, -1, -1, -1}})

/* snapshot_create() into files that somebody else makes and gives their names (vm/snapout.h):
 * nothing is opened. o->dir and o->parent are not looked at. */
int snapshot_fill(struct vm *vm, const struct snap_opts *o, const struct snap_files *f,
                  struct snap_report *rep, struct err *e) MUST_CHECK;

struct snap_info {                       /* borrowed from the snapshot */
    const char *id, *parent_id, *parent; /* parent, parent_id: NULL = none */
    const char *engine, *program;        /* that it ran on; version of kiln that wrote it */
    const char *note;
    int64_t created_ns; /* since 1970 */
    uint64_t pages;     /* in its own memory file */
    bool compressed;
    const struct shape *shape;
};

/* Reads and checks `state` of this one folder and the sizes of its files. Errors as seed_open(). */
int snapshot_open(const char *dir, struct snapshot **ret, struct err *e) MUST_CHECK;
void snapshot_close(struct snapshot *s); /* may be NULL */
struct snap_info snapshot_info(const struct snapshot *s);
/* Reads everything, parents too, and compares all checksums. */
int snapshot_verify(const char *dir, struct err *e) MUST_CHECK;
/* Remove the folder of a snapshot, so that no moment shows half of one. -ENOENT: there is none. */
int snapshot_remove(const char *dir, struct err *e) MUST_CHECK;
/* Remove what killed calls left beside snapshots in folder `parent_dir`. */
void snapshot_sweep(const char *parent_dir);

#endif
