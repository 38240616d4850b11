/* net/ratelimit.h - a token bucket: so many units (bytes, packets, requests) a second, and so many
 * at once after a pause. Time is an argument. Something larger than the bucket may pass when the
 * bucket is not in debt; what follows then waits until the debt is paid. Thread: the owner's. */
#ifndef NET_RATELIMIT_H
#define NET_RATELIMIT_H

#include <stdbool.h>
#include <stdint.h>

struct ratelimit {
    uint64_t rate;  /* units a second; 0 = no limit */
    uint64_t burst; /* units the bucket holds */
    int64_t level;  /* units in it; below 0: debt */
    uint64_t at;    /* ns: when `level` was true */
};

struct rate_conf {  /* what a user says; 0 = no limit */
    uint64_t bytes; /* a second */
    uint64_t burst; /* bytes */
    uint64_t ops;   /* packets or requests, a second */
};

#define RATELIMIT_MAX (1ull << 40) /* of rate and burst */

/* A full bucket. burst 0: what passes in a tenth of a second. Both are cut to RATELIMIT_MAX. */
void ratelimit_init(struct ratelimit *r, uint64_t rate, uint64_t burst, uint64_t now_ns);
/* May something pass now? */
bool ratelimit_open(struct ratelimit *r, uint64_t now_ns);
/* It did: `units` (any number) go out of the bucket. */
void ratelimit_spend(struct ratelimit *r, uint64_t units);
/* When ratelimit_open() will say yes, in ns; `now_ns` if it does. */
uint64_t ratelimit_when(const struct ratelimit *r, uint64_t now_ns);

#endif
