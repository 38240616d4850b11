#include "dev/wallport.h"

#include "proto/agent.h"

static uint64_t wallport_read(void *dev, uint64_t off, unsigned len)
{
    struct wallport *w = dev;
    uint64_t now;

    (void)len;
    switch (off) {
    case PROTO_WALL_LOW:
        now = clock_wall_ns(w->clock);
        w->high = (uint32_t)(now >> 32);
        return (uint32_t)now;
    case PROTO_WALL_HIGH:
        return w->high;
    case PROTO_WALL_MAGIC:
        return PROTO_WALL_IS;
    default:
        return 0;
    }
}

static void wallport_write(void *dev, uint64_t off, unsigned len, uint64_t val)
{
    (void)dev;
    (void)off;
    (void)len;
    (void)val;
}

void wallport_init(struct wallport *w, struct clock *c)
{
    *w = (struct wallport){.clock = c};
}

int wallport_map(struct wallport *w, struct bus *pio, struct err *e)
{
    struct bus_region r = {"wall clock",  PROTO_WALL_PORT, 12, BUS_4,
                           wallport_read, wallport_write,  w};

    return bus_add(pio, &r, e);
}
