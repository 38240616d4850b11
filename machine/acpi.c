#include "machine/acpi.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "dev/acpipm.h"
#include "dev/ioapic.h"
#include "dev/rtc.h"
#include "machine/aml.h"

enum {
    OFF_LENGTH = 4,
    OFF_CHECKSUM = 9,
    RSDP_BYTES = 36,
    RSDP_V1_BYTES = 20,
    RSDP_OFF_CHECKSUM = 8,
    RSDP_OFF_XCHECKSUM = 32,
    TABLE_ALIGN = 16,
};

enum { /* FADT, 5.2.9 */
       FADT_BYTES = 276,
       FADT_IAPC_LEGACY_DEVICES = 1 << 0,
       FADT_IAPC_NO_VGA = 1 << 2,
       FADT_WBINVD = 1 << 0,
       FADT_PWR_BUTTON = 1 << 4, /* not fixed hardware */
       FADT_SLP_BUTTON = 1 << 5,
       FADT_RESET_REG_SUP = 1 << 10,
       FADT_HW_REDUCED = 1 << 20,
       GAS_IO = 1,
       GAS_BYTE = 1, /* access size */
};

enum { /* MADT, 5.2.12 */
       MADT_LAPIC = 0,
       MADT_IOAPIC = 1,
       MADT_OVERRIDE = 2,
       MADT_LAPIC_NMI = 4,
       MADT_X2APIC = 9,
       MADT_ENABLED = 1,
       MADT_PCAT_COMPAT = 1, /* there are 8259s too */
       XAPIC_IDS = 255,
       ALL_CPUS = 0xff,
       LAPIC_BASE = 0xfee00000,
       IRQ_PIT = 0,
       GSI_PIT = 2,
};

enum { COM1 = 0x3f8, IRQ_COM1 = 4, IRQ_RTC = 8 };

static uint8_t checksum(const uint8_t *p, size_t n)
{
    uint8_t sum = 0;

    for (size_t i = 0; i < n; i++)
        sum = (uint8_t)(sum + p[i]);
    return (uint8_t)-sum;
}

static void zeros(struct aml *a, size_t n)
{
    while (n--)
        aml_u8(a, 0);
}

/* A table begins: aligned, with its header. Returns where. */
static size_t table(struct aml *a, const char sig[4], uint8_t revision)
{
    while (a->len % TABLE_ALIGN && !a->overflow)
        aml_u8(a, 0);
    size_t at = a->len;
    aml_bytes(a, sig, 4);
    aml_u32(a, 0); /* length and checksum: table_end() */
    aml_u8(a, revision);
    aml_u8(a, 0);
    aml_bytes(a, "KILN  KILNMACH", 14);
    aml_u32(a, 1);
    aml_bytes(a, "KILN", 4);
    aml_u32(a, 1);
    return at;
}

static void table_end(struct aml *a, size_t at)
{
    size_t n = a->len - at;

    if (a->overflow)
        return;
    for (unsigned i = 0; i < 4; i++)
        a->buf[at + OFF_LENGTH + i] = (uint8_t)(n >> (8 * i));
    a->buf[at + OFF_CHECKSUM] = 0;
    a->buf[at + OFF_CHECKSUM] = checksum(a->buf + at, n);
}

/* --- DSDT ------------------------------------------------------------------ */

static void serial_device(struct aml *a)
{
    size_t dev = aml_device(a, "COM1");

    aml_name(a, "_HID");
    aml_eisaid(a, "PNP0501");
    aml_name(a, "_UID");
    aml_int(a, 1);
    size_t crs = aml_resources(a);
    aml_io(a, COM1, 8);
    aml_interrupt(a, IRQ_COM1);
    aml_resources_end(a, crs);
    aml_end(a, dev);
}

static void rtc_device(struct aml *a)
{
    size_t dev = aml_device(a, "RTC_");

    aml_name(a, "_HID");
    aml_eisaid(a, "PNP0B00");
    size_t crs = aml_resources(a);
    aml_io(a, RTC_PORT, 2);
    aml_interrupt(a, IRQ_RTC);
    aml_resources_end(a, crs);
    aml_end(a, dev);
}

