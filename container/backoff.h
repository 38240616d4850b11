/* container/backoff.h - whether a container that ended is started again, and when. docker's rules:
 * 100 ms after the end, then twice as long each time up to a minute, from the beginning again after
 * a run of BACKOFF_GOOD_MS. Pure. Thread: the caller's. */
#ifndef CONTAINER_BACKOFF_H
#define CONTAINER_BACKOFF_H

#include <stdbool.h>
#include <stdint.h>

#include "container/spec.h"

enum { BACKOFF_FIRST_MS = 100, BACKOFF_LAST_MS = 60000, BACKOFF_GOOD_MS = 10000 };

struct backoff {       /* plain data */
    uint64_t delay_ms; /* of the last one; 0 = none yet */
    unsigned count;    /* starts again, for restart_max */
};

/* It ended with `code` after running for ran_ms. Milliseconds until it is started again, -1: it is
 * not. */
int64_t backoff_next(struct backoff *r, const struct spec *s, int code, uint64_t ran_ms,
                     bool stopped_by_user);

#endif
