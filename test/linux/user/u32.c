/* A 32-bit program on a 64-bit kernel, without a C library: its ways into the kernel, segments,
 * signals, x87, and the instructions 64-bit mode has not.
 *
 * A static -m32 -nostdlib program. Its lines are those of user.c. */
#include <stddef.h>
#include <stdint.h>

#define WANT(condition)      \
    do {                     \
        if (!(condition))    \
            return __LINE__; \
    } while (0)

enum {
    SYS_EXIT = 1,
    SYS_FORK = 2,
    SYS_WRITE = 4,
    SYS_WAITPID = 7,
    SYS_GETPID = 20,
    SYS_KILL = 37,
    SYS_MUNMAP = 91,
    SYS_CLONE = 120,
    SYS_MODIFY_LDT = 123,
    SYS_MPROTECT = 125,
    SYS_SCHED_YIELD = 158,
    SYS_RT_SIGACTION = 174,
    SYS_MMAP2 = 192,
    SYS_SET_THREAD_AREA = 243,
    SYS_EXIT_GROUP = 252,
    PAGE = 4096,
    SIG_FPE = 8,
    SIG_TRAP = 5,
    SIG_SEGV = 11,
    SIG_USR1 = 10,
    RW = 3,
    RWX = 7,
};

static long system_call(long n, long a, long b, long c, long d, long e)
{
    long r;

    __asm__ volatile("int $0x80"
                     : "=a"(r)
                     : "a"(n), "b"(a), "c"(b), "d"(c), "S"(d), "D"(e)
                     : "memory");
    return r;
}

static char *map_pages(unsigned n, int prot)
{
    /* the sixth argument, an offset of 0, is in EBP */
    long r;

    __asm__ volatile("push %%ebp; xor %%ebp, %%ebp; int $0x80; pop %%ebp"
                     : "=a"(r)
                     : "a"(SYS_MMAP2), "b"(0), "c"(n * PAGE), "d"(prot), "S"(0x22), "D"(-1)
                     : "memory");
    return (char *)r;
}

void *memset(void *p, int c, size_t n);
void *memset(void *p, int c, size_t n)
{
    char *to = p;

    for (; n; n--)
        *to++ = (char)c;
    return p;
}

/* --- signals ------------------------------------------------------------------------ */

struct context { /* struct sigcontext_32 of the kernel's <asm/sigcontext.h> */
    uint16_t gs, pad_gs, fs, pad_fs, es, pad_es, ds, pad_ds;
    uint32_t di, si, bp, sp, bx, dx, cx, ax, trapno, err, ip;
    uint16_t cs, pad_cs;
    uint32_t flags, sp_at_signal;
    uint16_t ss, pad_ss;
    uint32_t fpstate, oldmask, cr2;
};

struct ucontext {
    uint32_t flags, link, stack[3];
    struct context c;
};

static struct {
    int n, sig, code;
    uint32_t addr;
    struct context c;
} seen;
static uint32_t go_on_at;

static void on_signal(int sig, int32_t *info, struct ucontext *u)
{
    seen.n++;
    seen.sig = sig;
    seen.code = info[2];
    seen.addr = (uint32_t)info[3];
    seen.c = u->c;
    if (go_on_at) {
        u->c.ip = go_on_at;
        u->c.ax = 0x600d;
    }
}

extern char restorer[];
__asm__(".text\nrestorer: mov $173, %eax\n int $0x80\n"); /* rt_sigreturn */

static void catch (int sig)
{
    uint32_t action[5] = {(uint32_t)(uintptr_t)on_signal, 4 | 0x04000000,
                          (uint32_t)(uintptr_t)restorer, 0, 0};

    memset(&seen, 0, sizeof(seen));
    go_on_at = 0;
    system_call(SYS_RT_SIGACTION, sig, (long)action, 0, 8, 0);
}

/* --- ways into the kernel ------------------------------------------------------------ */

static uint32_t vsyscall; /* AT_SYSINFO */

