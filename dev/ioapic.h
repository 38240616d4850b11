/* dev/ioapic.h - an I/O APIC of 24 pins that speaks to local APICs by message.
 * Source: Intel 82093AA data sheet; version 0x20 with the EOI register of later chipsets.
 *
 * Owns no memory. Thread: under the board's lock. */
#ifndef DEV_IOAPIC_H
#define DEV_IOAPIC_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "hw/bus.h"
#include "hw/irq.h"

struct state_io;

enum { IOAPIC_BASE = 0xfec00000, IOAPIC_SIZE = 0x1000, IOAPIC_PINS = 24 };

struct ioapic_conf {
    struct msi_sink msi;
    void (*route)(void *ctx, unsigned pin); /* the pin's entry was written; may be NULL */
    void *ctx;                              /* borrowed */
};

struct ioapic { /* private */
    struct ioapic_conf conf;
    uint64_t redir[IOAPIC_PINS];
    uint32_t lines; /* input levels */
    uint32_t select;
    uint32_t id;
};

void ioapic_init(struct ioapic *io, const struct ioapic_conf *c);
int ioapic_map(struct ioapic *a, struct bus *mmio, struct err *e) MUST_CHECK;
/* Level of pin `n`. As an irq_line: {ioapic_set, ioapic, n}. */
void ioapic_set(void *ioapic, unsigned n, bool level);
/* A local APIC ended a level-triggered interrupt of this vector. */
void ioapic_eoi(struct ioapic *a, uint8_t vector);
/* The message an edge on `pin` sends now; false when the pin is masked, level triggered, or none.
 */
bool ioapic_msi(const struct ioapic *a, unsigned pin, struct msi *m);
void ioapic_visit(struct ioapic *a, struct state_io *io);

#endif
