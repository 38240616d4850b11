/* Paging: rights of every page size, NX, WP, SMEP, SMAP, reserved bits, A and D, global pages,
 * INVLPG. */
#include "lib/guest.h"

GUEST_EXACT(1);

enum { CR4_PGE = 1 << 7, CR4_SMEP = 1 << 20, CR4_SMAP = 1 << 21, CR0_WP = 1 << 16 };

static unsigned load(uint64_t va)
{
    return TRY("movq %0, %%rax; movl (%%rax), %%ecx", "r"(va));
}
static unsigned store(uint64_t va)
{
    return TRY("movq %0, %%rax; movl %%ecx, (%%rax)", "r"(va));
}
static unsigned jump(uint64_t va) /* the page holds RET */
{
    return TRY("movq %0, %%rax; call *%%rax", "r"(va));
}

static int accessed_dirty(void)
{
    uint64_t va = page(10), *e = pte(va);

    *e &= ~(uint64_t)(PTE_A | PTE_D);
    invlpg(va);
    CHECK(1, !(*e & PTE_A));
    CHECK(2, load(va) == NO_TRAP && (*e & (PTE_A | PTE_D)) == PTE_A);
    CHECK(3, store(va) == NO_TRAP && (*e & (PTE_A | PTE_D)) == (PTE_A | PTE_D));
    *e = (*e & ~(uint64_t)(PTE_A | PTE_D | PTE_W));
    invlpg(va);
    CHECK(4, store(va) == 14 && trap.error == 3);
    CHECK(5, !(*e & PTE_D)); /* a refused write makes nothing dirty */
    *e |= PTE_W;
    invlpg(va);
    return 0;
}

static int write_protect(void)
{
    uint64_t va = page(11), *e = pte(va);

    *e &= ~(uint64_t)PTE_W;
    invlpg(va);
    CHECK(10, store(va) == 14 && trap.error == 3 && trap.cr2 == va);
    CHECK(11, load(va) == NO_TRAP);
    wrcr0(rdcr0() & ~(uint64_t)CR0_WP);
    CHECK(12, store(va) == NO_TRAP);
    wrcr0(rdcr0() | CR0_WP);
    CHECK(13, store(va) == 14 && trap.error == 3);
    *e |= PTE_W;
    invlpg(va);
    CHECK(14, store(va) == NO_TRAP);
    return 0;
}

static int no_execute(void)
{
    uint64_t va = page(12), *e = pte(va);

    *(volatile uint8_t *)va = 0xc3;
    CHECK(20, jump(va) == NO_TRAP);
    *e |= PTE_NX;
    invlpg(va);
    CHECK(21, jump(va) == 14 && trap.error == 0x11 && trap.cr2 == va && trap.rip == va);
    CHECK(22, load(va) == NO_TRAP);
    wrmsr(MSR_EFER, rdmsr(MSR_EFER) & ~0x800ull); /* without NXE bit 63 is reserved */
    CHECK(23, load(va) == 14 && trap.error == 9);
    wrmsr(MSR_EFER, rdmsr(MSR_EFER) | 0x800);
    *e &= ~PTE_NX;
    invlpg(va);
    return 0;
}

static int smep_smap(void)
{
    uint32_t f[4];
    uint64_t va = page(13);

    cpuid(7, 0, f);
    user_page(va, true);
    *(volatile uint8_t *)va = 0xc3;
    if (f[1] & 1 << 7) {
        CHECK(30, jump(va) == NO_TRAP);
        wrcr4(rdcr4() | CR4_SMEP);
        CHECK(31, jump(va) == 14 && trap.error == 0x11);
        CHECK(32, load(va) == NO_TRAP);
        wrcr4(rdcr4() & ~(uint64_t)CR4_SMEP);
        CHECK(33, jump(va) == NO_TRAP);
    }
    if (f[1] & 1 << 20) {
        wrcr4(rdcr4() | CR4_SMAP);
        CHECK(35, load(va) == 14 && trap.error == 1);
        CHECK(36, store(va) == 14 && trap.error == 3);
        CHECK(37, TRY("stac; movq %0, %%rax; movl (%%rax), %%ecx; movl %%ecx, (%%rax); clac",
                      "r"(va)) == NO_TRAP);
        CHECK(38, load(va) == 14 && trap.error == 1);
        CHECK(39, jump(va) == NO_TRAP); /* SMAP is about data */
        wrcr4(rdcr4() & ~(uint64_t)CR4_SMAP);
    }
    user_page(va, false);
    return 0;
}

