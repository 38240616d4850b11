/* Instructions that fault half-way through and are made again, whole, when the handler has put the
 * page right. */
#include <cpuid.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>

#include "user.h"

static struct {
    unsigned n;
    uintptr_t addr[4];
    greg_t ax, cx, si, di, ip;
} met;
static uint8_t *pages; /* two; the second opens at its fault */
static uint8_t before[2 * PAGE];
static int open_to;

static void open_page(int sig, siginfo_t *si, void *p)
{
    greg_t *g = ((ucontext_t *)p)->uc_mcontext.gregs;

    if (met.n < 4)
        met.addr[met.n] = (uintptr_t)si->si_addr;
    met.n++;
    if (met.n == 1) {
        met.ax = g[REG_RAX];
        met.ip = g[REG_RIP];
    }
    met.cx = g[REG_RCX];
    met.si = g[REG_RSI];
    met.di = g[REG_RDI];
    mprotect((void *)((uintptr_t)si->si_addr & ~(uintptr_t)(PAGE - 1)), PAGE,
             met.n > 8 ? PROT_READ | PROT_WRITE : open_to);
    if (met.n > 100)
        signal(sig, SIG_DFL);
}

/* `pages` afresh: the first may be written, the second only be read (or not even that). */
static uint8_t *fresh(int second)
{
    static char stack[8 * PAGE];
    stack_t alt = {.ss_sp = stack, .ss_size = sizeof(stack)};
    struct sigaction sa = {.sa_sigaction = open_page, .sa_flags = SA_SIGINFO | SA_ONSTACK};

    sigaltstack(&alt, NULL);
    sigaction(SIGSEGV, &sa, NULL);
    if (!pages)
        pages = user_pages(2, PROT_READ | PROT_WRITE);
    mprotect(pages, 2 * PAGE, PROT_READ | PROT_WRITE);
    for (int i = 0; i < 2 * PAGE; i++)
        pages[i] = before[i] = (uint8_t)(i * 7 + i / 256);
    mprotect(pages + PAGE, PAGE, second);
    memset(&met, 0, sizeof(met));
    open_to = PROT_READ | PROT_WRITE;
    return pages + PAGE;
}

static int once_at(const uint8_t *addr)
{
    return met.n == 1 && met.addr[0] == (uintptr_t)addr;
}

static uint64_t word(const uint8_t *p)
{
    uint64_t x;

    memcpy(&x, p, 8);
    return x;
}

/* --- read, change, write ------------------------------------------------------- */

#define ONCE(second, offset, ...)                                         \
    do {                                                                  \
        uint8_t *p = fresh(second);                                       \
        uint64_t was = word(before + PAGE + (offset)), a = 5, b = 6, now; \
        __VA_ARGS__;                                                      \
        WANT(once_at((offset) < 0 ? p : p + (offset)));                   \
        now = word(p + (offset));                                         \
        (void)was, (void)now, (void)a, (void)b;

#define DONE \
    }        \
    while (0)

#define ASM(insn, off) \
    __asm__ volatile(insn : "+r"(a), "+r"(b) : "r"(p + (off)) : "memory", "cc", "rax", "xmm0")

