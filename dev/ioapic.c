#include "dev/ioapic.h"

#include <stdbool.h>

#include "state/state.h"

enum { /* memory-mapped registers, data sheet 3.1; EOI register of the ICH family */
       IOREGSEL = 0x00,
       IOWIN = 0x10,
       EOIR = 0x40,
};

enum { /* indirect registers, 3.2 */
       IOAPICID = 0,
       IOAPICVER = 1,
       IOAPICARB = 2,
       IOREDTBL = 0x10,
       VERSION = 0x20 | (IOAPIC_PINS - 1) << 16,
       ID_MASK = 0x0f000000,
};

/* Redirection entry, 3.2.4. */
#define RED_VECTOR 0xffull
#define RED_DELMOD_SHIFT 8
#define RED_DELMOD 0x700ull
#define RED_LOGICAL 0x800ull
#define RED_REMOTE_IRR 0x4000ull
#define RED_LEVEL 0x8000ull
#define RED_MASK 0x10000ull
#define RED_WRITABLE 0xff0000000001afffull /* low polarity too: kept, of no effect */
#define RED_DEST_SHIFT 56

enum { DELMOD_LOWEST = 1 };

/* SDM vol 3A, 10.11.1 and 10.11.2: the message that says the same as an entry. */
static struct msi message(uint64_t red)
{
    uint64_t delmod = (red & RED_DELMOD) >> RED_DELMOD_SHIFT;
    uint64_t addr = 0xfee00000ull | (red >> RED_DEST_SHIFT) << 12;
    uint32_t data = (uint32_t)(red & RED_VECTOR) | (uint32_t)delmod << 8 | 1u << 14;

    if (red & RED_LOGICAL)
        addr |= 1u << 2;
    if (delmod == DELMOD_LOWEST)
        addr |= 1u << 3; /* redirection hint */
    if (red & RED_LEVEL)
        data |= 1u << 15;
    return (struct msi){addr, data};
}

static void send(struct ioapic *a, unsigned n)
{
    if (a->conf.msi.send)
        a->conf.msi.send(a->conf.msi.ctx, message(a->redir[n]));
}

/* A level-triggered pin sends while it is high, once until its EOI. */
static void service_level(struct ioapic *a, unsigned n)
{
    uint64_t *red = &a->redir[n];

    if ((a->lines & (1u << n)) && (*red & RED_LEVEL) && !(*red & (RED_MASK | RED_REMOTE_IRR))) {
        *red |= RED_REMOTE_IRR;
        send(a, n);
    }
}

void ioapic_set(void *ioapic, unsigned n, bool level)
{
    struct ioapic *a = ioapic;

    if (n >= IOAPIC_PINS)
        return;
    bool rose = level && !(a->lines & (1u << n));
    a->lines = level ? a->lines | 1u << n : a->lines & ~(1u << n);
    if (a->redir[n] & RED_LEVEL)
        service_level(a, n);
    else if (rose && !(a->redir[n] & RED_MASK))
        send(a, n); /* an edge on a masked pin is lost (3.2.4, bit 16) */
}

void ioapic_eoi(struct ioapic *a, uint8_t vector)
{
    for (unsigned n = 0; n < IOAPIC_PINS; n++) {
        uint64_t *red = &a->redir[n];

        if ((*red & RED_REMOTE_IRR) && (*red & RED_VECTOR) == vector) {
            *red &= ~RED_REMOTE_IRR;
            service_level(a, n);
        }
    }
}

bool ioapic_msi(const struct ioapic *a, unsigned pin, struct msi *m)
{
    if (pin >= IOAPIC_PINS || (a->redir[pin] & (RED_MASK | RED_LEVEL)))
        return false;
    *m = message(a->redir[pin]);
    return true;
}

static uint32_t read_indirect(const struct ioapic *a)
{
    switch (a->select) {
    case IOAPICID:
    case IOAPICARB:
        return a->id;
    case IOAPICVER:
        return VERSION;
    default:
        break;
    }
    unsigned n = (a->select - IOREDTBL) / 2;
    if (a->select < IOREDTBL || n >= IOAPIC_PINS)
        return 0;
    return (uint32_t)(a->redir[n] >> (a->select & 1 ? 32 : 0));
}

static void write_indirect(struct ioapic *a, uint32_t v)
{
    if (a->select == IOAPICID)
        a->id = v & ID_MASK;
    unsigned n = (a->select - IOREDTBL) / 2;
    if (a->select < IOREDTBL || n >= IOAPIC_PINS)
        return;

    uint64_t old = a->redir[n];
    uint64_t red =
        a->select & 1 ? (old & 0xffffffffu) | (uint64_t)v << 32 : (old & ~0xffffffffull) | v;
    red = (red & RED_WRITABLE) | (old & RED_REMOTE_IRR);
    /* A pin made edge triggered has no EOI to wait for: kernels use this to clear the bit. */
    if (!(red & RED_LEVEL))
        red &= ~RED_REMOTE_IRR;
    a->redir[n] = red;
    service_level(a, n);
    if (a->conf.route)
        a->conf.route(a->conf.ctx, n);
}

static uint64_t ioapic_read(void *dev, uint64_t off, unsigned len)
{
    struct ioapic *a = dev;

    (void)len;
    switch (off) {
    case IOREGSEL:
        return a->select;
    case IOWIN:
        return read_indirect(a);
    default:
        return 0;
    }
}

static void ioapic_write(void *dev, uint64_t off, unsigned len, uint64_t val)
{
    struct ioapic *a = dev;

    (void)len;
    switch (off) {
    case IOREGSEL:
        a->select = val & 0xff;
        break;
    case IOWIN:
        write_indirect(a, (uint32_t)val);
        break;
    case EOIR:
        ioapic_eoi(a, (uint8_t)val);
        break;
    default:
        break;
    }
}

void ioapic_init(struct ioapic *a, const struct ioapic_conf *c)
{
    *a = (struct ioapic){.conf = *c};
    for (unsigned n = 0; n < IOAPIC_PINS; n++)
        a->redir[n] = RED_MASK;
}

int ioapic_map(struct ioapic *a, struct bus *mmio, struct err *e)
{
    struct bus_region r = {
        "IOAPIC", IOAPIC_BASE, IOAPIC_SIZE, BUS_1 | BUS_4, ioapic_read, ioapic_write, a};

    return bus_add(mmio, &r, e);
}

void ioapic_visit(struct ioapic *a, struct state_io *io)
{
    struct ioapic was = *a;

    state_u64s(io, 1, a->redir, IOAPIC_PINS);
    state_u32(io, 2, &a->lines);
    state_u32(io, 3, &a->select);
    state_u32(io, 4, &a->id);
    if (io->saving)
        return;
    if (io->failed) {
        *a = was;
        return;
    }
    a->select &= 0xff;
    a->id &= ID_MASK;
    a->lines &= (1u << IOAPIC_PINS) - 1;
    for (unsigned n = 0; n < IOAPIC_PINS; n++) {
        a->redir[n] &= RED_WRITABLE | (a->redir[n] & RED_LEVEL ? RED_REMOTE_IRR : 0);
        if (a->conf.route)
            a->conf.route(a->conf.ctx, n);
    }
}
