/* dev/wallport.h - the wall clock in two reads, for the guest's agent: a machine that goes on from
 * a saved state must have the time right before anything else runs, and a message with the time in
 * it is as old as its way was long. A read of the first word latches both halves of the nanoseconds
 * since 1970.
 *
 * Owns no memory. Thread: under the board's lock. */
#ifndef DEV_WALLPORT_H
#define DEV_WALLPORT_H

#include "base/err.h"
#include "hw/bus.h"
#include "hw/clock.h"

struct wallport {        /* private */
    struct clock *clock; /* borrowed */
    uint32_t high;
};

void wallport_init(struct wallport *w, struct clock *c);
/* Claims PROTO_WALL_PORT (proto/agent.h) and the eleven after it. */
int wallport_map(struct wallport *w, struct bus *pio, struct err *e) MUST_CHECK;

#endif
