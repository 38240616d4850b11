/* Probing for KVM, with a host that the test plays. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "cpu/kvm/kvm.h"
#include "test/unit/t.h"

static struct {
    int open, version, measure;
    unsigned lacks; /* this capability */
    uint64_t ps;
} host;

static int fake_open(const char *path, int flags)
{
    assert_string_equal(path, "/dev/kvm");
    assert_true(flags & O_CLOEXEC);
    return host.open < 0 ? host.open : open("/dev/null", flags);
}

static int fake_version(int fd)
{
    return host.version;
}

static int fake_check(int fd, unsigned cap)
{
    return cap != host.lacks;
}

static int fake_measure(int fd, uint64_t *ps)
{
    *ps = host.ps;
    return host.measure;
}

static const struct kvmprobe_sys fake = {
    .open = fake_open, .check = fake_check, .version = fake_version, .measure = fake_measure};

static void good_host(void)
{
    memset(&host, 0, sizeof(host));
    host.version = KVM_API_VERSION;
    host.lacks = 1u << 30;
    host.ps = 600;
}

static void speed_decides_whether_it_is_hardware(void **state)
{
    struct err e = {0};
    bool hw = false;

    good_host();
    assert_int_equal(kvmprobe_with(&fake, &hw, &e), 0);
    assert_true(hw);
    host.ps = 1000000;
    assert_int_equal(kvmprobe_with(&fake, &hw, &e), 0);
    assert_false(hw);
}

static void each_refusal_tells_the_fix(void **state)
{
    static const struct {
        int r;
        const char *fix;
    } rows[] = {
        {-ENOENT, "load the module kvm_intel or kvm_amd"},
        {-EACCES, "permission denied: add yourself to group kvm"},
        {-EPERM, "add yourself to group kvm"},
        {-ENXIO, "load the module"},
        {-EMFILE, "Too many open files"},
    };

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct err e = {0};
        bool hw = false;

        good_host();
        host.open = rows[i].r;
        assert_int_equal(kvmprobe_with(&fake, &hw, &e), rows[i].r);
        assert_non_null(strstr(e.msg, "/dev/kvm: "));
        assert_non_null(strstr(e.msg, rows[i].fix));
    }
}

static void a_capability_that_lacks_is_named_with_the_kernel_that_has_it(void **state)
{
    struct err e = {0};
    bool hw = false;

    good_host();
    host.lacks = KVM_CAP_SPLIT_IRQCHIP;
    assert_int_equal(kvmprobe_with(&fake, &hw, &e), -ENOTSUP);
    assert_non_null(strstr(e.msg, "KVM_CAP_SPLIT_IRQCHIP"));
    assert_non_null(strstr(e.msg, "4.4"));
    good_host();
    host.version = 11;
    assert_int_equal(kvmprobe_with(&fake, &hw, &e), -ENOTSUP);
    assert_non_null(strstr(e.msg, "11"));
}

static void a_kvm_that_cannot_run_a_loop_is_refused(void **state)
{
    struct err e = {0};
    bool hw = false;

    good_host();
    host.measure = -EIO;
    assert_int_equal(kvmprobe_with(&fake, &hw, &e), -EIO);
    assert_non_null(strstr(e.msg, "loop"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(speed_decides_whether_it_is_hardware),
        cmocka_unit_test(each_refusal_tells_the_fix),
        cmocka_unit_test(a_capability_that_lacks_is_named_with_the_kernel_that_has_it),
        cmocka_unit_test(a_kvm_that_cannot_run_a_loop_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
