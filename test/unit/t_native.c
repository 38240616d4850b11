/* Vector, x87 and state instructions: what a process of the host cannot show the diff suite. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "cpu/interp/interp.h"
#include "test/unit/guestcode.h"

enum { FX_XMM0 = 160, MXCSR_AT = 24 };

/* Long mode, SSE and AVX on. */
static void start(struct guest *g)
{
    guestcode_new(g, GUEST_LONG);
    g->s.cr4 |= CR4_OSXSAVE;
    g->s.xcr0 = XCR0_ALL;
}

static uint64_t data64(struct guest *g, unsigned at)
{
    uint64_t x = 0;

    assert_int_equal(mem_read(g->mem, GUEST_DATA + at, &x, 8), 0);
    return x;
}

static void expect_fault(struct guest *g, unsigned vector)
{
    assert_int_equal(guestcode_run(g), SOFT_FAULT);
    assert_int_equal(g->v->exc.vector, vector);
    guestcode_free(g);
}

GUEST(sse, ".code64; addps %xmm1, %xmm0; hlt")
GUEST(avx, ".code64; vaddps %ymm1, %ymm2, %ymm0; hlt")
GUEST(x87, ".code64; fld1; hlt")
GUEST(mmx, ".code64; paddb %mm1, %mm0; hlt")
GUEST(wait, ".code64; fwait; hlt")

static void control_registers_bar_vector_instructions(void **state)
{
    struct guest g;

    start(&g);
    g.s.cr0 |= CR0_TS;
    GUEST_LOAD(&g, sse);
    expect_fault(&g, VEC_NM);
    start(&g);
    g.s.cr0 |= CR0_EM;
    GUEST_LOAD(&g, sse);
    expect_fault(&g, VEC_UD);
    start(&g);
    g.s.cr4 &= ~(uint64_t)CR4_OSFXSR;
    GUEST_LOAD(&g, sse);
    expect_fault(&g, VEC_UD);
    start(&g);
    g.s.xcr0 = XCR0_X87 | XCR0_SSE;
    GUEST_LOAD(&g, avx);
    expect_fault(&g, VEC_UD);
    start(&g);
    g.s.cr4 &= ~(uint64_t)CR4_OSXSAVE;
    GUEST_LOAD(&g, avx);
    expect_fault(&g, VEC_UD);
}

static void control_registers_bar_x87_and_mmx(void **state)
{
    struct guest g;

    start(&g);
    g.s.cr0 |= CR0_EM;
    GUEST_LOAD(&g, x87);
    expect_fault(&g, VEC_NM);
    start(&g);
    g.s.cr0 |= CR0_EM;
    GUEST_LOAD(&g, mmx);
    expect_fault(&g, VEC_UD);
    start(&g);
    g.s.cr0 |= CR0_TS | CR0_MP;
    GUEST_LOAD(&g, wait);
    expect_fault(&g, VEC_NM);
    start(&g);
    g.s.cr0 = (g.s.cr0 | CR0_TS) & ~(uint64_t)CR0_MP;
    GUEST_DO(&g, wait);
    guestcode_free(&g);
}

/* 1/0 with ZM clear: nothing happens until the next waiting instruction. */
GUEST(fdiv0,
      ".code64; fninit; pushq $0x37b; fldcw (%rsp); fld1; fldz; fdivrp; fnstsw %ax; fwait; hlt")

static void an_unmasked_x87_exception_waits_for_the_next_instruction(void **state)
{
    struct guest g;

    start(&g);
    GUEST_LOAD(&g, fdiv0);
    assert_int_equal(guestcode_run(&g), SOFT_FAULT);
    assert_int_equal(g.v->exc.vector, VEC_MF);
    assert_int_equal(g.v->s.gpr[RAX] & 0x84, 0x84);
    guestcode_free(&g);
}

GUEST(divps0, ".code64; pushq $0x1d80; ldmxcsr (%rsp); movl $1, %eax; cvtsi2sd %eax, %xmm0\n"
              "xorpd %xmm1, %xmm1; divsd %xmm1, %xmm0; hlt")

