#include "dev/serial.h"

#include <string.h>

#include "state/state.h"

enum { /* register offsets, data sheet table II */
       RBR_THR = 0,
       IER = 1,
       IIR_FCR = 2,
       LCR = 3,
       MCR = 4,
       LSR = 5,
       MSR = 6,
       SCR = 7,
};

enum {
    IER_RDI = 1,
    IER_THRI = 2,
    IER_RLSI = 4,
    IER_MSI = 8,
    IER_MASK = 0x0f,
    IIR_NONE = 1,
    IIR_MSI = 0,
    IIR_THRI = 2,
    IIR_RDI = 4,
    IIR_RLSI = 6,
    IIR_CTI = 0x0c,
    IIR_FIFO = 0xc0,
    FCR_ENABLE = 1,
    FCR_CLEAR_RX = 2,
    FCR_KEPT = 0xc9, /* enable, DMA mode, trigger level */
    LCR_DLAB = 0x80,
    MCR_DTR = 1,
    MCR_RTS = 2,
    MCR_OUT1 = 4,
    MCR_OUT2 = 8,
    MCR_LOOP = 0x10,
    MCR_MASK = 0x1f,
    LSR_DR = 1,
    LSR_OE = 2,
    LSR_ERRORS = 0x1e,
    LSR_THRE = 0x20,
    LSR_TEMT = 0x40,
    POLLS_LISTEN = 16, /* more than a driver's start-up does */
    MSR_DELTA = 0x0f,
    MSR_CTS = 0x10,
    MSR_DSR = 0x20,
    MSR_RI = 0x40,
    MSR_DCD = 0x80,
};

/* Receive level at which the data interrupt is due (FCR 7:6); fewer bytes than that time out. */
static unsigned trigger(const struct serial *s)
{
    static const uint8_t level[] = {1, 4, 8, 14};

    return s->fcr & FCR_ENABLE ? level[s->fcr >> 6] : 1;
}

static unsigned fifo_size(const struct serial *s)
{
    return s->fcr & FCR_ENABLE ? SERIAL_FIFO : 1;
}

/* The interrupt of highest priority (data sheet table IV). A byte that has not reached the trigger
 * level "times out" at once: no more bytes are on their way. */
static uint8_t pending(const struct serial *s)
{
    if ((s->ier & IER_RLSI) && (s->lsr & LSR_ERRORS))
        return IIR_RLSI;
    if ((s->ier & IER_RDI) && s->fifo_n)
        return s->fifo_n >= trigger(s) ? IIR_RDI : IIR_CTI;
    if ((s->ier & IER_THRI) && s->thre_pending)
        return IIR_THRI;
    if ((s->ier & IER_MSI) && (s->msr & MSR_DELTA))
        return IIR_MSI;
    return IIR_NONE;
}

/* On a PC the interrupt leaves the chip only while OUT2 is set, and not in loop mode. */
static void update_irq(struct serial *s)
{
    bool gate = (s->mcr & MCR_OUT2) && !(s->mcr & MCR_LOOP);

    irq_set(&s->conf.irq, gate && pending(s) != IIR_NONE);
}

static void receive(struct serial *s, uint8_t byte)
{
    if (s->fifo_n == fifo_size(s)) {
        s->lsr |= LSR_OE;
        return;
    }
    s->fifo[s->fifo_n++] = byte;
}

/* Does the guest expect input? Drivers probe IER, but with OUT2 off; those that send read the line
 * status too, but once a byte. */
static bool listens(const struct serial *s)
{
    bool interrupts = (s->ier & IER_RDI) && (s->mcr & MCR_OUT2);

    return (interrupts || s->polls >= POLLS_LISTEN) && !(s->mcr & MCR_LOOP);
}

/* Move bytes from the host's queue into the FIFO. */
static void refill(struct serial *s)
{
    bool was_full = s->queue_n == SERIAL_QUEUE;

    if (!listens(s))
        return;
    while (s->queue_n && s->fifo_n < fifo_size(s)) {
        receive(s, s->queue[s->queue_head]);
        s->queue_head = (uint16_t)((s->queue_head + 1) % SERIAL_QUEUE);
        s->queue_n--;
    }
    if (was_full && s->queue_n < SERIAL_QUEUE && s->conf.room)
        s->conf.room(s->conf.ctx);
}

/* Modem inputs: in loop mode the outputs, else a peer that is always there. */
static uint8_t modem_inputs(const struct serial *s)
{
    if (!(s->mcr & MCR_LOOP))
        return MSR_CTS | MSR_DSR | MSR_DCD;
    return (uint8_t)((s->mcr & MCR_RTS ? MSR_CTS : 0) | (s->mcr & MCR_DTR ? MSR_DSR : 0) |
                     (s->mcr & MCR_OUT1 ? MSR_RI : 0) | (s->mcr & MCR_OUT2 ? MSR_DCD : 0));
}

static void update_modem(struct serial *s)
{
    uint8_t now = modem_inputs(s);
    uint8_t changed = (uint8_t)((now ^ s->msr) & 0xf0);

    /* TERI, the delta bit of RI, is set by the trailing edge only. */
    if (changed & now & MSR_RI)
        changed &= (uint8_t)~MSR_RI;
    s->msr = (uint8_t)(now | (s->msr & MSR_DELTA) | (changed >> 4));
}

static uint8_t read_data(struct serial *s)
{
    uint8_t byte = 0;

    if (s->fifo_n) {
        byte = s->fifo[0];
        s->fifo_n--;
        memmove(s->fifo, s->fifo + 1, s->fifo_n);
    }
    refill(s);
    return byte;
}

