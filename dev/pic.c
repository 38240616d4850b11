#include "dev/pic.h"

#include "state/state.h"

enum { /* command words, 8259A data sheet figures 7 and 8 */
       ICW1 = 0x10,
       ICW1_IC4 = 0x01,
       ICW1_SINGLE = 0x02,
       ICW4_AUTO_EOI = 0x02,
       ICW4_NESTED = 0x10,
       OCW3 = 0x08,
       OCW3_RIS = 0x01,
       OCW3_RR = 0x02,
       OCW3_POLL = 0x04,
       OCW3_SMM = 0x20,
       OCW3_ESMM = 0x40,
       CASCADE = 2,
       SPURIOUS = 7,
       ELCR_FIXED_MASTER = 0x07, /* timer, keyboard, cascade are always edge */
       ELCR_FIXED_SLAVE = 0x21,  /* RTC and coprocessor error too */
};

/* Priority of the highest input set in `mask`: 0 highest, 8 none. */
static unsigned priority(const struct pic_chip *c, uint8_t mask)
{
    for (unsigned p = 0; p < 8; p++) {
        if (mask & (1u << ((c->lowest + 1 + p) & 7)))
            return p;
    }
    return 8;
}

/* The input to be served now, or -1. */
static int next_input(const struct pic_chip *c)
{
    unsigned want = priority(c, c->irr & (uint8_t)~c->imr);
    uint8_t serving = c->isr;

    if (want == 8)
        return -1;
    if (c->special_mask)
        serving &= (uint8_t)~c->imr;
    /* In special fully nested mode a slave may interrupt its own service. */
    if (c->nested && !c->slave)
        serving &= (uint8_t) ~(1u << CASCADE);
    return want < priority(c, serving) ? (int)((c->lowest + 1 + want) & 7) : -1;
}

static void chip_set(struct pic_chip *c, unsigned n, bool level)
{
    uint8_t bit = (uint8_t)(1u << n);

    if (level) {
        if ((c->elcr & bit) || !(c->lines & bit))
            c->irr |= bit;
        c->lines |= bit;
    } else {
        if (c->elcr & bit)
            c->irr &= (uint8_t)~bit;
        c->lines &= (uint8_t)~bit;
    }
}

static void update(struct pic *p)
{
    /* The cascade input follows the slave's output; a new request needs a new edge. */
    bool slave = next_input(&p->chip[1]) >= 0;

    if (!slave)
        p->chip[0].irr &= (uint8_t) ~(1u << CASCADE);
    chip_set(&p->chip[0], CASCADE, false);
    chip_set(&p->chip[0], CASCADE, slave);
    irq_set(&p->out, next_input(&p->chip[0]) >= 0);
}

void pic_set(void *pic, unsigned n, bool level)
{
    struct pic *p = pic;

    if (n >= PIC_INPUTS || n == CASCADE)
        return;
    chip_set(&p->chip[n >> 3], n & 7, level);
    update(p);
}

/* Input `n` of one chip enters service. */
static void take(struct pic_chip *c, unsigned n)
{
    uint8_t bit = (uint8_t)(1u << n);

    if (!(c->elcr & bit))
        c->irr &= (uint8_t)~bit;
    if (!c->auto_eoi)
        c->isr |= bit;
    else if (c->rotate_auto)
        c->lowest = (uint8_t)n;
}

int pic_ack(struct pic *p)
{
    int n = next_input(&p->chip[0]);
    int vector;

    if (n == CASCADE) {
        int s = next_input(&p->chip[1]);

        take(&p->chip[0], CASCADE);
        if (s >= 0)
            take(&p->chip[1], (unsigned)s);
        vector = p->chip[1].icw2 + (s >= 0 ? s : SPURIOUS);
    } else {
        if (n >= 0)
            take(&p->chip[0], (unsigned)n);
        vector = p->chip[0].icw2 + (n >= 0 ? n : SPURIOUS);
    }
    update(p);
    return vector;
}

static void icw1(struct pic_chip *c, uint8_t v)
{
    c->irr = 0; /* edge sense is reset: inputs must go low first */
    c->isr = 0;
    c->imr = 0;
    c->lowest = 7;
    c->special_mask = false;
    c->read_isr = false;
    c->poll = false;
    c->auto_eoi = false;
    c->rotate_auto = false;
    c->nested = false;
    c->icw4_needed = v & ICW1_IC4;
    c->single = v & ICW1_SINGLE;
    c->init_step = 2;
    c->irr = c->lines & c->elcr; /* but a level is still a request */
}

static void end_of_interrupt(struct pic_chip *c, bool specific, bool rotate, unsigned n)
{
    if (!specific) {
        uint8_t isr = c->special_mask ? c->isr & (uint8_t)~c->imr : c->isr;
        unsigned p = priority(c, isr);

        if (p == 8)
            return;
        n = (c->lowest + 1 + p) & 7;
    }
    c->isr &= (uint8_t) ~(1u << n);
    if (rotate)
        c->lowest = (uint8_t)n;
}

static void ocw2(struct pic_chip *c, uint8_t v)
{
    unsigned n = v & 7;

    switch (v >> 5) {
    case 0: /* rotate in automatic EOI mode: clear */
        c->rotate_auto = false;
        break;
    case 4: /* ... set */
        c->rotate_auto = true;
        break;
    case 1: /* non-specific EOI */
        end_of_interrupt(c, false, false, 0);
        break;
    case 3: /* specific EOI */
        end_of_interrupt(c, true, false, n);
        break;
    case 5: /* rotate on non-specific EOI */
        end_of_interrupt(c, false, true, 0);
        break;
    case 7: /* rotate on specific EOI */
        end_of_interrupt(c, true, true, n);
        break;
    case 6: /* set priority */
        c->lowest = (uint8_t)n;
        break;
    default: /* 2: no operation */
        break;
    }
}

