#include "dev/pit.h"

#include "state/state.h"

enum { /* control word, data sheet figure 7; read-back command, figure 11 */
       CONTROL = 3,
       ACCESS_LATCH = 0,
       ACCESS_LOW = 1,
       ACCESS_HIGH = 2,
       ACCESS_BOTH = 3,
       READ_BACK = 3,
       READ_BACK_NO_COUNT = 0x20,
       READ_BACK_NO_STATUS = 0x10,
       STATUS_OUT = 0x80,
       STATUS_NULL = 0x40,
};

enum { /* port 0x61 */
       P61_GATE2 = 0x01,
       P61_SPEAKER = 0x02,
       P61_REFRESH = 0x10,
       P61_OUT2 = 0x20,
       REFRESH_NS = 15085, /* the DRAM refresh toggles this often */
};

static uint64_t ticks_of(ns_t ns)
{
    return (uint64_t)((unsigned __int128)ns * PIT_HZ / 1000000000u);
}

/* The first ns at which ticks_of() gives `ticks`. */
static ns_t ns_of(uint64_t ticks)
{
    return (ns_t)(((unsigned __int128)ticks * 1000000000u + PIT_HZ - 1) / PIT_HZ);
}

static ns_t elapsed_ns(const struct pit *p, const struct pit_channel *c)
{
    ns_t now = clock_ns(p->conf.clock);

    if (!c->running)
        return c->elapsed_ns;
    return now - c->since; /* of a hostile state this may be any number, and is as good */
}

static uint64_t elapsed(const struct pit *p, const struct pit_channel *c)
{
    return ticks_of(elapsed_ns(p, c));
}

static void start(struct pit *p, struct pit_channel *c)
{
    c->running = true;
    c->since = clock_ns(p->conf.clock);
    c->elapsed_ns = 0;
}

/* Counting element as the guest reads it, before BCD. */
static uint32_t counter(const struct pit *p, const struct pit_channel *c)
{
    uint64_t t = elapsed(p, c);

    if (!c->loaded)
        return 0;
    switch (c->mode) {
    case 2:
        return c->count - (uint32_t)(t % c->count);
    case 3: { /* counts by twos, once for each half */
        uint32_t even = c->count & ~1u;

        return even ? even - (uint32_t)(2 * t % even) : 1;
    }
    case 1:
    case 5:
        if (!c->triggered)
            return c->count;
        break;
    default:
        break;
    }
    return (uint32_t)(c->count - t); /* wraps and goes on */
}

static bool out(const struct pit *p, const struct pit_channel *c)
{
    uint64_t t = elapsed(p, c);

    if (!c->loaded)
        return c->mode != 0;
    switch (c->mode) {
    case 0:
        return t >= c->count;
    case 1:
        return !c->triggered || t >= c->count;
    case 2:
        return !c->gate || t % c->count != c->count - 1;
    case 3:
        return !c->gate || t % c->count < (c->count + 1) / 2;
    case 4:
        return t != c->count;
    default: /* 5 */
        return !c->triggered || t != c->count;
    }
}

/* Arm for channel 0's next rising edge of OUT. */
static void schedule(struct pit *p)
{
    const struct pit_channel *c = &p->ch[0];
    ns_t done = elapsed_ns(p, c);
    uint64_t at;

    timer_cancel(p->conf.timers, &p->timer);
    if (!c->loaded || !c->running)
        return;
    if (c->mode == 2 || c->mode == 3) {
        /* A guest may ask for a million interrupts a second; it gets fewer. */
        uint64_t t = ticks_of(ns_of(c->count) < PIT_FASTEST_NS ? done + PIT_FASTEST_NS : done);

        at = t - t % c->count + c->count;
    } else if (c->mode == 0 || c->mode == 4) {
        at = (uint64_t)c->count + (c->mode == 4); /* mode 4 strobes low for one tick */
        if (ticks_of(done) >= at)
            return;
    } else {
        return; /* modes 1 and 5 wait for a gate edge that channel 0 never sees */
    }
    timer_arm(p->conf.timers, &p->timer, c->since + ns_of(at));
}

/* Mode 0 rests low until its end; the others rest high and dip. */
static void rest_level(struct pit *p)
{
    const struct pit_channel *c = &p->ch[0];

    irq_set(&p->conf.irq, out(p, c));
}

static void fire(void *ctx)
{
    struct pit *p = ctx;

    if (p->ch[0].mode != 0)
        irq_set(&p->conf.irq, false);
    irq_set(&p->conf.irq, true);
    schedule(p);
}

