/* machine/aml.h - writing ACPI machine language. Source: ACPI 6.4, chapter 20 "ACPI Machine
 * Language", 6.4 "Resource Data Types for ACPI".
 *
 * A writer appends into a buffer of fixed size; running out sticks in `overflow` and is checked
 * once at the end. Owns no memory. */
#ifndef MACHINE_AML_H
#define MACHINE_AML_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct aml {
    uint8_t *buf; /* borrowed */
    size_t cap, len;
    bool overflow;
};

void aml_bytes(struct aml *a, const void *p, size_t n);
void aml_u8(struct aml *a, uint8_t v);
void aml_u16(struct aml *a, uint16_t v); /* little-endian, as all here */
void aml_u32(struct aml *a, uint32_t v);
void aml_u64(struct aml *a, uint64_t v);

/* An object with a package length: begin, contents, end with begin's result. Names are four
 * characters, with a leading backslash for the root. */
size_t aml_scope(struct aml *a, const char *name);
size_t aml_device(struct aml *a, const char *name);
size_t aml_resources(struct aml *a); /* Name (_CRS, ResourceTemplate { ... }) */
void aml_end(struct aml *a, size_t mark);
void aml_resources_end(struct aml *a, size_t mark);

void aml_name(struct aml *a, const char *name); /* Name (name, the object that follows) */
void aml_int(struct aml *a, uint32_t v);
void aml_string(struct aml *a, const char *s);
void aml_eisaid(struct aml *a, const char *id);                /* "PNP0501" */
void aml_package(struct aml *a, const uint32_t *v, uint8_t n); /* of integers */
size_t aml_method(struct aml *a, const char *name, unsigned args);
void aml_notify(struct aml *a, const char *name, uint8_t value);

/* Resource descriptors. */
void aml_io(struct aml *a, uint16_t port, uint8_t n);
void aml_memory(struct aml *a, uint32_t base, uint32_t size);
void aml_interrupt(struct aml *a, uint32_t gsi); /* edge, active high, exclusive */

#endif
