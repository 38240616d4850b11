/* machine/acpi.h - the ACPI tables: RSDP, XSDT, FADT (hardware reduced), MADT, DSDT.
 * Source: ACPI 6.4, chapter 5. */
#ifndef MACHINE_ACPI_H
#define MACHINE_ACPI_H

#include "machine/boot.h"

/* Build the tables for `m` to lie at guest address `at`, the RSDP first, in buf[0..cap).
 * Returns their length in bytes, or -E2BIG. */
int acpi_build(const struct boot_machine *m, gpa_t at, uint8_t *buf, size_t cap,
               struct err *e) MUST_CHECK;

#endif
