/* cpu/interp/interp.h - the interpreter: Zydis decodes, C executes; obvious, the oracle.
 *
 * decode.c    bytes to struct insn, block building      blocks.c  cache of decoded blocks
 * interp.c    the engine and its loop                   i_*.c     handlers by family
 * native.c    vector and x87 instructions run on the host's CPU (native.h)
 * pick.c      the table of instructions                 operand.c registers, memory, stack, flags
 *
 * Where it differs from a processor: alignment checks (EFLAGS.AC with CR0.AM) are not made for
 * integer instructions; code outside RAM reads as ones, which is #UD; near branches in 64-bit mode
 * are 64 bits wide whatever the prefix, as Intel's are; MONITOR and MWAIT are not offered. Flags
 * that the SDM leaves undefined are what the host's processor makes of them, but for the decimal
 * instructions. */
#ifndef CPU_INTERP_INTERP_H
#define CPU_INTERP_INTERP_H

#include "cpu/interp/insn.h"

/* Execute exactly one instruction at v->s.rip (no interrupts, no TF handling): what another engine
 * calls for what it leaves out. Returns SOFT_OK (rip moved), SOFT_FAULT (v->exc; not
 * delivered), SOFT_EXIT (v->exit), SOFT_STUCK, SOFT_BREAK (done; look at requests/mode). */
int interp_one(struct vcpu *v);

/* As interp_one(), but a REP goes on to its end, or until v->requests (SOFT_BREAK, RIP still at
 * it). */
int interp_insn(struct vcpu *v);

/* As interp_insn(), but the instruction is decoded anew, and the page it lies in is not marked as
 * code: for code that changes all the time. */
int interp_uncached(struct vcpu *v);

/* Execute one block (straight-line code at v->s.rip), requests unseen. SOFT_OK: done, rip moved.
 * Else as soft_engine_ops.exec. */
int interp_block(struct vcpu *v);

/* A vCPU of its own for one-off execution by an engine that is not a software one: no LAPIC. Load
 * state with soft_set(), step with interp_one(), deliver faults with event_deliver_exc(). */
int interp_bare_new(const struct cpu_vm_conf *c, struct vcpu **ret, struct err *e) MUST_CHECK;
void interp_bare_free(struct vcpu *v);

extern const struct soft_engine_ops interp_ops;

#endif
