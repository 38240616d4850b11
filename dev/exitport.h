/* dev/exitport.h - a port whose write ends the machine with a status of the guest's choice: what
 * test guests and unikernels use instead of power management. Same idea as QEMU's isa-debug-exit.
 * Owns no memory, keeps no state. Thread: under the board's lock. */
#ifndef DEV_EXITPORT_H
#define DEV_EXITPORT_H

#include <stdint.h>

#include "base/err.h"
#include "hw/bus.h"

struct exitport { /* private */
    void (*ended)(void *ctx, uint32_t value);
    void *ctx; /* borrowed */
};

void exitport_init(struct exitport *p, void (*ended)(void *ctx, uint32_t value), void *ctx);
/* Claims the port `base` and the three after it: one byte at `base`, or a 32-bit word there. */
int exitport_map(struct exitport *p, struct bus *pio, uint64_t base, struct err *e) MUST_CHECK;

#endif
