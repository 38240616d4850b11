/* EFLAGS.TF: a trap after each instruction, also around REP, POPF, MOV SS; breakpoint registers on
 * code and on data. */
#include "lib/guest.h"

GUEST_EXACT(1);

static volatile uint64_t seen[64];
static volatile unsigned n_seen;

static void on_db(struct regs *r)
{
    uint64_t dr6;

    __asm__ volatile("movq %%dr6, %0" : "=r"(dr6));
    seen[n_seen++ & 63] = r->rip;
    trap.dr6 = dr6;
    trap.rflags = r->rflags;
    __asm__ volatile("movq %0, %%dr6" : : "r"(0xffff0ff0ul));
    if (!(dr6 & 1 << 14))
        r->rflags |= 1 << 16; /* RF: past the breakpoint */
}

extern char s0[], s1[], s2[], s3[], s4[], r1[], r2[], m1[], m2[], b1[];

static int steps(void)
{
    handler[1] = on_db;
    __asm__ volatile("pushfq; orl $0x100, (%%rsp); popfq\n"
                     "s0: nop\n"
                     "s1: movl $1, %%eax\n"
                     "s2: pushfq; andl $~0x100, (%%rsp); popfq\n"
                     "s3: nop\n"
                     :
                     :
                     : "rax", "memory", "cc");
    CHECK(1, n_seen == 5);
    CHECK(2, seen[0] == (uint64_t)s1 && seen[1] == (uint64_t)s2);
    CHECK(3, seen[4] == (uint64_t)s3); /* the POPF that cleared TF still traps */
    CHECK(4, trap.dr6 & 1 << 14);
    return 0;
}

static int repeated(void)
{
    static uint8_t buf[8];

    n_seen = 0;
    __asm__ volatile(
        "movq %0, %%rdi; movl $3, %%ecx; xorl %%eax, %%eax; pushfq; orl $0x100, (%%rsp); popfq\n"
        "r1: rep stosb\n"
        "r2: pushfq; andl $~0x100, (%%rsp); popfq\n"
        :
        : "r"(buf)
        : "rax", "rcx", "rdi", "memory", "cc");
    CHECK(10, n_seen == 6); /* one trap an iteration, then three */
    CHECK(11, seen[0] == (uint64_t)r1 && seen[1] == (uint64_t)r1 && seen[2] == (uint64_t)r2);
    return 0;
}

static int stack_segment(void)
{
    n_seen = 0;
    __asm__ volatile("movl $0x10, %%eax; pushfq; orl $0x100, (%%rsp); popfq\n"
                     "movw %%ax, %%ss\n"
                     "m1: nop\n" /* no trap before it */
                     "m2: pushfq; andl $~0x100, (%%rsp); popfq\n"
                     :
                     :
                     : "rax", "memory", "cc");
    CHECK(20, n_seen == 4 && seen[0] == (uint64_t)m2);
    return 0;
}

static int breakpoint(void)
{
    n_seen = 0;
    __asm__ volatile("movq %0, %%dr0; movq %1, %%dr7" : : "r"(b1), "r"(0x402ul));
    __asm__ volatile("nop\nb1: movl $5, %%eax\n nop" : : : "rax");
    __asm__ volatile("movq %0, %%dr7" : : "r"(0x400ul));
    CHECK(30, n_seen == 1 && seen[0] == (uint64_t)b1);
    CHECK(31, (trap.dr6 & 0xf) == 1 && (trap.rflags & 1 << 16));
    return 0;
}

static uint64_t __attribute__((aligned(16))) words[4];
extern char w1[], w2[], w3[], w4[];

/* DR0 on the four bytes at words[1] + 4, kind and length as in DR7. */
static void watch(uint64_t kind)
{
    n_seen = 0;
    trap.dr6 = 0;
    __asm__ volatile("movq %0, %%dr0; movq %1, %%dr7"
                     :
                     : "r"((uint64_t)&words[1] + 4), "r"(0x402ul | kind << 16)
                     : "memory");
}

static void watch_end(void)
{
    __asm__ volatile("movq %0, %%dr7" : : "r"(0x400ul) : "memory");
}

enum { WRITES_OF_4 = 0xd, ACCESSES_OF_4 = 0xf };

static int data(void)
{
    uint64_t x = 1, *w = words;

    watch(WRITES_OF_4);
    __asm__ volatile("movb $1, 3(%1); movb $1, 8(%1)\n" /* its neighbours */
                     "movq (%1), %0\n"
                     "movb $1, 7(%1)\n"
                     "w1: nop\n"
                     "lock incq (%1)\n"
                     "w2: nop"
                     : "=&r"(x)
                     : "r"(w + 1)
                     : "memory", "cc");
    watch_end();
    CHECK(40, n_seen == 2 && seen[0] == (uint64_t)w1 && seen[1] == (uint64_t)w2);
    CHECK(41, (trap.dr6 & 0x400f) == 1);

    watch(ACCESSES_OF_4);
    __asm__ volatile("movq 6(%1), %0\n"
                     "w3: nop"
                     : "=&r"(x)
                     : "r"(w)
                     : "memory");
    __asm__ volatile("rep movsb\n"
                     "w4: nop"
                     : "=D"(w), "=S"(x), "=c"(x)
                     : "0"(words + 2), "1"(words + 1), "2"(8ul)
                     : "memory");
    watch_end();
    /* The load ends two bytes into it; then four of the eight bytes are read from it. */
    CHECK(42, n_seen == 5 && seen[0] == (uint64_t)w3 && seen[4] == (uint64_t)w4);
    return 0;
}

int guest(void)
{
    int r = steps();

    r = r ? r : repeated();
    r = r ? r : stack_segment();
    r = r ? r : breakpoint();
    return r ? r : data();
}
