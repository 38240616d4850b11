/* cpu/interp/strop.h - what MOVS and relatives share with INS and OUTS: the REP loop and element
 * addresses.
 *
 * A repeated string instruction ends its block and sets s.rip itself: past the instruction when it
 * is through, at the instruction when it stops in between (requests, single steps). Registers are
 * exact after every iteration. */
#ifndef CPU_INTERP_STROP_H
#define CPU_INTERP_STROP_H

#include "cpu/interp/operand.h"

/* One iteration, which moves RSI and RDI but not RCX. */
typedef int (*strop_one)(struct vcpu *v, const struct insn *i);
/* Many at once: does n <= max iterations as host bulk operations, moving RSI and RDI, and returns
 * n; 0 = none possible here. *end: the REPE/REPNE condition ended the instruction with the last of
 * them. Cannot fault. */
typedef uint64_t (*strop_bulk)(struct vcpu *v, const struct insn *i, uint64_t max, bool *end);

/* Run `one` as often as the prefix says. */
int strop_run(struct vcpu *v, const struct insn *i, strop_one one, strop_bulk bulk);

/* Linear address of the element at RSI in i->seg, or at RDI in ES. */
int strop_source(struct vcpu *v, const struct insn *i, gva_t *lin);
int strop_dest(struct vcpu *v, const struct insn *i, bool write, gva_t *lin);

/* Move RSI or RDI by n elements in the direction of DF. */
static inline void strop_move(struct vcpu *v, const struct insn *i, unsigned reg, uint64_t n)
{
    uint64_t by = n * i->opsize, at = operand_reg(v, reg * 8, i->adsize);

    operand_reg_put(v, reg * 8, i->adsize, v->s.rflags & FL_DF ? at - by : at + by);
}

/* How many elements lie from `reg` up to where a flat address would wrap. */
uint64_t strop_room(const struct vcpu *v, const struct insn *i, unsigned reg);

#endif