static void load(struct pit *p, unsigned n, uint32_t v)
{
    struct pit_channel *c = &p->ch[n];
    uint32_t max = c->bcd ? 10000 : 65536;
    bool restart = !c->loaded || c->mode == 0 || c->mode == 4;

    if (c->bcd)
        v = (v & 15) + (v >> 4 & 15) * 10 + (v >> 8 & 15) * 100 + (v >> 12 & 15) * 1000;
    c->count = v % max ? v % max : max;
    c->loaded = true;
    /* In modes 2 and 3 a new count waits for the end of the period; starting the period anew is
     * what other models do and no driver can tell. Modes 1 and 5 wait for a trigger. */
    if (c->mode == 1 || c->mode == 5)
        c->triggered = restart ? false : c->triggered;
    else
        start(p, c);
    if (!c->gate && c->mode != 1 && c->mode != 5) {
        c->running = false;
        c->elapsed_ns = 0;
    }
    if (n == 0) {
        rest_level(p);
        schedule(p);
    }
}

static void latch_count(struct pit *p, struct pit_channel *c)
{
    uint32_t v = counter(p, c);

    if (c->count_latched)
        return; /* held until read (data sheet, "Counter Latch Command") */
    if (c->bcd) {
        v %= 10000;
        v = v % 10 | v / 10 % 10 << 4 | v / 100 % 10 << 8 | v / 1000 << 12;
    }
    c->latch = (uint16_t)v;
    c->count_latched = true;
}

static void latch_status(struct pit *p, struct pit_channel *c)
{
    if (c->status_latched)
        return;
    c->status = (uint8_t)((out(p, c) ? STATUS_OUT : 0) | (c->loaded ? 0 : STATUS_NULL) |
                          c->access << 4 | c->mode << 1 | c->bcd);
    c->status_latched = true;
}

static void control(struct pit *p, uint8_t v)
{
    unsigned n = v >> 6;

    if (n == READ_BACK) {
        for (unsigned i = 0; i < PIT_CHANNELS; i++) {
            if (!(v & (2u << i)))
                continue;
            if (!(v & READ_BACK_NO_COUNT))
                latch_count(p, &p->ch[i]);
            if (!(v & READ_BACK_NO_STATUS))
                latch_status(p, &p->ch[i]);
        }
        return;
    }
    struct pit_channel *c = &p->ch[n];
    unsigned access = v >> 4 & 3;
    if (access == ACCESS_LATCH) {
        latch_count(p, c);
        return;
    }
    bool gate = c->gate;
    *c = (struct pit_channel){
        .mode = (v >> 1 & 7) > 5 ? (v >> 1 & 3) : (v >> 1 & 7), /* 6, 7 are 2, 3 */
        .access = (uint8_t)access,
        .bcd = v & 1,
        .gate = gate,
        .count = 65536,
    };
    if (n == 0) {
        timer_cancel(p->conf.timers, &p->timer);
        rest_level(p);
    }
}

static uint8_t read_byte(struct pit *p, struct pit_channel *c)
{
    if (c->status_latched) {
        c->status_latched = false;
        return c->status;
    }
    bool was_latched = c->count_latched;
    bool high = c->access == ACCESS_HIGH || (c->access == ACCESS_BOTH && c->high_next_read);

    if (!was_latched) {
        latch_count(p, c);
        c->count_latched = false;
    }
    uint8_t v = (uint8_t)(high ? c->latch >> 8 : c->latch);
    if (c->access == ACCESS_BOTH)
        c->high_next_read = !high;
    if (was_latched && (c->access != ACCESS_BOTH || high))
        c->count_latched = false;
    return v;
}

static void write_byte(struct pit *p, unsigned n, uint8_t v)
{
    struct pit_channel *c = &p->ch[n];

    switch (c->access) {
    case ACCESS_LOW:
        load(p, n, v);
        break;
    case ACCESS_HIGH:
        load(p, n, (uint32_t)v << 8);
        break;
    default:
        if (!c->high_next_write) {
            c->low_written = v;
            c->high_next_write = true;
            break;
        }
        c->high_next_write = false;
        load(p, n, (uint32_t)v << 8 | c->low_written);
        break;
    }
}

static uint64_t pit_read(void *dev, uint64_t off, unsigned len)
{
    struct pit *p = dev;

    (void)len;
    return off == CONTROL ? 0xff : read_byte(p, &p->ch[off]);
}

