/* Interrupts: delivery, priorities, TPR and CR8, the STI and MOV SS shadows, NMI and its mask, HLT.
 */
#include "lib/guest.h"

GUEST_EXACT(1);

static volatile unsigned order[16], n_order;
static volatile uint64_t at_rip;

static void note(struct regs *r)
{
    order[n_order++ & 15] = (unsigned)r->vector;
    at_rip = r->rip;
    if (r->vector != 2)
        apic_write(APIC_EOI, 0);
}

static void self_ipi(unsigned vector)
{
    apic_write(APIC_ICR, 0x44000 | vector);
}

static void self_nmi(void)
{
    apic_write(APIC_ICR, 0x44400);
}

static int priorities(void)
{
    cli();
    self_ipi(0x31);
    self_ipi(0x51);
    self_ipi(0x41);
    CHECK(1, n_order == 0);
    CHECK(2, apic_read(APIC_IRR + 0x10) == (1u << 0x11) &&
                 apic_read(APIC_IRR + 0x20) == (1u << 1 | 1u << 0x11));
    sti();
    __asm__ volatile("nop; nop");
    cli();
    CHECK(3, n_order == 3 && order[0] == 0x51 && order[1] == 0x41 && order[2] == 0x31);
    n_order = 0;
    apic_write(APIC_TPR, 0x40);
    self_ipi(0x31);
    self_ipi(0x51);
    self_ipi(0x4f);
    CHECK(4, apic_read(APIC_PPR) == 0x40);
    sti();
    __asm__ volatile("nop; nop");
    cli();
    CHECK(5, n_order == 1 && order[0] == 0x51);
    sti();
    __asm__ volatile("movq %0, %%cr8; nop; nop" : : "r"(3ul));
    cli();
    CHECK(6, n_order == 2 && order[1] == 0x4f);
    CHECK(7, apic_read(APIC_TPR) == 0x30);
    sti();
    __asm__ volatile("movq %0, %%cr8; nop; nop" : : "r"(0ul));
    cli();
    CHECK(8, n_order == 3 && order[2] == 0x31);
    return 0;
}

static volatile unsigned depth;

static void outer(struct regs *r)
{
    order[n_order++ & 15] = (unsigned)r->vector;
    self_ipi(0x35); /* same class: waits for our EOI */
    self_ipi(0x61); /* higher: nests */
    sti();
    __asm__ volatile("nop; nop");
    depth = n_order;
    cli();
    apic_write(APIC_EOI, 0);
}

static int nesting(void)
{
    n_order = 0;
    handler[0x38] = outer;
    self_ipi(0x38);
    sti();
    __asm__ volatile("nop; nop; nop");
    cli();
    CHECK(10, depth == 2 && n_order == 3);
    CHECK(11, order[0] == 0x38 && order[1] == 0x61 && order[2] == 0x35);
    return 0;
}

static int shadows(void)
{
    uint64_t expect;

    n_order = 0;
    self_ipi(0x31);
    __asm__ volatile("leaq 1f(%%rip), %0\n\tsti\n\tnop\n1:\tnop\n\tcli"
                     : "=r"(expect)
                     :
                     : "memory");
    CHECK(20, n_order == 1 && at_rip == expect); /* one instruction after STI */
    n_order = 0;
    self_ipi(0x31);
    sti_hlt(); /* cannot be lost between the two */
    CHECK(21, n_order == 1);
    self_ipi(0x31);
    n_order = 0;
    __asm__ volatile("sti\n\tcli" : : : "memory"); /* no window at all */
    CHECK(22, n_order == 0);
    sti();
    __asm__ volatile("nop");
    cli();
    CHECK(23, n_order == 1);
    return 0;
}

static volatile unsigned nmi_depth, nmi_deepest, nmis;

static void on_nmi(struct regs *r)
{
    (void)r;
    nmis++;
    if (++nmi_depth > nmi_deepest)
        nmi_deepest = nmi_depth;
    if (nmis == 1) {
        self_nmi(); /* held until IRET */
        for (unsigned i = 0; i < 100; i++)
            relax();
    }
    nmi_depth--;
}

static int nmi(void)
{
    handler[2] = on_nmi;
    cli();
    self_nmi();
    for (unsigned i = 0; i < 1000 && nmis < 2; i++)
        relax();
    CHECK(30, nmis == 2 && nmi_deepest == 1);
    return 0;
}

static int popf_opens(void)
{
    n_order = 0;
    self_ipi(0x31);
    __asm__ volatile("pushq $0x202; popfq; nop; nop; cli" : : : "memory", "cc");
    CHECK(40, n_order == 1);
    return 0;
}

static int errors(void)
{
    apic_write(APIC_ESR, 0);
    apic_write(APIC_LVT_ERROR, 0x71);
    n_order = 0;
    self_ipi(5); /* illegal vector */
    apic_write(APIC_ESR, 0);
    CHECK(50, apic_read(APIC_ESR) & 0x20);
    sti();
    __asm__ volatile("nop; nop");
    cli();
    CHECK(51, n_order == 1 && order[0] == 0x71);
    return 0;
}

int guest(void)
{
    for (unsigned i = 0x30; i < 0x80; i++)
        handler[i] = note;
    apic_on();
    int r = priorities();
    r = r ? r : nesting();
    handler[0x38] = note;
    r = r ? r : shadows();
    r = r ? r : nmi();
    r = r ? r : popf_opens();
    return r ? r : errors();
}
