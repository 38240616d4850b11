/* Instructions that reach devices: every operand size and kind, read-modify-write, string, ports,
 * faults midway. */
#include "lib/guest.h"

GUEST(1);

static volatile uint32_t *const accesses = (volatile uint32_t *)(0xd0000000ul + 0x100);
static volatile uint32_t *const last_len = (volatile uint32_t *)(0xd0000000ul + 0x108);

static int sizes(void)
{
    volatile uint8_t *b = SCRATCH;
    uint64_t v;

    *(volatile uint64_t *)b = 0x1122334455667788;
    CHECK(1, *accesses == 1 && *last_len == 8);
    __asm__ volatile("movq (%1), %0" : "=r"(v) : "r"(b));
    CHECK(2, v == 0x1122334455667788 && *accesses == 2);
    __asm__ volatile("movl (%1), %k0" : "=r"(v) : "r"(b));
    CHECK(3, v == 0x55667788 && *last_len == 4);
    __asm__ volatile("movzwl 2(%1), %k0" : "=r"(v) : "r"(b));
    CHECK(4, v == 0x5566 && *last_len == 2);
    __asm__ volatile("movsbq 7(%1), %0" : "=r"(v) : "r"(b));
    CHECK(5, v == 0x11 && *last_len == 1);
    __asm__ volatile("movb %%ah, 1(%0); movabsb %%al, 0xd0000002" : : "r"(b), "a"(0xaabbul));
    CHECK(6, b[1] == 0xaa && b[2] == 0xbb);
    __asm__ volatile("movl $0x01020304, 8(%0); movw $0x0506, 12(%0); movb $7, 14(%0)" : : "r"(b));
    CHECK(7, *(volatile uint32_t *)(b + 8) == 0x01020304 &&
                 *(volatile uint16_t *)(b + 12) == 0x506 && b[14] == 7);
    return 0;
}

static int arithmetic(void)
{
    volatile uint32_t *p = (volatile uint32_t *)(SCRATCH + 16);
    uint32_t n, r = 5;
    uint8_t f;

    *p = 10;
    n = *accesses;
    __asm__ volatile("addl %0, (%1)" : : "r"(r), "r"(p) : "memory", "cc");
    CHECK(10, *accesses == n + 2); /* one read, one write: nothing happens twice */
    CHECK(11, *p == 15);
    __asm__ volatile("lock; xaddl %0, (%1)" : "+r"(r) : "r"(p) : "memory", "cc");
    CHECK(12, r == 15 && *p == 20);
    __asm__ volatile("xchgl %0, (%1)" : "+r"(r) : "r"(p) : "memory");
    CHECK(13, r == 20 && *p == 15);
    __asm__ volatile("cmpl $15, (%1); sete %0" : "=r"(f) : "r"(p) : "cc");
    CHECK(14, f == 1);
    __asm__ volatile("testb $1, (%1); setnz %0" : "=r"(f) : "r"(p) : "cc");
    CHECK(15, f == 1);
    __asm__ volatile("lock; btsl $8, (%0); notl 4(%0); shll $2, (%0); incl (%0)"
                     :
                     : "r"(p)
                     : "memory", "cc");
    CHECK(16, *p == ((15 | 256) << 2) + 1 && p[1] == 0xffffffff);
    uint32_t a = *p, c = 0x42;
    __asm__ volatile("lock; cmpxchgl %2, (%1)" : "+a"(a) : "r"(p), "r"(c) : "memory", "cc");
    CHECK(17, *p == 0x42);
    __asm__ volatile("pushq (%0); popq 8(%0)" : : "r"(p) : "memory");
    CHECK(18, p[2] == 0x42 && p[3] == 0xffffffff);
    return 0;
}

static int strings(void)
{
    static uint8_t buf[16] = "abcdefgh01234567", back[16];
    const void *s = buf;
    void *d = (void *)(SCRATCH + 64);
    uint64_t n = 16, before = *accesses;

    __asm__ volatile("rep movsb" : "+S"(s), "+D"(d), "+c"(n) : : "memory");
    CHECK(20, n == 0 && *accesses == before + 16 && d == (void *)(SCRATCH + 80));
    s = (const void *)(SCRATCH + 64);
    d = back;
    n = 2;
    __asm__ volatile("rep movsq" : "+S"(s), "+D"(d), "+c"(n) : : "memory");
    CHECK(21, __builtin_memcmp(buf, back, 16) == 0);
    d = (void *)(SCRATCH + 64);
    n = 16;
    __asm__ volatile("repne scasb" : "+D"(d), "+c"(n) : "a"('c') : "memory", "cc");
    CHECK(22, d == (void *)(SCRATCH + 67) && n == 13);
    s = buf;
    d = (void *)(SCRATCH + 64);
    n = 16;
    __asm__ volatile("repe cmpsb" : "+S"(s), "+D"(d), "+c"(n) : : "memory", "cc");
    CHECK(23, n == 0);
    d = (void *)(SCRATCH + 64);
    n = 4;
    __asm__ volatile("rep stosl" : "+D"(d), "+c"(n) : "a"(0x5a5a5a5a) : "memory");
    CHECK(24, *(volatile uint64_t *)(SCRATCH + 72) == 0x5a5a5a5a5a5a5a5a);
    return 0;
}

static int ports(void)
{
    static uint8_t out[4] = {1, 2, 3, 4}, in[4];
    const void *s = out;
    void *d = in;
    uint64_t n = 4;
    uint32_t v;

    __asm__ volatile("outl %0, %w1" : : "a"(0x11223344), "d"(0x510));
    __asm__ volatile("inl %w1, %0" : "=a"(v) : "d"(0x510));
    CHECK(30, v == 0x11223344);
    __asm__ volatile("xorl %%eax, %%eax; inw %w1, %%ax" : "=a"(v) : "d"(0x511));
    CHECK(31, v == 0x2233);
    __asm__ volatile("rep outsb" : "+S"(s), "+c"(n) : "d"(0x512) : "memory");
    CHECK(32, n == 0 && inb(0x512) == 4);
    n = 4;
    __asm__ volatile("rep insb" : "+D"(d), "+c"(n) : "d"(0x513) : "memory");
    CHECK(33, n == 0 && in[0] == 0x11 && in[3] == 0x11);
    __asm__ volatile("inb $0xee, %%al" : "=a"(v)); /* nobody there */
    CHECK(34, (v & 0xff) == 0xff);
    return 0;
}

/* A device read whose store faults: the read happens, then the fault, registers stay. */
static int midway(void)
{
    uint64_t va = page(60);
    const void *s = (const void *)(SCRATCH + 64);
    void *d = (void *)(va + 4096 - 2);
    uint64_t n = 8;

    *pte(va + 4096) = 0;
    invlpg(va + 4096);
    trap.vector = NO_TRAP;
    __asm__ volatile(
        "leaq 1f(%%rip), %%rax; movq %%rax, resume_rip(%%rip); movq %%rsp, resume_rsp(%%rip)\n\t"
        "rep movsb\n1:"
        : "+S"(s), "+D"(d), "+c"(n)
        :
        : "rax", "memory", "cc");
    CHECK(40, trap.vector == 14 && trap.cr2 == va + 4096 && n == 6 && d == (void *)(va + 4096));
    CHECK(41, s == (const void *)(SCRATCH + 66));
    return 0;
}

int guest(void)
{
    int r = sizes();

    r = r ? r : arithmetic();
    r = r ? r : strings();
    r = r ? r : ports();
    return r ? r : midway();
}
