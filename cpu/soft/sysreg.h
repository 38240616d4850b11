/* cpu/soft/sysreg.h - control, debug and extended control registers, and MSRs, with the rules of
 * writing them. Source: SDM vol 3A 2.5, 17.2; vol 2 MOV CR, XSETBV, RDMSR; vol 4.
 * Privilege is checked by the caller (the instruction). */
#ifndef CPU_SOFT_SYSREG_H
#define CPU_SOFT_SYSREG_H

#include "cpu/soft/soft.h"

/* cr 0, 2, 3, 4, 8. Bad values: #GP(0). Flushes the TLB as the SDM says, updates v->mode. */
int sysreg_write_cr(struct vcpu *v, unsigned cr, uint64_t val);
int sysreg_read_cr(struct vcpu *v, unsigned cr, uint64_t *val);
int sysreg_write_dr(struct vcpu *v, unsigned dr, uint64_t val);
int sysreg_read_dr(struct vcpu *v, unsigned dr, uint64_t *val);
int sysreg_xsetbv(struct vcpu *v, uint32_t idx, uint64_t val);
int sysreg_lmsw(struct vcpu *v, uint16_t val);

/* Unknown MSRs: #GP(0), counted. Known ones by a table in msr.c. */
int msr_read(struct vcpu *v, uint32_t idx, uint64_t *val);
int msr_write(struct vcpu *v, uint32_t idx, uint64_t val);

/* Guest's TSC now. */
uint64_t sysreg_tsc(const struct vcpu *v);
void sysreg_cpuid(struct vcpu *v, uint32_t leaf, uint32_t sub, uint32_t out[4]);

/* kvmclock.c: MSR_KVM_SYSTEM_TIME_NEW and WALL_CLOCK_NEW written: fill the
 * guest's pages. Source: Linux Documentation/virt/kvm/x86/msr.rst. */
void kvmclock_update_system(struct vcpu *v);
void kvmclock_update_wall(struct vcpu *v);

#endif
