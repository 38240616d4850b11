/* Faults as a program sees them: siginfo, every register, and what a handler changes. */
#include <fenv.h>
#include <fpu_control.h>
#include <setjmp.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#include "user.h"

static struct {
    unsigned n;
    int sig, code;
    uintptr_t addr;
    greg_t reg[NGREG];
    uint32_t xmm5[4];
} seen;

static uintptr_t go_on_at; /* 0: where it was */
static void (*change)(ucontext_t *u);

static void on_signal(int sig, siginfo_t *si, void *p)
{
    ucontext_t *u = p;

    /* Linux leaves AC as it was. */
    __asm__ volatile("pushf; andl $~0x40000, (%%rsp); popf" : : : "cc", "memory");
    seen.n++;
    seen.sig = sig;
    seen.code = si->si_code;
    seen.addr = (uintptr_t)si->si_addr;
    memcpy(seen.reg, u->uc_mcontext.gregs, sizeof(seen.reg));
    memcpy(seen.xmm5, &u->uc_mcontext.fpregs->_xmm[5], sizeof(seen.xmm5));
    if (go_on_at)
        u->uc_mcontext.gregs[REG_RIP] = (greg_t)go_on_at;
    if (change)
        change(u);
}

static void catch (int sig)
{
    static char stack[8 * PAGE];
    stack_t alt = {.ss_sp = stack, .ss_size = sizeof(stack)};
    struct sigaction sa = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_ONSTACK};

    sigaltstack(&alt, NULL);
    sigaction(sig, &sa, NULL);
    memset(&seen, 0, sizeof(seen));
    change = NULL;
    go_on_at = 0;
}

/* One instruction between labels NAME_at and NAME_on; rdi, rsi and rdx are the function's
 * arguments. */
#define SNIPPET(name, insn)                                                                    \
    extern char name##_at[], name##_on[];                                                      \
    void name(uintptr_t rdi, uintptr_t rsi, uintptr_t rdx);                                    \
    __asm__(".text\n" #name                                                                    \
            ":\n push %rbp\n mov %rsp, %rbp\n push %rbx\n push %r12\n xor %eax, %eax\n"        \
            "cmp $1, %eax\n lea 7(%rdi), %rcx\n mov %rdx, %rcx\n" #name "_at:" insn "\n" #name \
            "_on: lea -16(%rbp), %rsp\n pop %r12\n pop %rbx\n pop %rbp\n ret\n")

/* --- every register ---------------------------------------------------------- */

uint64_t regs_out[17]; /* in the order of the pushes below, flags last */
extern char regs_at[], regs_on[];
void regs_fault(void);
__asm__(
    ".text\n"
    "regs_fault:\n"
    "push %rbx; push %rbp; push %r12; push %r13; push %r14; push %r15\n"
    "mov $0x101, %eax; mov $0x102, %ecx; mov $0x103, %edx; mov $0x104, %ebx; mov $0x105, %ebp\n"
    "mov $0x106, %esi; mov $0x107, %edi; mov $0x108, %r8d; mov $0x109, %r9d; mov $0x10a, %r10d\n"
    "mov $0x10b, %r11d; mov $0x10c, %r12d; mov $0x10d, %r13d; mov $0x10e, %r14d; mov $0x10f, "
    "%r15d\n"
    "movd %r15d, %xmm5; pshufd $0, %xmm5, %xmm5\n"
    "push $0x7f; addb $1, (%rsp); lea 8(%rsp), %rsp\n" /* OF SF AF, no CF ZF PF */
    "mov $0x110, %eax; add $8, %r10; lea -8(%r10), %r10; cmpb $0x80, -8(%rsp); mov %r11, %r11\n"
    "cmp %r10, %r9\n" /* CF SF AF PF */
    "regs_at: mov 0x1234(%r11,%r10,4), %rax\n"
    "mov $0, %r9d\n" /* passed over */
    "regs_on:\n"
    "mov %rax, regs_out; mov %rcx, regs_out+8; mov %rdx, regs_out+16; mov %rbx, regs_out+24\n"
    "mov %rbp, regs_out+32; mov %rsi, regs_out+40; mov %rdi, regs_out+48; mov %r8, regs_out+56\n"
    "mov %r9, regs_out+64; mov %r10, regs_out+72; mov %r11, regs_out+80; mov %r12, regs_out+88\n"
    "mov %r13, regs_out+96; mov %r14, regs_out+104; mov %r15, regs_out+112; movd %xmm5, "
    "regs_out+120\n"
    "pushf; pop %rax; mov %rax, regs_out+128\n"
    "pop %r15; pop %r14; pop %r13; pop %r12; pop %rbp; pop %rbx; ret\n");