static void pit_write(void *dev, uint64_t off, unsigned len, uint64_t val)
{
    struct pit *p = dev;

    (void)len;
    if (off == CONTROL)
        control(p, (uint8_t)val);
    else
        write_byte(p, (unsigned)off, (uint8_t)val);
}

static void set_gate(struct pit *p, struct pit_channel *c, bool gate)
{
    if (gate == c->gate)
        return;
    c->gate = gate;
    if (!c->loaded)
        return;
    switch (c->mode) {
    case 0:
    case 4: /* the gate holds the count */
        if (gate) {
            c->since = clock_ns(p->conf.clock) - c->elapsed_ns;
            c->running = true;
        } else {
            c->elapsed_ns = elapsed_ns(p, c);
            c->running = false;
        }
        break;
    case 2:
    case 3: /* a rising gate begins a period */
        if (gate) {
            start(p, c);
        } else {
            c->running = false;
            c->elapsed_ns = 0;
        }
        break;
    default: /* 1, 5: a rising gate triggers */
        if (gate) {
            c->triggered = true;
            start(p, c);
        }
        break;
    }
}

static uint64_t port61_read(void *dev, uint64_t off, unsigned len)
{
    struct pit *p = dev;

    (void)off;
    (void)len;
    return (p->ch[2].gate ? P61_GATE2 : 0u) | (p->speaker ? P61_SPEAKER : 0u) |
           (clock_ns(p->conf.clock) / REFRESH_NS & 1 ? P61_REFRESH : 0u) |
           (out(p, &p->ch[2]) ? P61_OUT2 : 0u);
}

static void port61_write(void *dev, uint64_t off, unsigned len, uint64_t val)
{
    struct pit *p = dev;

    (void)off;
    (void)len;
    p->speaker = val & P61_SPEAKER;
    set_gate(p, &p->ch[2], val & P61_GATE2);
}

void pit_init(struct pit *p, const struct pit_conf *c)
{
    *p = (struct pit){.conf = *c, .timer = {.fire = fire}};
    p->timer.ctx = p;
    for (unsigned i = 0; i < PIT_CHANNELS; i++)
        p->ch[i] = (struct pit_channel){.access = ACCESS_BOTH, .count = 65536, .gate = i != 2};
}

void pit_done(struct pit *p)
{
    if (p->conf.timers)
        timer_cancel(p->conf.timers, &p->timer);
}

int pit_map(struct pit *p, struct bus *pio, struct err *e)
{
    struct bus_region t = {"PIT", PIT_BASE, 4, BUS_1, pit_read, pit_write, p};
    struct bus_region g = {"port 0x61", PIT_PORT61, 1, BUS_1, port61_read, port61_write, p};
    int r = bus_add(pio, &t, e);

    return r < 0 ? r : bus_add(pio, &g, e);
}

static void channel_visit(struct pit_channel *c, struct state_io *io)
{
    state_u8(io, 1, &c->mode);
    state_u8(io, 2, &c->access);
    state_bool(io, 3, &c->bcd);
    state_bool(io, 4, &c->loaded);
    state_bool(io, 5, &c->gate);
    state_bool(io, 6, &c->high_next_write);
    state_bool(io, 7, &c->high_next_read);
    state_u8(io, 8, &c->low_written);
    state_u32(io, 9, &c->count);
    state_bool(io, 10, &c->count_latched);
    state_bool(io, 11, &c->status_latched);
    state_u16(io, 12, &c->latch);
    state_u8(io, 13, &c->status);
    state_bool(io, 14, &c->running);
    state_bool(io, 15, &c->triggered);
    state_u64(io, 16, &c->since);
    state_u64(io, 17, &c->elapsed_ns);
    if (state_loading(io) && (c->mode > 5 || c->access < ACCESS_LOW || c->access > ACCESS_BOTH ||
                              c->count < 1 || c->count > 65536))
        state_fail(io, "PIT: impossible mode, access or count");
}

void pit_visit(struct pit *p, struct state_io *io)
{
    struct pit was = *p;

    for (unsigned i = 0; i < PIT_CHANNELS; i++) {
        state_begin(io, (uint16_t)(1 + i), "PIT channel");
        channel_visit(&p->ch[i], io);
        state_end(io);
    }
    state_bool(io, 4, &p->speaker);
    if (io->saving)
        return;
    if (io->failed)
        *p = was;
    else
        schedule(p);
}
