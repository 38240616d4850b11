/* Guest programs of a few instructions on the interpreter. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "cpu/interp/interp.h"
#include "test/unit/guestcode.h"

static void start(struct guest *g, enum guest_mode mode)
{
    guestcode_new(g, mode);
}

#define RG(g, r) ((g)->v->s.gpr[r])

GUEST(sum, ".code64\n"
           "xorl %eax, %eax; movl $100, %ecx\n"
           "1: addq %rcx, %rax; decl %ecx; jnz 1b\n"
           "hlt")

static void a_loop_counts(void **state)
{
    struct guest g;

    start(&g, GUEST_LONG);
    GUEST_DO(&g, sum);
    assert_int_equal(RG(&g, RAX), 5050);
    assert_int_equal(RG(&g, RCX), 0);
    assert_true(g.v->s.rflags & FL_ZF);
    assert_int_equal(g.v->insns, 2 + 300 + 1);
    guestcode_free(&g);
}

GUEST(memory, ".code64\n"
              "movl $0x400000, %ebx\n"
              "movq $-2, (%rbx); addl $5, 4(%rbx); movb $0x7f, 8(%rbx); incb 8(%rbx)\n"
              "movslq (%rbx), %rax; movzbl 8(%rbx), %ecx; movl $3, %esi\n"
              "lea 7(%rbx,%rsi,4), %rdx; movb %ch, -7(%rbx,%rsi,8)\n"
              "movq data(%rip), %rdi; jmp 1f\n"
              "data: .quad 0x1122334455667788\n"
              "1: xchgb %ah, %al; hlt")

static void memory_operands_of_all_shapes_work(void **state)
{
    struct guest g;
    uint64_t at;

    start(&g, GUEST_LONG);
    GUEST_DO(&g, memory);
    assert_int_equal(mem_read(g.mem, GUEST_DATA, &at, 8), 0);
    assert_int_equal(at, 0x00000004fffffffe);
    assert_int_equal(RG(&g, RAX), 0xfffffffffffffeff);
    assert_int_equal(RG(&g, RCX), 0x80);
    assert_int_equal(RG(&g, RDX), 0x400000 + 7 + 12);
    assert_int_equal(RG(&g, RDI), 0x1122334455667788);
    guestcode_free(&g);
}

GUEST(convert, ".code64\n"
               "movq %cr4, %rax; orl $0x600, %eax; movq %rax, %cr4\n"
               "movl $0x400000, %ebx; movabsq $0x400d99999999999a, %rax; movq %rax, (%rbx)\n"
               "movl $0x406ccccd, 8(%rbx)\n"
               "cvttsd2si (%rbx), %rax; cvtsd2si (%rbx), %ecx; cvttss2si 8(%rbx), %rdx\n"
               "cvtss2si 8(%rbx), %esi; hlt")

static void conversions_from_memory_name_no_vector_register(void **state)
{
    struct guest g;

    start(&g, GUEST_LONG);
    GUEST_DO(&g, convert);
    assert_int_equal(RG(&g, RAX), 3);
    assert_int_equal(RG(&g, RCX), 4);
    assert_int_equal(RG(&g, RDX), 3);
    assert_int_equal(RG(&g, RSI), 4);
    guestcode_free(&g);
}

GUEST(calls, ".code64\n"
             "call 1f; movl $2, %ebx; push $-3; pop %rcx; pushfq; popq %rdx\n"
             "lea 3f(%rip), %rax; call *%rax; jmp 4f\n"
             "1: movl $1, %edi; ret\n"
             "3: movl $9, %esi; ret $0\n"
             "4: enter $32, $0; leave; hlt")

static void calls_return_and_the_stack_balances(void **state)
{
    struct guest g;

    start(&g, GUEST_LONG);
    GUEST_DO(&g, calls);
    assert_int_equal(RG(&g, RDI), 1);
    assert_int_equal(RG(&g, RSI), 9);
    assert_int_equal(RG(&g, RBX), 2);
    assert_int_equal(RG(&g, RCX), -3);
    assert_int_equal(RG(&g, RSP), GUEST_STACK);
    guestcode_free(&g);
}

GUEST(strings, ".code64\n"
               "cld; movl $0x400000, %edi; movl $5000, %ecx; movb $0x5a, %al; rep stosb\n"
               "movl $0x400000, %esi; movl $0x403000, %edi; movl $625, %ecx; rep movsq\n"
               "movb $0x11, 0x403777\n"
               "movl $0x403000, %edi; movl $5000, %ecx; repe scasb; movl %ecx, %ebx\n"
               "movl $0x400000, %esi; movl $0x403000, %edi; movl $5000, %ecx; repe cmpsb\n"
               "hlt")

static void repeated_strings_stop_where_they_should(void **state)
{
    struct guest g;

    start(&g, GUEST_LONG);
    GUEST_DO(&g, strings);
    assert_int_equal(RG(&g, RBX), 5000 - 0x777 - 1);
    assert_int_equal(RG(&g, RCX), 5000 - 0x777 - 1);
    assert_int_equal(RG(&g, RDI), 0x403778);
    assert_int_equal(RG(&g, RSI), 0x400778);
    assert_false(g.v->s.rflags & FL_ZF);
    guestcode_free(&g);
}

GUEST(rep_fault, ".code64\n"
                 "movl $0x800ff8, %edi; movl $100, %ecx; movb $1, %al; rep stosb; hlt")

static void a_repeated_string_faults_with_exact_registers(void **state)
{
    struct guest g;

    start(&g, GUEST_LONG);
    guestcode_pte(&g, 1, 0);
    GUEST_LOAD(&g, rep_fault);
    assert_int_equal(guestcode_run(&g), SOFT_FAULT);
    assert_int_equal(g.v->exc.vector, VEC_PF);
    assert_int_equal(g.v->exc.cr2, 0x801000);
    assert_int_equal(g.v->exc.error, 2);
    assert_int_equal(RG(&g, RCX), 92);
    assert_int_equal(RG(&g, RDI), 0x801000);
    assert_int_equal(g.v->s.rip, GUEST_CODE + 12);
    guestcode_free(&g);
}

GUEST(fault_rip, ".code64\n"
                 "movl $1, %eax; addl $1, %eax; movl $0x801ffe, %ebx; addl $1, (%rbx); hlt")

static void a_fault_changes_nothing(void **state)
{
    struct guest g;
    uint16_t half;

    start(&g, GUEST_LONG);
    guestcode_pte(&g, 2, 0);
    GUEST_LOAD(&g, fault_rip);
    uint64_t before = 0;
    assert_int_equal(guestcode_run(&g), SOFT_FAULT);
    assert_int_equal(g.v->exc.vector, VEC_PF);
    assert_int_equal(g.v->exc.cr2, 0x802000);
    assert_int_equal(g.v->s.rip, GUEST_CODE + 13);
    assert_int_equal(RG(&g, RAX), 2);
    assert_int_equal(mem_read(g.mem, 0x801ffe, &half, 2), 0);
    assert_int_equal(half, before);
    guestcode_free(&g);
}

/* The loop rewrites the immediate of the instruction right behind the store: the next run of that
 * very instruction must see it. */
