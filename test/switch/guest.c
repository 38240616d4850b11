/* The guest of t_switch.c: sums for ever, with a timer interrupt every millisecond, until the host
 * says stop. A plain ELF64, entered in long mode with 4 GiB mapped one to one. */
#include "test/switch/sum.h"

enum { APIC = 0xfee00000, EOI = 0xb0, SVR = 0xf0, LVT_TIMER = 0x320, TMICT = 0x380, TDCR = 0x3e0 };
enum { VECTOR = 0x40, PERIODIC = 1 << 17, DIVIDE_BY_1 = 0xb, TICK_NS = 1000000, EXIT_PORT = 0x501 };

struct gate {
    uint16_t lo, sel;
    uint8_t ist, type;
    uint16_t mid;
    uint32_t hi, zero;
};
static struct gate idt[VECTOR + 1];
static uint64_t last_tsc;
static struct mailbox *const box = (struct mailbox *)MAILBOX_GPA;

extern const char on_timer[];
void tick(void);
void start_c(void);

/* SSE on: SDM vol 3A, 9.6. FNINIT as an operating system does. */
__asm__(".globl start\n"
        "start:\tleaq stack_top(%rip), %rsp\n\t"
        "movq %cr0, %rax; andq $~0x4, %rax; orq $0x22, %rax; movq %rax, %cr0\n\t"
        "movq %cr4, %rax; orq $0x600, %rax; movq %rax, %cr4; fninit\n\t"
        "call start_c\n"
        ".globl on_timer\n"
        "on_timer:\tpushq %rax; pushq %rcx; pushq %rdx; pushq %rsi; pushq %rdi\n\t"
        "pushq %r8; pushq %r9; pushq %r10; pushq %r11; cld\n\t"
        "call tick\n\t"
        "popq %r11; popq %r10; popq %r9; popq %r8\n\t"
        "popq %rdi; popq %rsi; popq %rdx; popq %rcx; popq %rax; iretq\n"
        ".bss; .align 16; .skip 16384; stack_top:; .text");

static void apic(unsigned reg, uint32_t v)
{
    *(volatile uint32_t *)(uint64_t)(APIC + reg) = v;
}

/* Touches no vector register: those are the sum's. */
__attribute__((target("general-regs-only"))) void tick(void)
{
    uint32_t lo, hi;

    __asm__ volatile("rdtsc" : "=a"(lo), "=d"(hi));
    uint64_t now = (uint64_t)hi << 32 | lo;
    if (now < last_tsc)
        box->backwards++;
    last_tsc = now;
    box->ticks++;
    *(volatile uint32_t *)(uint64_t)(APIC + EOI) = 0;
}

static void interrupts_on(void)
{
    struct {
        uint16_t limit;
        uint64_t base;
    } __attribute__((packed)) idtr = {sizeof(idt) - 1, (uint64_t)idt};
    uint64_t at = (uint64_t)on_timer;
    uint16_t cs;

    __asm__ volatile("movw %%cs, %0" : "=r"(cs));
    idt[VECTOR] = (struct gate){.lo = (uint16_t)at,
                                .sel = cs,
                                .type = 0x8e,
                                .mid = (uint16_t)(at >> 16),
                                .hi = (uint32_t)(at >> 32)};
    __asm__ volatile("lidt %0" : : "m"(idtr));
    apic(SVR, 0x1ff);
    apic(TDCR, DIVIDE_BY_1);
    apic(LVT_TIMER, PERIODIC | VECTOR);
    apic(TMICT, TICK_NS);
    __asm__ volatile("sti");
}

void start_c(void)
{
    struct sum s;
    uint64_t *w = (uint64_t *)WORK_GPA;

    sum_init(&s, w);
    interrupts_on();
    while (!box->stop) {
        sum_round(&s, w);
        box->rounds++;
    }
    __asm__ volatile("cli");
    box->sum = sum_end(&s);
    __asm__ volatile("outl %%eax, %%dx" : : "a"(1), "d"(EXIT_PORT));
    for (;;)
        __asm__ volatile("hlt");
}
