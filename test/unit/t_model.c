#include <errno.h>

#include "cpu/model.h"
#include "cpu/state.h"
#include "test/unit/t.h"

static void counts_out_of_range_are_refused(void **state)
{
    struct cpu_model m;
    struct err e;

    assert_int_equal(cpu_model_init(&m, 0, 2000000, &e), -EINVAL);
    assert_int_equal(cpu_model_init(&m, CPUS_MAX + 1, 2000000, &e), -EINVAL);
    assert_int_equal(cpu_model_init(&m, CPUS_MAX, 2000000, &e), 0);
}

static void what_depends_on_the_cpu_is_filled_in(void **state)
{
    struct cpu_model m;
    struct err e;
    uint32_t r[4];

    assert_int_equal(cpu_model_init(&m, 6, 2000000, &e), 0);
    cpu_model_cpuid(&m, 5, 0, 1, 1, 0, r);
    assert_int_equal(r[1] >> 24, 5);
    assert_int_equal(r[1] >> 16 & 0xff, 6);
    assert_false(r[2] & 1u << 27);
    cpu_model_cpuid(&m, 5, CR4_OSXSAVE, 1, 1, 0, r);
    assert_true(r[2] & 1u << 27);
    cpu_model_cpuid(&m, 5, 0, 3, 0xd, 0, r);
    assert_int_equal(r[1], XSAVE_YMMH);
    cpu_model_cpuid(&m, 5, 0, XCR0_ALL, 0xd, 0, r);
    assert_int_equal(r[1], XSAVE_BYTES);
    cpu_model_cpuid(&m, 5, 0, 1, 0xb, 1, r);
    assert_int_equal(r[0], 3); /* 8 ids cover 6 CPUs */
    assert_int_equal(r[1], 6);
    assert_int_equal(r[3], 5);
    cpu_model_cpuid(&m, 5, 0, 1, 0x40000000, 0, r);
    assert_memory_equal(&r[1], "KVMKVMKVM\0\0\0", 12);
    cpu_model_cpuid(&m, 5, 0, 1, 0x1234567, 0, r);
    assert_int_equal(r[0] | r[1] | r[2] | r[3], 0);
    assert_true(cpu_model_has(&m, 1, 0, 2, 21));  /* x2APIC */
    assert_false(cpu_model_has(&m, 7, 0, 1, 16)); /* no AVX-512 */
}

/* Linux multiplies the crystal in kHz by EBX in 32 bits; the rate must come out within 2 ppm. */
static void the_tsc_rate_can_be_computed(void **state)
{
    static const uint64_t khz[] = {1000000, 1893500, 2000000, 2596100, 2999999, 3693100, 4200000};

    for (unsigned i = 0; i < sizeof(khz) / sizeof(khz[0]); i++) {
        struct cpu_model m;
        struct err e;
        uint32_t r[4];

        assert_int_equal(cpu_model_init(&m, 1, khz[i], &e), 0);
        cpu_model_cpuid(&m, 0, 0, 1, 0x15, 0, r);
        uint32_t product = r[2] / 1000 * r[1];
        assert_int_equal(product / r[1], r[2] / 1000);
        uint64_t got = (uint64_t)r[2] * r[1] / r[0] / 1000;
        uint64_t diff = got > khz[i] ? got - khz[i] : khz[i] - got;
        assert_true(diff * 500000 <= khz[i]);
    }
}

int main(void)
{
    const struct CMUnitTest t[] = {
        cmocka_unit_test(counts_out_of_range_are_refused),
        cmocka_unit_test(what_depends_on_the_cpu_is_filled_in),
        cmocka_unit_test(the_tsc_rate_can_be_computed),
    };

    return cmocka_run_group_tests(t, NULL, NULL);
}
