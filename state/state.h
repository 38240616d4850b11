/* state/state.h - one visitor function per object both saves and loads it.
 *
 * Format: fields (u16 id, u32 size, bytes), little-endian; objects nest: an object
 * is a field whose bytes are fields. A loader walks fields in the order they
 * are visited; fields it does not ask for are skipped, fields missing from the
 * stream are an error unless marked optional. C structs are never written
 * whole: padding, compiler and version would become part of the format.
 *
 * The loaded bytes are hostile: visitors check what they loaded and call
 * state_fail(); the first failure sticks and later calls do nothing. */
#ifndef STATE_STATE_H
#define STATE_STATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

enum { STATE_MAX = 64 << 20, STATE_DEPTH = 8 }; /* bytes; nesting */

struct state_io {
    bool saving;
    uint8_t *buf;            /* saving: owned, grows; loading: borrowed */
    size_t len, cap;         /* bytes used / allocated (saving); len = input (loading) */
    size_t pos;              /* loading: next field of the innermost object */
    size_t end[STATE_DEPTH]; /* ends (loading) or size-field offsets (saving) */
    unsigned depth;
    int failed; /* first failure, negative errno; 0 = none */
    struct err err;
};

void state_save_init(struct state_io *io);
void state_load_init(struct state_io *io, const void *buf, size_t len);
/* Frees what saving allocated. Returns io->failed, with the sentence in *e. */
int state_done(struct state_io *io, struct err *e);
/* Saving: hand over the bytes (caller frees) and finish. Errors as state_done. */
int state_take(struct state_io *io, uint8_t **buf, size_t *len, struct err *e) MUST_CHECK;

void state_begin(struct state_io *io, uint16_t id, const char *name);
void state_end(struct state_io *io);

void state_u8(struct state_io *io, uint16_t id, uint8_t *v);
void state_u16(struct state_io *io, uint16_t id, uint16_t *v);
void state_u32(struct state_io *io, uint16_t id, uint32_t *v);
void state_u64(struct state_io *io, uint16_t id, uint64_t *v);
void state_bool(struct state_io *io, uint16_t id, bool *v);
/* Exactly `len` bytes. */
void state_bytes(struct state_io *io, uint16_t id, void *p, size_t len);
/* An array of u32/u64. */
void state_u32s(struct state_io *io, uint16_t id, uint32_t *v, size_t n);
void state_u64s(struct state_io *io, uint16_t id, uint64_t *v, size_t n);
/* Heap bytes of any length up to `max`; loading allocates *p (owner: object). */
void state_blob(struct state_io *io, uint16_t id, uint8_t **p, size_t *len, size_t max);

/* Visitors report values they cannot accept. Sticky. */
__attribute__((format(printf, 2, 3))) void state_fail(struct state_io *io, const char *fmt, ...);
static inline bool state_loading(const struct state_io *io)
{
    return !io->saving && !io->failed;
}

#endif
