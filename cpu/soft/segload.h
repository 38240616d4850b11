/* cpu/soft/segload.h - segment registers and descriptor tables.
 * Source: SDM vol 3A, chapters 3 and 5; vol 2 MOV Sreg, LLDT, LTR, LAR, LSL, VERR. */
#ifndef CPU_SOFT_SEGLOAD_H
#define CPU_SOFT_SEGLOAD_H

#include "cpu/soft/soft.h"

/* MOV/POP to ES, SS, DS, FS, GS (not CS). Real mode: base = sel << 4. Sets the accessed bit.
 * Faults: #GP, #SS, #NP with the selector, #PF. Updates v->mode. */
int seg_load(struct vcpu *v, unsigned seg, uint16_t sel);
int seg_load_ldtr(struct vcpu *v, uint16_t sel);
int seg_load_tr(struct vcpu *v, uint16_t sel);

/* Read the 8-byte descriptor of `sel` (GDT or LDT), implicit supervisor. Faults: `vec`(sel). */
int seg_descriptor(struct vcpu *v, uint16_t sel, unsigned vec, uint64_t *desc);
/* The 16-byte form of system descriptors in long mode. */
int seg_descriptor16(struct vcpu *v, uint16_t sel, unsigned vec, uint64_t desc[2]);
/* Set the accessed bit in memory and in *desc. */
int seg_accessed(struct vcpu *v, uint16_t sel, uint64_t *desc);
/* Do `len` bytes at offset `ea` lie within the limit (expand-down included)? */
bool seg_in_limit(const struct x86_seg *g, uint64_t ea, unsigned len);
/* Descriptor bytes to the cached form. */
void seg_from_descriptor(struct x86_seg *g, uint16_t sel, uint64_t desc);

/* LAR, LSL, VERR, VERW: *ok = ZF; *out the access rights or limit when ok. */
enum seg_query { SEG_LAR, SEG_LSL, SEG_VERR, SEG_VERW };
int seg_query(struct vcpu *v, enum seg_query q, uint16_t sel, bool *ok, uint32_t *out);

/* Effective address to linear: adds the base, checks limit, type and canonical form.
 * SS-relative faults are #SS(0), others #GP(0). `write`: needs a writable segment. */
int seg_linear(struct vcpu *v, unsigned seg, uint64_t ea, unsigned len, bool write, gva_t *lin);

#endif
