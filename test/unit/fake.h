/* test/unit/fake.h - a machine's clock and timers, played by a test or a fuzzer. */
#ifndef TEST_UNIT_FAKE_H
#define TEST_UNIT_FAKE_H

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "hw/clock.h"
#include "hw/irq.h"
#include "hw/timer.h"
#include "state/state.h"

struct fake {
    uint64_t ns, wall;
    struct clock clock;
    struct timerq timers;
    bool level[32]; /* of the lines a device moves */
    unsigned rises[32];
};

static inline uint64_t fake_ns(void *ctx)
{
    return ((struct fake *)ctx)->ns;
}

static inline uint64_t fake_wall(void *ctx)
{
    return ((struct fake *)ctx)->wall;
}

static inline void fake_init(struct fake *f, uint64_t wall_s)
{
    struct clock_source src = {fake_ns, fake_ns, fake_wall, f, 1000000};

    memset(f, 0, sizeof(*f));
    f->ns = 1000;
    f->wall = wall_s * 1000000000ull;
    clock_init(&f->clock, &src, 0);
    timerq_init(&f->timers, NULL, NULL);
}

static inline void fake_done(struct fake *f)
{
    timerq_done(&f->timers);
}

/* Time passes: timers fire at their deadlines, at most `max` of them. */
static inline unsigned fake_pass_max(struct fake *f, uint64_t ns, unsigned max)
{
    uint64_t end = f->ns + ns;
    unsigned fired = 0;

    while (fired < max) {
        ns_t at = timerq_next(&f->timers), now = clock_ns(&f->clock);

        if (at == TIMER_NEVER || (at > now && at - now > end - f->ns))
            break;
        if (at > now) {
            f->ns += at - now;
            f->wall += at - now;
        }
        fired += timerq_run(&f->timers, clock_ns(&f->clock));
    }
    if (end > f->ns) {
        f->wall += end - f->ns;
        f->ns = end;
    }
    return fired;
}

static inline unsigned fake_pass(struct fake *f, uint64_t ns)
{
    return fake_pass_max(f, ns, UINT32_MAX);
}

static inline void fake_set(void *ctx, unsigned n, bool level)
{
    struct fake *f = ctx;

    if (level && !f->level[n])
        f->rises[n]++;
    f->level[n] = level;
}

static inline struct irq_line fake_line(struct fake *f, unsigned n)
{
    return (struct irq_line){fake_set, f, n};
}

/* Save `from` and load it into `to`, both by `visit`; 0, or what loading says. */
static inline int fake_copy(void (*visit)(void *, struct state_io *), void *from, void *to)
{
    struct state_io io;
    uint8_t *buf;
    size_t len;

    state_save_init(&io);
    visit(from, &io);
    int r = state_take(&io, &buf, &len, NULL);
    if (r < 0)
        return r;
    state_load_init(&io, buf, len);
    visit(to, &io);
    r = state_done(&io, NULL);
    free(buf);
    return r;
}

/* Every truncation of what `visit` saves of `dev` must be refused. True if so. */
static inline bool fake_refuses_truncation(void (*visit)(void *, struct state_io *), void *dev,
                                           void *scratch)
{
    struct state_io io;
    uint8_t *buf;
    size_t len;
    bool good = true;

    state_save_init(&io);
    visit(dev, &io);
    if (state_take(&io, &buf, &len, NULL) < 0)
        return false;
    for (size_t n = 0; n < len; n++) {
        state_load_init(&io, buf, n);
        visit(scratch, &io);
        good = good && state_done(&io, NULL) < 0;
    }
    free(buf);
    return good;
}

#endif
