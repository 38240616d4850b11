/* dev/vmgenid.h - VM Generation ID: 16 bytes in RAM that differ between any two machines that go on
 * from one saved state, and an interrupt that tells the guest of new ones. Source: Microsoft,
 * "Virtual Machine Generation ID" (2012); Linux drivers/virt/vmgenid.c, which mixes the ID into its
 * random numbers and reseeds them. The DSDT names the place (ADDR) and a Generic Event Device (ACPI
 * 6.4, 5.6.9) that turns the interrupt into Notify (VGEN, 0x80).
 *
 * Owns no memory. Thread: under the board's lock. */
#ifndef DEV_VMGENID_H
#define DEV_VMGENID_H

#include <stdint.h>

#include "base/err.h"
#include "hw/irq.h"
#include "mem/mem.h"

struct state_io;

enum { VMGENID_BYTES = 16 };

struct vmgenid {     /* private */
    struct mem *mem; /* borrowed */
    gpa_t gpa;
    struct irq_line irq;
    uint8_t id[VMGENID_BYTES];
};

void vmgenid_init(struct vmgenid *g, struct mem *mem, gpa_t gpa, struct irq_line irq);
/* A new ID, which the guest has not seen; `tell`: it runs already and gets the interrupt. Errors:
 * -EFAULT the place is not RAM. */
int vmgenid_set(struct vmgenid *g, const uint8_t id[VMGENID_BYTES], bool tell,
                struct err *e) MUST_CHECK;
void vmgenid_visit(struct vmgenid *g, struct state_io *io);

#endif
