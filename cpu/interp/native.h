/* cpu/interp/native.h - SSE, AVX, AES, x87 and the like: executed by the host's own CPU.
 *
 * At decode time a stub is generated for the instruction: registers it names are loaded from the
 * vCPU, the same instruction runs with its memory operand pointed at a checked copy (and GPR
 * operands moved to scratch), results are stored back. MXCSR is the guest's while it runs, with
 * exceptions masked; unmasked ones are then raised as #XM by software. x87 runs on the guest's
 * whole FXSAVE image. Code lies in a memfd mapped twice (write; execute), never both in one
 * mapping. Also here: FXSAVE/FXRSTOR, XSAVE family, LDMXCSR/STMXCSR, EMMS, masked and gather moves.
 */
#ifndef CPU_INTERP_NATIVE_H
#define CPU_INTERP_NATIVE_H

#include <Zydis/Zydis.h>
#include "cpu/interp/insn.h"

struct native; /* stub memory of one vCPU */

int native_new(struct native **ret, struct err *e) MUST_CHECK;
void native_free(struct native *n);
/* Forget all stubs (the block cache was flushed). */
void native_reset(struct native *n);
/* Bytes left; the block cache flushes itself and calls native_reset() when low. */
unsigned native_room(const struct native *n);

/* If `z` is a vector, x87 or XSAVE-family instruction: fill i->fn, i->stub and what it needs.
 * Memory operand, len, prefixes and sizes are already filled. 1 = taken; 0 = not such an
 * instruction; -ENOSPC = no room. An instruction the CPU model does not offer is taken with a
 * handler that raises #UD. `raw` = its bytes (z->length). */
int native_decode(struct vcpu *v, struct native *n, const ZydisDecodedInstruction *z,
                  const ZydisDecodedOperand *ops, const uint8_t *raw, struct insn *i);

#endif
