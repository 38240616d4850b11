/* 8259A and PIT: an interrupt through LINT0 as ExtINT, end of interrupt, masks; and through the
 * IOAPIC, edge and level with the EOI's broadcast. */
#include "lib/guest.h"

GUEST(1);

static volatile unsigned ticks;

static void pic_tick(struct regs *r)
{
    (void)r;
    ticks++;
    outb(0x20, 0x20);
}

static void apic_tick(struct regs *r)
{
    (void)r;
    ticks++;
    apic_write(APIC_EOI, 0);
}

static void pit_periodic(unsigned count)
{
    outb(0x43, 0x34); /* channel 0, both bytes, mode 2 */
    outb(0x40, (uint8_t)count);
    outb(0x40, (uint8_t)(count >> 8));
}

static void pic_init(void)
{
    outb(0x20, 0x11);
    outb(0x21, 0x20); /* vectors 0x20.. */
    outb(0x21, 4);
    outb(0x21, 1);
    outb(0xa0, 0x11);
    outb(0xa1, 0x28);
    outb(0xa1, 2);
    outb(0xa1, 1);
    outb(0x21, 0xfe); /* IRQ 0 alone */
    outb(0xa1, 0xff);
}

static int through_the_pic(void)
{
    handler[0x20] = pic_tick;
    pic_init();
    apic_on();
    apic_write(APIC_LINT0, 0x700); /* ExtINT */
    pit_periodic(3000);
    while (ticks < 3)
        sti_hlt();
    outb(0x21, 0xff);
    unsigned n = ticks;
    sti();
    for (unsigned i = 0; i < 300; i++)
        relax();
    cli();
    CHECK(1, ticks == n); /* masked */
    apic_write(APIC_LINT0, 0x10000);
    return 0;
}

static void ioapic_write(unsigned reg, uint32_t v)
{
    __asm__ volatile("movl %0, (%1)" : : "r"(reg), "r"(0xfec00000ul) : "memory");
    __asm__ volatile("movl %0, (%1)" : : "r"(v), "r"(0xfec00010ul) : "memory");
}

static int through_the_ioapic(void)
{
    handler[0x45] = apic_tick;
    ticks = 0;
    ioapic_write(0x10 + 2 * 2 + 1, 0); /* pin 2: the PIT */
    ioapic_write(0x10 + 2 * 2, 0x45);
    while (ticks < 2)
        sti_hlt();
    ioapic_write(0x10 + 2 * 2, 0x10045);
    unsigned n = ticks;
    sti();
    for (unsigned i = 0; i < 300; i++)
        relax();
    cli();
    CHECK(10, ticks <= n + 1); /* one may have been under way */
    return 0;
}

int guest(void)
{
    int r = through_the_pic();

    return r ? r : through_the_ioapic();
}