static void an_unmasked_sse_exception_changes_only_the_flags(void **state)
{
    struct guest g;
    uint64_t x;

    start(&g);
    GUEST_LOAD(&g, divps0);
    assert_int_equal(guestcode_run(&g), SOFT_FAULT);
    assert_int_equal(g.v->exc.vector, VEC_XM);
    memcpy(&x, g.v->s.xsave + FX_XMM0, 8);
    assert_true(x == 0x3ff0000000000000);
    assert_int_equal(g.v->s.xsave[MXCSR_AT], 0x84);
    guestcode_free(&g);
    start(&g);
    g.s.cr4 &= ~(uint64_t)CR4_OSXMMEXCPT;
    GUEST_LOAD(&g, divps0);
    expect_fault(&g, VEC_UD);
}

GUEST(bad_mxcsr, ".code64; pushq $0x21f80; ldmxcsr (%rsp); hlt")
GUEST(unaligned,
      ".code64; movl $0x400001, %eax; movups (%rax), %xmm0; vaddps (%rax), %xmm0, %xmm0\n"
      "movaps (%rax), %xmm0; hlt")

static void reserved_bits_and_misaligned_operands_are_general_protection(void **state)
{
    struct guest g;

    start(&g);
    GUEST_LOAD(&g, bad_mxcsr);
    expect_fault(&g, VEC_GP);
    start(&g);
    GUEST_LOAD(&g, unaligned);
    assert_int_equal(guestcode_run(&g), SOFT_FAULT);
    assert_int_equal(g.v->exc.vector, VEC_GP);
    assert_int_equal(g.v->s.rip, GUEST_CODE + 12);
    guestcode_free(&g);
}

GUEST(not_offered, ".code64; .byte 0x62, 0xf1, 0x7c, 0x48, 0x58, 0xc1; hlt")
GUEST(sse4a, ".code64; .byte 0xf2, 0x0f, 0x79, 0xc1; hlt")

static void what_cpuid_does_not_offer_is_undefined(void **state)
{
    struct guest g;

    start(&g);
    GUEST_LOAD(&g, not_offered); /* EVEX addps %zmm */
    expect_fault(&g, VEC_UD);
    start(&g);
    GUEST_LOAD(&g, sse4a); /* insertq */
    expect_fault(&g, VEC_UD);
}

GUEST(xsaves, ".code64; movl $0x400000, %ebx; movl $7, %eax; xorl %edx, %edx\n"
              "fld1; pcmpeqd %xmm3, %xmm3; vpcmpeqd %ymm4, %ymm4, %ymm4\n"
              "xsave (%rbx); movq 0x200(%rbx), %rsi\n"
              "fninit; vzeroall; xrstor (%rbx); movd %xmm3, %ecx; vextracti128 $1, %ymm4, %xmm5\n"
              "movd %xmm5, %edi; fstpl 0x1000(%rbx)\n"
              "movq $0, 0x200(%rbx); xrstor (%rbx); movq %xmm3, %r8; fnstsw %ax; hlt")

static void xrstor_brings_back_what_xsave_wrote(void **state)
{
    struct guest g;

    start(&g);
    GUEST_DO(&g, xsaves);
    assert_int_equal(g.v->s.gpr[RSI], 7);
    assert_int_equal(g.v->s.gpr[RCX], 0xffffffff);
    assert_int_equal(g.v->s.gpr[RDI], 0xffffffff);
    assert_true(data64(&g, 0x1000) == 0x3ff0000000000000);
    assert_int_equal(g.v->s.gpr[R8], 0);
    assert_int_equal(g.v->s.gpr[RAX] & 0xffff, 0);
    guestcode_free(&g);
}

GUEST(xrstor_bad, ".code64; movl $0x400000, %ebx; movl $7, %eax; xorl %edx, %edx; xsave (%rbx)\n"
                  "movb $8, 0x200(%rbx); xrstor (%rbx); hlt")
GUEST(xrstor_compact,
      ".code64; movl $0x400000, %ebx; movl $7, %eax; xorl %edx, %edx; xsave (%rbx)\n"
      "movb $0x80, 0x20f(%rbx); xrstor (%rbx); hlt")

