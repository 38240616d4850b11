/* dev/i8042.h - the keyboard controller a kernel probes: reset pulse, self-test, and a keyboard
 * that answers commands but on which nobody types. There is no mouse port.
 * Source: IBM PS/2 Hardware Technical Reference, Keyboard/Auxiliary Device Controller.
 *
 * Every command that a driver waits for is answered at once, so that probing costs no time-out.
 * Owns no memory. Thread: all under the board's lock. */
#ifndef DEV_I8042_H
#define DEV_I8042_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "hw/bus.h"
#include "hw/irq.h"

struct state_io;

enum { I8042_DATA = 0x60, I8042_COMMAND = 0x64, I8042_QUEUE = 16 /* bytes */ };

struct i8042_conf {
    struct irq_line irq;      /* IRQ 1 */
    void (*reset)(void *ctx); /* the reset line was pulsed; may be NULL */
    void *ctx;                /* borrowed */
};

struct i8042 { /* private */
    struct i8042_conf conf;
    uint8_t ctr;           /* controller command byte */
    uint8_t outport;       /* output port; bit 0 is the reset line, active low */
    uint8_t wants;         /* controller command that waits for its data byte; 0 = none */
    uint8_t kbd_wants;     /* keyboard command that waits for its data byte; 0 = none */
    bool last_was_command; /* status bit 3 */
    uint8_t queue[I8042_QUEUE];
    uint8_t n;
};

void i8042_init(struct i8042 *k, const struct i8042_conf *c);
int i8042_map(struct i8042 *k, struct bus *pio, struct err *e) MUST_CHECK;
void i8042_visit(struct i8042 *k, struct state_io *io);

#endif
