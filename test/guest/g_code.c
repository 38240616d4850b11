/* Code as translators meet it: faults in mid-block, flags that must outlive one, instructions and
 * runs of them across pages, string instructions interrupted by faults, segment overrides. */
#include "lib/guest.h"

GUEST_EXACT(1);

enum { MSR_FS_BASE = 0xc0000100, MSR_GS_BASE = 0xc0000101, ERR_FETCH = 0x10 };

/* The last page fault, and all registers at it. */
static volatile struct regs at_fault;
static volatile uint64_t fault_addr;
static volatile unsigned faults;

static uint64_t cr2(void)
{
    uint64_t v;

    __asm__ volatile("movq %%cr2, %0" : "=r"(v));
    return v;
}

static void note(struct regs *r)
{
    faults++;
    fault_addr = cr2();
    at_fault = *r;
}

/* #PF: go on where TRY says. */
static void leave(struct regs *r)
{
    note(r);
    r->rip = resume_rip;
    r->rsp = resume_rsp;
    trap.vector = 14;
}

/* #PF: map the page and run the instruction again. */
static void map_it(struct regs *r)
{
    note(r);
    *pte(fault_addr) |= PTE_P;
    invlpg(fault_addr);
}

static void unmap(uint64_t va)
{
    *pte(va) &= ~(uint64_t)PTE_P;
    invlpg(va);
}

static int faults_in_mid_block(void)
{
    uint64_t bad = page(40);

    handler[14] = leave;
    unmap(bad);
    CHECK(1, TRY("movl $1, %%eax; movl $2, %%ecx; addl %%ecx, %%eax; movq %0, %%rdx\n\t"
                 "movl %%eax, 8(%%rdx); movl $9, %%ecx; movl $9, %%eax",
                 "r"(bad)) == 14);
    CHECK(2,
          at_fault.rax == 3 && at_fault.rcx == 2 && fault_addr == bad + 8 && at_fault.error == 2);
    CHECK(3,
          TRY("movl $7, %%r8d; movq %0, %%r9; xaddq %%r8, (%%r9); movl $9, %%r8d", "r"(bad)) == 14);
    CHECK(4, at_fault.r8 == 7 && at_fault.r9 == bad && at_fault.error == 2);
    /* The stack: RSP stays. */
    CHECK(5,
          TRY("leaq 64(%0), %%rax; movq %%rsp, %%r9; movq %%rax, %%rsp; pushq $5", "r"(bad)) == 14);
    CHECK(6, at_fault.rsp == bad + 64 && fault_addr == bad + 56);
    CHECK(7, TRY("movq %0, %%rax; movq %%rax, %%rsp; popq %%rcx", "r"(bad)) == 14);
    CHECK(8, at_fault.rsp == bad && at_fault.error == 0);
    CHECK(9, TRY("leaq 64(%0), %%rax; movq %%rax, %%rsp; call 1f; 1:", "r"(bad)) == 14);
    CHECK(10, at_fault.rsp == bad + 64 && at_fault.error == 2);
    CHECK(11, TRY("movq %0, %%rsp; ret", "r"(bad)) == 14 && at_fault.rsp == bad);
    CHECK(12, TRY("movq %0, %%r11; pushq %%rbp; movq %%r11, %%rbp; leave", "r"(bad)) == 14);
    CHECK(13, at_fault.rbp == bad);
    __asm__ volatile("" ::: "memory");
    *pte(bad) |= PTE_P;
    invlpg(bad);
    return 0;
}

/* Five flags of CMP, read behind a load that faults and is run again. */
static uint8_t flags_over_a_fault(uint64_t a, uint64_t b, uint64_t where)
{
    uint8_t cf, zf, sf, of, pf;

    __asm__ volatile(
        "cmpq %6, %5\n\tmovq (%7), %%rax\n\tsetc %0\n\tsetz %1\n\tsets %2\n\tseto %3\n\tsetp %4"
        : "=&m"(cf), "=&m"(zf), "=&m"(sf), "=&m"(of), "=&m"(pf)
        : "r"(a), "r"(b), "r"(where)
        : "rax", "cc", "memory");
    return (uint8_t)(cf | zf << 1 | sf << 2 | of << 3 | pf << 4);
}

