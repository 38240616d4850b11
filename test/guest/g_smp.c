/* Four CPUs: INIT and SIPI, IPIs to one, to all and by logical destination, LOCKed arithmetic
 * together. */
#include "lib/guest.h"

GUEST(4);

static volatile unsigned up, got[4], go, finished;
static volatile uint64_t counter;
static volatile uint8_t straddle[128] __attribute__((aligned(64)));

static unsigned me(void)
{
    return apic_read(APIC_ID) >> 24;
}

static void ping(struct regs *r)
{
    (void)r;
    __atomic_fetch_add(&got[me()], 1, __ATOMIC_SEQ_CST);
    apic_write(APIC_EOI, 0);
}

static void work(void)
{
    /* The second counter lies across two cache lines: a split lock. */
    for (unsigned i = 0; i < 2000; i++)
        __asm__ volatile("lock; incq %0; lock; incq %1"
                         : "+m"(counter), "+m"(*(uint64_t *)(straddle + 60))
                         :
                         : "cc");
    __atomic_fetch_add(&finished, 1, __ATOMIC_SEQ_CST);
}

static void ap(unsigned cpu)
{
    apic_on();
    apic_write(APIC_DFR, 0xffffffff);
    apic_write(APIC_LDR, 1u << (24 + cpu));
    __atomic_fetch_add(&up, cpu == me(), __ATOMIC_SEQ_CST);
    while (!go)
        sti_hlt();
    work();
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
    apic_on();
    apic_write(APIC_DFR, 0xffffffff);
    apic_write(APIC_LDR, 1u << 24);
    for (unsigned i = 1; i < 4; i++) {
        start_cpu(i, ap);
        wait_for(&up, i);
    }
    apic_write(APIC_ICR_HIGH, 2u << 24);
    apic_write(APIC_ICR, 0x4050);
    wait_for(&got[2], 1);
    CHECK(1, got[0] == 0 && got[1] == 0 && got[3] == 0);
    apic_write(APIC_ICR, 0xc4050); /* all but self */
    wait_for(&got[1], 1);
    wait_for(&got[2], 2);
    wait_for(&got[3], 1);
    CHECK(2, got[0] == 0);
    apic_write(APIC_ICR_HIGH, 0xau << 24); /* logical, flat: 1 and 3 */
    apic_write(APIC_ICR, 0x4850);
    wait_for(&got[1], 2);
    wait_for(&got[3], 2);
    CHECK(3, got[2] == 2);
    go = 1;
    apic_write(APIC_ICR, 0xc4050);
    work();
    wait_for(&finished, 4);
    CHECK(4, counter == 8000);
    CHECK(5, *(volatile uint64_t *)(straddle + 60) == 8000);
    apic_write(APIC_ICR_HIGH, 1u << 24); /* INIT again: back to waiting, then SIPI starts it anew */
    up = 0;
    go = 0;
    start_cpu(1, ap);
    wait_for(&up, 1);
    return 0;
}
