#include "dev/pit.h"

#include "fuzz/guest.h"

static void visit(void *p, struct state_io *io)
{
    pit_visit(p, io);
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    struct fake f;
    struct bus b = {0};
    struct pit t;

    fake_init(&f, 0);
    pit_init(&t, &(struct pit_conf){&f.clock, &f.timers, fake_line(&f, 0)});
    if (pit_map(&t, &b, NULL) < 0)
        return 0;
    guest_run(&(struct guest){p, n, &f, {&b}, visit, &t, NULL});
    pit_done(&t);
    assert(timerq_next(&f.timers) == TIMER_NEVER);
    fake_done(&f);
    return 0;
}
