/* Code that changes: under its own feet, by another mapping, by another CPU, by a string
 * instruction. */
#include "lib/guest.h"

GUEST(2);

static void emit(uint64_t at, uint32_t value) /* mov $value, %eax; ret */
{
    volatile uint8_t *p = (volatile uint8_t *)at;

    p[0] = 0xb8;
    *(volatile uint32_t *)(p + 1) = value;
    p[5] = 0xc3;
}

static uint32_t call(uint64_t at)
{
    uint32_t r;

    __asm__ volatile("call *%1" : "=a"(r) : "r"(at) : "memory", "cc");
    return r;
}

static int rewritten(void)
{
    uint64_t at = page(30) + 0x100;

    for (uint32_t i = 0; i < 200; i++) {
        emit(at, i);
        CHECK(1, call(at) == i);
    }
    *(volatile uint8_t *)(at + 1) = 0x77; /* one byte of the immediate */
    CHECK(2, call(at) == 0x77);
    emit(at + 64, 5); /* other code of the page stays good */
    CHECK(3, call(at) == 0x77 && call(at + 64) == 5);
    uint64_t across = page(31) - 3; /* an instruction across two pages */
    emit(across, 0x11223344);
    CHECK(4, call(across) == 0x11223344);
    *(volatile uint8_t *)(page(31)) = 0x99; /* third immediate byte, on the second page */
    CHECK(5, call(across) == 0x11993344);
    return 0;
}

/* The next instruction but one is changed by the one before. */
static int at_once(void)
{
    static const uint8_t code[] = {
        0xc6, 0x47, 0x06, 0x22, /* movb $0x22, 6(%rdi): into the next instruction's immediate */
        0x90,                   /* nop */
        0xb0, 0x11,             /* mov $0x11, %al */
        0xc3,
    };
    uint64_t at = page(32);
    uint32_t r;

    __builtin_memcpy((void *)at, code, sizeof(code));
    __asm__ volatile("call *%1" : "=a"(r) : "r"(at), "D"(at) : "memory", "cc");
    CHECK(10, (r & 0xff) == 0x22);
    ((volatile uint8_t *)at)[6] = 0x11;
    __asm__ volatile("call *%1" : "=a"(r) : "r"(at), "D"(at) : "memory", "cc");
    CHECK(11, (r & 0xff) == 0x22);
    return 0;
}

static int by_alias(void)
{
    uint64_t at = page(33), alias = page(34);

    *pte(alias) = *pte(at);
    invlpg(alias);
    emit(at, 1);
    CHECK(20, call(at) == 1);
    *(volatile uint8_t *)(alias + 1) = 2;
    CHECK(21, call(at) == 2);
    CHECK(22, call(alias) == 2);
    return 0;
}

static int by_string(void)
{
    static uint8_t other[6] = {0xb8, 9, 0, 0, 0, 0xc3};
    uint64_t at = page(35);

    emit(at, 3);
    CHECK(30, call(at) == 3);
    const void *src = other;
    uint64_t dst = at, n = sizeof(other);
    __asm__ volatile("rep movsb" : "+S"(src), "+D"(dst), "+c"(n) : : "memory");
    CHECK(31, call(at) == 9);
    __asm__ volatile("lock; addb $1, (%0)" : : "r"(at + 1) : "memory", "cc");
    CHECK(32, call(at) == 10);
    return 0;
}

static volatile uint32_t turn;
static volatile uint64_t shared;

static void writer(unsigned cpu)
{
    (void)cpu;
    for (uint32_t i = 1; i < 100; i += 2) {
        while (turn != i)
            relax();
        emit(shared, i);
        turn = i + 1;
    }
}

/* Cross-modifying code, with the serialization SDM vol 3A, 8.1.3 asks for. */
static int by_another_cpu(void)
{
    uint32_t out[4];

    shared = page(36);
    emit(shared, 0);
    CHECK(40, call(shared) == 0);
    apic_on();
    start_cpu(1, writer);
    for (uint32_t i = 1; i < 100; i += 2) {
        turn = i;
        while (turn != i + 1)
            relax();
        cpuid(0, 0, out);
        CHECK(41, call(shared) == i);
    }
    return 0;
}

int guest(void)
{
    int r = rewritten();

    r = r ? r : at_once();
    r = r ? r : by_alias();
    r = r ? r : by_string();
    return r ? r : by_another_cpu();
}
