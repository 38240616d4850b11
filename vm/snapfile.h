/* vm/snapfile.h - the bytes of a snapshot's `state` file; no file system here. docs/snapshots.md
 * has the format.
 *
 * "KILNSNAP", u32 version, u32 zero, u64 length, that many bytes of fields (state/state.h), u32
 * CRC-32C of all before it. All is little-endian. The bytes are hostile until snapfile_parse()
 * took them; what it took lies within its limits, but the machine's own state inside (`machine`)
 * is checked by vm_load() only. Thread: none of its own. */
#ifndef VM_SNAPFILE_H
#define VM_SNAPFILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "vm/shape.h"
#include "vm/snapshot.h"

enum {
    SNAPFILE_EXTENT_PAGES = 256,       /* most pages in one extent: what one checksum covers */
    SNAPFILE_EXTENTS_MAX = 1024 * 1024 /* in one snapshot */
};
#define SNAPFILE_BYTES_MAX (64ull << 20) /* of the whole file */

struct snap_extent { /* pages stored in the memory file */
    uint32_t first;  /* page */
    uint32_t pages;  /* 1..SNAPFILE_EXTENT_PAGES */
    uint32_t crc;    /* CRC-32C of the pages as the guest sees them */
    uint32_t packed; /* bytes in memory.zst; 0 = plain, in `memory` at its own offset */
    uint64_t at;     /* packed: where in memory.zst */
};

struct snap_zero { /* a diff's pages that became zero */
    uint32_t first, pages;
};

struct snapfile { /* owned: snapfile_done() */
    char id[SNAP_ID_LEN + 1];
    char parent_id[SNAP_ID_LEN + 1]; /* "" = none: a whole snapshot */
    char *parent;                    /* folder; "" with no parent, and so on: never NULL */
    char *program, *engine, *note;   /* once parsed */
    int64_t created_ns;
    bool compressed;
    struct shape shape;
    struct snap_extent *extent; /* ascending, disjoint, within RAM */
    size_t n_extents;
    struct snap_zero *zero; /* the same */
    size_t n_zeroes;
    uint8_t *machine; /* vm_save() */
    size_t machine_len;
};

/* Errors: -EBADMSG truncated, damaged, or no snapshot; -EPROTONOSUPPORT another version; -ENOMEM.
 * *f is zeroed or valid. */
int snapfile_parse(const void *bytes, size_t len, struct snapfile *f, struct err *e) MUST_CHECK;
/* *bytes: owned by the caller. -EFBIG, -ENOMEM. */
int snapfile_format(const struct snapfile *f, uint8_t **bytes, size_t *len,
                    struct err *e) MUST_CHECK;
void snapfile_done(struct snapfile *f); /* a zeroed one is fine */
uint64_t snapfile_pages(const struct snapfile *f);

#endif
