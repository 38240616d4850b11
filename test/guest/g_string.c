/* String instructions: faults midway leave registers at the element that failed; DF; zero counts;
 * interrupts between. */
#include "lib/guest.h"

GUEST(1);

static uint64_t hole(unsigned n) /* a good page followed by an absent one; its end */
{
    uint64_t va = page(n);

    *pte(va + 4096) = 0;
    invlpg(va + 4096);
    return va + 4096;
}

/* Runs the instruction with RSI, RDI, RCX, RAX given; afterwards they are here. */
static struct {
    uint64_t rsi, rdi, rcx, rax;
} r;
#define STRING(insn)                                                                          \
    ({                                                                                        \
        trap.vector = NO_TRAP;                                                                \
        __asm__ volatile("leaq 1f(%%rip), %%rdx; movq %%rdx, resume_rip(%%rip); movq %%rsp, " \
                         "resume_rsp(%%rip)\n\t" insn "\n1:\tmovq $0, resume_rip(%%rip); cld" \
                         : "+S"(r.rsi), "+D"(r.rdi), "+c"(r.rcx), "+a"(r.rax)                 \
                         :                                                                    \
                         : "rdx", "memory", "cc");                                            \
        (unsigned)trap.vector;                                                                \
    })

static int faults(void)
{
    uint64_t end = hole(70), src = page(73);

    r.rdi = end - 20;
    r.rsi = src;
    r.rcx = 5;
    CHECK(1, STRING("rep movsq") == 14 && trap.error == 2 && trap.cr2 == end);
    CHECK(2, r.rcx == 3 && r.rdi == end - 4 && r.rsi == src + 16); /* the third would straddle */
    r.rdi = end - 8;
    r.rcx = 100;
    r.rax = 0x5555555555555555;
    CHECK(3, STRING("rep stosb") == 14 && r.rcx == 92 && r.rdi == end);
    CHECK(4, *(volatile uint64_t *)(end - 8) == 0x5555555555555555);
    r.rsi = end - 6;
    r.rcx = 100;
    CHECK(5, STRING("rep lodsw") == 14 && trap.error == 0 && r.rcx == 97 && r.rsi == end &&
                 (r.rax & 0xffff) == 0x5555);
    r.rdi = end - 6;
    r.rcx = 100;
    r.rax = 0x55;
    CHECK(6, STRING("repe scasb") == 14 && r.rcx == 94 && r.rdi == end);
    r.rsi = end - 4;
    r.rdi = end - 8;
    r.rcx = 100;
    CHECK(7, STRING("repe cmpsb") == 14 && r.rcx == 96 && r.rsi == end && r.rdi == end - 4);
    return 0;
}

static int directions(void)
{
    volatile uint8_t *b = (volatile uint8_t *)page(74);

    for (unsigned i = 0; i < 32; i++)
        b[i] = (uint8_t)i;
    r.rsi = (uint64_t)b + 15; /* overlapping upwards needs DF */
    r.rdi = (uint64_t)b + 17;
    r.rcx = 16;
    CHECK(10, STRING("std; rep movsb") == NO_TRAP && r.rcx == 0 && r.rdi == (uint64_t)b + 1);
    CHECK(11, b[2] == 0 && b[17] == 15);
    r.rsi = (uint64_t)b;
    r.rdi = (uint64_t)b + 1;
    r.rcx = 30;
    CHECK(12, STRING("rep movsb") == NO_TRAP && b[30] == b[0]); /* a byte smeared upwards */
    r.rdi = 0x800000000000;                                     /* never touched */
    r.rcx = 0;
    CHECK(13, STRING("rep stosq") == NO_TRAP && r.rdi == 0x800000000000);
    r.rcx = 1;
    CHECK(14, STRING("rep stosq") == 13 && r.rcx == 1);
    return 0;
}

static volatile unsigned ticks;
static void tick(struct regs *s)
{
    (void)s;
    ticks++;
    apic_write(APIC_EOI, 0);
}

/* A long REP is interrupted and goes on. */
static int interrupted(void)
{
    handler[0x40] = tick;
    apic_on();
    apic_write(APIC_TDCR, 0xb);
    apic_write(APIC_LVT_TIMER, 0x40);
    apic_write(APIC_TMICT, 200000);
    sti();
    for (unsigned i = 0; i < 200 && !ticks; i++) {
        r.rdi = 0x400000;
        r.rcx = 0x40000;
        r.rax = i;
        CHECK(20, STRING("rep stosq") == NO_TRAP && r.rcx == 0 && r.rdi == 0x600000);
    }
    cli();
    CHECK(21, ticks == 1);
    return 0;
}

int guest(void)
{
    int e = faults();

    e = e ? e : directions();
    return e ? e : interrupted();
}
