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

/* Shared with far RET. CS popped from the stack, not to an inner ring; SS for privilege `rpl`;
 * data segments the outer ring may not keep (SDM vol 3A, 5.8.6). */
int event_return_cs(struct vcpu *v, uint16_t sel, struct x86_seg *cs);
int event_return_ss(struct vcpu *v, uint16_t sel, unsigned rpl, bool to_long, struct x86_seg *ss);
void event_drop_inner_segments(struct vcpu *v, unsigned cpl);

#endif