static void user_load(void)
{
    __asm__ volatile("movl (%rbx), %eax; int $0x80");
}
static void user_store(void)
{
    __asm__ volatile("movl %eax, (%rbx); int $0x80");
}

static volatile uint64_t user_target __attribute__((used)); /* in RBX when the code starts */

static unsigned as_user(void (*fn)(void), uint64_t va)
{
    unsigned v;

    user_target = va;
    __asm__ volatile("movq user_target(%%rip), %%rbx; call run_user"
                     : "=a"(v)
                     : "D"(fn), "S"(page(20) + 4096), "d"((uint64_t)SEL_USER), "c"(2ul)
                     : "rbx", "r8", "r9", "r10", "r11", "memory", "cc");
    return v;
}

static int user_rights(void)
{
    uint64_t va = page(14), *e = pte(va);

    tss_init();
    user_page((uint64_t)user_load, true);
    user_page((uint64_t)user_store, true);
    user_page(page(20), true);
    set_gate_dpl(0x80, 3);
    CHECK(40,
          as_user(user_load, va) == 14 && trap.error == 5 && trap.cr2 == va && (trap.cs & 3) == 3);
    CHECK(41, as_user(user_store, va) == 14 && trap.error == 7);
    user_page(va, true);
    CHECK(42, as_user(user_load, va) == 0x80);
    *e &= ~(uint64_t)PTE_W;
    invlpg(va);
    CHECK(43, as_user(user_store, va) == 14 && trap.error == 7);
    *e = 0;
    invlpg(va);
    CHECK(44, as_user(user_load, va) == 14 && trap.error == 4);
    CHECK(45, load(va) == 14 && trap.error == 0);
    return 0;
}

static int large_pages(void)
{
    uint64_t va = 0x40000000 + 0x600000,
             *e = pde(va); /* a 2 MiB page without RAM's help: map it onto 8 MiB */
    uint64_t old = *e;

    *e = 0x800000 | PTE_PS | PTE_P | PTE_W;
    invlpg(va);
    *(volatile uint32_t *)page(15) = 0x12345678;
    CHECK(50, *(volatile uint32_t *)(va + 15 * 4096) == 0x12345678);
    CHECK(51, (*e & (PTE_A | PTE_D)) == PTE_A);
    *(volatile uint32_t *)(va + 15 * 4096) = 1;
    CHECK(52, *e & PTE_D);
    *e |= 1 << 13;       /* reserved in a 2 MiB page */
    invlpg(va + 0x3000); /* any address in it drops all of it */
    CHECK(53, load(va + 15 * 4096) == 14 && trap.error == 9);
    *e = old;
    invlpg(va);
    uint64_t *pdpte = (uint64_t *)(TABLES_BASE + 0x1000ul) + 1; /* 1 GiB at 0x40000000 */
    old = *pdpte;
    *pdpte = PTE_PS | PTE_P | PTE_W; /* physical 0 */
    wrcr3(rdcr3());
    CHECK(54, *(volatile uint32_t *)(0x40000000 + page(15)) == 1);
    CHECK(55, *pdpte & PTE_A);
    *pdpte = PTE_PS | PTE_P | PTE_W | 1 << 20;
    wrcr3(rdcr3());
    CHECK(56, load(0x40000000) == 14 && trap.error == 9);
    *pdpte = old;
    wrcr3(rdcr3());
    return 0;
}