static int flags_outlive_a_fault(void)
{
    static const uint64_t value[] = {0, 1, 2, 0x7fffffffffffffff, 0x8000000000000000, UINT64_MAX};
    enum { N = sizeof(value) / sizeof(value[0]) };
    uint64_t va = page(41);

    handler[14] = map_it;
    for (unsigned i = 0; i < N * N; i++) {
        uint64_t a = value[i / N], b = value[i % N];
        uint8_t calm = flags_over_a_fault(a, b, va);

        faults = 0;
        unmap(va);
        CHECK(20, flags_over_a_fault(a, b, va) == calm && faults == 1);
        CHECK(21, (calm & 1) == (a < b) && (calm >> 1 & 1) == (a == b));
        CHECK(22, ((calm >> 2 ^ calm >> 3) & 1) == ((int64_t)a < (int64_t)b));
    }
    /* A carry through a chain of additions in memory whose second word is away. */
    volatile uint64_t *w = (volatile uint64_t *)(va - 8);
    w[0] = UINT64_MAX;
    w[1] = 5;
    unmap(va);
    __asm__ volatile("addq $1, (%0); adcq $0, 8(%0)" : : "r"(w) : "memory", "cc");
    CHECK(23, w[0] == 0 && w[1] == 6);
    return 0;
}

static uint32_t call(uint64_t at)
{
    uint32_t r;

    __asm__ volatile("call *%1" : "=a"(r) : "r"(at) : "memory", "cc");
    return r;
}

static void bytes(uint64_t at, const void *code, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        ((volatile uint8_t *)at)[i] = ((const uint8_t *)code)[i];
}

static int code_across_pages(void)
{
    static const uint8_t add_ret[] = {0xb8, 1, 0, 0, 0, 0x05, 2, 0, 0, 0, 0xc3}; /* mov, add, ret */
    uint64_t second = page(43);

    handler[14] = map_it;
    for (unsigned cut = 1; cut < sizeof(add_ret); cut++) {
        uint64_t at = second - cut;

        bytes(at, add_ret, sizeof(add_ret));
        CHECK(30, call(at) == 3);
        faults = 0;
        unmap(second);
        CHECK(31, call(at) == 3 && faults == 1 && fault_addr == second);
        /* The instruction that reaches into it, or the first one there. */
        CHECK(32, at_fault.rip == (cut < 5 ? at : cut < 10 ? at + 5 : at + 10));
        CHECK(33, (at_fault.error & ~(uint64_t)ERR_FETCH) == 0);
        /* Another page comes there, with another number in what lies on it. */
        uint64_t old = *pte(second), other = page(44);
        bytes(other, (const void *)second, 64);
        if (cut < 10)
            *(volatile uint8_t *)(other + (cut < 7 ? 6 - cut : 9 - cut)) = cut < 7 ? 4 : 1;
        *pte(second) = *pte(other);
        invlpg(second);
        CHECK(34, call(at) == (cut < 7 ? 5 : cut < 10 ? 0x1000003 : 3));
        *pte(second) = old;
        invlpg(second);
        CHECK(35, call(at) == 3);
    }
    return 0;
}

static int strings_and_faults(void)
{
    uint64_t from = page(46), to = page(49), count = 3 * 4096 - 20;

    handler[14] = map_it;
    for (unsigned i = 0; i < 3 * 4096; i++)
        ((volatile uint8_t *)from)[i] = (uint8_t)(i * 7 + (i >> 8));
    for (unsigned back = 0; back < 2; back++) {
        uint64_t s = from + 10 + (back ? count - 1 : 0), d = to + 13 + (back ? count - 1 : 0);
        uint64_t n = count, after = 0;

        for (unsigned i = 0; i < 3; i++) {
            unmap(from + i * 4096);
            unmap(to + i * 4096);
        }
        faults = 0;
        if (back)
            __asm__ volatile("std; rep movsb; cld; incq %3"
                             : "+S"(s), "+D"(d), "+c"(n), "+r"(after)
                             :
                             : "memory", "cc");
        else
            __asm__ volatile("rep movsb; incq %3"
                             : "+S"(s), "+D"(d), "+c"(n), "+r"(after)
                             :
                             : "memory", "cc");
        CHECK(40, n == 0 && after == 1 && faults == 6);
        CHECK(41, s == from + 10 + (back ? -1ul : count) && d == to + 13 + (back ? -1ul : count));
        for (unsigned i = 0; i < count; i++)
            CHECK(42, ((volatile uint8_t *)to)[13 + i] == ((volatile uint8_t *)from)[10 + i]);
        *(volatile uint8_t *)(to + 13) = 0;
        *(volatile uint8_t *)(to + 5000) = 0;
    }
    /* Flags of REPE CMPSB over a fault; the byte that differs lies behind it. */
    uint64_t s = from + 10, d = to + 13, n = count;
    ((volatile uint8_t *)to)[13 + 6000] ^= 1;
    bytes(to + 13, (const void *)(from + 10), 5990);
    unmap(from + 4096);
    uint8_t below;
    bool less = ((volatile uint8_t *)from)[10 + 6000] < ((volatile uint8_t *)to)[13 + 6000];
    __asm__ volatile("repe cmpsb; setb %3"
                     : "+S"(s), "+D"(d), "+c"(n), "=r"(below)
                     :
                     : "memory", "cc");
    CHECK(43, s == from + 10 + 6001 && n == count - 6001 && below == less);
    return 0;
}