static int changes(int off)
{
    ONCE(PROT_READ, off, ASM("add %0, (%2)", off)) WANT(now == was + 5);
    DONE;
    ONCE(PROT_READ, off, ASM("stc; adc %0, (%2)", off)) WANT(now == was + 6);
    DONE;
    ONCE(PROT_READ, off, ASM("stc; adc %0, (%2); setc %b1; movzx %b1, %1", off))
    WANT(now == was + 6 && b <= 1);
    DONE;
    ONCE(PROT_READ, off, ASM("incq (%2)", off)) WANT(now == was + 1);
    DONE;
    ONCE(PROT_READ, off, ASM("lock xadd %0, (%2)", off)) WANT(now == was + 5 && a == was);
    DONE;
    ONCE(PROT_READ, off, ASM("xchg %0, (%2)", off)) WANT(now == 5 && a == was);
    DONE;
    ONCE(PROT_READ, off, ASM("mov (%2), %%rax; lock cmpxchg %0, (%2)", off)) WANT(now == 5);
    DONE;
    ONCE(PROT_READ, off, ASM("shlq $3, (%2)", off)) WANT(now == was << 3);
    DONE;
    ONCE(PROT_READ, off, ASM("mov %0, %%rax; mov $200, %%eax; shrq $1, (%2)", off))
    WANT(now == was >> 1);
    DONE;
    ONCE(PROT_READ, off, ASM("negq (%2); lea 1(%0), %0", off)) WANT(now == -was && a == 6);
    DONE;
    ONCE(PROT_READ, off, ASM("btcq $9, (%2)", off)) WANT(now == (was ^ 512));
    DONE;
    ONCE(PROT_READ, off, ASM("movq %0, %%xmm0; movq %%xmm0, (%2)", off)) WANT(now == 5);
    DONE;
    ONCE(PROT_READ, off,
         ASM("push %%rcx; mov %%rsp, %%rax; lea 8(%2), %%rsp; push %0; mov %%rax, %%rsp; pop %%rcx",
             off))
    WANT(now == 5);
    DONE;
    ONCE(PROT_READ, off, ASM("push %0; pop (%2)", off)) WANT(now == 5);
    DONE;
    ONCE(PROT_READ, off, ASM("push %1; fildll (%%rsp); fistpll (%2); add $8, %%rsp", off))
    WANT(now == 6);
    DONE;
    ONCE(PROT_NONE, off, ASM("mov (%2), %0", off)) WANT(a == was);
    DONE;
    ONCE(PROT_NONE, off, ASM("sub (%2), %0; sbb $0, %1", off)) WANT(a == 5 - now);
    DONE;
    ONCE(PROT_NONE, off, ASM("imul (%2), %0", off)) WANT(a == 5 * now);
    DONE;
    return 0;
}

static int read_change_write(void)
{
    static const int offsets[] = {0, 8, 200};

    for (size_t i = 0; i < sizeof(offsets) / sizeof(*offsets); i++) {
        int line = changes(offsets[i]);

        if (line)
            return line;
    }
    return 0;
}

static int across_the_edge(void)
{
    for (int off = -7; off < 0; off++) {
        uint8_t *p = fresh(PROT_READ);
        uint64_t was = word(p + off), x = 5;

        __asm__ volatile("lock xadd %0, (%1)" : "+r"(x) : "r"(p + off) : "memory", "cc");
        WANT(once_at(p) && x == was && word(p + off) == was + 5);

        p = fresh(PROT_READ);
        was = word(p + off);
        __asm__ volatile("stc; adcq $7, (%0)" : : "r"(p + off) : "memory", "cc");
        WANT(once_at(p) && word(p + off) == was + 8);

        p = fresh(PROT_READ);
        x = (uintptr_t)p + (uint64_t)off + 8;
        __asm__ volatile(
            "mov %%rsp, %%rax; mov %0, %%rsp; push $0x1234; mov %%rsp, %0; mov %%rax, %%rsp"
            : "+r"(x)
            :
            : "rax", "memory");
        WANT(once_at(p) && x == (uintptr_t)p + (uint64_t)off && word(p + off) == 0x1234);
    }
    return 0;
}

/* Accesses that lie near each other: each faults in its own turn, after those before it were made.
 */
extern const uint32_t near_at[6];
void near_each_other(uint8_t *p, uint64_t out[4]);
__asm__(".text\n"
        "near_each_other: push %rbx; xor %eax, %eax\n"
        "1: mov (%rdi), %r8; inc %eax\n"
        "2: mov 8(%rdi), %r9; inc %eax\n"
        "3: mov 16(%rdi), %r10d; inc %eax\n"
        "4: mov %r8, 24(%rdi); inc %eax\n"
        "5: addl $1, 32(%rdi); inc %eax\n"
        "6: mov 4(%rdi), %rcx; inc %eax\n"
        "mov %r8, (%rsi); mov %r9, 8(%rsi); mov %r10, 16(%rsi); mov %rcx, 24(%rsi)\n"
        "pop %rbx; ret\n"
        ".section .rodata\n"
        "near_at: .long 1b, 2b, 3b, 4b, 5b, 6b\n"
        ".text\n");

