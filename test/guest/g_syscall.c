/* SYSCALL and SYSRET, SYSENTER and SYSEXIT, SWAPGS, IRET to ring 3 and back, the TSS's stacks. */
#include "lib/guest.h"

GUEST_EXACT(1);

enum { MSR_STAR = 0xc0000081, MSR_LSTAR, MSR_CSTAR, MSR_SFMASK };

/* Ring 3 code; the kernel side is below. */
__asm__(".balign 4096\n"
        "user_code:\n"
        "user_syscall: movl $0x1234, %eax\n"
        "  stc\n"
        "  syscall\n"
        "after_syscall: movq %rcx, %rsi; movq %r11, %rdi; int $0x80\n"
        "user_sysenter: sysenter\n"
        "after_sysenter: int $0x80\n"
        "user_cli: cli\n"
        "user_hlt: hlt\n"
        "user_swapgs: swapgs\n"
        "user_wrmsr: wrmsr\n"
        "user_in: inb $0x80, %al; int $0x80\n"
        "kernel_syscall:\n"
        "  movq %rsp, saved_rsp(%rip)\n"
        "  movq %rcx, got_rcx(%rip)\n"
        "  movq %r11, got_r11(%rip)\n"
        "  pushfq\n"
        "  popq got_flags(%rip)\n"
        "  movw %cs, got_cs(%rip)\n"
        "  movw %ss, got_ss(%rip)\n"
        "  sysretq\n"
        "kernel_sysenter:\n"
        "  movq %rsp, saved_rsp(%rip)\n"
        "  movw %cs, got_cs(%rip)\n"
        "  leaq after_sysenter(%rip), %rdx\n"
        "  movq user_sp(%rip), %rcx\n"
        "  sysexitq\n"
        "  .balign 4096\n");
extern char user_code[], user_syscall[], after_syscall[], user_sysenter[], after_sysenter[],
    user_cli[], user_hlt[], user_swapgs[], user_wrmsr[], user_in[], kernel_syscall[],
    kernel_sysenter[];
volatile uint64_t saved_rsp, got_rcx, got_r11, got_flags, user_sp;
volatile uint16_t got_cs, got_ss;

static unsigned ring3(char *code, uint64_t flags)
{
    return run_user((void (*)(void))(uintptr_t)code, user_sp, SEL_USER, flags);
}

static volatile uint64_t user_rsi, user_rdi;

static int syscalls(void)
{
    uint64_t *gdt = (uint64_t *)GDT_BASE;

    /* SYSCALL: CS = 0x08, SS = 0x10. SYSRET: CS = base + 16, SS = base + 8, as SEL_USER and
     * SEL_UDATA lie. */
    wrmsr(MSR_STAR, (uint64_t)(0x20 | 3) << 48 | 0x08ull << 32);
    wrmsr(MSR_LSTAR, (uint64_t)kernel_syscall);
    wrmsr(MSR_SFMASK, 1); /* CF */
    CHECK(1, ring3(user_syscall, 0x202) == 0x80);
    CHECK(2, got_cs == 0x08 && got_ss == 0x10);
    CHECK(3, got_rcx == (uint64_t)after_syscall && (got_r11 & 0x203) == 0x203);
    CHECK(4, !(got_flags & 1) && (got_flags & 0x200));
    CHECK(5, trap.cs == SEL_USER && trap.ss == SEL_UDATA && (trap.rflags & 1));
    CHECK(6, saved_rsp == user_sp); /* SYSCALL leaves RSP alone */
    wrmsr(MSR_EFER, rdmsr(MSR_EFER) & ~1ull);
    CHECK(7, ring3(user_syscall, 2) == 6);
    wrmsr(MSR_EFER, rdmsr(MSR_EFER) | 1);
    (void)gdt;
    return 0;
}

