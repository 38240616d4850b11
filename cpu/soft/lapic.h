/* cpu/soft/lapic.h - the local APIC of a software vCPU: xAPIC and x2APIC, timer with one-shot,
 * periodic and TSC-deadline. Source: SDM vol 3A, chapter 10.
 * Threads: the owner's vCPU thread, but lapic_bus_msi(), which any thread may call: it posts into
 * v->irr and requests. */
#ifndef CPU_SOFT_LAPIC_H
#define CPU_SOFT_LAPIC_H

#include "cpu/soft/soft.h"

void lapic_init(struct vcpu *v);     /* s.lapic holds reset values (cpu_state_reset) */
void lapic_done(struct vcpu *v);     /* stops the timer */
void lapic_init_ipi(struct vcpu *v); /* INIT: forget posted interrupts, stop the timer */
/* After soft_set(): restart the timer from s.lapic and s.tsc_deadline. Before soft_get(): write
 * TMCCT and posted IRR bits into s. */
void lapic_load(struct vcpu *v);
void lapic_save(struct vcpu *v);

/* Is `gpa` in the enabled xAPIC page? Accesses are 4 bytes wide at 16-byte steps. */
bool lapic_claims(const struct vcpu *v, gpa_t gpa);
void lapic_mmio_read(struct vcpu *v, unsigned off, unsigned len, uint64_t *val);
/* An EOI that must be broadcast is noted in v->eoi, with REQ_EOI. */
void lapic_mmio_write(struct vcpu *v, unsigned off, unsigned len, uint64_t val);

/* x2APIC MSRs 0x800..0x8ff: 0 or SOFT_FAULT (#GP). */
int lapic_msr_read(struct vcpu *v, uint32_t idx, uint64_t *val);
int lapic_msr_write(struct vcpu *v, uint32_t idx, uint64_t val);
int lapic_set_base(struct vcpu *v, uint64_t val);
int lapic_set_deadline(struct vcpu *v, uint64_t val);
/* The guest's TSC was moved: arm the deadline again. */
void lapic_tsc_moved(struct vcpu *v);
void lapic_set_tpr(struct vcpu *v, uint8_t tpr);

/* Vector that would be delivered now (priority above PPR), -1 if none. Takes posted bits in. */
int lapic_pending(struct vcpu *v);
/* Move `vector` from IRR to ISR. */
void lapic_accept(struct vcpu *v, int vector);
/* Timer fired (REQ_TIMER): set its LVT's vector. */
void lapic_timer_expired(struct vcpu *v);
/* LINT0 as ExtINT and unmasked: does the 8259's INTR reach this CPU? */
bool lapic_takes_extint(const struct vcpu *v);

/* Any thread: route a message to its destination(s). */
void lapic_bus_msi(struct soft_vm *vm, struct msi m);
/* An IPI written to ICR (xAPIC: high half in bits 63:32 as written). */
void lapic_bus_ipi(struct vcpu *from, uint64_t icr);
/* The error of sending an IPI with a vector below 16. */
void lapic_illegal_vector(struct vcpu *v);

#endif
