#include "dev/exitport.h"

static uint64_t exitport_read(void *dev, uint64_t off, unsigned len)
{
    (void)dev;
    (void)off;
    (void)len;
    return 0;
}

static void exitport_write(void *dev, uint64_t off, unsigned len, uint64_t val)
{
    struct exitport *p = dev;

    (void)len;
    if (off == 0 && p->ended)
        p->ended(p->ctx, (uint32_t)val);
}

void exitport_init(struct exitport *p, void (*ended)(void *ctx, uint32_t value), void *ctx)
{
    *p = (struct exitport){.ended = ended, .ctx = ctx};
}

int exitport_map(struct exitport *p, struct bus *pio, uint64_t base, struct err *e)
{
    struct bus_region r = {"exit port", base, 4, BUS_1 | BUS_4, exitport_read, exitport_write, p};

    return bus_add(pio, &r, e);
}
