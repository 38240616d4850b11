/* Every exception that software can cause, with its vector, error code and saved RIP. */
#include "lib/guest.h"

GUEST_EXACT(1);

static uint64_t *const gdt = (uint64_t *)GDT_BASE;

static int faults_without_code(void)
{
    CHECK(1, TRY("xorl %%ecx, %%ecx; movl $1, %%eax; xorl %%edx, %%edx; divl %%ecx", ) == 0);
    CHECK(2, TRY("ud2", ) == 6);
    CHECK(3, TRY("movl $0x80000000, %%eax; movl $-1, %%ecx; cltd; idivl %%ecx", ) == 0);
    wrcr0(rdcr0() | 8); /* TS */
    CHECK(4, TRY("fninit", ) == 7);
    __asm__ volatile("clts");
    CHECK(5, TRY(".byte 0x06", ) == 6); /* PUSH ES does not exist here */
    CHECK(6, TRY("lock; addl %%eax, %%ecx", ) == 6);
    return 0;
}

static int traps(void)
{
    uint64_t at;

    CHECK(10, TRY("int3", ) == 3);
    __asm__ volatile("leaq resume_rip(%%rip), %0" : "=r"(at)); /* keep the symbol in reach */
    CHECK(11, TRY(".byte 0xf1", ) == 1);
    CHECK(12, TRY("int $0x77", ) == 0x77);
    return 0;
}

static int general_protection(void)
{
    CHECK(20, TRY("movw $0xff0, %%ax; movw %%ax, %%ds", ) == 13 && trap.error == 0xff0);
    CHECK(21, TRY("movq $0x800000000000, %%rax; movl (%%rax), %%ecx", ) == 13 && trap.error == 0);
    CHECK(22, TRY("movl $0x12345678, %%ecx; rdmsr", ) == 13 && trap.error == 0);
    CHECK(23, TRY("xorl %%eax, %%eax; movw %%ax, %%ss; movw $3, %%ax; movw %%ax, %%ss", ) == 13);
    CHECK(24, TRY("movq %%cr0, %%rax; andl $~1, %%eax; movq %%rax, %%cr0", ) == 13);
    idt[0x40].lo &= ~(1ull << 47); /* not present */
    CHECK(25, TRY("int $0x40", ) == 11 && trap.error == 0x40 * 8 + 2);
    set_gate(0x41, 0, 14, 0, 0, 0);
    CHECK(26, TRY("int $0x41", ) == 13 && trap.error == 0);
    set_gate(0x42, 0, 14, 0, 0, SEL_DATA);
    CHECK(27, TRY("int $0x42", ) == 13 && trap.error == SEL_DATA);
    set_gate(0x43, 0, 2, 0, 0, SEL_CODE); /* an LDT is no gate */
    CHECK(28, TRY("int $0x43", ) == 13 && trap.error == 0x43 * 8 + 2);
    return 0;
}

static int segments(void)
{
    gdt[SEL_FREE / 8] = 0x00cf13000000ffff; /* data, not present */
    CHECK(30,
          TRY("movw %w0, %%ax; movw %%ax, %%es", "i"(SEL_FREE)) == 11 && trap.error == SEL_FREE);
    CHECK(31,
          TRY("movw %w0, %%ax; movw %%ax, %%ss", "i"(SEL_FREE)) == 12 && trap.error == SEL_FREE);
    CHECK(32, TRY("movq $0x800000000000, %%rbp; movl (%%rbp), %%ecx; ", ) == 12 && trap.error == 0);
    CHECK(33,
          TRY("movw %w0, %%ax; movw %%ax, %%es", "i"(SEL_CODE32)) == NO_TRAP); /* readable code */
    CHECK(34, TRY("movw %w0, %%ax; ltr %%ax", "i"(SEL_DATA)) == 13 && trap.error == SEL_DATA);
    CHECK(35, TRY("xorl %%eax, %%eax; movw %%ax, %%es; movw %%ax, %%ds", ) == NO_TRAP);
    __asm__ volatile("movw %w0, %%ds; movw %w0, %%es" : : "r"(SEL_DATA));
    return 0;
}

static int page_fault(void)
{
    uint64_t va = page(1);

    *pte(va) = 0;
    invlpg(va);
    CHECK(40, TRY("movq %0, %%rax; movl 5(%%rax), %%ecx", "r"(va)) == 14 && trap.error == 0 &&
                  trap.cr2 == va + 5);
    CHECK(41, TRY("movq %0, %%rax; movl %%ecx, 8(%%rax)", "r"(va)) == 14 && trap.error == 2 &&
                  trap.cr2 == va + 8);
    CHECK(42, TRY("movq %0, %%rax; lock; incl 12(%%rax)", "r"(va)) == 14 && trap.error == 2);
    CHECK(43,
          TRY("movq %0, %%rax; jmp *%%rax", "r"(va)) == 14 && trap.error == 0x10 && trap.rip == va);
    CHECK(44, TRY("movq %0, %%rax; movq -4(%%rax), %%rcx", "r"(va)) == 14 && trap.cr2 == va);
    return 0;
}

static int double_fault(void)
{
    static uint8_t stack[4096] __attribute__((aligned(16)));

    tss_init();
    set_ist(1, (uint64_t)stack + sizeof(stack));
    set_gate(8, idt[8].lo & 0xffff ? (idt[8].lo & 0xffff) | (idt[8].lo >> 32 & 0xffff0000) : 0, 14,
             0, 1, SEL_CODE);
    idt[14].lo &= ~(1ull << 47); /* a page fault finds no gate: #PF, #NP -> #DF */
    uint64_t va = page(2);
    *pte(va) = 0;
    invlpg(va);
    unsigned v = TRY("movq %0, %%rax; movl (%%rax), %%ecx", "r"(va));
    idt[14].lo |= 1ull << 47;
    CHECK(50, v == 8 && trap.error == 0 && trap.cr2 == va);
    idt[13].lo &= ~(1ull << 47); /* #GP, #NP: contributory twice */
    v = TRY("movl $0x12345678, %%ecx; rdmsr", );
    idt[13].lo |= 1ull << 47;
    CHECK(51, v == 8);
    idt[6].lo &= ~(1ull << 47); /* #UD is benign: the #NP is delivered */
    v = TRY("ud2", );
    idt[6].lo |= 1ull << 47;
    CHECK(52, v == 11 && trap.error == (6 * 8 + 2 + 1));
    return 0;
}

static void unaligned(void)
{
    __asm__ volatile("movl 1(%rsp), %eax; int $0x80");
}

static int alignment(void)
{
    uint64_t code = (uint64_t)unaligned, stack = page(3);

    user_page(code, true);
    user_page(stack, true);
    set_gate_dpl(0x80, 3);
    wrcr0(rdcr0() | 1u << 18); /* AM */
    unsigned v = run_user(unaligned, stack + 2048, SEL_USER, 2 | 1u << 18);
    CHECK(60, v == 17 && trap.error == 0);
    v = run_user(unaligned, stack + 2048, SEL_USER, 2);
    CHECK(61, v == 0x80 && (trap.cs & 3) == 3);
    set_gate_dpl(0x80, 0);
    v = run_user(unaligned, stack + 2048, SEL_USER, 2);
    CHECK(62, v == 13 && trap.error == 0x80 * 8 + 2);
    return 0;
}

int guest(void)
{
    int r = faults_without_code();

    r = r ? r : traps();
    r = r ? r : general_protection();
    r = r ? r : segments();
    r = r ? r : page_fault();
    r = r ? r : double_fault();
    return r ? r : alignment();
}