GUEST(self_modifying, ".code64\n"
                      "xorl %eax, %eax; xorl %edx, %edx; movl $10, %ecx\n"
                      "1: incl %eax; movl %eax, 2f+1(%rip)\n"
                      "2: movl $0x55, %ebx; addl %ebx, %edx; decl %ecx; jnz 1b; hlt")

static void code_that_changes_itself_is_noticed_at_once(void **state)
{
    struct guest g;

    start(&g, GUEST_LONG);
    GUEST_DO(&g, self_modifying);
    assert_int_equal(RG(&g, RDX), 55);
    guestcode_free(&g);
}

/* The same code at two linear addresses: a block must not remember the first. */
GUEST(alias, ".code64\nlea 0(%rip), %rax; call 1f; 1: popq %rcx; hlt")

static void a_block_does_not_depend_on_its_linear_address(void **state)
{
    struct guest g;

    start(&g, GUEST_LONG);
    GUEST_DO(&g, alias);
    assert_int_equal(RG(&g, RAX), GUEST_CODE + 7);
    guestcode_pte(&g, 5, GUEST_CODE | 7);
    g.s.rip = GUEST_SMALL + 5 * 4096;
    struct err e;
    assert_int_equal(soft_set(g.v, &g.s, &e), 0);
    assert_int_equal(guestcode_run(&g), SOFT_BREAK);
    assert_int_equal(RG(&g, RAX), GUEST_SMALL + 5 * 4096 + 7);
    assert_int_equal(RG(&g, RCX), GUEST_SMALL + 5 * 4096 + 12);
    guestcode_free(&g);
}

GUEST(straddle, ".code64\nmovl $0x12345678, %eax; hlt")

