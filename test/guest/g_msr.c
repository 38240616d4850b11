/* MSRs and CPUID as a kernel probes them, and the paravirtual clock. */
#include "lib/guest.h"

GUEST_EXACT(1);

static unsigned rd(uint32_t i)
{
    return TRY("movl %0, %%ecx; rdmsr", "r"(i));
}
static unsigned wr(uint32_t i, uint64_t v)
{
    return TRY("movl %0, %%ecx; movl %k1, %%eax; movq %1, %%rdx; shrq $32, %%rdx; wrmsr", "r"(i),
               "r"(v));
}

static int model(void)
{
    uint32_t v[4], w[4];

    cpuid(0, 0, v);
    CHECK(1, v[0] >= 0xd);
    cpuid(1, 0, v);
    CHECK(2, v[2] >> 31); /* hypervisor */
    CHECK(3, (v[2] & (1u << 21 | 1u << 23 | 1u << 20)) ==
                 (1u << 21 | 1u << 23 | 1u << 20)); /* x2APIC POPCNT SSE4.2 */
    CHECK(4, v[1] >> 24 == 0);
    cpuid(0x40000000, 0, w);
    CHECK(5, w[1] == 0x4b4d564b && w[2] == 0x564b4d56 && w[3] == 0x4d);
    cpuid(0x80000008, 0, w);
    CHECK(6, (w[0] & 0xff) >= 36 && (w[0] >> 8 & 0xff) == 48);
    if (v[2] & 1 << 26) { /* XSAVE */
        cpuid(1, 0, v);
        CHECK(7, !(v[2] & 1 << 27));
        wrcr4(rdcr4() | 1 << 18);
        cpuid(1, 0, v);
        CHECK(8, v[2] & 1 << 27); /* OSXSAVE follows CR4 */
        wrcr4(rdcr4() & ~(1ul << 18));
        cpuid(0xd, 0, v);
        CHECK(9, v[1] == 576 && (v[0] & 3) == 3);
    }
    return 0;
}

static int msrs(void)
{
    CHECK(20, rd(0x12345) == 13 && wr(0x12345, 0) == 13);
    CHECK(21, rd(0x1b) == NO_TRAP && (rdmsr(0x1b) & 0xfffff900) == 0xfee00900);
    CHECK(22, rd(0xfe) == NO_TRAP && rd(0x2ff) == NO_TRAP && rd(0x179) == NO_TRAP &&
                  rd(0x8b) == NO_TRAP);
    CHECK(23, wr(0x277, 0x0007040600070406) == NO_TRAP && rdmsr(0x277) == 0x0007040600070406);
    CHECK(24, wr(0x277, 0x0007040600070402) == 13); /* type 2 is reserved */
    CHECK(25, wr(0xc0000082, 0x0000800000000000) == 13 &&
                  wr(0xc0000082, 0xffff800000000000) == NO_TRAP);
    CHECK(26, wr(MSR_EFER, rdmsr(MSR_EFER) ^ 0x100) == 13); /* LME cannot change while paging */
    CHECK(27, wr(MSR_EFER, rdmsr(MSR_EFER) | 2) == 13);
    return 0;
}

static int control(void)
{
    CHECK(30, TRY("movq %%cr4, %%rax; btrq $5, %%rax; movq %%rax, %%cr4", ) ==
                  13); /* PAE in long mode */
    CHECK(31, TRY("movq %%cr4, %%rax; btsq $62, %%rax; movq %%rax, %%cr4", ) == 13);
    CHECK(32, TRY("movq %%cr0, %%rax; btsq $40, %%rax; movq %%rax, %%cr0", ) == 13);
    CHECK(33, TRY("movl $16, %%eax; movq %%rax, %%cr8", ) == 13);
    CHECK(34, TRY("movq $-1, %%rax; movq %%rax, %%cr3", ) == 13);
    CHECK(35, TRY("movq $-1, %%rax; movq %%rax, %%dr7", ) == 13);
    CHECK(36, TRY(".byte 0x0f, 0x20, 0xe8", ) == 6); /* MOV RAX, CR5 */
    __asm__ volatile("movq %0, %%dr1" : : "r"(0x1234ul));
    uint64_t v;
    __asm__ volatile("movq %%dr1, %0" : "=r"(v));
    CHECK(37, v == 0x1234);
    return 0;
}

static int time(void)
{
    uint64_t a = rdtsc(), b = rdtsc();

    CHECK(40, b > a);
    uint32_t f[4];
    cpuid(7, 0, f);
    if (f[1] & 2) { /* TSC_ADJUST */
        uint64_t adj = rdmsr(0x3b);
        wrmsr(0x3b, adj + 0x100000000000);
        CHECK(41, rdtsc() - b > 0xfffff00000);
        wrmsr(0x3b, adj);
        CHECK(42, rdtsc() - b < 0xfffff00000);
        a = rdtsc();
        wrmsr(0x10, a + 0x100000000000);
        CHECK(43, rdmsr(0x3b) - adj >= 0xfffff000000);
        wrmsr(0x3b, adj);
    }
    return 0;
}

struct pvclock {
    uint32_t version, pad;
    uint64_t tsc, ns;
    uint32_t mul;
    int8_t shift;
    uint8_t flags, pad2[2];
};

static uint64_t now(volatile struct pvclock *p)
{
    uint64_t d = rdtsc() - p->tsc;

    d = p->shift < 0 ? d >> -p->shift : d << p->shift;
    return p->ns + (uint64_t)((unsigned __int128)d * p->mul >> 32);
}

static int kvmclock(void)
{
    static volatile struct pvclock p __attribute__((aligned(64)));
    static volatile uint32_t wall[3] __attribute__((aligned(16)));
    uint32_t f[4];

    cpuid(0x40000001, 0, f);
    CHECK(50, (f[0] & 1 << 3) && (f[0] & 1 << 24));
    wrmsr(0x4b564d01, (uint64_t)&p | 1);
    rdmsr(0x4b564d01);
    CHECK(51, p.version && !(p.version & 1) && p.mul && (p.flags & 1));
    uint64_t a = now(&p);
    for (volatile unsigned i = 0; i < 500; i++)
        ;
    uint64_t b = now(&p);
    CHECK(52, b > a && b - a < 1000000000);
    wrmsr(0x4b564d00, (uint64_t)wall);
    CHECK(53, wall[0] && !(wall[0] & 1) && wall[1] > 1500000000);
    wrmsr(0x4b564d01, 0);
    return 0;
}

int guest(void)
{
    int r = model();

    r = r ? r : msrs();
    r = r ? r : control();
    r = r ? r : time();
    return r ? r : kvmclock();
}
