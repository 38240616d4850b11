/* dev/pic.h - the two cascaded 8259A interrupt controllers of a PC.
 * Source: Intel 8259A data sheet; Intel 82371 (PIIX) data sheet for ELCR.
 *
 * Inputs 0..15 (2 is the cascade). The output is a level; whoever takes the interrupt calls
 * pic_ack() for the vector. Owns no memory. Thread: under the board's lock. */
#ifndef DEV_PIC_H
#define DEV_PIC_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "hw/bus.h"
#include "hw/irq.h"

struct state_io;

enum { PIC_MASTER = 0x20, PIC_SLAVE = 0xa0, PIC_ELCR = 0x4d0, PIC_INPUTS = 16 };

struct pic_chip { /* private */
    struct pic *pic;
    bool slave;
    uint8_t lines, elcr; /* input levels; 1 = level triggered */
    uint8_t irr, isr, imr;
    uint8_t lowest;    /* input of lowest priority; 7 after initialization */
    uint8_t icw2;      /* vector base */
    uint8_t init_step; /* ICW expected next: 2, 3, 4; 0 = initialized */
    bool icw4_needed, single;
    bool auto_eoi, rotate_auto, nested; /* nested: special fully nested mode */
    bool special_mask, read_isr, poll;
};

struct pic { /* private */
    struct pic_chip chip[2];
    struct irq_line out;
};

void pic_init(struct pic *p, const struct irq_line *out);
int pic_map(struct pic *p, struct bus *pio, struct err *e) MUST_CHECK;
/* Level of input `n`. As an irq_line: {pic_set, pic, n}. */
void pic_set(void *pic, unsigned n, bool level);
/* Interrupt acknowledge: the vector, of the spurious input 7 if nothing is pending any more. */
int pic_ack(struct pic *p);
void pic_visit(struct pic *p, struct state_io *io);

#endif
