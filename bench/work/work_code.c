/* Code that changes: an instruction patched before each call, and a just-in-time compiler that
 * makes functions, calls each a few times and makes new ones in their place. */
#include "bench/work/work.h"

#include <string.h>
#include <sys/mman.h>

static unsigned char *code_area(size_t len)
{
    unsigned char *p =
        mmap(NULL, len, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    work_expect(p != MAP_FAILED, "executable memory");
    return p;
}

static uint32_t call(const unsigned char *code, uint32_t arg)
{
    uint32_t (*fn)(uint32_t);

    memcpy(&fn, &code, sizeof(fn));
    return fn(arg);
}

/* n times: store an immediate into `mov eax, imm32; ret`, and call it. */
static uint64_t patched(uint64_t n)
{
    unsigned char *p = code_area(4096);
    uint64_t sum = 0;

    p[0] = 0xb8;
    p[5] = 0xc3;
    for (uint64_t i = 0; i < n; i++) {
        uint32_t v = (uint32_t)i * 2654435761u;
        memcpy(p + 1, &v, 4);
        uint32_t got = call(p, 0);
        work_expect(got == v, "a patched instruction is what runs");
        sum += got;
    }
    work_unmap(p, 4096);
    return sum;
}

/* A function of `adds` steps: eax = edi; then eax = eax * 5 + imm32. Returns its length. */
static size_t make_function(unsigned char *p, uint32_t seed, unsigned adds)
{
    unsigned char *start = p;

    *p++ = 0x89, *p++ = 0xf8; /* mov eax, edi */
    for (unsigned i = 0; i < adds; i++) {
        uint32_t imm = seed + i;
        memcpy(p, "\x8d\x84\x80", 3); /* lea eax, [rax + rax * 4 + imm32] */
        memcpy(p + 3, &imm, 4);
        p += 7;
    }
    *p++ = 0xc3;
    return (size_t)(p - start);
}

/* n functions of 82 bytes in a ring of 64 KiB, each called 20 times. */
static uint64_t jit(uint64_t n)
{
    enum { LEN = 65536, ADDS = 11, CALLS = 20 };
    unsigned char *area = code_area(LEN);
    uint64_t sum = 0;
    size_t at = 0;

    for (uint64_t i = 0; i < n; i++) {
        if (at + 128 > LEN)
            at = 0;
        size_t len = make_function(area + at, (uint32_t)i, ADDS);
        uint32_t want = 3;
        for (unsigned k = 0; k < ADDS; k++)
            want = want * 5 + (uint32_t)i + k;
        work_expect(call(area + at, 3) == want, "a new function is what runs");
        for (unsigned k = 1; k < CALLS; k++)
            sum += call(area + at, k);
        at += (len + 15) & ~(size_t)15;
    }
    work_unmap(area, LEN);
    return sum;
}

const struct work work_code[] = {
    {"smc", patched, 300000, 1},
    {"jit", jit, 50000, 1},
    {0},
};
