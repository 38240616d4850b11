#include "container/health.h"

#include <string.h>

static uint64_t ms_of(int64_t ns, int64_t none_s)
{
    int64_t ms = ns == SPEC_UNSET || ns < 0 ? none_s * 1000 : ns / 1000000;

    return ms > 0 ? (uint64_t)ms : 0;
}

bool health_wanted(const struct spec *s)
{
    return s->health.cmd.n > 1 && strcmp(s->health.cmd.v[0], "NONE") != 0;
}

void health_begin(struct health *h, const struct spec *s, uint64_t now_ms, struct record_state *st)
{
    const struct spec_health *c = &s->health;

    *h = (struct health){
        .interval_ms = c->interval_ns == 0 ? HEALTH_INTERVAL_S * 1000
                                           : ms_of(c->interval_ns, HEALTH_INTERVAL_S),
        .timeout_ms =
            c->timeout_ns == 0 ? HEALTH_TIMEOUT_S * 1000 : ms_of(c->timeout_ns, HEALTH_TIMEOUT_S),
        .start_period_ms = ms_of(c->start_period_ns, 0),
        .retries = c->retries == SPEC_UNSET || c->retries <= 0 ? HEALTH_RETRIES : c->retries,
        .began_ms = now_ms,
        .next_ms = UINT64_MAX,
    };
    st->failing_streak = st->n_probes = 0;
    st->health = health_wanted(s) ? RECORD_STARTING : RECORD_HEALTH_NONE;
    if (st->health == RECORD_STARTING)
        h->next_ms = now_ms + h->interval_ms;
}

void health_running(struct health *h)
{
    h->next_ms = UINT64_MAX;
}

static void keep(struct record_state *st, const struct record_probe *p)
{
    if (st->n_probes == RECORD_HEALTH_LOG) {
        st->n_probes--;
        memmove(st->probe, st->probe + 1, st->n_probes * sizeof(st->probe[0]));
    }
    st->probe[st->n_probes++] = *p;
}

bool health_ended(struct health *h, uint64_t now_ms, const struct record_probe *p,
                  struct record_state *st)
{
    enum record_health before = st->health;

    keep(st, p);
    h->next_ms = now_ms + h->interval_ms;
    if (p->exit_code == 0) {
        st->failing_streak = 0;
        st->health = RECORD_HEALTHY;
        h->was_healthy = true;
        return st->health != before;
    }
    if (!h->was_healthy && now_ms - h->began_ms < h->start_period_ms)
        return false;
    st->failing_streak++;
    if ((int64_t)st->failing_streak >= h->retries)
        st->health = RECORD_UNHEALTHY;
    return st->health != before;
}