static int neighbours(void)
{
    static const struct {
        int at, size, writes;
    } access[] = {{0, 8, 0}, {8, 8, 0}, {16, 4, 0}, {24, 8, 1}, {32, 4, 1}, {4, 8, 0}};

    for (int second = PROT_NONE; second <= PROT_READ; second += PROT_READ - PROT_NONE) {
        for (int off = -48; off <= 4; off++) {
            uint8_t *p = fresh(second);
            uint64_t out[4], *was = (uint64_t *)(void *)(before + PAGE + off);
            int k = 0;

            while (k < 6 && (off + access[k].at + access[k].size <= 0 ||
                             (second == PROT_READ && !access[k].writes)))
                k++;
            near_each_other(p + off, out);
            WANT(met.n == (k < 6));
            if (k < 6) {
                int first = off + access[k].at;

                WANT(met.ax == k && met.ip == near_at[k]);
                WANT(met.addr[0] == (uintptr_t)p + (uintptr_t)(first > 0 ? first : 0));
            }
            WANT(out[0] == was[0] && out[1] == was[1] && out[2] == (uint32_t)was[2]);
            WANT(out[3] == word((uint8_t *)was + 4) && word(p + off + 24) == was[0]);
            WANT((uint32_t)word(p + off + 32) == (uint32_t)was[4] + 1);
        }
    }
    return 0;
}

static int wide(void)
{
    static uint8_t __attribute__((aligned(64))) area[1024];
    uint8_t *p = fresh(PROT_READ);
    unsigned a, b, c, d;

    __asm__ volatile("pcmpeqd %%xmm1, %%xmm1; movdqu %%xmm1, -5(%0)" : : "r"(p) : "memory", "xmm1");
    WANT(once_at(p) && word(p - 5) == UINT64_MAX && word(p + 3) == UINT64_MAX);
    p = fresh(PROT_NONE);
    __asm__ volatile("movdqu -9(%0), %%xmm1; movdqu %%xmm1, (%1)"
                     :
                     : "r"(p), "r"(area)
                     : "memory", "xmm1");
    WANT(once_at(p) && memcmp(area, p - 9, 16) == 0);
    p = fresh(PROT_READ);
    __asm__ volatile("fldpi; fstpt -4(%0)" : : "r"(p) : "memory");
    WANT(once_at(p) && word(p - 4) == 0xc90fdaa22168c235);
    p = fresh(PROT_READ);
    __asm__ volatile("fldpi; fxsave64 (%0); fstp %%st" : : "r"(p - 256) : "memory");
    /* Which byte of the area is met first is the processor's affair. */
    WANT(met.n == 1 && met.addr[0] >= (uintptr_t)p && word(p - 256 + 32) == 0xc90fdaa22168c235);
    p = fresh(PROT_READ);
    uint64_t lo = word(p), hi = word(p + 8), ok;
    __asm__ volatile("lock cmpxchg16b (%3); setz %b0; movzx %b0, %0"
                     : "=q"(ok), "+a"(lo), "+d"(hi)
                     : "r"(p), "b"(7ul), "c"(8ul)
                     : "memory", "cc");
    WANT(once_at(p) && ok == 1 && word(p) == 7 && word(p + 8) == 8);
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || !(b & bit_AVX2))
        return 0;
    p = fresh(PROT_READ);
    __asm__ volatile("vpcmpeqd %%ymm1, %%ymm1, %%ymm1; vmovdqu %%ymm1, -31(%0)"
                     :
                     : "r"(p)
                     : "memory", "xmm1");
    WANT(once_at(p) && word(p - 31) == UINT64_MAX && word(p - 7) == UINT64_MAX && p[0] == 0xff);
    /* A gather whose third element is not there: the two before it may be done, the mask says so.
     */
    p = fresh(PROT_NONE);
    static const int32_t index[4] = {-8, -4, 0, 4};
    __asm__ volatile("vmovdqu (%2), %%xmm2; vpcmpeqd %%xmm3, %%xmm3, %%xmm3; vpgatherdd %%xmm3, "
                     "(%0,%%xmm2,1), %%xmm1\n"
                     "vmovdqu %%xmm1, (%1)"
                     :
                     : "r"(p), "r"(area), "r"(index)
                     : "memory", "xmm1", "xmm2", "xmm3");
    WANT(once_at(p) && memcmp(area, p - 8, 16) == 0);
    return 0;
}

/* --- repeated --------------------------------------------------------------------- */