static int ways_into_the_kernel(void)
{
    long pid = system_call(SYS_GETPID, 0, 0, 0, 0, 0), r;

    WANT(pid > 0);
    if (!vsyscall)
        return 0;
    for (int i = 0; i < 1000; i++) {
        uint32_t bx = 0x11, cx = 0x22, dx = 0x33, si = 0x44, di = 0x55;

        __asm__ volatile("call *%6"
                         : "=a"(r), "+b"(bx), "+c"(cx), "+d"(dx), "+S"(si), "+D"(di)
                         : "m"(vsyscall), "0"(SYS_GETPID)
                         : "memory");
        WANT(r == pid && bx == 0x11 && cx == 0x22 && dx == 0x33 && si == 0x44 && di == 0x55);
    }
    return 0;
}

/* --- segments ---------------------------------------------------------------------------- */

struct descriptor {
    uint32_t entry, base, limit, flags;
};

static uint32_t area[16];

static int thread_area(void)
{
    struct descriptor d = {~0u, (uint32_t)(uintptr_t)area, 0xfffff, 0x51};
    uint32_t x, old;

    WANT(system_call(SYS_SET_THREAD_AREA, (long)&d, 0, 0, 0, 0) == 0);
    uint32_t selector = d.entry * 8 + 3;
    __asm__ volatile("mov %%gs, %0; mov %1, %%gs" : "=&r"(old) : "r"(selector));
    for (uint32_t i = 0; i < 16; i++) {
        __asm__ volatile("mov %1, %%gs:(,%1,4)" : : "r"(0), "r"(i) : "memory");
        __asm__ volatile("lock addl $100, %%gs:(%0)" : : "r"(i * 4) : "memory", "cc");
        WANT(area[i] == i + 100);
    }
    for (int i = 0; i < 50; i++) { /* kept across other processes */
        system_call(SYS_SCHED_YIELD, 0, 0, 0, 0, 0);
        __asm__ volatile("mov %%gs:8, %0" : "=r"(x));
        WANT(x == 102);
    }
    /* A small expand-up segment in FS through the LDT: its limit holds. */
    struct descriptor small = {2, (uint32_t)(uintptr_t)area, 7, 0x41};
    WANT(system_call(SYS_MODIFY_LDT, 1, (long)&small, sizeof(small), 0, 0) == 0);
    catch (SIG_SEGV);
    extern char beyond_on[];
    go_on_at = (uint32_t)(uintptr_t)beyond_on;
    __asm__ volatile("mov %2, %%fs; mov %%fs:4, %1; movl %%fs:8, %%eax\nbeyond_on: mov %%eax, %0; "
                     "xor %%eax, %%eax; mov %%eax, %%fs"
                     : "=&r"(x), "=&r"(old)
                     : "r"(2 * 8 + 7)
                     : "eax", "cc", "memory");
    WANT(x == 0x600d && old == 101 && seen.n == 1 && seen.sig == SIG_SEGV);
    return 0;
}

static int selectors(void)
{
    uint32_t cs, ds, got;
    static uint32_t pointer[2] = {0x12345678, 0x2b};

    __asm__ volatile("mov %%cs, %0; mov %%ds, %1" : "=r"(cs), "=r"(ds));
    WANT(cs == 0x23 && ds == 0x2b);
    __asm__ volatile("push %%es; push %%ds; pop %%es; movl %%es:%1, %0; pop %%es"
                     : "=r"(got)
                     : "m"(pointer[0]));
    WANT(got == 0x12345678);
    __asm__ volatile("push %%es; les %1, %0; pop %%es" : "=r"(got) : "m"(pointer));
    WANT(got == 0x12345678);
    /* Into 64-bit code and back. */
    uint32_t lo, hi;
    __asm__ volatile(
        "ljmp $0x33, $1f\n"
        "1: .byte 0x48, 0xb8, 0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11\n" /* mov rax, imm64 */
        ".byte 0x48, 0x89, 0xc2, 0x48, 0xc1, 0xea, 0x20\n" /* mov rdx, rax; shr rdx, 32 */
        ".byte 0xff, 0x2c, 0x25; .long 3f\n"               /* jmp far [3f] */
        "2: mov %%eax, %0; mov %%edx, %1; jmp 4f\n"
        "3: .long 2b; .word 0x23\n"
        "4:"
        : "=&b"(lo), "=&c"(hi)
        :
        : "eax", "edx", "memory", "cc");
    WANT(lo == 0x55667788 && hi == 0x11223344);
    return 0;
}

/* --- faults --------------------------------------------------------------------------------- */

