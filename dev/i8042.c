#include "dev/i8042.h"

#include <string.h>

#include "state/state.h"

enum { /* status register */
       STATUS_OBF = 0x01,
       STATUS_SYS = 0x04,
       STATUS_CMD = 0x08,
       STATUS_UNLOCKED = 0x10,
};

enum { /* controller command byte */
       CTR_KBD_INT = 0x01,
       CTR_SYS = 0x04,
       CTR_KBD_OFF = 0x10,
       CTR_AUX_OFF = 0x20,
       CTR_XLATE = 0x40,
       CTR_MASK = 0x7f,
};

enum { /* controller commands */
       CMD_READ_CTR = 0x20,
       CMD_WRITE_CTR = 0x60,
       CMD_AUX_OFF = 0xa7,
       CMD_AUX_ON = 0xa8,
       CMD_AUX_TEST = 0xa9,
       CMD_SELF_TEST = 0xaa,
       CMD_KBD_TEST = 0xab,
       CMD_KBD_OFF = 0xad,
       CMD_KBD_ON = 0xae,
       CMD_READ_INPUT = 0xc0,
       CMD_READ_OUTPUT = 0xd0,
       CMD_WRITE_OUTPUT = 0xd1,
       CMD_KBD_LOOP = 0xd2,
       CMD_AUX_LOOP = 0xd3,
       CMD_AUX_SEND = 0xd4,
       CMD_PULSE = 0xf0, /* 0xf0..0xff: pulse the output lines whose bit is 0 */
       OUTPORT_RESET = 0x01,
};

enum { /* keyboard commands and answers */
       KBD_SET_LEDS = 0xed,
       KBD_SCAN_SET = 0xf0,
       KBD_ID = 0xf2,
       KBD_RATE = 0xf3,
       KBD_RESET = 0xff,
       KBD_ACK = 0xfa,
       KBD_PASSED = 0xaa,
       KBD_RESEND = 0xfe,
       AUX_CLOCK_STUCK = 0x01, /* interface test: no device */
       SELF_TEST_OK = 0x55,
};

static void update_irq(struct i8042 *k)
{
    irq_set(&k->conf.irq, k->n && (k->ctr & CTR_KBD_INT));
}

/* A full queue drops: the guest sent commands without reading the answers. */
static void answer(struct i8042 *k, uint8_t byte)
{
    if (k->n < I8042_QUEUE)
        k->queue[k->n++] = byte;
}

static void reset(struct i8042 *k)
{
    if (k->conf.reset)
        k->conf.reset(k->conf.ctx);
}

static void keyboard(struct i8042 *k, uint8_t v)
{
    if (k->kbd_wants) { /* the parameter of the command before */
        bool query = k->kbd_wants == KBD_SCAN_SET && v == 0;

        k->kbd_wants = 0;
        answer(k, KBD_ACK);
        if (query)
            answer(k, 2); /* the scan code set in use */
        return;
    }
    switch (v) {
    case KBD_SET_LEDS:
    case KBD_SCAN_SET:
    case KBD_RATE:
        k->kbd_wants = v;
        answer(k, KBD_ACK);
        break;
    case KBD_ID:
        answer(k, KBD_ACK);
        answer(k, 0xab);
        answer(k, k->ctr & CTR_XLATE ? 0x41 : 0x83);
        break;
    case KBD_RESET:
        answer(k, KBD_ACK);
        answer(k, KBD_PASSED);
        break;
    default:
        answer(k, v >= KBD_SET_LEDS ? KBD_ACK : KBD_RESEND);
        break;
    }
}

static void data_write(struct i8042 *k, uint8_t v)
{
    uint8_t cmd = k->wants;

    k->wants = 0;
    switch (cmd) {
    case 0:
        k->ctr &= (uint8_t)~CTR_KBD_OFF; /* sending to the keyboard enables it */
        keyboard(k, v);
        break;
    case CMD_WRITE_CTR:
        k->ctr = v & CTR_MASK;
        break;
    case CMD_WRITE_OUTPUT:
        k->outport = v;
        if (!(v & OUTPORT_RESET))
            reset(k);
        break;
    case CMD_KBD_LOOP:
        answer(k, v);
        break;
    case CMD_AUX_LOOP:
        answer(k, (uint8_t)~v); /* there is no such port: not what was sent */
        break;
    case CMD_AUX_SEND:
        answer(k, KBD_RESEND);
        break;
    }
}