static const int order[] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RBP, REG_RSI, REG_RDI, REG_R8,
                            REG_R9,  REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15};

static void change_all(ucontext_t *u)
{
    for (unsigned i = 0; i < 15; i++)
        u->uc_mcontext.gregs[order[i]] += 0x1000;
    u->uc_mcontext.gregs[REG_EFL] ^= 0x8d5;
    u->uc_mcontext.fpregs->_xmm[5].element[0] = 0x5555;
}

static int every_register(void)
{
    for (int round = 0; round < 3; round++) {
        catch (SIGSEGV);
        go_on_at = (uintptr_t)regs_on;
        change = change_all;
        regs_fault();
        WANT(seen.n == 1 && seen.sig == SIGSEGV && seen.code == SEGV_MAPERR);
        WANT(seen.addr == 0x1234 + 0x10b + 4 * 0x10a);
        WANT(seen.reg[REG_RIP] == (greg_t)regs_at);
        WANT(seen.reg[REG_RAX] == 0x110 && seen.reg[REG_TRAPNO] == 14 && seen.reg[REG_ERR] == 4);
        for (unsigned i = 1; i < 15; i++)
            WANT(seen.reg[order[i]] == 0x101 + (greg_t)i);
        WANT((seen.reg[REG_EFL] & 0x8d5) == 0x95); /* 0x109 - 0x10a */
        WANT(seen.xmm5[0] == 0x10f && seen.xmm5[3] == 0x10f);
        WANT(regs_out[0] == 0x1110 && regs_out[15] == 0x5555);
        for (unsigned i = 1; i < 15; i++)
            WANT(regs_out[i] == 0x1101 + i);
        WANT((regs_out[16] & 0x8d5) == (0x95 ^ 0x8d5));
    }
    return 0;
}

/* --- kinds of fault ------------------------------------------------------------ */

SNIPPET(load_8, "mov (%rdi), %rax");
SNIPPET(store_8, "mov %rdx, (%rdi)");
SNIPPET(divide, "mov %rdi, %rax; cqo; mov $7, %ebx; divide_in: idiv %rsi");
SNIPPET(divide_32, "mov %edi, %eax; cltd; idivl %esi");
SNIPPET(divide_8, "mov %edi, %eax; divb %sil");
SNIPPET(undefined, "ud2");
SNIPPET(break_3, "int3");
SNIPPET(halt, "hlt");
SNIPPET(clear_if, "cli");
SNIPPET(port_in, "in $0x80, %al");
SNIPPET(read_cr0, "mov %cr0, %rax");
SNIPPET(write_msr, "wrmsr");
SNIPPET(bad_int, "int $0x42");
SNIPPET(aligned, "movaps (%rdi), %xmm0");
SNIPPET(aligned_op, "paddd (%rdi), %xmm0");
SNIPPET(stack_load, "mov %rdi, %rbx; mov %rbx, %rsp; stack_in: mov 8(%rsp), %rax");
SNIPPET(jump, "jmp *%rdi");
SNIPPET(call, "call *%rdi");
SNIPPET(call_mem, "call *(%rdi)");
SNIPPET(ret_to, "push %rdi; ret_in: ret");
SNIPPET(push_it, "mov %rdi, %rsp; push_in: push %rdx");
SNIPPET(call_it, "mov %rdi, %rsp; call_in: call undefined");
SNIPPET(misaligned, "mov (%rdi), %rax");
extern char divide_in[], stack_in[], ret_in[], push_in[], call_in[];

