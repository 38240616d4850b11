#include "hw/clock.h"

#include <pthread.h>
#include <stddef.h>
#include <string.h>
#include <time.h>
#include <x86intrin.h>

#include "state/state.h"

enum { MEASURE_NS = 4 * 1000 * 1000, MEASURE_TRIES = 7 };

static uint64_t host_clock(clockid_t id)
{
    struct timespec ts;

    clock_gettime(id, &ts);
    return (uint64_t)ts.tv_sec * 1000000000ull + (uint64_t)ts.tv_nsec;
}

static uint64_t host_ns(void *ctx)
{
    (void)ctx;
    return host_clock(CLOCK_MONOTONIC);
}

static uint64_t host_tsc(void *ctx)
{
    (void)ctx;
    return __rdtsc();
}

static uint64_t host_wall(void *ctx)
{
    (void)ctx;
    return host_clock(CLOCK_REALTIME);
}

/* A TSC reading and the time of it; of several tries the one least disturbed. */
static void sample(uint64_t *tsc, uint64_t *ns)
{
    uint64_t best = UINT64_MAX;

    for (int i = 0; i < MEASURE_TRIES; i++) {
        uint64_t a = __rdtsc();
        uint64_t t = host_clock(CLOCK_MONOTONIC);
        uint64_t b = __rdtsc();

        if (b - a < best) {
            best = b - a;
            *tsc = a + (b - a) / 2;
            *ns = t;
        }
    }
}

static struct clock_source host_source; /* written once, under the once */
static pthread_once_t host_once = PTHREAD_ONCE_INIT, first_once = PTHREAD_ONCE_INIT;
static uint64_t t0, n0; /* the first sample; likewise */

static void first_sample(void)
{
    sample(&t0, &n0);
}

void clock_host_begin(void)
{
    pthread_once(&first_once, first_sample);
}

static void host_init(void)
{
    uint64_t t1, n1;

    clock_host_begin();
    uint64_t passed = host_clock(CLOCK_MONOTONIC) - n0;
    struct timespec nap = {.tv_nsec = passed < MEASURE_NS ? (long)(MEASURE_NS - passed) : 0};
    if (nap.tv_nsec)
        nanosleep(&nap, NULL);
    sample(&t1, &n1);
    host_source = (struct clock_source){
        .ns = host_ns,
        .tsc = host_tsc,
        .wall_ns = host_wall,
        .tsc_khz = (uint64_t)((unsigned __int128)(t1 - t0) * 1000000 / (n1 - n0)),
    };
    /* Rates are round numbers of 100 kHz; the measurement is good to a few kHz. */
    host_source.tsc_khz = (host_source.tsc_khz + 50) / 100 * 100;
}

const struct clock_source *clock_host(void)
{
    pthread_once(&host_once, host_init);
    return &host_source;
}

static uint64_t scaled(const struct clock *c)
{
    uint64_t t = c->src.tsc(c->src.ctx);

    if (c->tsc_mult == 1ull << 32)
        return t;
    return (uint64_t)(((unsigned __int128)t * c->tsc_mult) >> 32);
}

static void set_rate(struct clock *c, uint64_t khz)
{
    c->tsc_khz = khz;
    c->tsc_mult = khz == c->src.tsc_khz
                      ? 1ull << 32
                      : (uint64_t)(((unsigned __int128)khz << 32) / c->src.tsc_khz);
}

void clock_init(struct clock *c, const struct clock_source *src, uint64_t guest_tsc_khz)
{
    memset(c, 0, sizeof(*c));
    c->src = *src;
    set_rate(c, guest_tsc_khz ? guest_tsc_khz : src->tsc_khz);
    c->stopped = true;
    clock_start(c);
}

ns_t clock_ns(const struct clock *c)
{
    return c->stopped ? c->stopped_ns : c->src.ns(c->src.ctx) - c->ns_off;
}

uint64_t clock_tsc(const struct clock *c)
{
    return c->stopped ? c->stopped_tsc : scaled(c) + c->tsc_off;
}

uint64_t clock_wall_ns(const struct clock *c)
{
    return c->src.wall_ns(c->src.ctx);
}

ns_t clock_ns_of_tsc(const struct clock *c, uint64_t tsc)
{
    ns_t now = clock_ns(c);
    int64_t ahead = (int64_t)(tsc - clock_tsc(c));

    if (ahead <= 0)
        return now;
    unsigned __int128 ns = (unsigned __int128)(uint64_t)ahead * 1000000 / c->tsc_khz;
    return ns > UINT64_MAX - 1 - now ? UINT64_MAX - 1 : now + (ns_t)ns;
}

void clock_stop(struct clock *c)
{
    if (c->stopped)
        return;
    c->stopped_ns = clock_ns(c);
    c->stopped_tsc = clock_tsc(c);
    c->stopped = true;
}

void clock_start(struct clock *c)
{
    if (!c->stopped)
        return;
    c->ns_off = c->src.ns(c->src.ctx) - c->stopped_ns;
    c->tsc_off = c->stopped_tsc - scaled(c);
    c->stopped = false;
}

void clock_visit(struct clock *c, struct state_io *io)
{
    uint64_t khz = c->tsc_khz;

    state_u64(io, 1, &khz);
    state_u64(io, 2, &c->stopped_ns);
    state_u64(io, 3, &c->stopped_tsc);
    if (!state_loading(io))
        return;
    if (khz < 1000 || khz > 100000000) /* 1 MHz .. 100 GHz */
        state_fail(io, "the TSC rate of %llu kHz is not one of any CPU", (unsigned long long)khz);
    else
        set_rate(c, khz);
}