static void xrstor_refuses_headers_it_does_not_know(void **state)
{
    struct guest g;

    start(&g);
    GUEST_LOAD(&g, xrstor_bad);
    expect_fault(&g, VEC_GP);
    start(&g);
    GUEST_LOAD(&g, xrstor_compact);
    expect_fault(&g, VEC_GP);
}

GUEST(fxsave,
      ".code64; movl $0x400000, %ebx; fninit; fldpi; pcmpeqd %xmm15, %xmm15; fxsave64 (%rbx)\n"
      "fninit; pxor %xmm15, %xmm15; fxrstor64 (%rbx); fstpl 0x1000(%rbx)\n"
      "movq %xmm15, 0x1008(%rbx); movl 0x1c(%rbx), %ecx; hlt")

static void fxrstor_brings_back_what_fxsave_wrote(void **state)
{
    struct guest g;

    start(&g);
    GUEST_DO(&g, fxsave);
    assert_true(data64(&g, 0x1000) == 0x400921fb54442d18);
    assert_true(data64(&g, 0x1008) == UINT64_MAX);
    assert_int_equal(g.v->s.gpr[RCX], 0xffff); /* MXCSR_MASK */
    guestcode_free(&g);
}

GUEST(fenv, ".code64; movl $0x400000, %ebx; fninit; fld1; fldz; fnstenv (%rbx); hlt")

static void fnstenv_writes_the_protected_mode_form(void **state)
{
    struct guest g;

    start(&g);
    GUEST_DO(&g, fenv);
    assert_int_equal(data64(&g, 0) & 0xffff, 0x37f);
    assert_int_equal(data64(&g, 4) & 0xffff, 6 << 11);
    assert_int_equal(data64(&g, 8) & 0xffff, 0x1fff);              /* 7: valid, 6: zero */
    assert_int_equal(data64(&g, 12) & 0xffffffff, GUEST_CODE + 9); /* of FLDZ */
    guestcode_free(&g);
}

/* A state of another engine may say that a component is in its initial state and hold rubbish. */
static void components_missing_from_the_header_are_initial(void **state)
{
    struct guest g;
    uint64_t x;

    start(&g);
    memset(g.s.xsave + FX_XMM0, 0x55, 256);
    g.s.xsave[XSAVE_HDR] = XCR0_X87;
    GUEST_DO(&g, sse);
    memcpy(&x, g.v->s.xsave + FX_XMM0, 8);
    assert_true(x == 0);
    guestcode_free(&g);
}

/* A store that faults in its second page changes neither memory nor the stack. */
GUEST(fstp_fault, ".code64; fninit; fld1; movl $0x800ffc, %eax; fstpl (%rax); hlt")

static void a_store_that_faults_pops_nothing(void **state)
{
    struct guest g;
    uint32_t half;

    start(&g);
    guestcode_pte(&g, 1, 0);
    GUEST_LOAD(&g, fstp_fault);
    assert_int_equal(guestcode_run(&g), SOFT_FAULT);
    assert_int_equal(g.v->exc.vector, VEC_PF);
    assert_int_equal(g.v->exc.cr2, 0x801000);
    assert_int_equal(g.v->s.xsave[3] >> 3 & 7, 7);
    assert_int_equal(mem_read(g.mem, 0x800ffc, &half, 4), 0);
    assert_int_equal(half, 0);
    guestcode_free(&g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(control_registers_bar_vector_instructions),
        cmocka_unit_test(control_registers_bar_x87_and_mmx),
        cmocka_unit_test(an_unmasked_x87_exception_waits_for_the_next_instruction),
        cmocka_unit_test(an_unmasked_sse_exception_changes_only_the_flags),
        cmocka_unit_test(reserved_bits_and_misaligned_operands_are_general_protection),
        cmocka_unit_test(what_cpuid_does_not_offer_is_undefined),
        cmocka_unit_test(xrstor_brings_back_what_xsave_wrote),
        cmocka_unit_test(xrstor_refuses_headers_it_does_not_know),
        cmocka_unit_test(fxrstor_brings_back_what_fxsave_wrote),
        cmocka_unit_test(fnstenv_writes_the_protected_mode_form),
        cmocka_unit_test(components_missing_from_the_header_are_initial),
        cmocka_unit_test(a_store_that_faults_pops_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
