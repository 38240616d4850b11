/* What bytes become: lengths, operands, and what does not exist. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "cpu/interp/decode.h"
#include "test/unit/guestcode.h"

struct fixture {
    struct guest g;
    struct decode d;
    struct insn i;
};

static void start(struct fixture *f, enum guest_mode mode)
{
    struct err e;

    guestcode_new(&f->g, mode);
    assert_int_equal(soft_set(f->g.v, &f->g.s, &e), 0);
    assert_int_equal(decode_init(&f->d, f->g.v, &e), 0);
}

static void stop(struct fixture *f)
{
    decode_done(&f->d);
    guestcode_free(&f->g);
}

/* Decodes `n` bytes at offset 16 of a block. */
static int decode(struct fixture *f, const char *bytes, unsigned n)
{
    uint8_t exact[DECODE_BYTES_MAX];

    memcpy(exact, bytes, n);
    return decode_insn(&f->d, f->g.v, exact, n, 16, &f->i);
}

static unsigned vector_of(struct fixture *f)
{
    assert_int_equal(f->i.fn(f->g.v, &f->i), SOFT_FAULT);
    return f->g.v->exc.vector;
}

static void operands_are_folded(void **state)
{
    struct fixture f;

    start(&f, GUEST_LONG);
    assert_int_equal(decode(&f, "\x66\x46\x03\x84\x8b\x10\x00\x00\x00", 9),
                     9); /* add r8w, [rbx+r9*4+16] */
    assert_int_equal(f.i.a, R8);
    assert_int_equal(f.i.ra, R8 * 8);
    assert_int_equal(f.i.base, RBX);
    assert_int_equal(f.i.index, R9);
    assert_int_equal(f.i.shift, 2);
    assert_int_equal(f.i.disp, 16);
    assert_int_equal(f.i.memlen, 2);
    assert_int_equal(f.i.seg, SEG_DS);
    assert_int_equal(f.i.flags & (I_MEM | I_MEM_IS_A | I_LIN | I_ENDS), I_MEM | I_LIN);
    assert_int_equal(decode(&f, "\x88\x65\xfc", 3), 3); /* mov [rbp-4], ah */
    assert_int_equal(f.i.seg, SEG_SS);
    assert_int_equal(f.i.rb, 1);
    assert_int_equal(f.i.flags & (I_HIGH_B | I_MEM_IS_A), I_HIGH_B | I_MEM_IS_A);
    assert_int_equal(decode(&f, "\x65\x48\x8b\x04\x25\x28\x00\x00\x00", 9),
                     9); /* mov rax, gs:0x28 */
    assert_int_equal(f.i.seg, SEG_GS);
    assert_int_equal(f.i.base, NO_REG);
    assert_int_equal(f.i.flags & (I_LIN | I_LINSEG), I_LINSEG);
    stop(&f);
}

static void relative_operands_count_from_the_block(void **state)
{
    struct fixture f;

    start(&f, GUEST_LONG);
    assert_int_equal(decode(&f, "\x48\x8d\x05\x10\x00\x00\x00", 7), 7); /* lea rax, [rip+16] */
    assert_true(f.i.flags & I_RIPREL);
    assert_int_equal(f.i.disp, 16 + 7 + 16);
    assert_int_equal(decode(&f, "\xeb\xfe", 2), 2); /* jmp to itself */
    assert_int_equal(f.i.imm, 16);
    assert_true(f.i.flags & I_ENDS);
    stop(&f);
}

static void the_mode_decides_sizes(void **state)
{
    struct fixture f;

    start(&f, GUEST_REAL);
    assert_int_equal(decode(&f, "\xb8\x34\x12", 3), 3);
    assert_int_equal(f.i.imm, 0x1234);
    assert_int_equal(decode(&f, "\x8b\x40\x05", 3), 3); /* mov ax, [bx+si+5] */
    assert_int_equal(f.i.adsize, 2);
    assert_int_equal(f.i.base, RBX);
    assert_int_equal(f.i.index, RSI);
    stop(&f);
    start(&f, GUEST_PROT32);
    assert_int_equal(decode(&f, "\xb8\x78\x56\x34\x12", 5), 5);
    assert_int_equal(f.i.imm, 0x12345678);
    assert_int_equal(decode(&f, "\x40", 1), 1); /* inc eax, not a REX prefix */
    stop(&f);
}

static void too_few_bytes_ask_for_more(void **state)
{
    struct fixture f;

    start(&f, GUEST_LONG);
    for (unsigned n = 0; n < 10; n++)
        assert_int_equal(decode(&f, "\x48\xb8\x01\x02\x03\x04\x05\x06\x07\x08", n), 0);
    assert_int_equal(decode(&f, "\x48\xb8\x01\x02\x03\x04\x05\x06\x07\x08", 10), 10);
    stop(&f);
}

static void what_does_not_exist_is_undefined(void **state)
{
    static const struct {
        const char *bytes;
        unsigned n;
    } cases[] = {
        {"\x06", 1},                     /* push es in 64-bit mode */
        {"\xf0\x90", 2},                 /* lock nop */
        {"\xf0\x03\x03", 3},             /* lock add eax, [rbx] */
        {"\x8e\xc8", 2},                 /* mov cs, eax */
        {"\x0f\x20\xc8", 3},             /* mov rax, cr1 */
        {"\x0f\x0b", 2},                 /* ud2 */
        {"\x0f\x01\xc8", 3},             /* monitor: not offered */
        {"\x0f\x01\xd8", 3},             /* vmrun */
        {"\x62\xf1\x7c\x48\x28\xc1", 6}, /* AVX-512 */
    };
    struct fixture f;

    start(&f, GUEST_LONG);
    for (unsigned n = 0; n < sizeof(cases) / sizeof(cases[0]); n++) {
        assert_true(decode(&f, cases[n].bytes, cases[n].n) > 0);
        assert_int_equal(vector_of(&f), VEC_UD);
    }
    stop(&f);
}

static void what_is_too_long_is_a_protection_fault(void **state)
{
    struct fixture f;

    start(&f, GUEST_LONG);
    assert_true(decode(&f, "\x66\x66\x66\x66\x66\x66\x66\x66\x66\x66\x66\x66\x66\x66\x66", 15) > 0);
    assert_int_equal(vector_of(&f), VEC_GP);
    stop(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(operands_are_folded),
        cmocka_unit_test(relative_operands_count_from_the_block),
        cmocka_unit_test(the_mode_decides_sizes),
        cmocka_unit_test(too_few_bytes_ask_for_more),
        cmocka_unit_test(what_does_not_exist_is_undefined),
        cmocka_unit_test(what_is_too_long_is_a_protection_fault),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