/* Instructions of 15 bytes, most of them prefixes that say the same again. */
static int as_long_as_they_get(void)
{
#define P4 "0x66, 0x66, 0x66, 0x66, "
    uint64_t va = page(57), ax = 100;
    volatile uint16_t *w = (volatile uint16_t *)va;

    for (unsigned round = 0; round < 2; round++, ax = 100) {
        for (unsigned i = 0; i < 16; i++)
            w[i] = 1;
        __asm__ volatile("movq %1, %%r8; movl $7, %%r9d; addl %%eax, (%%rdx)\n\t"
                         ".byte " P4 P4 P4 "0x01, 0x42, 0x04\n\t" /* addw %ax, 4(%rdx) */
                         ".byte " P4 P4 "0x66, 0x66, 0x66, 0x41, 0x01, 0x40, 0x08\n\t" /* 8(%r8) */
                         ".byte " P4 P4 "0xf0, 0xf0, 0x66, 0xf0, 0x66, 0x01, 0x02\n\t" /* (%rdx) */
                         ".byte " P4 P4 P4 "0x83, 0x02, 0x01\n\t" /* addw $1, (%rdx) */
                         ".byte " P4 P4 P4 "0x66, 0x01, 0xc0\n\t" /* addw %ax, %ax */
                         ".byte " P4 P4 P4 "0x41, 0x01, 0xc1\n\t" /* addw %ax, %r9w */
                         "movw %%r9w, 30(%%rdx)"
                         : "+a"(ax)
                         : "d"(va)
                         : "r8", "r9", "memory", "cc");
        CHECK(45, w[0] == 202 && w[2] == 101 && w[4] == 101 && w[1] == 1);
        CHECK(46, ax == 200 && w[15] == 207);
    }
    return 0;
#undef P4
}

/* Data in a page that holds code is reached by another way, which asks for alignment, too. */
static int data_beside_code(void)
{
    uint64_t va = page(56), at = va + 0x800;
    uint32_t n;

    bytes(va, "\xb8\x2a\0\0\0\xc3", 6); /* mov $42, %eax; ret */
    __asm__ volatile("call *%1" : "=a"(n) : "r"(va) : "memory", "cc");
    handler[14] = leave;
    for (unsigned i = 0; i < 32; i++) {
        unsigned vector =
            TRY("xorl %%eax, %%eax; xorl %%edx, %%edx; movq %0, %%r8; lock; cmpxchg16b (%%r8)",
                "r"(at + i));
        CHECK(70, vector == (i & 15 ? 13 : NO_TRAP));
        __asm__ volatile("lock; incl (%0)" : : "r"(at + 0x100 + i) : "memory", "cc");
    }
    __asm__ volatile("call *%1" : "=a"(n) : "r"(va) : "memory", "cc");
    CHECK(71, n == 42);
    /* A store that reaches from beside the code into it. */
    *(volatile uint64_t *)(va + 0x40 - 4) = 0x9090909090909090;
    bytes(va + 0x40, "\xb8\x2b\0\0\0\xc3", 6);
    __asm__ volatile("call *%1" : "=a"(n) : "r"(va + 0x40) : "memory", "cc");
    CHECK(72, n == 43);
    *(volatile uint64_t *)(va + 0x40 - 6) = 0x2cb8000000000000;
    __asm__ volatile("call *%1" : "=a"(n) : "r"(va + 0x40) : "memory", "cc");
    CHECK(73, n == 44);
    return 0;
}