static void command(struct i8042 *k, uint8_t v)
{
    k->wants = 0;
    switch (v) {
    case CMD_READ_CTR:
        answer(k, k->ctr);
        break;
    case CMD_WRITE_CTR:
    case CMD_WRITE_OUTPUT:
    case CMD_KBD_LOOP:
    case CMD_AUX_LOOP:
    case CMD_AUX_SEND:
        k->wants = v;
        break;
    case CMD_AUX_OFF:
    case CMD_AUX_ON: /* no such port: the bit stays set, which tells a driver so */
        k->ctr |= CTR_AUX_OFF;
        break;
    case CMD_AUX_TEST:
        answer(k, AUX_CLOCK_STUCK);
        break;
    case CMD_SELF_TEST:
        k->ctr |= CTR_SYS;
        answer(k, SELF_TEST_OK);
        break;
    case CMD_KBD_TEST:
        answer(k, 0);
        break;
    case CMD_KBD_OFF:
        k->ctr |= CTR_KBD_OFF;
        break;
    case CMD_KBD_ON:
        k->ctr &= (uint8_t)~CTR_KBD_OFF;
        break;
    case CMD_READ_INPUT:
        answer(k, 0x80); /* keyboard not locked */
        break;
    case CMD_READ_OUTPUT:
        answer(k, k->outport);
        break;
    default:
        if (v >= CMD_PULSE && !(v & OUTPORT_RESET))
            reset(k);
        break;
    }
}

static uint64_t data_read(void *dev, uint64_t off, unsigned len)
{
    struct i8042 *k = dev;
    uint8_t v = k->queue[0]; /* an empty buffer still shows its last byte */

    (void)off;
    (void)len;
    if (k->n && --k->n)
        memmove(k->queue, k->queue + 1, k->n);
    irq_set(&k->conf.irq, false); /* an edge for the byte that follows */
    update_irq(k);
    return v;
}

static uint64_t status_read(void *dev, uint64_t off, unsigned len)
{
    struct i8042 *k = dev;

    (void)off;
    (void)len;
    return (k->n ? STATUS_OBF : 0u) | (k->ctr & CTR_SYS ? STATUS_SYS : 0u) |
           (k->last_was_command ? STATUS_CMD : 0u) | STATUS_UNLOCKED;
}

static void write_data(void *dev, uint64_t off, unsigned len, uint64_t val)
{
    struct i8042 *k = dev;

    (void)off;
    (void)len;
    k->last_was_command = false;
    data_write(k, (uint8_t)val);
    update_irq(k);
}

static void write_command(void *dev, uint64_t off, unsigned len, uint64_t val)
{
    struct i8042 *k = dev;

    (void)off;
    (void)len;
    k->last_was_command = true;
    command(k, (uint8_t)val);
    update_irq(k);
}

void i8042_init(struct i8042 *k, const struct i8042_conf *c)
{
    *k = (struct i8042){
        .conf = *c,
        .ctr = CTR_SYS | CTR_AUX_OFF | CTR_XLATE,
        .outport = 0xcf,
    };
}

int i8042_map(struct i8042 *k, struct bus *pio, struct err *e)
{
    struct bus_region data = {"i8042 data", I8042_DATA, 1, BUS_1, data_read, write_data, k};
    struct bus_region cmd = {"i8042 command", I8042_COMMAND, 1, BUS_1,
                             status_read,     write_command, k};
    int r = bus_add(pio, &data, e);

    return r < 0 ? r : bus_add(pio, &cmd, e);
}

void i8042_visit(struct i8042 *k, struct state_io *io)
{
    struct i8042 was = *k;

    state_u8(io, 1, &k->ctr);
    state_u8(io, 2, &k->outport);
    state_u8(io, 3, &k->wants);
    state_u8(io, 4, &k->kbd_wants);
    state_bool(io, 5, &k->last_was_command);
    state_bytes(io, 6, k->queue, sizeof(k->queue));
    state_u8(io, 7, &k->n);
    if (!io->saving && k->n > I8042_QUEUE)
        state_fail(io, "i8042: a queue is longer than it can be");
    if (!io->saving && io->failed)
        *k = was;
}