static void ocw3(struct pic_chip *c, uint8_t v)
{
    if (v & OCW3_POLL)
        c->poll = true;
    if (v & OCW3_RR)
        c->read_isr = v & OCW3_RIS;
    if (v & OCW3_ESMM)
        c->special_mask = v & OCW3_SMM;
}

static void data_write(struct pic_chip *c, uint8_t v)
{
    switch (c->init_step) {
    case 2:
        c->icw2 = v & 0xf8;
        c->init_step = c->single ? (c->icw4_needed ? 4 : 0) : 3;
        break;
    case 3: /* the wiring of the cascade is fixed on a PC */
        c->init_step = c->icw4_needed ? 4 : 0;
        break;
    case 4:
        c->auto_eoi = v & ICW4_AUTO_EOI;
        c->nested = v & ICW4_NESTED;
        c->init_step = 0;
        break;
    default: /* OCW1 */
        c->imr = v;
        break;
    }
}

static void chip_write(void *dev, uint64_t off, unsigned len, uint64_t val)
{
    struct pic_chip *c = dev;
    uint8_t v = (uint8_t)val;

    (void)len;
    if (off == 1)
        data_write(c, v);
    else if (v & ICW1)
        icw1(c, v);
    else if (v & OCW3)
        ocw3(c, v);
    else
        ocw2(c, v);
    update(c->pic);
}

/* Poll command: the next read is an acknowledge (data sheet, "Poll Command"). */
static uint8_t poll_read(struct pic_chip *c)
{
    int n = next_input(c);

    c->poll = false;
    if (n < 0)
        return 0;
    take(c, (unsigned)n);
    update(c->pic);
    return (uint8_t)(0x80 | n);
}

static uint64_t chip_read(void *dev, uint64_t off, unsigned len)
{
    struct pic_chip *c = dev;

    (void)len;
    if (c->poll)
        return poll_read(c);
    if (off == 1)
        return c->imr;
    return c->read_isr ? c->isr : c->irr;
}

static uint64_t elcr_read(void *dev, uint64_t off, unsigned len)
{
    struct pic *p = dev;

    (void)len;
    return p->chip[off].elcr;
}

static void elcr_write(void *dev, uint64_t off, unsigned len, uint64_t val)
{
    struct pic *p = dev;
    struct pic_chip *c = &p->chip[off];

    (void)len;
    c->elcr = (uint8_t)(val & ~(uint64_t)(off ? ELCR_FIXED_SLAVE : ELCR_FIXED_MASTER));
    c->irr |= c->lines & c->elcr;
    update(p);
}

void pic_init(struct pic *p, const struct irq_line *out)
{
    *p = (struct pic){.out = *out};
    for (int i = 0; i < 2; i++)
        p->chip[i] = (struct pic_chip){.pic = p, .slave = i, .lowest = 7, .imr = 0xff};
}

int pic_map(struct pic *p, struct bus *pio, struct err *e)
{
    struct bus_region m = {"PIC", PIC_MASTER, 2, BUS_1, chip_read, chip_write, &p->chip[0]};
    struct bus_region s = {"PIC 2", PIC_SLAVE, 2, BUS_1, chip_read, chip_write, &p->chip[1]};
    struct bus_region l = {"PIC ELCR", PIC_ELCR, 2, BUS_1, elcr_read, elcr_write, p};
    int r = bus_add(pio, &m, e);

    if (r == 0)
        r = bus_add(pio, &s, e);
    return r < 0 ? r : bus_add(pio, &l, e);
}

static void chip_visit(struct pic_chip *c, struct state_io *io)
{
    state_u8(io, 1, &c->lines);
    state_u8(io, 2, &c->elcr);
    state_u8(io, 3, &c->irr);
    state_u8(io, 4, &c->isr);
    state_u8(io, 5, &c->imr);
    state_u8(io, 6, &c->lowest);
    state_u8(io, 7, &c->icw2);
    state_u8(io, 8, &c->init_step);
    state_bool(io, 9, &c->icw4_needed);
    state_bool(io, 10, &c->single);
    state_bool(io, 11, &c->auto_eoi);
    state_bool(io, 12, &c->rotate_auto);
    state_bool(io, 13, &c->nested);
    state_bool(io, 14, &c->special_mask);
    state_bool(io, 15, &c->read_isr);
    state_bool(io, 16, &c->poll);
    if (!state_loading(io))
        return;
    c->icw2 &= 0xf8;
    c->elcr &= (uint8_t) ~(c->slave ? ELCR_FIXED_SLAVE : ELCR_FIXED_MASTER);
    if (c->lowest > 7 || c->init_step > 4 || c->init_step == 1)
        state_fail(io, "PIC: impossible priority or initialization step");
}

void pic_visit(struct pic *p, struct state_io *io)
{
    struct pic was = *p;

    state_begin(io, 1, "PIC master");
    chip_visit(&p->chip[0], io);
    state_end(io);
    state_begin(io, 2, "PIC slave");
    chip_visit(&p->chip[1], io);
    state_end(io);
    if (!io->saving && io->failed)
        *p = was;
    else if (!io->saving) /* the engine does not keep the level of its input */
        irq_set(&p->out, next_input(&p->chip[0]) >= 0);
}
