/* Compatibility mode, call gates, far transfers, LAR, LSL, VERR, VERW, segment limits. */
#include "lib/guest.h"

GUEST_EXACT(1);

static uint64_t *const gdt = (uint64_t *)GDT_BASE;

/* 32-bit code, called by far CALL from 64-bit code; EAX comes back. */
__asm__(".balign 4096\n"
        "compat_page:\n"
        ".code32\n"
        "add32: leal 1(%eax), %eax\n" /* one byte shorter than in 64-bit mode: INC is 40 */
        "  .byte 0x40\n"              /* INC EAX; a REX prefix in long mode */
        "  lret\n"
        "limit32: movw $0x60, %ax\n" /* the data segment with a small limit */
        "  movw %ax, %es\n"
        "  movl $0xffe, %ebx\n"
        "  movl %es:(%ebx), %ecx\n" /* two bytes past the limit: #GP(0) */
        "  lret\n"
        "down32: movw $0x68, %ax\n" /* expand-down: offsets above the limit are good */
        "  movw %ax, %es\n"
        "  movl $0x20000, %ebx\n"
        "  movl %es:(%ebx), %ecx\n"
        "  movl $0x100, %ebx\n"
        "  movl %es:(%ebx), %ecx\n" /* below it: #GP(0) */
        "  lret\n"
        "write_code32: movl %eax, %cs:0x100000\n"
        "  lret\n"
        "null32: xorl %eax, %eax\n"
        "  movw %ax, %es\n"
        "  movl %es:0x100000, %ecx\n"
        "  lret\n"
        "user32: movl $0x55, %eax\n"
        "  pushl %eax\n"
        "  popl %ebx\n"
        "  int $0x80\n"
        ".code64\n"
        "gate64: movl $0x99, %eax\n"
        "  movw %cs, %bx\n"
        "  lretq\n"
        "user_gate: lcall *gate_pointer(%rip)\n"
        "  int $0x80\n"
        "gate_pointer: .long 0\n"
        "  .word 0x78\n"
        "  .balign 4096\n");
extern char compat_page[], add32[], limit32[], down32[], write_code32[], null32[], user32[],
    gate64[], user_gate[];

struct far32 {
    uint32_t off;
    uint16_t sel;
} __attribute__((packed));

static unsigned far_call(char *code, uint16_t sel, uint32_t *eax)
{
    struct far32 p = {(uint32_t)(uintptr_t)code, sel};
    uint32_t in = *eax;

    trap.vector = NO_TRAP;
    __asm__ volatile(
        "leaq 1f(%%rip), %%rcx; movq %%rcx, resume_rip(%%rip); movq %%rsp, resume_rsp(%%rip)\n\t"
        "lcall *%1\n1:\tmovq $0, resume_rip(%%rip)\n\t"
        "movw $0x10, %%cx; movw %%cx, %%es; movw %%cx, %%ds"
        : "=a"(in)
        : "m"(p), "0"(in)
        : "rcx", "rbx", "rdx", "memory", "cc");
    *eax = in;
    return trap.vector;
}

static int compat(void)
{
    uint32_t eax = 40;

    CHECK(1, far_call(add32, SEL_CODE32, &eax) == NO_TRAP && eax == 42);
    gdt[0x60 / 8] = 0x0000930000000fff; /* limit 0xfff bytes */
    CHECK(2, far_call(limit32, SEL_CODE32, &eax) == 13 && trap.error == 0 && trap.cs == SEL_CODE32);
    gdt[0x68 / 8] = 0x004097000000ffff; /* expand-down, limit 0xffff, big */
    CHECK(3, far_call(down32, SEL_CODE32, &eax) == 13 &&
                 (trap.rip & 0xfff) > ((uint64_t)down32 & 0xfff) + 12);
    CHECK(4, far_call(write_code32, SEL_CODE32, &eax) == 13);
    CHECK(5, far_call(null32, SEL_CODE32, &eax) == 13 && trap.error == 0);
    CHECK(6, far_call(add32, SEL_DATA, &eax) == 13 && trap.error == SEL_DATA);
    CHECK(7, far_call(add32, SEL_USER32, &eax) == 13 && trap.error == (SEL_USER32 & ~3));
    gdt[0x70 / 8] = 0x00ef9b000000ffff; /* L and D */
    CHECK(8, far_call(add32, 0x70, &eax) == 13 && trap.error == 0x70);
    return 0;
}

