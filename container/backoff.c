#include "container/backoff.h"

static bool wanted(const struct backoff *r, const struct spec *s, int code)
{
    switch (s->restart) {
    case SPEC_ALWAYS:
    case SPEC_UNLESS_STOPPED:
        return true;
    case SPEC_ON_FAILURE:
        return code != 0 && (s->restart_max <= 0 || (int64_t)r->count < s->restart_max);
    default:
        return false;
    }
}

int64_t backoff_next(struct backoff *r, const struct spec *s, int code, uint64_t ran_ms,
                     bool stopped_by_user)
{
    if (stopped_by_user || !wanted(r, s, code))
        return -1;
    if (ran_ms >= BACKOFF_GOOD_MS || r->delay_ms == 0)
        r->delay_ms = BACKOFF_FIRST_MS;
    else
        r->delay_ms = 2 * r->delay_ms < BACKOFF_LAST_MS ? 2 * r->delay_ms : BACKOFF_LAST_MS;
    r->count++;
    return (int64_t)r->delay_ms;
}
