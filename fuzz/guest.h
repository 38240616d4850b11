/* fuzz/guest.h - the fuzzer as a guest: its bytes say which registers to touch, how long to wait,
 * when to save and load. */
#ifndef FUZZ_GUEST_H
#define FUZZ_GUEST_H

#include <assert.h>
#include <stdlib.h>

#include "hw/bus.h"
#include "test/unit/fake.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

enum { GUEST_FIRES_MAX = 2000 /* timers a single wait may fire: keeps runs short */ };

struct guest {
    const uint8_t *p; /* what is left of the input */
    size_t n;
    struct fake *fake;
    struct bus *bus[2]; /* the second may be NULL */
    void (*visit)(void *dev, struct state_io *io);
    void *dev;
    /* Something from the host's side, with the guest's bytes; may be NULL. */
    void (*poke)(void *dev, uint64_t v);
};

static inline uint64_t guest_take(struct guest *g, unsigned n)
{
    uint64_t v = 0;

    for (unsigned i = 0; i < n && g->n; i++, g->p++, g->n--)
        v |= (uint64_t)*g->p << (8 * i);
    return v;
}

/* An address in or just behind some region: random ones would hit nothing. */
static inline uint64_t guest_addr(struct guest *g, struct bus *b)
{
    const struct bus_region *r = &b->r[guest_take(g, 1) % b->n];

    return r->base + guest_take(g, r->size > 256 ? 2 : 1) % (r->size + 2);
}

static inline void guest_reload(struct guest *g)
{
    struct state_io io;
    uint8_t *buf;
    size_t len;

    state_save_init(&io);
    g->visit(g->dev, &io);
    if (state_take(&io, &buf, &len, NULL) < 0)
        return;
    state_load_init(&io, buf, len);
    g->visit(g->dev, &io);
    int r = state_done(&io, NULL);
    assert(r == 0); /* what we save we can load */
    free(buf);
}

/* Load the fuzzer's bytes as state, or state damaged by them. */
static inline void guest_load(struct guest *g)
{
    struct state_io io;
    uint8_t *buf;
    size_t len;

    state_save_init(&io);
    g->visit(g->dev, &io);
    if (state_take(&io, &buf, &len, NULL) < 0)
        return;
    for (unsigned i = 0; i < 4 && len; i++) {
        size_t at = guest_take(g, 2) % len;

        buf[at] = (uint8_t)guest_take(g, 1);
    }
    state_load_init(&io, buf, len);
    g->visit(g->dev, &io);
    (void)!state_done(&io, NULL);
    free(buf);
}

static inline void guest_run(struct guest *g)
{
    while (g->n) {
        unsigned op = (unsigned)guest_take(g, 1);
        struct bus *b = g->bus[op >> 7 & (g->bus[1] != NULL)];
        unsigned len = 1u << (op >> 5 & 3);

        switch (op & 7) {
        case 0:
        case 1:
            (void)bus_read(b, guest_addr(g, b), len);
            break;
        case 2:
        case 3:
        case 4: {
            uint64_t a = guest_addr(g, b);
            bus_write(b, a, len, guest_take(g, len));
            break;
        }
        case 5:
            fake_pass_max(g->fake, guest_take(g, 2) << (op >> 3 & 15), GUEST_FIRES_MAX);
            break;
        case 6:
            if (g->poke)
                g->poke(g->dev, guest_take(g, 2));
            break;
        default:
            if (op & 8)
                guest_load(g);
            else
                guest_reload(g);
            break;
        }
    }
}

#endif