static int repeated_stores(void)
{
    uint8_t *p = fresh(PROT_READ);
    uint8_t *to = p - 100;
    uint64_t n = 300;

    __asm__ volatile("rep stosb" : "+D"(to), "+c"(n) : "a"(0x5a) : "memory");
    WANT(once_at(p) && met.cx == 200 && met.di == (greg_t)p);
    WANT(n == 0 && to == p + 200);
    for (int i = -100; i < 200; i++)
        WANT(p[i] == 0x5a);

    p = fresh(PROT_READ); /* an element across the edge */
    to = p - 20;
    n = 10;
    __asm__ volatile("rep stosq" : "+D"(to), "+c"(n) : "a"(0x1122334455667788) : "memory");
    WANT(once_at(p) && met.cx == 8 && met.di == (greg_t)p - 4);
    for (int i = 0; i < 10; i++)
        WANT(word(p - 20 + 8 * i) == 0x1122334455667788);
    return 0;
}

static int repeated_copies(void)
{
    static uint8_t from[2 * PAGE];
    uint8_t *p = fresh(PROT_READ), *to = p - 64;
    const uint8_t *src = from;
    uint64_t n = 200;

    for (int i = 0; i < 2 * PAGE; i++)
        from[i] = (uint8_t)(i * 3);
    __asm__ volatile("rep movsb" : "+D"(to), "+S"(src), "+c"(n) : : "memory");
    WANT(once_at(p) && met.cx == 136 && met.di == (greg_t)p && met.si == (greg_t)(from + 64));
    WANT(memcmp(p - 64, from, 200) == 0);

    p = fresh(PROT_NONE); /* the source is not there */
    src = p - 80;
    to = from;
    n = 30;
    __asm__ volatile("rep movsq" : "+D"(to), "+S"(src), "+c"(n) : : "memory");
    WANT(once_at(p) && met.cx == 20 && met.si == (greg_t)p && memcmp(from, p - 80, 240) == 0);

    /* Downwards, from the second page into the first. */
    p = fresh(PROT_READ);
    mprotect(p + PAGE - PAGE, PAGE, PROT_READ | PROT_WRITE);
    mprotect(p - PAGE, PAGE, PROT_READ);
    to = p + 72;
    src = from + 400;
    n = 20;
    __asm__ volatile("std; rep movsq; cld" : "+D"(to), "+S"(src), "+c"(n) : : "memory", "cc");
    WANT(met.n == 1 && met.addr[0] == (uintptr_t)p - 8 && met.cx == 10);
    WANT(memcmp(p - 80, from + 400 - 152, 160) == 0);
    return 0;
}

static int repeated_compares(void)
{
    uint8_t *p = fresh(PROT_READ | PROT_WRITE);
    const uint8_t *a = p - 50, *b;
    static uint8_t copy[200];
    uint64_t n = 100;

    memcpy(copy, p - 50, 200);
    copy[70] ^= 1;
    b = copy;
    mprotect(p, PAGE, PROT_NONE);
    open_to = PROT_READ;
    __asm__ volatile("cmp %%eax, %%eax; repe cmpsb" : "+D"(a), "+S"(b), "+c"(n) : : "memory", "cc");
    WANT(once_at(p) && met.cx == 50 && n == 29 && a == p + 21);

    memset(pages, 1, PAGE);
    mprotect(p, PAGE, PROT_READ | PROT_WRITE);
    memset(p, 1, 40);
    p[33] = 0;
    mprotect(p, PAGE, PROT_NONE);
    met.n = 0;
    a = p - 60;
    n = UINT64_MAX;
    __asm__ volatile("repne scasb" : "+D"(a), "+c"(n) : "a"(0) : "memory", "cc");
    WANT(once_at(p) && a == p + 34 && ~n == 94);
    return 0;
}

const struct user_test user_retries[] = {
    {"read_change_write_is_made_once", read_change_write},
    {"accesses_across_the_edge_of_a_page", across_the_edge},
    {"neighbours_across_the_edge", neighbours},
    {"wide_accesses_across_the_edge", wide},
    {"repeated_stores_stop_and_go_on", repeated_stores},
    {"repeated_copies_stop_and_go_on", repeated_copies},
    {"repeated_compares_stop_and_go_on", repeated_compares},
    {NULL, NULL},
};