static void virtio_device(struct aml *a, unsigned n, const struct boot_virtio *v)
{
    char name[5];

    snprintf(name, sizeof(name), "VR%02X", n & 0xff);
    size_t dev = aml_device(a, name);
    aml_name(a, "_HID");
    aml_string(a, "LNRO0005");
    aml_name(a, "_UID");
    aml_int(a, n);
    aml_name(a, "_CCA"); /* coherent */
    aml_int(a, 1);
    size_t crs = aml_resources(a);
    aml_memory(a, v->base, v->size);
    aml_interrupt(a, v->gsi);
    aml_resources_end(a, crs);
    aml_end(a, dev);
}

/* The guest looks at ADDR, low and high half, and waits for a notification, which the event device
 * makes of its one interrupt. */
static void generation_devices(struct aml *a)
{
    static const uint32_t addr[] = {BOARD_VMGENID, 0};
    size_t dev = aml_device(a, "VGEN");

    aml_name(a, "_HID");
    aml_string(a, "KILN0001");
    aml_name(a, "_CID");
    aml_string(a, "VM_GEN_COUNTER");
    aml_name(a, "_DDN");
    aml_string(a, "VM_Gen_Counter");
    aml_name(a, "ADDR");
    aml_package(a, addr, ARRAY_LEN(addr));
    aml_end(a, dev);
    dev = aml_device(a, "GED0");
    aml_name(a, "_HID");
    aml_string(a, "ACPI0013");
    aml_name(a, "_UID");
    aml_int(a, 0);
    size_t crs = aml_resources(a);
    aml_interrupt(a, BOARD_VMGENID_PIN);
    aml_resources_end(a, crs);
    size_t evt = aml_method(a, "_EVT", 1);
    aml_notify(a, "VGEN", 0x80);
    aml_end(a, evt);
    aml_end(a, dev);
}

static size_t dsdt(struct aml *a, const struct boot_machine *m)
{
    static const uint32_t s5[] = {ACPIPM_S5_TYPE, 0, 0, 0};
    size_t at = table(a, "DSDT", 2);
    size_t sb = aml_scope(a, "\\_SB_");

    serial_device(a);
    rtc_device(a);
    for (unsigned i = 0; i < m->n_virtio; i++)
        virtio_device(a, i, &m->virtio[i]);
    generation_devices(a);
    aml_end(a, sb);
    aml_name(a, "\\_S5_");
    aml_package(a, s5, ARRAY_LEN(s5));
    table_end(a, at);
    return at;
}

/* --- FADT ------------------------------------------------------------------ */

/* Generic address structure of one byte-wide port, 5.2.3.2. */
static void port_register(struct aml *a, uint16_t port)
{
    aml_u8(a, GAS_IO);
    aml_u8(a, 8); /* bits */
    aml_u8(a, 0);
    aml_u8(a, GAS_BYTE);
    aml_u64(a, port);
}

/* Zeros up to byte `off` of the table that began at `at`. */
static void pad_to(struct aml *a, size_t at, size_t off)
{
    if (!a->overflow)
        zeros(a, at + off - a->len);
}

static size_t fadt(struct aml *a, uint64_t dsdt_gpa)
{
    size_t at = table(a, "FACP", 6);

    pad_to(a, at, 40);
    aml_u32(a, (uint32_t)dsdt_gpa);
    pad_to(a, at, 108);
    aml_u8(a, RTC_CENTURY);
    aml_u16(a, FADT_IAPC_LEGACY_DEVICES | FADT_IAPC_NO_VGA); /* and no 8042 to probe */
    pad_to(a, at, 112);
    aml_u32(a,
            FADT_WBINVD | FADT_PWR_BUTTON | FADT_SLP_BUTTON | FADT_RESET_REG_SUP | FADT_HW_REDUCED);
    port_register(a, ACPIPM_RESET);
    aml_u8(a, ACPIPM_RESET_VALUE);
    pad_to(a, at, 131);
    aml_u8(a, 4); /* minor revision: 6.4 */
    pad_to(a, at, 140);
    aml_u64(a, dsdt_gpa);
    pad_to(a, at, 244);
    port_register(a, ACPIPM_SLEEP_CONTROL);
    port_register(a, ACPIPM_SLEEP_STATUS);
    aml_bytes(a, "KILN\0\0\0", 8); /* hypervisor vendor */
    pad_to(a, at, FADT_BYTES);
    table_end(a, at);
    return at;
}