static void an_instruction_across_pages_follows_both(void **state)
{
    struct guest g;
    struct err e;

    start(&g, GUEST_LONG);
    g.s.rip = GUEST_SMALL + 0xffe;
    GUEST_DO(&g, straddle);
    assert_int_equal(RG(&g, RAX), 0x12345678);
    /* Another frame behind the second page. */
    uint8_t tail[4] = {0x99, 0x99, 0x99, 0xf4};
    assert_int_equal(mem_write(g.mem, GUEST_SMALL + 9 * 4096, tail, 4), 0);
    guestcode_pte(&g, 1, (GUEST_SMALL + 9 * 4096) | 7);
    assert_int_equal(soft_set(g.v, &g.s, &e), 0);
    assert_int_equal(guestcode_run(&g), SOFT_BREAK);
    assert_int_equal(RG(&g, RAX), 0x99999978);
    /* And none. */
    guestcode_pte(&g, 1, 0);
    assert_int_equal(soft_set(g.v, &g.s, &e), 0);
    assert_int_equal(guestcode_run(&g), SOFT_FAULT);
    assert_int_equal(g.v->exc.vector, VEC_PF);
    assert_int_equal(g.v->exc.cr2, GUEST_SMALL + 0x1000);
    assert_int_equal(g.v->s.rip, GUEST_SMALL + 0xffe);
    guestcode_free(&g);
}

GUEST(real, ".code16\n"
            "movw $0x1234, %ax; movw %ax, %ds; movw $0x10, %bx; movl $0xdeadbeef, (%bx)\n"
            "movw $0x1000, %cx; movw %cx, %es; movl %es:0x2350, %edx\n"
            "pushw %ax; popw %si; loop 1f; 1: aam; hlt")

static void real_mode_has_segments(void **state)
{
    struct guest g;

    start(&g, GUEST_REAL);
    GUEST_DO(&g, real);
    assert_int_equal(RG(&g, RDX), 0xdeadbeef);
    assert_int_equal(RG(&g, RSI) & 0xffff, 0x1234);
    assert_int_equal(RG(&g, RCX) & 0xffff, 0x0fff);
    assert_int_equal(RG(&g, RAX) & 0xffff, 0x0502);
    guestcode_free(&g);
}

GUEST(limit, ".code16\nmovw $0xffff, %bx; movw (%bx), %ax; hlt")

static void a_segment_limit_is_kept(void **state)
{
    struct guest g;

    start(&g, GUEST_REAL);
    GUEST_LOAD(&g, limit);
    assert_int_equal(guestcode_run(&g), SOFT_FAULT);
    assert_int_equal(g.v->exc.vector, VEC_GP);
    assert_int_equal(g.v->s.rip, 0x7c03);
    guestcode_free(&g);
}

GUEST(prot32,
      ".code32\n"
      "movl $0xfffffff0, %eax; addl $0x20, %eax; pushal; movl $7, %ebx; movl %esp, %ebp\n"
      "popal; daa; incl %eax; movl $0x400000, %esi; movw $0xabcd, 2(%esi); movswl 2(%esi), %edx\n"
      "movl $0, 8(%esi); movl $10, 12(%esi); boundl %eax, 8(%esi)")

static void protected_mode_runs_32_bit_code(void **state)
{
    struct guest g;

    start(&g, GUEST_PROT32);
    GUEST_LOAD(&g, prot32);
    assert_int_equal(guestcode_run(&g), SOFT_FAULT);
    assert_int_equal(g.v->exc.vector, VEC_BR);
    assert_int_equal(RG(&g, RAX), 0x71); /* 0x10 with a carry: DAA adds 0x60; + 1 */
    assert_int_equal(RG(&g, RDX), 0xffffabcd);
    assert_int_equal(RG(&g, RSP), GUEST_STACK);
    guestcode_free(&g);
}

GUEST(
    locked,
    ".code64\n"
    "movl $0x400000, %ebx; movq $5, (%rbx); movl $3, %eax; lock xaddl %eax, (%rbx)\n"
    "movl $8, %ecx; xchgl %ecx, (%rbx); movl $8, %eax; movl $77, %edx; lock cmpxchgl %edx, (%rbx)\n"
    "setz %sil; lock incq (%rbx); lock btsl $40, (%rbx); lock negb (%rbx); lock orb $1, 16(%rbx)\n"
    "lock addl $1, 0x8fe(%rbx); lock incl 0x7fe(%rbx); hlt")

static void locked_instructions_change_memory(void **state)
{
    struct guest g;
    uint64_t at;

    start(&g, GUEST_LONG);
    GUEST_DO(&g, locked);
    assert_int_equal(RG(&g, RCX), 8);
    assert_int_equal(RG(&g, RSI) & 1, 1);
    assert_int_equal(mem_read(g.mem, GUEST_DATA, &at, 8), 0);
    assert_int_equal(at, 0x1b2); /* 77 + 1 = 0x4e, bit 40 & 31 = 8 set: 0x14e, low byte negated */
    guestcode_free(&g);
}

