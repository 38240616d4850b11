/* cpu/soft/lapicreg.h - registers and bits of the local APIC, shared by lapic.c and lapicbus.c.
 * Source: SDM vol 3A, chapter 10. */
#ifndef CPU_SOFT_LAPICREG_H
#define CPU_SOFT_LAPICREG_H

enum { /* index into cpu_state.lapic: offset / 16, and x2APIC MSR - 0x800 */
       LR_ID = 0x02,
       LR_VERSION = 0x03,
       LR_TPR = 0x08,
       LR_PPR = 0x0a,
       LR_EOI = 0x0b,
       LR_LDR = 0x0d,
       LR_DFR = 0x0e,
       LR_SVR = 0x0f,
       LR_ISR = 0x10,
       LR_TMR = 0x18,
       LR_IRR = 0x20,
       LR_ESR = 0x28,
       LR_ICR = 0x30,
       LR_ICR_HIGH = 0x31,
       LR_LVT_TIMER = 0x32,
       LR_LVT_THERMAL = 0x33,
       LR_LVT_PERF = 0x34,
       LR_LVT_LINT0 = 0x35,
       LR_LVT_LINT1 = 0x36,
       LR_LVT_ERROR = 0x37,
       LR_TMICT = 0x38,
       LR_TMCCT = 0x39,
       LR_TDCR = 0x3e,
};

enum {
    SVR_ENABLE = 1u << 8,
    LVT_MASKED = 1u << 16,
    ESR_SEND_ILLEGAL = 1u << 5,
    LAPIC_VERSION = 0x00050014, /* 0x14, six LVT entries */
};

enum { TIMER_ONE_SHOT, TIMER_PERIODIC, TIMER_DEADLINE }; /* LVT timer bits 18:17 */

enum { /* delivery modes */
       DM_FIXED = 0,
       DM_LOWEST = 1,
       DM_SMI = 2,
       DM_NMI = 4,
       DM_INIT = 5,
       DM_SIPI = 6,
       DM_EXTINT = 7,
};

enum { ICR_LOGICAL = 1u << 11, ICR_ASSERT = 1u << 14, ICR_LEVEL = 1u << 15, ICR_SELF = 1u << 18 };

/* vcpu.route: LDR in the low half */
#define ROUTE_DFR_SHIFT 32 /* 4 bits */
#define ROUTE_EN (1ull << 40)
#define ROUTE_X2 (1ull << 41)
#define ROUTE_SW (1ull << 42)

#endif
