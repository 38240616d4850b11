/* The local APIC's timer: one-shot, periodic, TSC deadline; masked; the current count. */
#include "lib/guest.h"

GUEST(1);

static volatile unsigned ticks;

static void tick(struct regs *r)
{
    (void)r;
    ticks++;
    apic_write(APIC_EOI, 0);
}

static int one_shot(void)
{
    apic_write(APIC_TDCR, 0xb); /* by 1: 1 GHz */
    apic_write(APIC_LVT_TIMER, 0x40);
    apic_write(APIC_TMICT,
               4000000000); /* 4 s: a busy host may not come to the next line for long */
    uint32_t a = apic_read(APIC_TMCCT), b = apic_read(APIC_TMCCT);
    CHECK(1, a && a <= 4000000000 && b <= a);
    apic_write(APIC_TMICT, 3000000); /* 3 ms */
    while (!ticks)
        sti_hlt();
    CHECK(2, ticks == 1 && apic_read(APIC_TMCCT) == 0);
    return 0;
}

static int periodic(void)
{
    ticks = 0;
    apic_write(APIC_LVT_TIMER, 0x20040);
    apic_write(APIC_TMICT, 2000000);
    while (ticks < 3)
        sti_hlt();
    CHECK(10, apic_read(APIC_TMCCT) != 0);
    apic_write(APIC_TMICT, 0);
    CHECK(11, apic_read(APIC_TMCCT) == 0);
    return 0;
}

static int deadline(void)
{
    uint32_t f[4];

    cpuid(1, 0, f);
    if (!(f[2] & 1 << 24))
        return 0;
    ticks = 0;
    apic_write(APIC_LVT_TIMER, 0x40040);
    uint64_t at = rdtsc() + 3000000;
    wrmsr(0x6e0, at);
    CHECK(20, rdmsr(0x6e0) == at || rdmsr(0x6e0) == 0);
    while (!ticks)
        sti_hlt();
    CHECK(21, ticks == 1 && rdtsc() >= at && rdmsr(0x6e0) == 0);
    wrmsr(0x6e0, 1); /* long past: at once */
    sti();
    for (unsigned i = 0; i < 1000 && ticks == 1; i++)
        relax();
    cli();
    CHECK(22, ticks == 2);
    wrmsr(0x6e0, rdtsc() + 1000000000000ull);
    wrmsr(0x6e0, 0);
    CHECK(23, rdmsr(0x6e0) == 0);
    return 0;
}

static int masked(void)
{
    ticks = 0;
    apic_write(APIC_LVT_TIMER, 0x10040);
    apic_write(APIC_TMICT, 100000);
    while (apic_read(APIC_TMCCT))
        relax();
    sti();
    __asm__ volatile("nop; nop");
    cli();
    CHECK(30, ticks == 0);
    return 0;
}

int guest(void)
{
    handler[0x40] = tick;
    apic_on();
    int r = one_shot();
    r = r ? r : periodic();
    r = r ? r : deadline();
    return r ? r : masked();
}
