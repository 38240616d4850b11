/* container/health.h - when a container's health command is run, and what its answers make of the
 * container. docker's rules: a run every interval after the last one's end; `retries` failures in a
 * row make it unhealthy, one success healthy; failures in the start period do not count until the
 * first success. Pure. Thread: the caller's. */
#ifndef CONTAINER_HEALTH_H
#define CONTAINER_HEALTH_H

#include <stdbool.h>
#include <stdint.h>

#include "container/record.h"

enum { HEALTH_INTERVAL_S = 30, HEALTH_TIMEOUT_S = 30, HEALTH_RETRIES = 3 };

struct health { /* plain data; ms of one clock */
    uint64_t interval_ms, timeout_ms, start_period_ms;
    int64_t retries;
    uint64_t began_ms;
    uint64_t next_ms; /* when the command is to be run; UINT64_MAX: never, or it is running */
    bool was_healthy;
};

/* Is there a command to be run? */
bool health_wanted(const struct spec *s);
/* The container started at now_ms: st->health and what belongs to it begin anew. */
void health_begin(struct health *h, const struct spec *s, uint64_t now_ms, struct record_state *st);
/* The command is run now: no further one meanwhile. */
void health_running(struct health *h);
/* It ended as *p says. True: st->health changed. */
bool health_ended(struct health *h, uint64_t now_ms, const struct record_probe *p,
                  struct record_state *st);

#endif