static int expect(int sig, int code, const void *at, uintptr_t addr)
{
    WANT(seen.n == 1 && seen.sig == sig);
    WANT(seen.code == code);
    WANT(seen.reg[REG_RIP] == (greg_t)at);
    WANT(seen.addr == addr);
    return 0;
}

#define FAULTS(sig, code, name, at, addr, ...)                               \
    do {                                                                     \
        catch (sig);                                                         \
        go_on_at = (uintptr_t)name##_on;                                     \
        name(__VA_ARGS__);                                                   \
        WANT(expect(sig, code, (const void *)(at), (uintptr_t)(addr)) == 0); \
    } while (0)

static int no_memory(void)
{
    uint8_t *p = user_pages(2, PROT_READ | PROT_WRITE);

    mprotect(p + PAGE, PAGE, PROT_NONE);
    FAULTS(SIGSEGV, SEGV_MAPERR, load_8, load_8_at, 16, 16, 0, 0);
    FAULTS(SIGSEGV, SEGV_ACCERR, load_8, load_8_at, p + PAGE, (uintptr_t)p + PAGE - 3, 0, 0);
    memset(p + PAGE - 8, 0x11, 8);
    FAULTS(SIGSEGV, SEGV_ACCERR, store_8, store_8_at, p + PAGE, (uintptr_t)p + PAGE - 3, 0,
           0x22222222222222);
    WANT(seen.reg[REG_ERR] == 6);
    for (int i = 1; i <= 8; i++)
        WANT(p[PAGE - i] == 0x11); /* all or nothing */
    mprotect(p, PAGE, PROT_READ);
    FAULTS(SIGSEGV, SEGV_ACCERR, store_8, store_8_at, p, (uintptr_t)p, 0, 1);
    WANT(seen.reg[REG_ERR] == 7);
    FAULTS(SIGSEGV, SI_KERNEL, load_8, load_8_at, 0, 0x8000000000000000, 0, 0);
    FAULTS(SIGSEGV, SI_KERNEL, store_8, store_8_at, 0, 0x800000000000 - 4, 0, 0);
    FAULTS(SIGSEGV, SEGV_MAPERR, load_8, load_8_at, 0xffffffff80000000, 0xffffffff80000000, 0, 0);
    FAULTS(SIGBUS, SI_KERNEL, stack_load, stack_in, 0, 0x1234000000000000, 0, 0);
    return 0;
}

static int no_code(void)
{
    uint8_t *p = user_pages(2, PROT_READ | PROT_WRITE);
    static uintptr_t target;

    FAULTS(SIGSEGV, SEGV_MAPERR, jump, 0x10, 0x10, 0x10, 0, 0);
    WANT(seen.reg[REG_ERR] == 0x14);
    FAULTS(SIGSEGV, SEGV_ACCERR, jump, p, p, (uintptr_t)p, 0, 0);
    WANT(seen.reg[REG_ERR] == 0x15);
    FAULTS(SIGSEGV, SEGV_ACCERR, call, p, p, (uintptr_t)p, 0, 0);
    WANT(*(uintptr_t *)seen.reg[REG_RSP] == (uintptr_t)call_on); /* the call itself was made */
    target = 0x2000000000000000;
    FAULTS(SIGSEGV, SI_KERNEL, jump, jump_at, 0, target, 0, 0);
    FAULTS(SIGSEGV, SI_KERNEL, call, call_at, 0, target, 0, 0);
    FAULTS(SIGSEGV, SI_KERNEL, call_mem, call_mem_at, 0, (uintptr_t)&target, 0, 0);
    FAULTS(SIGSEGV, SI_KERNEL, ret_to, ret_in, 0, target, 0, 0);
    FAULTS(SIGSEGV, SEGV_MAPERR, push_it, push_in, 0xff8, 0x1000, 0, 0);
    FAULTS(SIGSEGV, SEGV_MAPERR, call_it, call_in, 0xff8, 0x1000, 0, 0);
    WANT(seen.reg[REG_RSP] == 0x1000);
    /* An instruction of which the second half is not there. */
    static const uint8_t mov[] = {0x48, 0xb8, 1, 2, 3, 4, 5, 6, 7, 8};
    memset(p, 0x90, PAGE);
    memcpy(p + PAGE - 4, mov, 4);
    mprotect(p, PAGE, PROT_READ | PROT_EXEC);
    FAULTS(SIGSEGV, SEGV_ACCERR, jump, p + PAGE - 4, p + PAGE, (uintptr_t)p + PAGE - 20, 0, 0);
    return 0;
}

