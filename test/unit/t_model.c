#include <errno.h>

#include "cpu/model.h"
#include "cpu/state.h"
#include <string.h>

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

static void a_guest_keeps_what_it_was_offered(void **state)
{
    struct cpu_model host, m;
    struct cpu_features f, got;
    struct err e = {0};

    assert_int_equal(cpu_model_init(&host, 1, 2500000, &e), 0);
    cpu_model_features(&host, &f);
    m = host;
    assert_int_equal(cpu_model_restrict(&m, &f, &e), 0);
    assert_memory_equal(&m, &host, sizeof(m));
    f.word[0] &= ~(1u << 28 | 1u << 25); /* a host without AVX and AES */
    assert_int_equal(cpu_model_restrict(&m, &f, &e), 0);
    assert_false(m.avx || cpu_model_has(&m, 1, 0, 2, 25));
    assert_false(cpu_model_has(&m, 0xd, 0, 0, 2));
    cpu_model_features(&m, &got);
    assert_memory_equal(&got, &f, sizeof(f));
}

static void what_a_host_lacks_is_named(void **state)
{
    struct cpu_model host, m;
    struct cpu_features f;
    struct err e = {0};

    assert_int_equal(cpu_model_init(&host, 1, 2500000, &e), 0);
    cpu_model_features(&host, &f);
    m = host;
    struct cpu_features less = f;
    less.word[0] &= ~(1u << 23); /* POPCNT, which every host of ours has */
    assert_int_equal(cpu_model_restrict(&m, &less, &e), 0);
    f.word[2] |= 1u << 16; /* AVX512F, which none is offered */
    assert_int_equal(cpu_model_restrict(&m, &f, &e), -ENOTSUP);
    assert_non_null(strstr(e.msg, "POPCNT"));
    assert_non_null(strstr(e.msg, "CPUID.7:EBX[16]"));
    memset(&f, 0xff, sizeof(f));
    assert_int_equal(cpu_model_restrict(&m, &f, &e), -ENOTSUP);
}

int main(void)
{
    const struct CMUnitTest t[] = {
        cmocka_unit_test(a_guest_keeps_what_it_was_offered),
        cmocka_unit_test(what_a_host_lacks_is_named),
        cmocka_unit_test(counts_out_of_range_are_refused),
        cmocka_unit_test(what_depends_on_the_cpu_is_filled_in),
        cmocka_unit_test(the_tsc_rate_can_be_computed),
    };

    return cmocka_run_group_tests(t, NULL, NULL);
}
