/* dev/pit.h - an 8254 interval timer and port 0x61, as a PC has them: channel 0 is IRQ 0, channel 2
 * is gated and read through port 0x61. Source: Intel 8254 data sheet.
 *
 * Counters are computed from the clock when they are read; a timer runs only for channel 0's
 * interrupts. Interrupts the host is too late for are not made up for.
 * Owns no memory; pit_done() disarms. Thread: under the board's lock. */
#ifndef DEV_PIT_H
#define DEV_PIT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "hw/bus.h"
#include "hw/clock.h"
#include "hw/irq.h"
#include "hw/timer.h"

struct state_io;

enum {
    PIT_BASE = 0x40,
    PIT_PORT61 = 0x61,
    PIT_HZ = 1193182,
    PIT_CHANNELS = 3,
    PIT_FASTEST_NS = 100000, /* channel 0 interrupts at most this often */
};

struct pit_channel { /* private */
    uint8_t mode;    /* 0..5 */
    uint8_t access;  /* 1 low byte, 2 high byte, 3 low then high */
    bool bcd;
    bool loaded; /* counting: a whole count was written since the mode */
    bool gate;
    bool high_next_write, high_next_read;
    uint8_t low_written; /* first byte of an access of two */
    uint32_t count;      /* reload value, 1..65536 */
    bool count_latched, status_latched;
    uint16_t latch;
    uint8_t status;
    bool running;           /* `since` is valid; else `elapsed_ns` stands still */
    bool triggered;         /* modes 1 and 5: the gate rose */
    ns_t since, elapsed_ns; /* counting began; time counted when stopped */
};

struct pit_conf { /* borrowed */
    struct clock *clock;
    struct timerq *timers;
    struct irq_line irq; /* IRQ 0 */
};

struct pit { /* private */
    struct pit_conf conf;
    struct pit_channel ch[PIT_CHANNELS];
    bool speaker;
    struct timer timer;
};

void pit_init(struct pit *p, const struct pit_conf *c);
void pit_done(struct pit *p);
int pit_map(struct pit *p, struct bus *pio, struct err *e) MUST_CHECK;
void pit_visit(struct pit *p, struct state_io *io);

#endif
