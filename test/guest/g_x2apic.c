/* x2APIC: the switch, MSRs instead of memory, self IPI, destinations, the timer; reserved bits
 * fault. */
#include "lib/guest.h"

GUEST(2);

static volatile unsigned got[2], up, at[2];

static void ping(struct regs *r)
{
    unsigned me = (unsigned)rdmsr(0x802);

    at[me & 1] = (unsigned)r->vector; /* before who waits for the count goes on */
    got[me & 1]++;
    wrmsr(0x80b, 0);
}

static void enable(void)
{
    apic_on();
    wrmsr(MSR_APIC_BASE, rdmsr(MSR_APIC_BASE) | 1 << 10);
}

static void ap(unsigned cpu)
{
    (void)cpu;
    enable();
    up = 1;
    for (;;)
        sti_hlt();
}

static void wait_for(volatile unsigned *p, unsigned n)
{
    while (*p != n)
        relax();
}

int guest(void)
{
    handler[0x50] = ping;
    handler[0x51] = ping;
    apic_on();
    start_cpu(1, ap); /* by xAPIC */
    wait_for(&up, 1);
    enable();
    CHECK(1, rdmsr(0x802) == 0);
    CHECK(2, (rdmsr(0x803) & 0xff) >= 0x10);
    CHECK(3, rdmsr(0x80d) == 1);
    wrmsr(0x830, 1ull << 32 | 0x4050);
    wait_for(&got[1], 1);
    wrmsr(0x830, 2ull << 32 | 0x4851); /* logical: cluster 0, bit 1 */
    wait_for(&got[1], 2);
    CHECK(4, at[1] == 0x51 && got[0] == 0);
    wrmsr(0x83f, 0x50);
    sti();
    while (!got[0])
        relax();
    cli();
    wrmsr(0x808, 0x60); /* TPR holds vector 0x50 back */
    wrmsr(0x83f, 0x50);
    sti();
    for (unsigned i = 0; i < 100; i++)
        relax();
    cli();
    CHECK(5, got[0] == 1);
    uint64_t cr8;
    __asm__ volatile("movq %%cr8, %0" : "=r"(cr8));
    CHECK(6, cr8 == 6);
    wrmsr(0x808, 0);
    sti();
    while (got[0] != 2)
        relax();
    cli();
    CHECK(8, TRY("movl $0x80e, %%ecx; rdmsr", ) == 13); /* DFR is gone */
    CHECK(9, TRY("movl $0x802, %%ecx; xorl %%eax, %%eax; xorl %%edx, %%edx; wrmsr", ) == 13);
    wrmsr(0x83e, 0xb);
    wrmsr(0x832, 0x50);
    wrmsr(0x838, 1000000);
    while (got[0] != 3)
        sti_hlt();
    return 0;
}
