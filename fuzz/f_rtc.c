#include "dev/rtc.h"

#include "fuzz/guest.h"

static void visit(void *r, struct state_io *io)
{
    rtc_visit(r, io);
}

/* The host's wall clock is set, either way. */
static void poke(void *ctx, uint64_t v)
{
    struct rtc *r = ctx;
    struct fake *f = r->conf.clock->src.ctx;

    f->wall = v << 45;
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    struct fake f;
    struct bus b = {0};
    struct rtc r;

    fake_init(&f, 1700000000);
    rtc_init(&r, &(struct rtc_conf){&f.clock, &f.timers, fake_line(&f, 8), 1u << 30, 0});
    if (rtc_map(&r, &b, NULL) < 0)
        return 0;
    guest_run(&(struct guest){p, n, &f, {&b}, visit, &r, poke});
    rtc_done(&r);
    assert(timerq_next(&f.timers) == TIMER_NEVER);
    fake_done(&f);
    return 0;
}
