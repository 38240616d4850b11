/* A vCPU's saved state from a hostile file: refused, or good enough to run on and to save again
 * unchanged. */
#include <stdint.h>
#include <stdlib.h>

#include "cpu/interp/interp.h"
#include "cpu/soft/event.h"
#include "state/state.h"

enum { RAM = 1 << 20, STEPS = 16 };

static uint64_t frozen(void *ctx)
{
    return 1000;
}

/* Made once: the state is replaced each time. */
static struct vcpu *machine(void)
{
    static struct clock clock;
    static struct timerq timers;
    static struct cpu_model model;
    static struct vcpu *v;
    struct cpu_vm_conf c = {.clock = &clock, .timers = &timers, .model = &model};

    if (v)
        return v;
    clock_init(&clock, &(struct clock_source){frozen, frozen, frozen, NULL, 1000000}, 0);
    timerq_init(&timers, NULL, NULL);
    c.mem = mem_new(RAM, NULL);
    if (!c.mem || cpu_model_init(&model, 1, 1000000, NULL) < 0 || interp_bare_new(&c, &v, NULL) < 0)
        abort();
    return v;
}

static void again(struct cpu_state *s)
{
    struct cpu_state copy = {0};
    struct state_io io;
    char text[128];
    uint8_t *buf;
    size_t len;

    state_save_init(&io);
    cpu_state_visit(s, &io);
    if (state_take(&io, &buf, &len, NULL) < 0)
        abort();
    state_load_init(&io, buf, len);
    cpu_state_visit(&copy, &io);
    if (state_done(&io, NULL) < 0 || cpu_state_diff(s, &copy, false, text, sizeof(text)))
        abort();
    free(buf);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct vcpu *v = machine();
    struct cpu_state s = {0};
    struct cpu_exit x = {0};
    struct state_io io;
    int r = SOFT_OK;

    state_load_init(&io, data, size);
    cpu_state_visit(&s, &io);
    if (state_done(&io, NULL) < 0)
        return 0;
    again(&s);
    if (soft_set(v, &s, NULL) < 0)
        return 0;
    v->exit = &x;
    for (unsigned i = 0; i < STEPS && (r == SOFT_OK || r == SOFT_BREAK); i++) {
        r = interp_one(v);
        if (r == SOFT_FAULT)
            r = event_deliver_exc(v);
    }
    v->exit = NULL;
    return 0;
}