/* --- MADT ------------------------------------------------------------------ */

/* A processor below 255 is said as an xAPIC, also when it runs in x2APIC mode (5.2.12.12). */
static void processor(struct aml *a, unsigned id)
{
    if (id < XAPIC_IDS) {
        aml_u8(a, MADT_LAPIC);
        aml_u8(a, 8);
        aml_u8(a, (uint8_t)id); /* ACPI processor UID, APIC id */
        aml_u8(a, (uint8_t)id);
        aml_u32(a, MADT_ENABLED);
        return;
    }
    aml_u8(a, MADT_X2APIC);
    aml_u8(a, 16);
    aml_u16(a, 0);
    aml_u32(a, id);
    aml_u32(a, MADT_ENABLED);
    aml_u32(a, id);
}

static size_t madt(struct aml *a, const struct boot_machine *m)
{
    size_t at = table(a, "APIC", 5);

    aml_u32(a, LAPIC_BASE);
    aml_u32(a, MADT_PCAT_COMPAT);
    for (unsigned i = 0; i < m->cpus; i++)
        processor(a, i);
    aml_u8(a, MADT_IOAPIC);
    aml_u8(a, 12);
    aml_u8(a, 0); /* id */
    aml_u8(a, 0);
    aml_u32(a, IOAPIC_BASE);
    aml_u32(a, 0); /* first global system interrupt */
    aml_u8(a, MADT_OVERRIDE);
    aml_u8(a, 10);
    aml_u8(a, 0); /* ISA */
    aml_u8(a, IRQ_PIT);
    aml_u32(a, GSI_PIT);
    aml_u16(a, 0); /* as the bus: edge, active high */
    aml_u8(a, MADT_LAPIC_NMI);
    aml_u8(a, 6);
    aml_u8(a, ALL_CPUS);
    aml_u16(a, 0);
    aml_u8(a, 1); /* LINT1 */
    table_end(a, at);
    return at;
}

/* --- roots ------------------------------------------------------------------ */

static void rsdp(struct aml *a, uint64_t xsdt_gpa)
{
    uint8_t *p = a->buf; /* its room was left at the start */
    struct aml r = {.buf = p, .cap = RSDP_BYTES};

    aml_bytes(&r, "RSD PTR \0KILN  ", 15);
    aml_u8(&r, 2);  /* revision */
    aml_u32(&r, 0); /* no RSDT */
    aml_u32(&r, RSDP_BYTES);
    aml_u64(&r, xsdt_gpa);
    aml_u32(&r, 0);
    p[RSDP_OFF_CHECKSUM] = checksum(p, RSDP_V1_BYTES);
    p[RSDP_OFF_XCHECKSUM] = checksum(p, RSDP_BYTES);
}

int acpi_build(const struct boot_machine *m, gpa_t at, uint8_t *buf, size_t cap, struct err *e)
{
    struct aml a = {.buf = buf, .cap = cap};

    zeros(&a, RSDP_BYTES);
    uint64_t dsdt_gpa = at + dsdt(&a, m);
    uint64_t fadt_gpa = at + fadt(&a, dsdt_gpa);
    uint64_t madt_gpa = at + madt(&a, m);
    size_t x = table(&a, "XSDT", 1);
    aml_u64(&a, fadt_gpa);
    aml_u64(&a, madt_gpa);
    table_end(&a, x);
    if (a.overflow)
        return err_set(e, -E2BIG, "the ACPI tables of %u CPUs and %u devices do not fit", m->cpus,
                       m->n_virtio);
    rsdp(&a, at + x);
    return (int)a.len;
}
