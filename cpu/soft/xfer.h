/* cpu/soft/xfer.h - control transfers that change CS: far JMP, CALL (gates included), RET; SYSCALL,
 * SYSRET, SYSENTER, SYSEXIT. Source: SDM vol 2A/2B, each instruction; vol 3A 5.8.
 * opsize in bytes (2, 4, 8). `next_rip`: address after the instruction. All set s.rip.
 * Hardware task switches (TSS or task gate targets) are not offered: #GP(selector). */
#ifndef CPU_SOFT_XFER_H
#define CPU_SOFT_XFER_H

#include "cpu/soft/soft.h"

int xfer_far_jmp(struct vcpu *v, uint16_t sel, uint64_t off, unsigned opsize);
int xfer_far_call(struct vcpu *v, uint16_t sel, uint64_t off, unsigned opsize, uint64_t next_rip);
int xfer_far_ret(struct vcpu *v, unsigned opsize, uint16_t pop_bytes);
int xfer_syscall(struct vcpu *v, uint64_t next_rip);
int xfer_sysret(struct vcpu *v, unsigned opsize);
int xfer_sysenter(struct vcpu *v);
int xfer_sysexit(struct vcpu *v, unsigned opsize);

#endif
