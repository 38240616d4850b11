/* hw/clock.h - guest time. One clock per machine; every device and engine asks it.
 *
 * Two views of the same instant: ns since the machine was made (never runs
 * backwards, stands still while the machine is paused or saved), and the guest's
 * TSC, which is (host TSC scaled) + offset, or, with a fake source, whatever the
 * test says. Wall time is separate.
 * Threads: reads from any thread; set/stop/start only while no vCPU runs. */
#ifndef HW_CLOCK_H
#define HW_CLOCK_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

struct state_io;

typedef uint64_t ns_t; /* nanoseconds */

struct clock_source {
    uint64_t (*ns)(void *ctx);      /* monotonic, ns */
    uint64_t (*tsc)(void *ctx);     /* host TSC ticks */
    uint64_t (*wall_ns)(void *ctx); /* ns since 1970 UTC */
    void *ctx;
    uint64_t tsc_khz; /* rate of tsc() */
};

struct clock {
    struct clock_source src;
    uint64_t tsc_khz;  /* rate the guest sees */
    uint64_t tsc_mult; /* guest ticks = host ticks * mult >> 32 (mult = 1<<32: native) */
    uint64_t tsc_off;  /* + this, wrapping */
    uint64_t ns_off;   /* machine ns = src.ns - ns_off */
    bool stopped;
    ns_t stopped_ns; /* both valid while stopped */
    uint64_t stopped_tsc;
};

/* The host's clocks; measures the TSC rate once per process (few ms) unless the
 * kernel tells it. */
const struct clock_source *clock_host(void);

/* Begin that measurement: who calls this early spares clock_host() the wait. */
void clock_host_begin(void);

/* Starts running at 0 ns, TSC 0. src is copied. guest_tsc_khz 0 = as the host's. */
void clock_init(struct clock *c, const struct clock_source *src, uint64_t guest_tsc_khz);
ns_t clock_ns(const struct clock *c);
uint64_t clock_tsc(const struct clock *c);
uint64_t clock_wall_ns(const struct clock *c);
/* Machine ns at which the guest TSC will read `tsc` (now if already past). */
ns_t clock_ns_of_tsc(const struct clock *c, uint64_t tsc);
void clock_stop(struct clock *c);
void clock_start(struct clock *c);
void clock_visit(struct clock *c, struct state_io *io); /* while stopped */

#endif
