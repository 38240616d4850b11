#include "guest.h"

volatile struct trap trap;
handler_fn handler[256];
volatile uint64_t resume_rip, resume_rsp;
struct gate idt[256] __attribute__((aligned(16)));
volatile uint64_t tss64[16] __attribute__((aligned(16)));
struct {
    uint16_t limit;
    uint64_t base;
} __attribute__((packed)) idtr;

extern char stubs[], ap_start[];
static uint8_t trap_stack[8192] __attribute__((aligned(16)));

void lib_init(void);
void trap_c(struct regs *r);

void put(const char *s)
{
    while (*s)
        outb(0x402, (uint8_t)*s++);
}

void put_hex(uint64_t v)
{
    for (int i = 60; i >= 0; i -= 4)
        if (i == 0 || v >> i)
            outb(0x402, (uint8_t) "0123456789abcdef"[v >> i & 15]);
}

static void finish(unsigned code)
{
    __asm__ volatile("outl %0, %1" : : "a"(code), "d"((uint16_t)0x501));
    for (;;)
        __asm__ volatile("hlt");
}

void trap_c(struct regs *r)
{
    if (r->vector < 256 && handler[r->vector]) {
        handler[r->vector](r);
        return;
    }
    trap.vector = (unsigned)r->vector;
    trap.error = r->error;
    trap.rip = r->rip;
    trap.cs = r->cs;
    trap.rflags = r->rflags;
    trap.rsp = r->rsp;
    trap.ss = r->ss;
    uint64_t x;
    __asm__ volatile("movq %%cr2, %0" : "=r"(x));
    trap.cr2 = x;
    __asm__ volatile("movq %%dr6, %0" : "=r"(x));
    trap.dr6 = x;
    trap.count++;
    if (!resume_rip) {
        put("unexpected trap ");
        put_hex(r->vector);
        put(" error ");
        put_hex(r->error);
        put(" rip ");
        put_hex(r->rip);
        put(" cr2 ");
        put_hex(trap.cr2);
        put("\n");
        finish(0xdead);
    }
    r->rip = resume_rip;
    r->cs = SEL_CODE;
    r->ss = SEL_DATA;
    r->rsp = resume_rsp;
    r->rflags = 2;
    resume_rip = 0;
}

void set_gate(unsigned vector, uint64_t fn, unsigned type, unsigned dpl, unsigned ist, uint16_t sel)
{
    idt[vector].lo = (fn & 0xffff) | (uint64_t)sel << 16 | (uint64_t)ist << 32 |
                     (uint64_t)(0x80 | dpl << 5 | type) << 40 | (fn >> 16 & 0xffff) << 48;
    idt[vector].hi = fn >> 32;
}

void set_gate_dpl(unsigned vector, unsigned dpl)
{
    idt[vector].lo = (idt[vector].lo & ~(3ull << 45)) | (uint64_t)dpl << 45;
}

void lib_init(void)
{
    for (unsigned i = 0; i < 256; i++)
        set_gate(i, (uint64_t)stubs + 16ul * i, 14, 0, 0, SEL_CODE);
    idtr.limit = sizeof(idt) - 1;
    idtr.base = (uint64_t)idt;
    __asm__ volatile("lidt %0" : : "m"(idtr));
}

void set_rsp0(uint64_t rsp)
{
    __builtin_memcpy((uint8_t *)tss64 + 4, &rsp, 8);
}

void set_ist(unsigned n, uint64_t rsp)
{
    __builtin_memcpy((uint8_t *)tss64 + 0x24 + 8 * (n - 1), &rsp, 8);
}

void tss_init(void)
{
    uint64_t base = (uint64_t)tss64, *gdt = (uint64_t *)GDT_BASE;

    set_rsp0((uint64_t)trap_stack + sizeof(trap_stack));
    ((volatile uint16_t *)tss64)[0x66 / 2] = 0x68;
    gdt[SEL_TSS / 8] = 0x67 | (base & 0xffffff) << 16 | 0x89ull << 40 | (base >> 24 & 0xff) << 56;
    gdt[SEL_TSS / 8 + 1] = base >> 32;
    __asm__ volatile("ltr %w0" : : "r"(SEL_TSS));
}

/* --- page tables --- */

static uint64_t next_table = 0x300000;

uint64_t *pde(uint64_t va)
{
    return (uint64_t *)(TABLES_BASE + 0x2000ul + (va >> 30) * 0x1000) + (va >> 21 & 511);
}

uint64_t *split(uint64_t va)
{
    uint64_t *e = pde(va);

    if (*e & PTE_PS) {
        uint64_t *t = (uint64_t *)next_table;
        uint64_t base = va & ~0x1ffffful;

        next_table += 4096;
        for (unsigned i = 0; i < 512; i++)
            t[i] = (base + i * 4096ul) | PTE_P | PTE_W;
        *e = (uint64_t)t | PTE_P | PTE_W | PTE_U;
        wrcr3(rdcr3());
    }
    return (uint64_t *)(*e & ~0xffful) + (va >> 12 & 511);
}

uint64_t *pte(uint64_t va)
{
    return split(va);
}

uint64_t page(unsigned n)
{
    uint64_t va = 0x800000 + n * 4096ul;

    split(va);
    return va;
}

void user_page(uint64_t va, bool on)
{
    uint64_t *e = split(va);

    *e = on ? *e | PTE_U : *e & ~(uint64_t)PTE_U;
    invlpg(va);
}

/* --- APIC, other CPUs --- */

void apic_on(void)
{
    apic_write(APIC_SVR, 0x1ff);
}

volatile uint64_t ap_stack, ap_fn;
volatile uint32_t ap_index, ap_taken;
static uint8_t ap_stacks[8][4096] __attribute__((aligned(16)));

void start_cpu(unsigned cpu, void (*fn)(unsigned cpu))
{
    ap_stack = (uint64_t)ap_stacks[cpu] + sizeof(ap_stacks[0]) - 8;
    ap_fn = (uint64_t)fn;
    ap_index = cpu;
    ap_taken = 0;
    apic_write(APIC_ICR_HIGH, cpu << 24);
    apic_write(APIC_ICR, 0x4500); /* INIT */
    apic_write(APIC_ICR_HIGH, cpu << 24);
    apic_write(APIC_ICR, 0x4600 | (uint32_t)((uint64_t)ap_start >> 12)); /* SIPI */
    while (!ap_taken)
        relax();
}
