/* Control flow: deep recursion, calls through tables of functions, and a bytecode interpreter's
 * loop (one indirect jump an instruction). */
#include "bench/work/work.h"

/* Ackermann's function: calls and returns, some thousand deep. */
static __attribute__((noinline)) uint64_t ackermann(uint64_t m, uint64_t n)
{
    if (!m)
        return n + 1;
    if (!n)
        return ackermann(m - 1, 1);
    return ackermann(m - 1, ackermann(m, n - 1));
}

static uint64_t recursion(uint64_t n)
{
    uint64_t sum = 0, m = 2;

    for (uint64_t i = 0; i < n; i++) {
        __asm__ volatile("" : "+r"(m));
        sum += ackermann(m, 200);
    }
    work_expect(sum == n * 403, "ackermann(2, 200)");
    return sum;
}

struct shape {
    uint64_t (*area)(const struct shape *s);
    uint64_t a, b;
};

static uint64_t square(const struct shape *s)
{
    return s->a * s->a;
}

static uint64_t rectangle(const struct shape *s)
{
    return s->a * s->b;
}

static uint64_t triangle(const struct shape *s)
{
    return s->a * s->b / 2;
}

static uint64_t ring(const struct shape *s)
{
    return 3 * (s->a - s->b) * (s->a + s->b);
}

/* n calls through pointers; which of four functions comes next is hard to foresee. */
static uint64_t virtual_calls(uint64_t n)
{
    static uint64_t (*const kinds[])(const struct shape *) = {square, rectangle, triangle, ring};
    struct shape shapes[256];
    uint64_t seed = WORK_SEED, sum = 0;

    for (unsigned i = 0; i < 256; i++) {
        uint64_t r = work_random(&seed);
        shapes[i] = (struct shape){kinds[r & 3], (r >> 8 & 0xff) + 300, r >> 16 & 0xff};
    }
    const struct shape *p = shapes;
    for (uint64_t i = 0; i < n; i++) {
        WORK_HIDE(p);
        sum += p[i & 255].area(&p[i & 255]);
    }
    return sum;
}

enum op { PUSH, ADD, SUB, MUL, DUP, SWAP, LOAD, STORE, JNZ, HALT };

struct insn {
    unsigned char op;
    int arg;
};

/* A stack machine by computed goto. */
static __attribute__((noinline)) uint64_t interpret(const struct insn *code, uint64_t *slot)
{
    static const void *const label[] = {&&push, &&add,  &&sub,   &&mul, &&dup,
                                        &&swap, &&load, &&store, &&jnz, &&halt};
    uint64_t stack[16], *sp = stack, t;
    const struct insn *pc = code;

#define NEXT goto *label[pc->op]
    NEXT;
push:
    *sp++ = (uint64_t)(int64_t)pc++->arg;
    NEXT;
add:
    sp--, sp[-1] += sp[0], pc++;
    NEXT;
sub:
    sp--, sp[-1] -= sp[0], pc++;
    NEXT;
mul:
    sp--, sp[-1] *= sp[0], pc++;
    NEXT;
dup:
    sp[0] = sp[-1], sp++, pc++;
    NEXT;
swap:
    t = sp[-1], sp[-1] = sp[-2], sp[-2] = t, pc++;
    NEXT;
load:
    *sp++ = slot[pc++->arg];
    NEXT;
store:
    slot[pc++->arg] = *--sp;
    NEXT;
jnz:
    pc += *--sp ? pc->arg : 1;
    NEXT;
halt:
    return slot[1];
#undef NEXT
}

/* n turns of a loop of 16 bytecodes: slot 1 = slot 1 * 3 + slot 0 - 7 */
static uint64_t bytecode(uint64_t n)
{
    static const struct insn code[] = {
        {LOAD, 1}, {PUSH, 3}, {MUL, 0}, {LOAD, 0},  {SWAP, 0},  {ADD, 0},
        {PUSH, 7}, {SUB, 0},  {DUP, 0}, {STORE, 1}, {STORE, 2}, {LOAD, 0},
        {PUSH, 1}, {SUB, 0},  {DUP, 0}, {STORE, 0}, {JNZ, -16}, {HALT, 0},
    };
    uint64_t slot[4] = {n, 1, 0, 0}, want = 1;

    for (uint64_t i = n; i; i--)
        want = want * 3 + i - 7;
    uint64_t got = interpret(code, slot);
    work_expect(got == want && slot[2] == got, "the bytecode's result");
    return got;
}

/* n times a switch that compiles to a table of jumps. */
static uint64_t switches(uint64_t n)
{
    uint64_t seed = WORK_SEED, h = 1;

    for (uint64_t i = 0; i < n; i++) {
        switch (work_random(&seed) >> 60) {
        case 0:
            h += 3;
            break;
        case 1:
            h ^= i;
            break;
        case 2:
            h *= 5;
            break;
        case 3:
            h = h << 3 | h >> 61;
            break;
        case 4:
            h -= 9;
            break;
        case 5:
            h += h >> 4;
            break;
        case 6:
            h = ~h;
            break;
        case 7:
            h ^= h << 7;
            break;
        case 8:
            h += i * 3;
            break;
        case 9:
            h = h >> 9 | h << 55;
            break;
        case 10:
            h *= 7;
            break;
        case 11:
            h -= i;
            break;
        default:
            h++;
            break;
        }
    }
    return h;
}

const struct work work_call[] = {
    {"recursion", recursion, 1600, 1},
    {"virtual-calls", virtual_calls, 24000000, 1},
    {"bytecode", bytecode, 5000000, 1},
    {"switch", switches, 9000000, 1},
    {0},
};
