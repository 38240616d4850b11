/* cpu/soft/overlay.h - a vCPU that only pretends.
 *
 * While v->overlay is set, what the vCPU stores is kept beside guest memory and what it loads is
 * seen through that; the TLB is used but not filled, accessed and dirty bits are pretended too. An
 * access that cannot be pretended (a device, bytes that code was decoded from, no room left) stops
 * the instruction with SOFT_EXIT and sets `refused`; v->exit is not touched. Set and cleared by
 * overlay_begin() and overlay_end() between instructions, on the vCPU's thread. */
#ifndef CPU_SOFT_OVERLAY_H
#define CPU_SOFT_OVERLAY_H

#include "cpu/soft/soft.h"

enum {
    OVERLAY_BITS = 12,
    OVERLAY_SLOTS = 1 << OVERLAY_BITS,
    OVERLAY_WORDS = OVERLAY_SLOTS / 2,
    OVERLAY_LOG = 4096,
};

struct overlay_word {
    uint8_t *hva; /* of 8 aligned bytes of guest memory; NULL = free */
    uint8_t bytes[8];
    uint8_t set; /* bit i: bytes[i] was stored */
};

struct overlay {
    struct overlay_word word[OVERLAY_SLOTS]; /* by hash of hva */
    uint16_t used[OVERLAY_WORDS];            /* indexes of words, in the order of their making */
    unsigned n;
    struct overlay_word log[OVERLAY_LOG]; /* every store, in order */
    unsigned n_log;
    bool refused;
    struct tlb_entry entry; /* of the last look-up that missed the TLB */
};

/* Empty, and in force. */
void overlay_begin(struct overlay *o, struct vcpu *v);
void overlay_end(struct vcpu *v);

/* SOFT_OK or SOFT_EXIT. Any length within one page. */
int overlay_store(struct overlay *o, uint8_t *hva, const void *src, unsigned len);
/* dst[] was read from hva: put what was stored there over it. */
void overlay_load(const struct overlay *o, const uint8_t *hva, void *dst, unsigned len);
/* Undo all stores but the first n_log. */
void overlay_rewind(struct overlay *o, unsigned n_log);
/* The first word that memory does not hold as it was stored, NULL if all is as pretended. */
const struct overlay_word *overlay_differs(const struct overlay *o);

/* An access that cannot be pretended. Returns SOFT_EXIT. */
static inline int overlay_refuse(struct overlay *o)
{
    o->refused = true;
    return SOFT_EXIT;
}

#endif
