/* The ACPI tables: their sums, their addresses, and what ACPICA's compiler makes of them. */
#include "machine/acpi.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "machine/aml.h"
#include "machine/le.h"
#include "test/unit/t.h"

enum { AT = 0xe0000, CAP = 0x20000 };

static uint8_t buf[CAP];

static struct boot_machine machine(unsigned cpus, unsigned n)
{
    struct boot_machine m = {.cpus = cpus, .n_virtio = n};

    for (unsigned i = 0; i < n; i++)
        m.virtio[i] =
            (struct boot_virtio){BOARD_VIRTIO_BASE + i * 0x1000, 0x1000, board_slot_pin(i)};
    return m;
}

static uint8_t sum(const uint8_t *p, size_t n)
{
    uint8_t s = 0;

    while (n--)
        s = (uint8_t)(s + *p++);
    return s;
}

/* The table at guest address `gpa`, checked. */
static const uint8_t *table(uint64_t gpa, const char *sig, int total)
{
    assert_in_range(gpa, AT, AT + total - 36);
    const uint8_t *t = buf + (gpa - AT);
    assert_memory_equal(t, sig, 4);
    assert_true(le32(t + 4) <= AT + (uint64_t)total - gpa);
    assert_int_equal(sum(t, le32(t + 4)), 0);
    return t;
}

static void every_table_is_found_and_sums_to_zero(void **state)
{
    struct boot_machine m = machine(64, BOARD_VIRTIO_MAX);
    int n = acpi_build(&m, AT, buf, sizeof(buf), NULL);

    assert_true(n > 0);
    assert_memory_equal(buf, "RSD PTR ", 8);
    assert_int_equal(sum(buf, 20), 0);
    assert_int_equal(sum(buf, 36), 0);
    const uint8_t *xsdt = table(le64(buf + 24), "XSDT", n);
    assert_int_equal(le32(xsdt + 4), 36 + 16);
    const uint8_t *fadt = table(le64(xsdt + 36), "FACP", n);
    assert_int_equal(le32(fadt + 4), 276);
    assert_int_equal(le32(fadt + 112) >> 20 & 1, 1);
    assert_int_equal(le64(fadt + 120), 0x602); /* reset register's address */
    assert_int_equal(fadt[128], 1);
    assert_int_equal(le64(fadt + 248), 0x600);
    table(le64(fadt + 140), "DSDT", n);
    const uint8_t *madt = table(le64(xsdt + 44), "APIC", n);
    unsigned cpus = 0;
    for (const uint8_t *p = madt + 44; p < madt + le32(madt + 4); p += p[1])
        cpus += p[0] == 0 || p[0] == 9;
    assert_int_equal(cpus, 64);
}

static void what_does_not_fit_is_said(void **state)
{
    struct boot_machine m = machine(2, 3);
    int n = acpi_build(&m, AT, buf, sizeof(buf), NULL);

    assert_true(n > 0);
    for (int cap = 0; cap < n; cap++)
        assert_int_equal(acpi_build(&m, AT, buf, (size_t)cap, NULL), -E2BIG);
}

static void slots_have_pins_of_their_own(void **state)
{
    uint32_t seen = 1u << 0 | 1u << 1 | 1u << 2 | 1u << 4 | 1u << 8 | 1u << BOARD_VMGENID_PIN;

    for (unsigned i = 0; i < BOARD_VIRTIO_MAX; i++) {
        unsigned pin = board_slot_pin(i);

        assert_true(pin < 24);
        assert_int_equal(seen >> pin & 1, 0);
        seen |= 1u << pin;
    }
}

static char *slurp(const char *path)
{
    CLEANUP(file) FILE *f = fopen(path, "r");
    char *text = calloc(1, 1 << 18);

    assert_non_null(f);
    assert_non_null(text);
    assert_true(fread(text, 1, (1 << 18) - 1, f) > 0);
    return text;
}

/* Run a program in `dir`, its output to the file log; its exit status. */
static int run(const char *dir, const char *const argv[])
{
    int status = -1;
    pid_t pid = fork();

    if (pid == 0) {
        if (chdir(dir) == 0 && freopen("log", "a", stdout) && dup2(1, 2) == 2)
            execvp(argv[0], (char *const *)(uintptr_t)argv);
        _exit(127);
    }
    assert_true(pid > 0);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/* Disassembled by iasl, the DSDT says what we meant, and compiles again without a warning. */
static void the_dsdt_says_what_we_meant(void **state)
{
    struct boot_machine m = machine(2, 12);
    char dir[] = "/tmp/kiln-acpi-XXXXXX", path[64];
    int n = acpi_build(&m, AT, buf, sizeof(buf), NULL);

    assert_true(n > 0);
    const uint8_t *fadt = table(le64(table(le64(buf + 24), "XSDT", n) + 36), "FACP", n);
    const uint8_t *dsdt = table(le64(fadt + 140), "DSDT", n);
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof(path), "%s/dsdt.aml", dir);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    assert_int_equal(fwrite(dsdt, 1, le32(dsdt + 4), f), le32(dsdt + 4));
    fclose(f);
    int r = run(dir, (const char *const[]){"iasl", "-d", "dsdt.aml", NULL});
    if (r == 0)
        r = run(dir, (const char *const[]){"iasl", "-we", "dsdt.dsl", NULL});
    snprintf(path, sizeof(path), "%s/%s", dir, r == 0 ? "dsdt.dsl" : "log");
    CLEANUP(mem) char *text = r == 127 ? NULL : slurp(path);
    assert_int_equal(run(dir, (const char *const[]){"rm", "-r", dir, NULL}), 0);
    if (r == 127)
        skip(); /* iasl is not installed */
    if (r != 0)
        fail_msg("iasl: %s", text);
    static const char *const want[] = {
        "EisaId (\"PNP0501\")",
        "EisaId (\"PNP0B00\")",
        "\"LNRO0005\"",
        "0xD0000000",
        "Interrupt (ResourceConsumer, Edge, ActiveHigh, Exclusive",
        "Name (\\_S5",
        "Device (VR0B)",
        "\"VM_GEN_COUNTER\"",
        "0x000FE000",
        "\"ACPI0013\"",
        "Method (_EVT, 1, NotSerialized)",
        "Notify (VGEN, 0x80)",
    };
    for (size_t i = 0; i < ARRAY_LEN(want); i++) {
        if (!strstr(text, want[i]))
            fail_msg("the DSDT lacks %s", want[i]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_table_is_found_and_sums_to_zero),
        cmocka_unit_test(what_does_not_fit_is_said),
        cmocka_unit_test(slots_have_pins_of_their_own),
        cmocka_unit_test(the_dsdt_says_what_we_meant),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
