/* cpu/state.h - the architectural state of one x86-64 vCPU, the same for every
 * engine: what a snapshot holds and what moves a guest from one engine to another.
 * Names follow the Intel SDM (volumes 2 and 3A). */
#ifndef CPU_STATE_H
#define CPU_STATE_H

#include <stdbool.h>
#include <stdint.h>

struct state_io;

enum { RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI, R8, R9, R10, R11, R12, R13, R14, R15, GPRS };
enum { SEG_ES, SEG_CS, SEG_SS, SEG_DS, SEG_FS, SEG_GS, SEGS };

enum { /* RFLAGS, SDM vol 1, 3.4.3 */
       FL_CF = 1u << 0,
       FL_FIXED = 1u << 1,
       FL_PF = 1u << 2,
       FL_AF = 1u << 4,
       FL_ZF = 1u << 6,
       FL_SF = 1u << 7,
       FL_TF = 1u << 8,
       FL_IF = 1u << 9,
       FL_DF = 1u << 10,
       FL_OF = 1u << 11,
       FL_IOPL = 3u << 12,
       FL_NT = 1u << 14,
       FL_RF = 1u << 16,
       FL_VM = 1u << 17,
       FL_AC = 1u << 18,
       FL_VIF = 1u << 19,
       FL_VIP = 1u << 20,
       FL_ID = 1u << 21,
       FL_ARITH = FL_CF | FL_PF | FL_AF | FL_ZF | FL_SF | FL_OF,
};

enum { /* CR0, CR4, EFER: SDM vol 3A, 2.5, 2.2.1 */
       CR0_PE = 1u << 0,
       CR0_MP = 1u << 1,
       CR0_EM = 1u << 2,
       CR0_TS = 1u << 3,
       CR0_ET = 1u << 4,
       CR0_NE = 1u << 5,
       CR0_WP = 1u << 16,
       CR0_AM = 1u << 18,
       CR0_NW = 1u << 29,
       CR0_CD = 1u << 30,
       CR0_PG = 1u << 31,
       CR4_VME = 1u << 0,
       CR4_PVI = 1u << 1,
       CR4_TSD = 1u << 2,
       CR4_DE = 1u << 3,
       CR4_PSE = 1u << 4,
       CR4_PAE = 1u << 5,
       CR4_MCE = 1u << 6,
       CR4_PGE = 1u << 7,
       CR4_PCE = 1u << 8,
       CR4_OSFXSR = 1u << 9,
       CR4_OSXMMEXCPT = 1u << 10,
       CR4_UMIP = 1u << 11,
       CR4_FSGSBASE = 1u << 16,
       CR4_PCIDE = 1u << 17,
       CR4_OSXSAVE = 1u << 18,
       CR4_SMEP = 1u << 20,
       CR4_SMAP = 1u << 21,
       EFER_SCE = 1u << 0,
       EFER_LME = 1u << 8,
       EFER_LMA = 1u << 10,
       EFER_NXE = 1u << 11,
};

enum { /* exception vectors: SDM vol 3A, table 6-1 */
       VEC_DE = 0,
       VEC_DB = 1,
       VEC_NMI = 2,
       VEC_BP = 3,
       VEC_OF = 4,
       VEC_BR = 5,
       VEC_UD = 6,
       VEC_NM = 7,
       VEC_DF = 8,
       VEC_TS = 10,
       VEC_NP = 11,
       VEC_SS = 12,
       VEC_GP = 13,
       VEC_PF = 14,
       VEC_MF = 16,
       VEC_AC = 17,
       VEC_MC = 18,
       VEC_XM = 19,
};

/* attr: the access-rights format of SDM vol 3C, 25.4.1:
 * type 3:0, S 4, DPL 6:5, P 7, AVL 12, L 13, D/B 14, G 15, unusable 16. */
enum {
    SEG_TYPE = 0xf,
    SEG_S = 1u << 4,
    SEG_DPL_SHIFT = 5,
    SEG_P = 1u << 7,
    SEG_AVL = 1u << 12,
    SEG_L = 1u << 13,
    SEG_DB = 1u << 14,
    SEG_G = 1u << 15,
    SEG_UNUSABLE = 1u << 16,
};

struct x86_seg {
    uint64_t base;
    uint32_t limit; /* bytes - 1, granularity already applied */
    uint32_t attr;
    uint16_t sel;
};