static int translation_kept(void)
{
    uint64_t a = page(16), b = page(17), *e = pte(a), old = *e;

    *(volatile uint32_t *)a = 1;
    *(volatile uint32_t *)b = 2;
    CHECK(60, *(volatile uint32_t *)a == 1);
    *e = *pte(b) | PTE_G;
    invlpg(a);
    CHECK(61, *(volatile uint32_t *)a == 2);
    *e = old;
    invlpg(a); /* drops global ones too */
    CHECK(62, *(volatile uint32_t *)a == 1);
    *e = *pte(b);
    wrcr3(rdcr3());
    CHECK(63, *(volatile uint32_t *)a == 2);
    *e = old | PTE_G;
    wrcr3(rdcr3());
    CHECK(64, *(volatile uint32_t *)a == 1);
    *e = old;
    wrcr4(rdcr4() & ~(uint64_t)CR4_PGE);
    wrcr4(rdcr4() | CR4_PGE);
    CHECK(65, *(volatile uint32_t *)a == 1);
    return 0;
}

/* A store across two pages whose second may not be written changes nothing. */
static int all_or_nothing(void)
{
    uint64_t a = page(18), b = page(19);

    *(volatile uint32_t *)(b - 4) = 0x55555555;
    *pte(b) &= ~(uint64_t)PTE_W;
    invlpg(b);
    CHECK(70, TRY("movq %0, %%rax; movq %%rax, -4(%%rax)", "r"(b)) == 14 && trap.cr2 == b &&
                  trap.error == 3);
    CHECK(71, *(volatile uint32_t *)(b - 4) == 0x55555555);
    CHECK(72, TRY("movq %0, %%rax; lock; addq %%rax, -4(%%rax)", "r"(b)) == 14 && trap.error == 3);
    CHECK(73, *(volatile uint32_t *)(b - 4) == 0x55555555);
    *pte(b) |= PTE_W;
    invlpg(b);
    *(volatile uint32_t *)b = 0x66666666;
    CHECK(74, *(volatile uint64_t *)(b - 4) == 0x6666666655555555);
    *(volatile uint64_t *)(a + 0xffd) = 0x1122334455667788;
    CHECK(75, *(volatile uint64_t *)(a + 0xffd) == 0x1122334455667788);
    CHECK(76, *(volatile uint8_t *)b == 0x55 && *(volatile uint8_t *)(a + 0xfff) == 0x66);
    return 0;
}

/* A CR3 load counts for the very next fetch: the page of the running code is another then. The code
 * maps that other one in its own place, loads CR3, takes a number, and maps itself back. */
static int code_changes_places(void)
{
    static const uint8_t code[] = {
        0x48, 0x89, 0x37,          /* mov [rdi], rsi */
        0x0f, 0x22, 0xda,          /* mov cr3, rdx */
        0xb8, 1,    0,    0,    0, /* mov eax, 1 */
        0x48, 0x89, 0x0f,          /* mov [rdi], rcx */
        0x0f, 0x22, 0xda, 0xc3,    /* mov cr3, rdx; ret */
    };
    uint64_t a = page(20), b = page(21), rax = a;

    for (unsigned i = 0; i < sizeof(code); i++)
        *(volatile uint8_t *)(a + i) = *(volatile uint8_t *)(b + i) = code[i];
    *(volatile uint8_t *)(b + 7) = 2;
    for (unsigned round = 0; round < 2; round++, rax = a) {
        __asm__ volatile("call *%%rax"
                         : "+a"(rax)
                         : "D"(pte(a)), "S"(*pte(b)), "c"(*pte(a)), "d"(rdcr3())
                         : "memory", "cc");
        CHECK(80, rax == 2);
    }
    return 0;
}

int guest(void)
{
    int r = accessed_dirty();

    r = r ? r : code_changes_places();

    r = r ? r : write_protect();
    r = r ? r : no_execute();
    r = r ? r : smep_smap();
    r = r ? r : user_rights();
    r = r ? r : large_pages();
    r = r ? r : translation_kept();
    return r ? r : all_or_nothing();
}
