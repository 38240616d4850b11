#include "net/ratelimit.h"

enum { SECOND = 1000000000 }; /* ns */

void ratelimit_init(struct ratelimit *r, uint64_t rate, uint64_t burst, uint64_t now_ns)
{
    rate = rate < RATELIMIT_MAX ? rate : RATELIMIT_MAX;
    if (burst == 0)
        burst = rate / 10 + 1;
    burst = burst < RATELIMIT_MAX ? burst : RATELIMIT_MAX;
    *r = (struct ratelimit){.rate = rate, .burst = burst, .level = (int64_t)burst, .at = now_ns};
}

/* Units come whole: `at` moves by the time that those which came stand for. */
static void refill(struct ratelimit *r, uint64_t now_ns)
{
    if (now_ns <= r->at)
        return;
    uint64_t lacking = (uint64_t)((int64_t)r->burst - r->level);
    unsigned __int128 units = (unsigned __int128)(now_ns - r->at) * r->rate / SECOND;

    if (units >= lacking) {
        r->level = (int64_t)r->burst;
        r->at = now_ns;
    } else {
        r->level += (int64_t)units;
        r->at += (uint64_t)(units * SECOND / r->rate);
    }
}

bool ratelimit_open(struct ratelimit *r, uint64_t now_ns)
{
    if (r->rate == 0)
        return true;
    refill(r, now_ns);
    return r->level > 0;
}

void ratelimit_spend(struct ratelimit *r, uint64_t units)
{
    int64_t u = units < RATELIMIT_MAX ? (int64_t)units : (int64_t)RATELIMIT_MAX;

    if (r->rate == 0)
        return;
    r->level = r->level < -(int64_t)RATELIMIT_MAX ? r->level : r->level - u;
}

uint64_t ratelimit_when(const struct ratelimit *r, uint64_t now_ns)
{
    if (r->rate == 0 || r->level > 0)
        return now_ns;
    uint64_t units = (uint64_t)(1 - r->level);
    uint64_t at = r->at + (uint64_t)(((unsigned __int128)units * SECOND + r->rate - 1) / r->rate);

    return at > now_ns ? at : now_ns;
}