static int ring3_compat(void)
{
    tss_init();
    user_page((uint64_t)compat_page, true);
    user_page(page(50), true);
    set_gate_dpl(0x80, 3);
    CHECK(10, run_user((void (*)(void))(uintptr_t)user32, page(50) + 4096, SEL_USER32, 2) == 0x80);
    CHECK(11, trap.cs == SEL_USER32 && trap.ss == SEL_UDATA && trap.rsp == page(50) + 4096);
    return 0;
}

static int call_gate(void)
{
    uint64_t f = (uint64_t)gate64;

    gdt[0x78 / 8] = (f & 0xffff) | (uint64_t)SEL_CODE << 16 | 0xecull << 40 |
                    (f >> 16 & 0xffff) << 48; /* DPL 3 */
    gdt[0x80 / 8] = f >> 32;
    CHECK(20, run_user((void (*)(void))(uintptr_t)user_gate, page(50) + 4096, SEL_USER, 2) == 0x80);
    CHECK(21, trap.cs == SEL_USER && trap.rsp == page(50) + 4096);
    gdt[0x78 / 8] &= ~(3ull << 45); /* DPL 0 */
    CHECK(22, run_user((void (*)(void))(uintptr_t)user_gate, page(50) + 4096, SEL_USER, 2) == 13 &&
                  trap.error == 0x78);
    gdt[0x78 / 8] = (gdt[0x78 / 8] | 3ull << 45) & ~(1ull << 47);
    CHECK(23, run_user((void (*)(void))(uintptr_t)user_gate, page(50) + 4096, SEL_USER, 2) == 11 &&
                  trap.error == 0x78);
    return 0;
}

static int queries(void)
{
    uint32_t v = 0;
    uint8_t zf;

    __asm__ volatile("larl %2, %0; setz %1" : "+r"(v), "=r"(zf) : "r"(SEL_CODE) : "cc");
    CHECK(30, zf && v == 0x00af9b00);
    __asm__ volatile("lsll %2, %0; setz %1" : "+r"(v), "=r"(zf) : "r"(0x60) : "cc");
    CHECK(31, zf && v == 0xfff);
    __asm__ volatile("larl %2, %0; setz %1" : "+r"(v), "=r"(zf) : "r"(0xff0) : "cc");
    CHECK(32, !zf);
    __asm__ volatile("verr %w1; setz %0" : "=r"(zf) : "r"(SEL_CODE) : "cc");
    CHECK(33, zf);
    __asm__ volatile("verw %w1; setz %0" : "=r"(zf) : "r"(SEL_CODE) : "cc");
    CHECK(34, !zf);
    __asm__ volatile("verw %w1; setz %0" : "=r"(zf) : "r"(SEL_DATA) : "cc");
    CHECK(35, zf);
    __asm__ volatile("lsll %2, %0; setz %1"
                     : "+r"(v), "=r"(zf)
                     : "r"(0x78)
                     : "cc"); /* a call gate has no limit */
    CHECK(36, !zf);
    return 0;
}

static int far_return(void)
{
    uint64_t ok = 0;

    __asm__ volatile(
        "leaq 1f(%%rip), %%rax; pushq $0x08; pushq %%rax; lretq\n\thlt\n1:\tmovl $1, %k0"
        : "=r"(ok)
        :
        : "rax", "memory");
    CHECK(40, ok == 1);
    CHECK(41, TRY("pushq $0x10; pushq $0; lretq", ) == 13 && trap.error == 0x10);
    CHECK(42, TRY("pushq $0; pushq $0; lretq", ) == 13 && trap.error == 0);
    CHECK(43, TRY("movq $0x800000000000, %%rax; pushq $0x08; pushq %%rax; lretq", ) == 13 &&
                  trap.error == 0);
    return 0;
}

int guest(void)
{
    int r = compat();

    r = r ? r : ring3_compat();
    r = r ? r : call_gate();
    r = r ? r : queries();
    return r ? r : far_return();
}