static int arithmetic(void)
{
    FAULTS(SIGFPE, FPE_INTDIV, divide, divide_in, divide_in, 5, 0, 0);
    WANT(seen.reg[REG_RAX] == 5 && seen.reg[REG_RDX] == 0 && seen.reg[REG_RBX] == 7);
    FAULTS(SIGFPE, FPE_INTDIV, divide, divide_in, divide_in, INT64_MIN, -1ul, 0);
    catch (SIGFPE);
    divide(INT64_MIN + 1, -1ul, 0);
    divide_32(INT32_MIN, 3, 0);
    divide_8(255, 1, 0);
    WANT(seen.n == 0);
    go_on_at = (uintptr_t)divide_32_on;
    divide_32(0x80000000, 0xffffffff, 0);
    WANT(seen.n == 1);
    go_on_at = (uintptr_t)divide_8_on;
    divide_8(256, 1, 0);
    WANT(seen.n == 2);
    return 0;
}

static int undefined_and_traps(void)
{
    FAULTS(SIGILL, ILL_ILLOPN, undefined, undefined_at, undefined_at, 0, 0, 0);
    FAULTS(SIGTRAP, SI_KERNEL, break_3, break_3_at + 1, 0, 0, 0, 0);
    FAULTS(SIGSEGV, SI_KERNEL, halt, halt_at, 0, 0, 0, 0);
    FAULTS(SIGSEGV, SI_KERNEL, clear_if, clear_if_at, 0, 0, 0, 0);
    FAULTS(SIGSEGV, SI_KERNEL, port_in, port_in_at, 0, 0, 0, 0);
    FAULTS(SIGSEGV, SI_KERNEL, read_cr0, read_cr0_at, 0, 0, 0, 0);
    FAULTS(SIGSEGV, SI_KERNEL, write_msr, write_msr_at, 0, 0, 0, 0);
    FAULTS(SIGSEGV, SI_KERNEL, bad_int, bad_int_at, 0, 0, 0, 0);
    return 0;
}

static int alignment(void)
{
    static uint8_t __attribute__((aligned(64))) buf[64];

    FAULTS(SIGSEGV, SI_KERNEL, aligned, aligned_at, 0, (uintptr_t)buf + 8, 0, 0);
    FAULTS(SIGSEGV, SI_KERNEL, aligned_op, aligned_op_at, 0, (uintptr_t)buf + 4, 0, 0);
    catch (SIGBUS);
    go_on_at = (uintptr_t)misaligned_on;
    __asm__ volatile("pushf; orl $0x40000, (%%rsp); popf" : : : "cc", "memory");
    misaligned((uintptr_t)buf + 8, 0, 0);
    misaligned((uintptr_t)buf + 3, 0, 0);
    __asm__ volatile("pushf; andl $~0x40000, (%%rsp); popf" : : : "cc", "memory");
    misaligned((uintptr_t)buf + 3, 0, 0);
    WANT(seen.n == 1 && seen.code == BUS_ADRALN && seen.reg[REG_RIP] == (greg_t)misaligned_at);
    return 0;
}

/* --- floating point ------------------------------------------------------------- */

static void mask_again(ucontext_t *u)
{
    u->uc_mcontext.fpregs->mxcsr = 0x1f80;
    u->uc_mcontext.fpregs->cwd = 0x37f;
    u->uc_mcontext.fpregs->swd = 0;
}

static int unmasked(void)
{
    volatile double zero = 0, one = 1, r;
    volatile long double lzero = 0, lr;

    catch (SIGFPE);
    change = mask_again;
    feenableexcept(FE_DIVBYZERO);
    r = one / zero; /* made again with the exception masked */
    WANT(seen.n == 1 && seen.code == FPE_FLTDIV && __builtin_isinf(r));
    r = one / zero;
    WANT(seen.n == 1);
    feclearexcept(FE_ALL_EXCEPT);
    feenableexcept(FE_DIVBYZERO);
    lr = one / lzero;
    lr = lr + 1; /* x87 tells at the next instruction */
    WANT(seen.n == 2 && seen.code == FPE_FLTDIV);
    (void)lr;
    return 0;
}