static int segment_overrides(void)
{
    uint64_t fs = page(52), gs = page(53), plain = page(54), v, w;
    uint32_t n;

    wrmsr(MSR_FS_BASE, fs);
    wrmsr(MSR_GS_BASE, gs);
    for (unsigned i = 0; i < 64; i++) {
        ((volatile uint64_t *)fs)[i] = 0xf000 + i;
        ((volatile uint64_t *)gs)[i] = 0x6000 + i;
        ((volatile uint64_t *)plain)[i] = 0x1000 + i;
    }
    __asm__ volatile("movq %%fs:8(%2), %0; movq %%gs:16(%2), %1" : "=&r"(v), "=&r"(w) : "r"(0ul));
    CHECK(50, v == 0xf001 && w == 0x6002);
    /* ES, CS, SS and DS say nothing here. */
    __asm__ volatile(".byte 0x26; movq 8(%1), %0" : "=r"(v) : "r"(plain));
    CHECK(51, v == 0x1001);
    __asm__ volatile(".byte 0x2e; movq 16(%1), %0" : "=r"(v) : "r"(plain));
    CHECK(52, v == 0x1002);
    __asm__ volatile(".byte 0x36; movq 24(%1), %0" : "=r"(v) : "r"(plain));
    CHECK(53, v == 0x1003);
    __asm__ volatile(".byte 0x3e; movq 32(%1), %0" : "=r"(v) : "r"(plain));
    CHECK(54, v == 0x1004);
    /* 32-bit addresses, an index, an absolute address of 64 bits. */
    __asm__ volatile("movq %%fs:8(%%ecx,%%edx,8), %0" : "=r"(v) : "c"(0xf00000010ul), "d"(-1ul));
    CHECK(55, v == ((volatile uint64_t *)fs)[2] || v == 0xf002);
    __asm__ volatile("movabsq %%gs:0x28, %0" : "=a"(v));
    CHECK(56, v == 0x6005);
    /* Stores, read-modify-write, a locked one. */
    __asm__ volatile("movq %0, %%fs:0x100; addq $1, %%gs:0x30; lock; xaddq %0, %%fs:0x38"
                     : "+r"(w)
                     :
                     : "memory", "cc");
    CHECK(57, w == 0xf007 && ((volatile uint64_t *)fs)[32] == 0x6002 &&
                  ((volatile uint64_t *)gs)[6] == 0x6007 &&
                  ((volatile uint64_t *)fs)[7] == 0xf007 + 0x6002);
    /* LEA knows no segment; PUSH, CALL and strings do. */
    __asm__ volatile(".byte 0x64; leaq 8(%1), %0" : "=r"(v) : "r"(plain));
    CHECK(58, v == plain + 8);
    __asm__ volatile("pushq %%fs:0x10; popq %0" : "=r"(v) : : "memory");
    CHECK(59, v == 0xf002);
    ((volatile uint64_t *)gs)[20] = plain + 512;
    bytes(plain + 512, "\xb8\x2a\0\0\0\xc3", 6); /* mov $42, %eax; ret */
    __asm__ volatile("call *%%gs:0xa0" : "=a"(n) : : "memory", "cc");
    CHECK(60, n == 42);
    uint64_t s = 0, d = plain + 1024, c = 4;
    __asm__ volatile("rep; movsq %%fs:(%%rsi), (%%rdi)" : "+S"(s), "+D"(d), "+c"(c) : : "memory");
    CHECK(61, s == 32 && ((volatile uint64_t *)plain)[128] == 0xf000 &&
                  ((volatile uint64_t *)plain)[131] == 0xf003);
    s = 8;
    __asm__ volatile("lodsq %%gs:(%%rsi), %%rax" : "=a"(v), "+S"(s) : : "memory");
    CHECK(62, v == 0x6001 && s == 16);
    __asm__ volatile(".byte 0x65; xlatb" : "=a"(v) : "a"(1ul), "b"(0ul));
    CHECK(63, (v & 0xff) == 0x60);
    /* A base may reach over the top of the address space. */
    wrmsr(MSR_FS_BASE, fs + 0x1000);
    __asm__ volatile("movq %%fs:-0x1000+0x18, %0" : "=r"(v));
    CHECK(64, v == 0xf003);
    __asm__ volatile("movq %%fs:(%1), %0" : "=r"(v) : "r"(-0xff8l));
    CHECK(65, v == 0xf001);
    return 0;
}

int guest(void)
{
    tss_init();
    set_ist(1, page(60) + 4096); /* some faults come with a bad stack */
    idt[14].lo |= 1ull << 32;
    int r = faults_in_mid_block();

    r = r ? r : flags_outlive_a_fault();
    r = r ? r : code_across_pages();
    r = r ? r : strings_and_faults();
    r = r ? r : as_long_as_they_get();
    r = r ? r : data_beside_code();
    return r ? r : segment_overrides();
}