struct x86_table { /* GDTR, IDTR */
    uint64_t base;
    uint16_t limit;
};

enum mp_state { MP_RUNNING, MP_HALTED, MP_WAIT_SIPI }; /* MP_WAIT_SIPI: after INIT */

enum { XSAVE_BYTES = 832, XSAVE_XMM = 160, XSAVE_HDR = 512, XSAVE_YMMH = 576 };
enum { XCR0_X87 = 1, XCR0_SSE = 2, XCR0_AVX = 4, XCR0_ALL = 7 };

/* CPUID leaf 1, EAX, and EDX after reset: family 6, model 0xfe, stepping 8, a model nobody knows.
 * Kernels list the faults of old ones by it, and programs compiled for several (GCC's target_clones
 * with arch=) take a known one's instructions for granted, whatever the feature bits say. */
enum { CPU_SIGNATURE = 0x000f06e8 };

enum { LAPIC_REGS = 64 }; /* 32-bit registers at offsets 0, 0x10, ... 0x3f0 */

struct cpu_state {
    uint64_t gpr[GPRS];
    uint64_t rip;
    uint64_t rflags;
    struct x86_seg seg[SEGS];
    struct x86_seg ldtr, tr;
    struct x86_table gdtr, idtr;
    uint64_t cr0, cr2, cr3, cr4; /* CR8 is the LAPIC's TPR */
    uint64_t dr[8];              /* dr4, dr5 unused */
    uint64_t xcr0;

    /* MSRs. SDM vol 4. */
    uint64_t efer;
    uint64_t star, lstar, cstar, sfmask, kernel_gs_base;
    uint64_t sysenter_cs, sysenter_esp, sysenter_eip;
    uint64_t pat, misc_enable, tsc_aux, tsc_adjust;
    uint64_t tsc_off;      /* guest TSC = machine clock's TSC + this (wraps) */
    uint64_t tsc_deadline; /* 0 = not armed */
    uint64_t apic_base;
    uint64_t spec_ctrl;
    uint64_t mtrr_def, mtrr_fix[11], mtrr_base[8], mtrr_mask[8];
    uint64_t kvmclock_system, kvmclock_wall; /* MSR_KVM_SYSTEM_TIME_NEW, _WALL_CLOCK_NEW */
    uint64_t kvm_poll_control, kvm_async_pf; /* held, no effect */

    /* x87, MXCSR, XMM, YMM in the standard (non-compacted) XSAVE format, SDM vol 1,
     * 13.4. XSTATE_BV always covers what differs from init. */
    _Alignas(64) uint8_t xsave[XSAVE_BYTES];

    uint32_t lapic[LAPIC_REGS]; /* TMCCT (0x390) holds what is left, as of saving */

    /* Events between two instructions. */
    enum mp_state mp;
    bool nmi_pending, nmi_masked;
    bool sti_shadow;  /* interrupts held for one instruction after STI */
    bool ss_shadow;   /* ... and debug traps too, after MOV/POP SS */
    bool exc_pending; /* an exception to deliver before the next instruction */
    bool exc_has_error;
    uint8_t exc_vector;
    uint32_t exc_error;
    bool irq_injecting; /* accepted (in service) but not yet delivered */
    uint8_t irq_vector;
    bool sipi_pending;
    uint8_t sipi_vector;
};

/* Power-up/INIT values: SDM vol 3A, table "IA-32 and Intel 64 Processor States
 * Following Power-up, Reset, or INIT". vCPU 0 is the BSP and runs; others wait
 * for SIPI. `init` keeps what INIT keeps (TSC, XSAVE area, CR0.CD/NW, MTRRs). */
void cpu_state_reset(struct cpu_state *s, unsigned index, bool init);

/* The local APIC's part of it. */
void cpu_lapic_reset(struct cpu_state *s, unsigned index);

/* Save or load. Refuses non-canonical or impossible combinations a hostile file
 * could hold; what remains cannot crash an engine. */
void cpu_state_visit(struct cpu_state *s, struct state_io *io);

/* First difference in words ("rax: 1 / 2"), for tests and lockstep; NULL if equal.
 * `ignore_time`: TSC, timers. The text lives in buf. */
const char *cpu_state_diff(const struct cpu_state *a, const struct cpu_state *b, bool ignore_time,
                           char *buf, unsigned len);

#endif