static uint64_t serial_read(void *dev, uint64_t off, unsigned len)
{
    struct serial *s = dev;
    uint8_t v = 0;

    (void)len;
    s->polls = off != LSR ? 0 : (uint8_t)(s->polls < POLLS_LISTEN ? s->polls + 1 : s->polls);
    switch (off) {
    case RBR_THR:
        v = s->lcr & LCR_DLAB ? s->dll : read_data(s);
        break;
    case IER:
        v = s->lcr & LCR_DLAB ? s->dlm : s->ier;
        break;
    case IIR_FCR:
        v = pending(s);
        if (v == IIR_THRI)
            s->thre_pending = false; /* reading it is the acknowledgement */
        if (s->fcr & FCR_ENABLE)
            v |= IIR_FIFO;
        break;
    case LCR:
        v = s->lcr;
        break;
    case MCR:
        v = s->mcr;
        break;
    case LSR:
        refill(s);
        v = (uint8_t)(s->lsr | (s->fifo_n ? LSR_DR : 0) | LSR_THRE | LSR_TEMT);
        s->lsr = 0;
        break;
    case MSR:
        v = s->msr;
        s->msr &= (uint8_t)~MSR_DELTA;
        break;
    case SCR:
        v = s->scr;
        break;
    }
    update_irq(s);
    return v;
}

static void write_data(struct serial *s, uint8_t byte)
{
    if (s->mcr & MCR_LOOP)
        receive(s, byte);
    else if (s->conf.out)
        s->conf.out(s->conf.ctx, &byte, 1);
    /* The register was full for an instant: an edge for the interrupt controller. */
    s->thre_pending = false;
    update_irq(s);
    s->thre_pending = true;
}

static void write_ier(struct serial *s, uint8_t v)
{
    /* Enabling THRI with an empty transmitter interrupts at once; drivers probe for it. */
    if ((v & IER_THRI) && !(s->ier & IER_THRI))
        s->thre_pending = true;
    s->ier = v & IER_MASK;
    refill(s);
}

static void write_fcr(struct serial *s, uint8_t v)
{
    /* Leaving FIFO mode clears too. Entering it would, but Linux does so with interrupts open: the
     * byte that came in between is kept. */
    if (((s->fcr & FCR_ENABLE) && !(v & FCR_ENABLE)) || ((v & FCR_ENABLE) && (v & FCR_CLEAR_RX)))
        s->fifo_n = 0;
    s->fcr = v & FCR_ENABLE ? v & FCR_KEPT : 0;
    refill(s);
}

static void serial_write(void *dev, uint64_t off, unsigned len, uint64_t val)
{
    struct serial *s = dev;
    uint8_t v = (uint8_t)val;

    (void)len;
    s->polls = 0;
    switch (off) {
    case RBR_THR:
        if (s->lcr & LCR_DLAB)
            s->dll = v;
        else
            write_data(s, v);
        break;
    case IER:
        if (s->lcr & LCR_DLAB)
            s->dlm = v;
        else
            write_ier(s, v);
        break;
    case IIR_FCR:
        write_fcr(s, v);
        break;
    case LCR:
        s->lcr = v;
        break;
    case MCR:
        s->mcr = v & MCR_MASK;
        update_modem(s);
        refill(s);
        break;
    case SCR:
        s->scr = v;
        break;
    default: /* LSR and MSR: writes are for factory tests only */
        break;
    }
    update_irq(s);
}

void serial_init(struct serial *s, const struct serial_conf *c)
{
    *s = (struct serial){.conf = *c, .dll = 12 /* 9600 baud */};
    s->msr = modem_inputs(s);
}

int serial_map(struct serial *s, struct bus *pio, uint64_t base, struct err *e)
{
    struct bus_region r = {"serial", base, SERIAL_PORTS, BUS_1, serial_read, serial_write, s};

    return bus_add(pio, &r, e);
}

size_t serial_room(const struct serial *s)
{
    return SERIAL_QUEUE - s->queue_n;
}

void serial_in(struct serial *s, const uint8_t *bytes, size_t len)
{
    size_t n = len < serial_room(s) ? len : serial_room(s);

    for (size_t i = 0; i < n; i++)
        s->queue[(s->queue_head + s->queue_n++) % SERIAL_QUEUE] = bytes[i];
    refill(s);
    update_irq(s);
}

void serial_visit(struct serial *s, struct state_io *io)
{
    struct serial was = *s;

    state_u8(io, 1, &s->ier);
    state_u8(io, 2, &s->fcr);
    state_u8(io, 3, &s->lcr);
    state_u8(io, 4, &s->mcr);
    state_u8(io, 5, &s->lsr);
    state_u8(io, 6, &s->msr);
    state_u8(io, 7, &s->scr);
    state_u8(io, 8, &s->dll);
    state_u8(io, 9, &s->dlm);
    state_bool(io, 10, &s->thre_pending);
    state_bytes(io, 11, s->fifo, sizeof(s->fifo));
    state_u8(io, 12, &s->fifo_n);
    state_bytes(io, 13, s->queue, sizeof(s->queue));
    state_u16(io, 14, &s->queue_head);
    state_u16(io, 15, &s->queue_n);
    state_u8(io, 16, &s->polls);
    if (io->saving)
        return;
    s->ier &= IER_MASK;
    s->fcr = s->fcr & FCR_ENABLE ? s->fcr & FCR_KEPT : 0;
    s->mcr &= MCR_MASK;
    s->lsr &= LSR_ERRORS;
    s->polls = s->polls < POLLS_LISTEN ? s->polls : POLLS_LISTEN;
    if (s->fifo_n > fifo_size(s) || s->queue_head >= SERIAL_QUEUE || s->queue_n > SERIAL_QUEUE)
        state_fail(io, "serial: a queue is longer than it can be");
    if (io->failed)
        *s = was;
}
