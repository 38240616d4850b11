/* guest.h - what a tiny 64-bit test guest has: checks, traps that come back, tables to change.
 *
 * A guest defines `int guest(void)`: 0 = pass, else the number of what failed (CHECK does that),
 * and GUEST(cpus). It starts in long mode at ring 0 on the BSP: 4 GiB identity-mapped by supervisor
 * pages of 2 MiB, the GDT below, an IDT that catches everything, interrupts off. */
#ifndef TEST_GUEST_H
#define TEST_GUEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { /* selectors */
       SEL_CODE = 0x08,
       SEL_DATA = 0x10,
       SEL_CODE32 = 0x18,
       SEL_USER32 = 0x20 | 3,
       SEL_UDATA = 0x28 | 3,
       SEL_USER = 0x30 | 3,
       SEL_CODE16 = 0x38,
       SEL_DATA16 = 0x40,
       SEL_TSS = 0x50,  /* 16 bytes */
       SEL_FREE = 0x60, /* from here on a guest may write what it likes, up to 0xff8 */
};

enum { GDT_BASE = 0x1000, TABLES_BASE = 0x2000 };
#define SCRATCH ((volatile uint8_t *)0xd0000000ul)

/* GUEST_EXACT: needs ring 0 by the letter of the SDM, which a KVM without hardware does not give.
 */
#define GUEST_ON(ncpus, exact)                                                              \
    int guest(void);                                                                        \
    __asm__(".pushsection .header, \"a\"\n.long 0x54534754, " #ncpus ", 64, start, " #exact \
            "\n.popsection")
#define GUEST(ncpus) GUEST_ON(ncpus, 0)
#define GUEST_EXACT(ncpus) GUEST_ON(ncpus, 1)

#define CHECK(n, cond)  \
    do {                \
        if (!(cond))    \
            return (n); \
    } while (0)

struct regs { /* as the stub pushes them */
    uint64_t r15, r14, r13, r12, r11, r10, r9, r8, rdi, rsi, rbp, rbx, rdx, rcx, rax;
    uint64_t vector, error, rip, cs, rflags, rsp, ss;
};

/* The last trap of any kind. */
struct trap {
    unsigned vector; /* NO_TRAP before */
    uint64_t error, rip, cs, rflags, rsp, ss, cr2, dr6;
    unsigned count;
};
enum { NO_TRAP = 0x100 };
extern volatile struct trap trap;

/* Called for a vector instead of ending the guest; returns to the interrupted code. */
typedef void (*handler_fn)(struct regs *r);
extern handler_fn handler[256];

/* Run the assembler text; if it traps, execution goes on behind it at ring 0. The value is the
 * vector, NO_TRAP if there was none. */
extern volatile uint64_t resume_rip, resume_rsp;
#define TRY(code, ...)                                                                     \
    ({                                                                                     \
        trap.vector = NO_TRAP;                                                             \
        __asm__ volatile("leaq 7777f(%%rip), %%r11\n\tmovq %%r11, resume_rip(%%rip)\n\t"   \
                         "movq %%rsp, resume_rsp(%%rip)\n\t" code                          \
                         "\n7777:\tmovq $0, resume_rip(%%rip)"                             \
                         :                                                                 \
                         : __VA_ARGS__                                                     \
                         : "memory", "cc", "rax", "rcx", "rdx", "r8", "r9", "r10", "r11"); \
        (unsigned)trap.vector;                                                             \
    })

/* Run fn(arg) at ring 3 (selectors SEL_USER, SEL_UDATA) on user_stack, which the caller made user
 * pages, until it traps. The value is the vector. The TSS must be loaded: tss_init(). */
unsigned run_user(void (*fn)(void), uint64_t user_rsp, uint16_t cs, uint64_t rflags);
extern volatile uint64_t tss64[16]; /* RSP0 at byte 4 ... */
void tss_init(void);
void set_rsp0(uint64_t rsp);
void set_ist(unsigned n, uint64_t rsp); /* n from 1 */

struct gate {
    uint64_t lo, hi;
};
extern struct gate idt[256];
void set_gate(unsigned vector, uint64_t fn, unsigned type, unsigned dpl, unsigned ist,
              uint16_t sel);
void set_gate_dpl(unsigned vector, unsigned dpl);

void put(const char *s);
void put_hex(uint64_t v);

/* Page tables for the first 4 GiB: entry of the 2 MiB page, or, after split(), of the 4 KiB page.
 */
uint64_t *pde(uint64_t va);
uint64_t *split(uint64_t va);
enum { PTE_P = 1, PTE_W = 2, PTE_U = 4, PTE_A = 0x20, PTE_D = 0x40, PTE_PS = 0x80, PTE_G = 0x100 };
#define PTE_NX (1ull << 63)
/* 4 KiB page number n (0..255) of a free region, split and supervisor, zeroed: its address. */
uint64_t page(unsigned n);
uint64_t *pte(uint64_t va);
void user_page(uint64_t va, bool on); /* sets U on all levels, flushes */