#define FAULT(number, insn, name)                                                           \
    do {                                                                                    \
        extern char name##_at[], name##_on[];                                               \
        catch (number);                                                                     \
        go_on_at = (uint32_t)(uintptr_t)name##_on;                                          \
        uint32_t ax = 0;                                                                    \
        __asm__ volatile("mov $0x222, %%ebx; mov $0x333, %%ecx; mov $0, %%edx\n" #name      \
                         "_at: " insn "\n" #name "_on:"                                     \
                         : "+a"(ax)                                                         \
                         :                                                                  \
                         : "ebx", "ecx", "edx", "memory", "cc");                            \
        WANT(seen.n == 1 && seen.sig == number && ax == 0x600d);                            \
        WANT(seen.c.bx == 0x222 && seen.c.cx == 0x333 && seen.c.cs == 0x23);                \
        WANT(seen.c.ip == (uint32_t)(uintptr_t)name##_at + (number == SIG_TRAP ? 1u : 0u)); \
    } while (0)

static int faults(void)
{
    FAULT(SIG_SEGV, "mov 16, %%eax", f_load);
    WANT(seen.addr == 16 && seen.code == 1 && seen.c.cr2 == 16);
    FAULT(SIG_SEGV, "mov %%eax, 0xffffe123", f_store);
    FAULT(SIG_FPE, "div %%edx", f_div);
    FAULT(SIG_TRAP, "int3", f_int3);
    FAULT(SIG_SEGV, "hlt", f_hlt);
    return 0;
}

/* --- instructions 64-bit mode has not ------------------------------------------------------------
 */

static int old_instructions(void)
{
    uint32_t a, b, f;
    uint32_t regs[8];

    __asm__ volatile("mov $1, %%eax; mov $2, %%ecx; mov $3, %%edx; pusha; add $100, %%eax; add "
                     "$100, %%ecx; add $100, %%edx\n"
                     "popa; shl $8, %%ecx; or %%ecx, %%eax; shl $16, %%edx; or %%edx, %%eax"
                     : "=a"(a)
                     :
                     : "ecx", "edx", "cc", "memory");
    WANT(a == 0x30201);
    __asm__ volatile(
        "mov $0x79, %%al; add $0x35, %%al; daa; setc %b1; movzx %b1, %1; movzx %%al, %0"
        : "=&a"(a), "=&c"(b)
        :
        : "cc");
    WANT(a == 0x14 && b == 1); /* 79 + 35 = 114 */
    __asm__ volatile(
        "mov $0x32, %%al; sub $0x47, %%al; das; setc %b1; movzx %b1, %1; movzx %%al, %0"
        : "=&a"(a), "=&c"(b)
        :
        : "cc");
    WANT(a == 0x85 && b == 1);
    __asm__ volatile("mov $0x0209, %%eax; add $5, %%al; aaa; movzx %%ax, %0" : "=a"(a) : : "cc");
    WANT(a == 0x0304);
    __asm__ volatile("mov $63, %%eax; aam; movzx %%ax, %0" : "=a"(a) : : "cc");
    WANT(a == 0x0603);
    __asm__ volatile("mov $0x0603, %%eax; aad; movzx %%ax, %0" : "=a"(a) : : "cc");
    WANT(a == 63);
    __asm__ volatile("stc; .byte 0xd6; movzx %%al, %0" : "=a"(a) : : "cc"); /* salc */
    WANT(a == 0xff);
    __asm__ volatile("mov $0x13, %%eax; mov $0x12, %%ecx; arpl %%cx, %%ax; pushf; pop %1"
                     : "=&a"(a), "=&d"(f)
                     :
                     : "ecx", "cc");
    WANT(a == 0x13 && !(f & 0x40));
    for (unsigned i = 0; i < 8; i++)
        regs[i] = i * 10;
    __asm__ volatile("push %%ebp; mov %1, %%ebx; mov %%esp, %%ebp; enter $16, $0; mov %%ebx, "
                     "-4(%%ebp); mov -4(%%ebp), %0; leave; pop %%ebp"
                     : "=&c"(a)
                     : "S"(regs[3])
                     : "ebx", "memory");
    WANT(a == 30);
    __asm__ volatile(
        "mov $5, %%ecx; xor %%eax, %%eax; 1: add %%ecx, %%eax; loop 1b; jecxz 2f; mov $0, %%eax; 2:"
        : "=a"(a)
        :
        : "ecx", "cc");
    WANT(a == 15);
    __asm__ volatile("mov $0xfffffff0, %%eax; mov $7, %%edx; mov $0, %%ebx; mov $9, %%ecx; movl "
                     "$0xfffffff0, (%1); movl $7, 4(%1)\n"
                     "lock cmpxchg8b (%1); sete %%al; movzx %%al, %0"
                     : "=&a"(a)
                     : "S"(regs)
                     : "ebx", "ecx", "edx", "memory", "cc");
    WANT(a == 1 && regs[0] == 0 && regs[1] == 9);
    __asm__ volatile("inc %0; dec %1; push $-3; pop %%eax; add %%eax, %0"
                     : "+c"(a), "+d"(b)
                     :
                     : "eax", "cc");
    WANT(a == (uint32_t)-1);
    /* 16-bit addresses and operands */
    __asm__ volatile("mov $0x1fffe, %%ecx; lea 3(%%ecx), %%eax; .byte 0x67; lea 3(%%di), %%eax"
                     : "=a"(a)
                     : "D"(0x1fffe)
                     : "ecx");
    WANT(a == 1);
    __asm__ volatile("xor %%eax, %%eax; mov $0x8001, %%ax; add %%ax, %%ax; pushf; pop %1"
                     : "=&a"(a), "=&c"(f)
                     :
                     : "cc");
    WANT(a == 2 && (f & 0x801) == 0x801);
    return 0;
}

/* --- floating point
 * --------------------------------------------------------------------------------- */

static int floating_point(void)
{
    volatile double x = 2, r, s = 0;
    uint16_t cw, down = 0x77f;
    double root;
    int i;

    __asm__ volatile("fldl %1; fsqrt; fstpl %0" : "=m"(r) : "m"(x));
    root = r;
    WANT(root > 1.41421356237309 && root < 1.41421356237310);
    for (i = 1; i <= 1000; i++)
        s += 1.0 / i;
    WANT(s > 7.48547086055 && s < 7.48547086056);
    __asm__ volatile("fldpi; fsin; fstpl %0" : "=m"(r));
    WANT(r < 1e-15 && r > -1e-15);
    __asm__ volatile("fnstcw %0; fldcw %2; fld1; fldl %3; fdivrp; fistpl %1; fldcw %0"
                     : "=m"(cw), "=m"(i)
                     : "m"(down), "m"(x));
    WANT(i == 0 && cw == 0x37f);
    /* MMX and SSE */
    uint32_t out[4];
    __asm__ volatile(
        "movd %1, %%mm0; punpckldq %%mm0, %%mm0; paddd %%mm0, %%mm0; movq %%mm0, %0; emms"
        : "=m"(*(uint64_t *)out)
        : "r"(21));
    WANT(out[0] == 42 && out[1] == 42);
    __asm__ volatile(
        "movd %1, %%xmm1; pshufd $0, %%xmm1, %%xmm1; paddd %%xmm1, %%xmm1; movups %%xmm1, %0"
        : "=m"(*(uint32_t(*)[4])out)
        : "r"(50)
        : "xmm1");
    WANT(out[0] == 100 && out[3] == 100);
    return 0;
}

/* --- code that changes, processes, threads
 * ------------------------------------------------------------ */

static int changing_code(void)
{
    unsigned char *p = (unsigned char *)map_pages(1, RWX);

    for (uint32_t i = 0; i < 1000; i++) {
        uint32_t value = i * 0x10001, got;

        p[0] = 0xb8; /* mov eax, imm32; ret */
        p[1] = (unsigned char)value, p[2] = (unsigned char)(value >> 8);
        p[3] = (unsigned char)(value >> 16), p[4] = (unsigned char)(value >> 24);
        p[5] = 0xc3;
        __asm__ volatile("call *%1" : "=a"(got) : "r"(p) : "memory", "ecx", "edx", "cc");
        WANT(got == value);
    }
    system_call(SYS_MUNMAP, (long)p, PAGE, 0, 0, 0);
    return 0;
}

static int processes(void)
{
    for (int i = 0; i < 30; i++) {
        int status = 0;
        long pid = system_call(SYS_FORK, 0, 0, 0, 0, 0);

        if (pid == 0)
            system_call(SYS_EXIT_GROUP, i, 0, 0, 0, 0);
        WANT(pid > 0 && system_call(SYS_WAITPID, pid, (long)&status, 0, 0, 0) == pid);
        WANT(status == i << 8);
    }
    return 0;
}

static volatile uint32_t counter, ended;

static void thread_body(void)
{
    for (int i = 0; i < 20000; i++)
        __atomic_fetch_add(&counter, 1, __ATOMIC_SEQ_CST);
    __atomic_fetch_add(&ended, 1, __ATOMIC_SEQ_CST);
    system_call(SYS_EXIT, 0, 0, 0, 0, 0);
}

static int threads(void)
{
    for (int i = 0; i < 3; i++) {
        uint32_t *top = (uint32_t *)(map_pages(4, RW) + 4 * PAGE);
        long r;

        *--top = (uint32_t)(uintptr_t)thread_body; /* CLONE_VM FS FILES SIGHAND THREAD SYSVSEM */
        __asm__ volatile("int $0x80; test %%eax, %%eax; jnz 1f; ret; 1:"
                         : "=a"(r)
                         : "0"(SYS_CLONE), "b"(0x50f00), "c"(top), "d"(0), "S"(0), "D"(0)
                         : "memory", "cc");
        WANT(r > 0);
    }
    while (ended < 3)
        system_call(SYS_SCHED_YIELD, 0, 0, 0, 0, 0);
    WANT(counter == 60000);
    return 0;
}

static int a_signal_and_back(void)
{
    uint32_t b = 0x1111, c = 0x2222, s = 0x3333, d = 0x4444, r;
    long pid = system_call(SYS_GETPID, 0, 0, 0, 0, 0);

    for (int i = 0; i < 300; i++) {
        catch (SIG_USR1);
        WANT(system_call(SYS_KILL, pid, SIG_USR1, 0, 0, 0) == 0);
        WANT(seen.n == 1 && seen.sig == SIG_USR1 && seen.c.cs == 0x23 && seen.c.ss == 0x2b);
        __asm__ volatile("mov $20, %%eax; int $0x80" : "=a"(r), "+b"(b), "+c"(c), "+S"(s), "+D"(d));
        WANT((long)r == pid && b == 0x1111 && c == 0x2222 && s == 0x3333 && d == 0x4444);
    }
    return 0;
}

/* --- */

static void say(const char *text)
{
    size_t n = 0;

    while (text[n])
        n++;
    system_call(SYS_WRITE, 1, (long)text, (long)n, 0, 0);
}

static void report(const char *name, int line)
{
    char digits[] = ": line 0000\n";

    say(line ? "failed: 32 bits: " : "good: 32 bits: ");
    say(name);
    for (int i = 10; i >= 7; i--, line /= 10)
        digits[i] = (char)('0' + line % 10);
    say(digits[10] == '0' && digits[9] == '0' && digits[8] == '0' ? "\n" : digits);
}

__attribute__((used)) static void start(uint32_t *sp)
{
    static const struct {
        const char *name;
        int (*run)(void);
    } tests[] = {
        {"ways_into_the_kernel", ways_into_the_kernel},
        {"thread_area_and_limits", thread_area},
        {"selectors_and_64_bit_code", selectors},
        {"faults", faults},
        {"old_instructions", old_instructions},
        {"floating_point", floating_point},
        {"changing_code", changing_code},
        {"processes", processes},
        {"threads", threads},
        {"a_signal_and_back", a_signal_and_back},
    };
    uint32_t *p = sp + 1 + *sp + 1; /* behind argc and argv */

    while (*p++)
        ;
    for (; p[0]; p += 2)
        if (p[0] == 32)
            vsyscall = p[1];
    for (unsigned i = 0; i < sizeof(tests) / sizeof(*tests); i++)
        report(tests[i].name, tests[i].run());
    say("32 bits: all done\n");
    system_call(SYS_EXIT_GROUP, 0, 0, 0, 0, 0);
}

__asm__(".text\n.globl _start\n_start: mov %esp, %eax; and $-16, %esp; sub $12, %esp; push %eax; "
        "call start\n");