static int sysenter(void)
{
    uint64_t *gdt = (uint64_t *)GDT_BASE, g = SEL_FREE / 8;
    uint32_t v[4];

    /* SYSENTER wants CS, SS, then 32-bit user CS, SS, then 64-bit user CS, SS in a row. */
    gdt[g] = gdt[1];
    gdt[g + 1] = gdt[2];
    gdt[g + 2] = gdt[4];
    gdt[g + 3] = gdt[5];
    gdt[g + 4] = gdt[6];
    gdt[g + 5] = gdt[5];
    cpuid(0, 0, v);
    if (v[1] != 0x756e6547) /* not Intel's: no SYSENTER in long mode */
        return 0;
    wrmsr(0x174, 0);
    CHECK(10, ring3(user_sysenter, 2) == 13 && trap.error == 0);
    wrmsr(0x174, SEL_FREE);
    wrmsr(0x175, page(41) + 4096);
    wrmsr(0x176, (uint64_t)kernel_sysenter);
    CHECK(11, ring3(user_sysenter, 0x202) == 0x80);
    CHECK(12, got_cs == SEL_FREE && saved_rsp == page(41) + 4096);
    CHECK(13,
          trap.cs == (SEL_FREE + 32 + 3) && trap.ss == (SEL_FREE + 40 + 3) && trap.rsp == user_sp);
    CHECK(14, !(trap.rflags & 0x200)); /* SYSENTER cleared IF, SYSEXIT does not restore it */
    return 0;
}

static int privileged(void)
{
    CHECK(20, ring3(user_cli, 2) == 13 && trap.error == 0);
    CHECK(21, ring3(user_hlt, 2) == 13);
    CHECK(22, ring3(user_swapgs, 2) == 13);
    CHECK(23, ring3(user_wrmsr, 2) == 13);
    CHECK(24, ring3(user_in, 2) == 13);             /* no I/O map */
    CHECK(25, ring3(user_in, 2 | 3 << 12) == 0x80); /* IOPL 3 */
    CHECK(26, ring3(user_cli, 0x202 | 3 << 12) == 13 &&
                  !(trap.rflags & 0x200)); /* CLI allowed, then HLT */
    return 0;
}

static int swapgs(void)
{
    wrmsr(0xc0000101, 0x1111);
    wrmsr(0xc0000102, 0x2222);
    __asm__ volatile("swapgs");
    CHECK(30, rdmsr(0xc0000101) == 0x2222 && rdmsr(0xc0000102) == 0x1111);
    CHECK(31, TRY("movl %0, %%ecx; xorl %%eax, %%eax; movl $0x8000, %%edx; wrmsr",
                  "i"(0xc0000101)) == 13);
    static uint64_t cell = 0x77;
    wrmsr(0xc0000101, (uint64_t)&cell - 16);
    uint64_t v;
    __asm__ volatile("movq %%gs:16, %0" : "=r"(v));
    CHECK(32, v == 0x77);
    return 0;
}

static volatile uint64_t ist_rsp;
static void on_ist(struct regs *r)
{
    ist_rsp = (uint64_t)r;
}

static int stacks(void)
{
    uint64_t top = page(43) + 4096;

    set_ist(3, top - 8); /* is aligned down */
    handler[0x60] = on_ist;
    idt[0x60].lo |= 3ull << 32;
    __asm__ volatile("int $0x60" : : : "memory");
    CHECK(40, ist_rsp + sizeof(struct regs) == top - 16);
    set_ist(3, 0x800000000000);
    CHECK(41, TRY("int $0x60", ) == 12 && trap.error == 0);
    return 0;
}

int guest(void)
{
    tss_init();
    user_sp = page(40) + 4096 - 64;
    user_page(page(40), true);
    user_page((uint64_t)user_code, true);
    set_gate_dpl(0x80, 3);
    int r = syscalls();
    r = r ? r : sysenter();
    r = r ? r : privileged();
    r = r ? r : swapgs();
    return r ? r : stacks();
}