/* --- steps ------------------------------------------------------------------------- */

static unsigned steps;
static uintptr_t step_from, step_to;

static void on_step(int sig, siginfo_t *si, void *p)
{
    uintptr_t rip = (uintptr_t)((ucontext_t *)p)->uc_mcontext.gregs[REG_RIP];

    (void)sig;
    steps += si->si_code == TRAP_TRACE && rip > step_from && rip <= step_to;
}

extern char steps_from[], steps_to[];

static int single_steps(void)
{
    struct sigaction sa = {.sa_sigaction = on_step, .sa_flags = SA_SIGINFO};
    uint64_t sum;

    sigaction(SIGTRAP, &sa, NULL);
    step_from = (uintptr_t)steps_from;
    step_to = (uintptr_t)steps_to;
    __asm__ volatile("pushf; orl $0x100, (%%rsp); popf\n"
                     "steps_from: mov $100, %%ecx; xor %%eax, %%eax\n"
                     "1: add %%rcx, %%rax; dec %%ecx; jnz 1b\n"
                     "steps_to: pushf; andl $~0x100, (%%rsp); popf\n"
                     : "=a"(sum)
                     :
                     : "rcx", "cc", "memory");
    WANT(sum == 5050 && steps == 302);
    return 0;
}

/* --- jumps out of a handler --------------------------------------------------------- */

static sigjmp_buf back;
static volatile unsigned overflows;

static void on_overflow(int sig)
{
    (void)sig;
    overflows++;
    siglongjmp(back, 1);
}

static __attribute__((noinline)) int deep(volatile char *up)
{
    volatile char here[2000];

    here[0] = *up;
    return (here[0] == 0 ? deep(here) : 0) + here[0];
}

static int stack_overflow(void)
{
    static char stack[8 * PAGE];
    stack_t alt = {.ss_sp = stack, .ss_size = sizeof(stack)};
    struct sigaction sa = {.sa_handler = on_overflow, .sa_flags = SA_ONSTACK};
    volatile unsigned n;
    char c = 0;

    sigaltstack(&alt, NULL);
    sigaction(SIGSEGV, &sa, NULL);
    for (n = 0; n < 20; n++) {
        if (!sigsetjmp(back, 1))
            deep(&c);
    }
    WANT(overflows == 20);
    for (n = 0; n < 5000; n++) {
        if (!sigsetjmp(back, 1))
            *(volatile int *)16 = 1;
    }
    WANT(overflows == 5020);
    return 0;
}

static int contexts(void)
{
    static ucontext_t here, there[3];
    static char stack[3][16 * PAGE];
    static volatile unsigned long sum;
    extern void contexts_body(int);

    for (int i = 0; i < 3; i++) {
        getcontext(&there[i]);
        there[i].uc_stack = (stack_t){.ss_sp = stack[i], .ss_size = sizeof(stack[i])};
        there[i].uc_link = i < 2 ? &there[i + 1] : &here;
        makecontext(&there[i], (void (*)(void))contexts_body, 2, i, &sum);
    }
    WANT(swapcontext(&here, &there[0]) == 0);
    return 0;
}

void contexts_body(int i)
{
    volatile double x = i;

    for (int n = 0; n < 1000; n++)
        x = x * 0.5 + n;
}

const struct user_test user_faults[] = {
    {"every_register_at_a_fault", every_register},
    {"memory_that_is_not_there", no_memory},
    {"code_that_is_not_there", no_code},
    {"divisions", arithmetic},
    {"undefined_instructions_traps_and_privileges", undefined_and_traps},
    {"alignment", alignment},
    {"unmasked_floating_point_exceptions", unmasked},
    {"the_trap_flag", single_steps},
    {"stack_overflows_end_on_another_stack", stack_overflow},
    {"contexts_are_swapped", contexts},
    {NULL, NULL},
};
