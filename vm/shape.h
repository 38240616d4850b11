/* vm/shape.h - what a machine consists of, as data: CPUs, memory, the features its CPUs offered,
 * its devices in the order of their slots. A snapshot holds one, and whoever restores or forks a
 * machine makes its devices again from it.
 *
 * A shape read from a file is hostile until shape_visit() took it: counts, lengths and sizes are
 * checked there. Thread: none of its own. */
#ifndef VM_SHAPE_H
#define VM_SHAPE_H

#include "cpu/model.h"
#include "vm/vm.h"

struct state_io;

enum { SHAPE_PATH_MAX = 4096, SHAPE_TAG_MAX = 36, SHAPE_SERIAL_MAX = 20 }; /* bytes, no NUL */

struct shape_disk {
    char *path;    /* owned: where it was when the machine ran; NULL = an empty drive */
    char *serial;  /* owned; NULL = none */
    uint64_t size; /* bytes */
    bool read_only;
};

struct shape_share {
    char *path, *tag; /* owned; path NULL = nothing is shared yet */
    bool read_only;
};

struct shape_net { /* what it was connected to does not belong to the machine */
    uint8_t mac[6];
    uint16_t mtu;
    uint32_t pairs;
};

struct shape { /* owned: shape_done() */
    unsigned cpus;
    uint64_t ram_bytes;
    uint64_t tsc_khz; /* rate the guest sees */
    struct cpu_features features;
    struct shape_disk disk[VM_DISKS_MAX];
    unsigned n_disks;
    struct shape_share share[VM_SHARES_MAX];
    unsigned n_shares;
    struct shape_net net[VM_NETS_MAX];
    unsigned n_nets;
    bool vsock, console, rng;
    uint32_t vsock_cid;
};

/* A disk whose content belongs to the machine: it is part of snapshots and forks. */
static inline bool shape_own_disk(const struct shape_disk *d)
{
    return d->path && !d->read_only;
}

/* From what a machine was made with; sizes of disks are filled by the devices. -ENOMEM. */
int shape_init(struct shape *s, const struct vm_conf *c, struct err *e) MUST_CHECK;
void shape_done(struct shape *s); /* a zeroed one is fine */
int shape_copy(struct shape *to, const struct shape *from, struct err *e) MUST_CHECK;
/* Save or load (into a zeroed shape). */
void shape_visit(struct shape *s, struct state_io *io);
/* A vm_conf for a machine of this shape: no kernel, engine "auto", no console descriptors, no
 * vsock path, cards without a link; the caller sets these. Strings are borrowed from *s. */
void shape_conf(const struct shape *s, struct vm_conf *c);

#endif
