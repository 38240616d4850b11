/* Keyboard controller, ACPI sleep registers and exit port. */
#include "dev/acpipm.h"
#include "dev/exitport.h"
#include "dev/i8042.h"
#include "fuzz/guest.h"

struct world {
    struct i8042 kbd;
    struct acpipm pm;
    struct exitport ep;
    unsigned events;
};

static void event(void *ctx)
{
    ((struct world *)ctx)->events++;
}

static void ended(void *ctx, uint32_t v)
{
    ((struct world *)ctx)->events += v & 1;
}

static void visit(void *ctx, struct state_io *io)
{
    struct world *w = ctx;

    state_begin(io, 1, "i8042");
    i8042_visit(&w->kbd, io);
    state_end(io);
    state_begin(io, 2, "acpipm");
    acpipm_visit(&w->pm, io);
    state_end(io);
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    struct fake f;
    struct bus b = {0};
    struct world w = {.events = 0};

    fake_init(&f, 0);
    i8042_init(&w.kbd, &(struct i8042_conf){fake_line(&f, 1), event, &w});
    acpipm_init(&w.pm, &(struct acpipm_conf){event, event, &w});
    exitport_init(&w.ep, ended, &w);
    if (i8042_map(&w.kbd, &b, NULL) < 0 || acpipm_map(&w.pm, &b, NULL) < 0 ||
        exitport_map(&w.ep, &b, 0x501, NULL) < 0)
        return 0;
    guest_run(&(struct guest){p, n, &f, {&b}, visit, &w, NULL});
    fake_done(&f);
    return 0;
}