static inline void invlpg(uint64_t va)
{
    __asm__ volatile("invlpg (%0)" : : "r"(va) : "memory");
}
static inline uint64_t rdcr0(void)
{
    uint64_t v;
    __asm__ volatile("movq %%cr0, %0" : "=r"(v));
    return v;
}
static inline void wrcr0(uint64_t v)
{
    __asm__ volatile("movq %0, %%cr0" : : "r"(v) : "memory");
}
static inline uint64_t rdcr3(void)
{
    uint64_t v;
    __asm__ volatile("movq %%cr3, %0" : "=r"(v));
    return v;
}
static inline void wrcr3(uint64_t v)
{
    __asm__ volatile("movq %0, %%cr3" : : "r"(v) : "memory");
}
static inline uint64_t rdcr4(void)
{
    uint64_t v;
    __asm__ volatile("movq %%cr4, %0" : "=r"(v));
    return v;
}
static inline void wrcr4(uint64_t v)
{
    __asm__ volatile("movq %0, %%cr4" : : "r"(v) : "memory");
}
static inline uint64_t rdmsr(uint32_t i)
{
    uint32_t lo, hi;
    __asm__ volatile("rdmsr" : "=a"(lo), "=d"(hi) : "c"(i) : "memory");
    return (uint64_t)hi << 32 | lo;
}
static inline void wrmsr(uint32_t i, uint64_t v)
{
    __asm__ volatile("wrmsr" : : "c"(i), "a"((uint32_t)v), "d"((uint32_t)(v >> 32)) : "memory");
}
static inline uint64_t rdtsc(void)
{
    uint32_t lo, hi;
    __asm__ volatile("rdtsc" : "=a"(lo), "=d"(hi) : : "memory");
    return (uint64_t)hi << 32 | lo;
}
static inline void cpuid(uint32_t leaf, uint32_t sub, uint32_t out[4])
{
    __asm__ volatile("cpuid"
                     : "=a"(out[0]), "=b"(out[1]), "=c"(out[2]), "=d"(out[3])
                     : "a"(leaf), "c"(sub));
}
static inline void outb(uint16_t port, uint8_t v)
{
    __asm__ volatile("outb %0, %1" : : "a"(v), "Nd"(port) : "memory");
}
static inline uint8_t inb(uint16_t port)
{
    uint8_t v;
    __asm__ volatile("inb %1, %0" : "=a"(v) : "Nd"(port) : "memory");
    return v;
}
static inline void cli(void)
{
    __asm__ volatile("cli" : : : "memory");
}
static inline void sti(void)
{
    __asm__ volatile("sti" : : : "memory");
}
static inline void sti_hlt(void)
{
    __asm__ volatile("sti; hlt; cli" : : : "memory");
}
static inline void relax(void)
{
    __asm__ volatile("pause" : : : "memory");
}

/* Local APIC, memory-mapped. */
enum {
    APIC_ID = 0x20,
    APIC_VERSION = 0x30,
    APIC_TPR = 0x80,
    APIC_PPR = 0xa0,
    APIC_EOI = 0xb0,
    APIC_LDR = 0xd0,
    APIC_DFR = 0xe0,
    APIC_SVR = 0xf0,
    APIC_ISR = 0x100,
    APIC_IRR = 0x200,
    APIC_ESR = 0x280,
    APIC_ICR = 0x300,
    APIC_ICR_HIGH = 0x310,
    APIC_LVT_TIMER = 0x320,
    APIC_LINT0 = 0x350,
    APIC_LINT1 = 0x360,
    APIC_LVT_ERROR = 0x370,
    APIC_TMICT = 0x380,
    APIC_TMCCT = 0x390,
    APIC_TDCR = 0x3e0,
};
static inline uint32_t apic_read(unsigned off)
{
    uint32_t v;
    __asm__ volatile("movl (%1), %0" : "=r"(v) : "r"(0xfee00000ul + off) : "memory");
    return v;
}
static inline void apic_write(unsigned off, uint32_t v)
{
    __asm__ volatile("movl %0, (%1)" : : "r"(v), "r"(0xfee00000ul + off) : "memory");
}
void apic_on(void); /* software-enable, spurious vector 0xff */
enum { MSR_APIC_BASE = 0x1b, MSR_EFER = 0xc0000080 };

/* Start vCPU `cpu` (APIC id) at ring 0 in long mode in fn(cpu), with its own stack and the same
 * tables. */
void start_cpu(unsigned cpu, void (*fn)(unsigned cpu));

#endif
