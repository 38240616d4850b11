/* dev/serial.h - a 16550A serial port. Source: National Semiconductor PC16550D data sheet.
 *
 * Sending takes no time: the transmitter is always empty. Receiving goes through a queue of the
 * host's side (serial_in) that fills the 16-byte FIFO only while the guest listens: with the
 * receive interrupt enabled, or polling the line status. So what is typed before a driver opens the
 * port is kept, though drivers clear the FIFO and read the data register to clean up first.
 *
 * Owns no memory. Thread: all under the board's lock. */
#ifndef DEV_SERIAL_H
#define DEV_SERIAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "hw/bus.h"
#include "hw/irq.h"

struct state_io;

enum { SERIAL_PORTS = 8, SERIAL_FIFO = 16, SERIAL_QUEUE = 1024 /* bytes */ };

struct serial_conf {
    struct irq_line irq;
    void (*out)(void *ctx, const uint8_t *bytes, size_t len); /* the guest sent; may be NULL */
    void (*room)(void *ctx); /* a full queue has room again; must not call back; may be NULL */
    void *ctx;               /* borrowed */
};

struct serial { /* private */
    struct serial_conf conf;
    uint8_t ier, fcr, lcr, mcr, lsr, msr, scr, dll, dlm;
    bool thre_pending;
    uint8_t fifo[SERIAL_FIFO];
    uint8_t fifo_n;
    uint8_t polls; /* reads of the line status with nothing else between */
    uint8_t queue[SERIAL_QUEUE];
    uint16_t queue_head, queue_n;
};

void serial_init(struct serial *s, const struct serial_conf *c);
/* Claim SERIAL_PORTS ports from `base`. Errors: those of bus_add(). */
int serial_map(struct serial *s, struct bus *pio, uint64_t base, struct err *e) MUST_CHECK;

/* Bytes for the guest; what exceeds serial_room() is dropped. */
void serial_in(struct serial *s, const uint8_t *bytes, size_t len);
size_t serial_room(const struct serial *s);
/* Saves and loads; a load does not move the interrupt line, whose level the controllers
 * keep. A load that fails leaves the port as it was; so it is with all devices here. */
void serial_visit(struct serial *s, struct state_io *io);

#endif
