/* cpu/soft/frame.h - stacks and code segments as control transfers see them: pushing and popping
 * on a stack that is not yet (or no longer) the current one, taking stacks from the TSS, checking
 * and loading CS. Registers are committed by the caller when nothing can fault any more. Source:
 * SDM vol 3A, 5.8 and 6.12-6.14. */
#ifndef CPU_SOFT_FRAME_H
#define CPU_SOFT_FRAME_H

#include "cpu/soft/soft.h"

struct frame {
    struct x86_seg ss;
    uint64_t sp;
    uint64_t mask;   /* of the stack pointer: 64, 32 or 16 bits */
    unsigned size;   /* bytes of an element: 2, 4, 8 */
    unsigned access; /* MMU_USER or MMU_SUPER */
    bool flat;       /* 64-bit: no segment, canonical addresses */
    uint32_t error;  /* error code of a stack fault: 0, or selector and EXT */
};

/* The current stack. */
void frame_current(const struct vcpu *v, struct frame *f, unsigned size);
/* A new stack for privilege `cpl`. In 64-bit mode ss is null with that privilege. */
void frame_flat(struct frame *f, uint64_t sp, unsigned cpl, unsigned size);
void frame_segment(struct frame *f, const struct x86_seg *ss, uint64_t sp, unsigned cpl,
                   unsigned size);

int frame_push(struct vcpu *v, struct frame *f, uint64_t val);
int frame_pop(struct vcpu *v, struct frame *f, uint64_t *val);
/* RSP with the bits outside f's mask kept. */
uint64_t frame_rsp(const struct vcpu *v, const struct frame *f);

/* SSn:ESPn of the TSS with all checks (legacy). `ext` is or-ed into error codes. */
int frame_tss_stack(struct vcpu *v, unsigned cpl, uint32_t ext, unsigned size, struct frame *f);
/* 64-bit: the quadword of the TSS at `off` (RSPn, ISTn). */
int frame_tss_rsp(struct vcpu *v, unsigned off, uint32_t ext, uint64_t *rsp);

/* Is `rip` acceptable in `cs`: within the limit, or canonical? #GP(0) if not. */
int frame_check_rip(struct vcpu *v, const struct x86_seg *cs, uint64_t rip);

static inline bool frame_canonical(uint64_t a)
{
    return (uint64_t)((int64_t)(a << 16) >> 16) == a;
}

/* Descriptor fields. */
static inline unsigned frame_dpl(uint64_t desc)
{
    return desc >> 45 & 3;
}
static inline bool frame_present(uint64_t desc)
{
    return desc >> 47 & 1;
}
static inline bool frame_is_code(uint64_t desc)
{
    return (desc >> 43 & 3) == 3; /* S and the code bit */
}
static inline bool frame_conforming(uint64_t desc)
{
    return desc >> 42 & 1;
}
/* In long mode L and D together are reserved. */
static inline bool frame_long(uint64_t desc)
{
    return desc >> 53 & 1;
}
static inline bool frame_big(uint64_t desc)
{
    return desc >> 54 & 1;
}

#endif
