/* cpu/soft/event.h - delivery of exceptions and interrupts through the IDT or the
 * real-mode IVT, and IRET. Source: SDM vol 3A chapter 6; vol 2A IRET. */
#ifndef CPU_SOFT_EVENT_H
#define CPU_SOFT_EVENT_H

#include "cpu/soft/soft.h"

enum event_kind { EVENT_EXC, EVENT_INT_N, EVENT_INT1, EVENT_INTERRUPT, EVENT_NMI };

/* Deliver `vector`; s.rip is what the frame shall hold. Stacks, TSS (RSP0, IST), privilege
 * change, gates, error code. Faults met on the way escalate (SDM table 6-5): #DF, then shutdown.
 * Returns SOFT_OK, SOFT_EXIT (a frame in MMIO: absurd but legal) or SOFT_SHUTDOWN. */
int event_deliver(struct vcpu *v, enum event_kind kind, unsigned vector, bool has_error,
                  uint32_t error);

/* Deliver v->exc (sets CR2, DR6; RF in the frame for faults). Returns as above. */
int event_deliver_exc(struct vcpu *v);

/* INT n, INT3, INTO, INT1 as instructions: gate DPL is checked, rip in the frame is
 * `next_rip`. Returns enum soft_stop; faults are reported as faults of the instruction. */
int event_int_n(struct vcpu *v, unsigned vector, uint64_t next_rip, enum event_kind kind);

/* IRET with operand size 2, 4 or 8 bytes: all forms but task return and return to VM86 (#GP
 * and documented). Unmasks NMI. */
int event_iret(struct vcpu *v, unsigned opsize);

#endif