GUEST(undefined_lock, ".code64\n.byte 0xf0, 0x01, 0xc0")
GUEST(too_long, ".code64\n.byte "
                "0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x90")
GUEST(noncanonical, ".code64\nmovabs $0x8000000000000000, %rax; jmp *%rax")
GUEST(stack_canonical, ".code64\nmovabs $0x8000000000000000, %rsp; push %rax")
GUEST(divide_min, ".code64\nmovl $0x80000000, %edx; xorl %eax, %eax; movl $-1, %ecx; idivl %ecx")
GUEST(divide_min64,
      ".code64\nmovl $1, %edx; shlq $63, %rdx; xorl %eax, %eax; movq $-1, %rcx; idivq %rcx")
GUEST(divide, ".code64\nmovl $1, %edx; movl $1, %ecx; divl %ecx")

static void illegal_code_faults(void **state)
{
    static const struct {
        const uint8_t *code, *end;
        unsigned vector, rip;
    } cases[] = {
        {guest_undefined_lock, guest_undefined_lock_end, VEC_UD, 0},
        {guest_too_long, guest_too_long_end, VEC_GP, 0},
        {guest_noncanonical, guest_noncanonical_end, VEC_GP, 10},
        {guest_stack_canonical, guest_stack_canonical_end, VEC_SS, 10},
        {guest_divide_min, guest_divide_min_end, VEC_DE, 12},
        {guest_divide_min64, guest_divide_min64_end, VEC_DE, 18},
        {guest_divide, guest_divide_end, VEC_DE, 10},
    };

    for (unsigned n = 0; n < sizeof(cases) / sizeof(cases[0]); n++) {
        struct guest g;

        start(&g, GUEST_LONG);
        guestcode_load(&g, cases[n].code, cases[n].end);
        assert_int_equal(guestcode_run(&g), SOFT_FAULT);
        assert_int_equal(g.v->exc.vector, cases[n].vector);
        assert_int_equal(g.v->s.rip, GUEST_CODE + cases[n].rip);
        guestcode_free(&g);
    }
}

GUEST(
    bits,
    ".code64\n"
    "movl $0x00f0, %eax; bsfl %eax, %ebx; bsrl %eax, %ecx; popcntl %eax, %edx\n"
    "btl $5, %eax; setc %sil; movl $0xf0f0f0f0, %edi; shldl $8, %eax, %edi\n"
    "movl $0x12345678, %r8d; bswapl %r8d; rorl $4, %r8d\n"
    "movabs $0x123456789abcdef0, %rax; movq $10, %r9; mulq %r9; movq %rdx, %r10; movq %rax, %r11\n"
    "divq %r9; movl $-1, %r12d; crc32b %al, %r12d; hlt")

static void bits_are_found_and_moved(void **state)
{
    struct guest g;

    start(&g, GUEST_LONG);
    GUEST_DO(&g, bits);
    assert_int_equal(RG(&g, RBX), 4);
    assert_int_equal(RG(&g, RCX), 7);
    assert_int_equal(RG(&g, RSI) & 0xff, 1);
    assert_int_equal(RG(&g, RDI), 0xf0f0f000);
    assert_int_equal(RG(&g, R8), 0x27856341);
    assert_int_equal(RG(&g, R11), 0x123456789abcdef0ull * 10);
    assert_int_equal(RG(&g, RAX), 0x123456789abcdef0);
    guestcode_free(&g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_loop_counts),
        cmocka_unit_test(memory_operands_of_all_shapes_work),
        cmocka_unit_test(conversions_from_memory_name_no_vector_register),
        cmocka_unit_test(calls_return_and_the_stack_balances),
        cmocka_unit_test(repeated_strings_stop_where_they_should),
        cmocka_unit_test(a_repeated_string_faults_with_exact_registers),
        cmocka_unit_test(a_fault_changes_nothing),
        cmocka_unit_test(code_that_changes_itself_is_noticed_at_once),
        cmocka_unit_test(a_block_does_not_depend_on_its_linear_address),
        cmocka_unit_test(an_instruction_across_pages_follows_both),
        cmocka_unit_test(real_mode_has_segments),
        cmocka_unit_test(a_segment_limit_is_kept),
        cmocka_unit_test(protected_mode_runs_32_bit_code),
        cmocka_unit_test(locked_instructions_change_memory),
        cmocka_unit_test(illegal_code_faults),
        cmocka_unit_test(bits_are_found_and_moved),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
