#include "machine/board.h"

#include <errno.h>
#include <stdlib.h>

#include "dev/acpipm.h"
#include "dev/exitport.h"
#include "dev/i8042.h"
#include "dev/ioapic.h"
#include "dev/pic.h"
#include "dev/pit.h"
#include "dev/rtc.h"
#include "dev/serial.h"
#include "dev/vmgenid.h"
#include "dev/virtio/device.h"
#include "dev/virtio/mmio.h"
#include "dev/wallport.h"
#include "machine/boot.h"
#include "state/state.h"

enum {
    IRQ_PIT = 0,
    IRQ_KEYBOARD = 1,
    IRQ_SERIAL = 4,
    IRQ_RTC = 8,
    PIN_PIT = 2, /* where a PC wires IRQ 0; the MADT says so */
    PIN_VIRTIO = 5,
    SERIAL_BASE = 0x3f8,
};

struct board {
    struct board_conf conf;
    struct bus mmio, pio;
    struct serial serial;
    struct i8042 i8042;
    struct pic pic;
    struct pit pit;
    struct ioapic ioapic;
    struct rtc rtc;
    struct acpipm acpipm;
    struct exitport exitport;
    struct vmgenid vmgenid;
    struct wallport wallport;
    struct vmmio *slot[BOARD_VIRTIO_MAX]; /* owned */
    unsigned n_slots;
};

/* Every interrupt below 16 reaches both controllers; the guest masks one of them. */
static void board_irq(void *ctx, unsigned n, bool level)
{
    struct board *b = ctx;

    if (n < PIC_INPUTS)
        pic_set(&b->pic, n, level);
    ioapic_set(&b->ioapic, n == IRQ_PIT ? PIN_PIT : n, level);
}

static struct irq_line line(struct board *b, unsigned n)
{
    return (struct irq_line){board_irq, b, n};
}

unsigned board_slot_pin(unsigned slot)
{
    unsigned pin = PIN_VIRTIO + slot;

    return pin < IRQ_RTC ? pin : pin + 1;
}

static void init_devices(struct board *b)
{
    const struct board_conf *c = &b->conf;
    struct mem_region ram[MEM_REGIONS_MAX];
    unsigned n = mem_regions(c->mem, ram);

    ioapic_init(&b->ioapic, &(struct ioapic_conf){.msi = c->msi});
    pic_init(&b->pic, &c->pic_out);
    serial_init(&b->serial, &(struct serial_conf){.irq = line(b, IRQ_SERIAL),
                                                  .out = c->serial_out,
                                                  .room = c->serial_room,
                                                  .ctx = c->serial_ctx});
    i8042_init(&b->i8042, &(struct i8042_conf){.irq = line(b, IRQ_KEYBOARD),
                                               .reset = c->events.reset,
                                               .ctx = c->events.ctx});
    pit_init(&b->pit, &(struct pit_conf){c->clock, c->timers, line(b, IRQ_PIT)});
    rtc_init(&b->rtc, &(struct rtc_conf){.clock = c->clock,
                                         .timers = c->timers,
                                         .irq = line(b, IRQ_RTC),
                                         .ram_low = ram[0].size,
                                         .ram_high = n > 1 ? ram[1].size : 0});
    acpipm_init(&b->acpipm,
                &(struct acpipm_conf){c->events.poweroff, c->events.reset, c->events.ctx});
    exitport_init(&b->exitport, c->events.exit_port, c->events.ctx);
    wallport_init(&b->wallport, c->clock);
    vmgenid_init(&b->vmgenid, c->mem, BOARD_VMGENID, line(b, BOARD_VMGENID_PIN));
}

static int map_devices(struct board *b, struct err *e)
{
    int r = ioapic_map(&b->ioapic, &b->mmio, e);

    if (r >= 0)
        r = pic_map(&b->pic, &b->pio, e);
    if (r >= 0)
        r = serial_map(&b->serial, &b->pio, SERIAL_BASE, e);
    if (r >= 0)
        r = i8042_map(&b->i8042, &b->pio, e);
    if (r >= 0)
        r = pit_map(&b->pit, &b->pio, e);
    if (r >= 0)
        r = rtc_map(&b->rtc, &b->pio, e);
    if (r >= 0)
        r = acpipm_map(&b->acpipm, &b->pio, e);
    if (r >= 0)
        r = exitport_map(&b->exitport, &b->pio, BOARD_EXIT_PORT, e);
    if (r >= 0)
        r = wallport_map(&b->wallport, &b->pio, e);
    return r;
}

int board_new(const struct board_conf *c, struct board **ret, struct err *e)
{
    struct board *b = calloc(1, sizeof(*b));

    if (!b)
        return err_set(e, -ENOMEM, "out of memory");
    b->conf = *c;
    init_devices(b);
    int r = map_devices(b, e);
    if (r < 0) {
        board_free(b);
        return r;
    }
    *ret = b;
    return 0;
}

void board_free(struct board *b)
{
    if (!b)
        return;
    pit_done(&b->pit);
    rtc_done(&b->rtc);
    for (unsigned i = 0; i < b->n_slots; i++)
        vmmio_free(b->slot[i]);
    free(b);
}

struct bus *board_mmio(struct board *b)
{
    return &b->mmio;
}

struct bus *board_pio(struct board *b)
{
    return &b->pio;
}

int board_add_virtio(struct board *b, const struct virtio_ops *ops, void *dev,
                     void (*notify)(void *ctx, unsigned queue), void *notify_ctx, unsigned *slot,
                     struct err *e)
{
    unsigned n = b->n_slots;

    if (n == BOARD_VIRTIO_MAX) {
        ops->destroy(dev);
        return err_set(e, -ENOSPC, "no slot for %s: a machine has %d", ops->name, BOARD_VIRTIO_MAX);
    }
    struct vmmio_conf vc = {.mem = b->conf.mem,
                            .irq = line(b, board_slot_pin(n)),
                            .ops = ops,
                            .dev = dev,
                            .notify = notify,
                            .notify_ctx = notify_ctx};
    struct vmmio *t = vmmio_new(&vc, e);
    if (!t)
        return -ENOMEM;
    struct bus_region r = {.name = ops->name,
                           .base = BOARD_VIRTIO_BASE + (uint64_t)n * VMMIO_SIZE,
                           .size = VMMIO_SIZE,
                           .lens = BUS_1 | BUS_2 | BUS_4 | BUS_8,
                           .read = vmmio_read,
                           .write = vmmio_write,
                           .dev = t};
    int err = bus_add(&b->mmio, &r, e);
    if (err < 0) {
        vmmio_free(t);
        return err;
    }
    b->slot[b->n_slots++] = t;
    *slot = n;
    return 0;
}

struct vmmio *board_slot(struct board *b, unsigned slot)
{
    return slot < b->n_slots ? b->slot[slot] : NULL;
}

bool board_pin_msi(struct board *b, unsigned pin, struct msi *m)
{
    return ioapic_msi(&b->ioapic, pin, m);
}

void board_eoi(struct board *b, uint8_t vector)
{
    ioapic_eoi(&b->ioapic, vector);
}

int board_pic_ack(void *board)
{
    struct board *b = board;

    return pic_ack(&b->pic);
}

void board_serial_in(struct board *b, const uint8_t *bytes, size_t len)
{
    serial_in(&b->serial, bytes, len);
}

size_t board_serial_room(struct board *b)
{
    return serial_room(&b->serial);
}

int board_boot(struct board *b, const struct boot_conf *c, struct cpu_state *bsp, struct err *e)
{
    struct boot_machine m = {.mem = b->conf.mem, .cpus = b->conf.model->cpus};

    for (unsigned i = 0; i < b->n_slots; i++)
        m.virtio[m.n_virtio++] = (struct boot_virtio){
            .base = BOARD_VIRTIO_BASE + i * VMMIO_SIZE,
            .size = VMMIO_SIZE,
            .gsi = board_slot_pin(i),
        };
    return boot_load(&m, c, bsp, e);
}

int board_set_generation(struct board *b, const uint8_t id[16], bool tell, struct err *e)
{
    return vmgenid_set(&b->vmgenid, id, tell, e);
}

void board_drain(struct board *b)
{
    for (unsigned i = 0; i < b->n_slots; i++)
        vmmio_drain(b->slot[i]);
}

static void slots_visit(struct board *b, struct state_io *io)
{
    uint32_t n = b->n_slots;

    state_u32(io, 1, &n);
    if (state_loading(io) && n != b->n_slots)
        state_fail(io, "a state with %u virtio devices, this machine has %u", n, b->n_slots);
    for (unsigned i = 0; !io->failed && i < b->n_slots; i++) {
        const struct virtio_ops *ops = vmmio_ops(b->slot[i]);
        uint16_t id = ops->id;

        state_u16(io, 2, &id);
        if (state_loading(io) && id != ops->id)
            state_fail(io, "virtio slot %u is %s here, device %u in the state", i, ops->name, id);
        state_begin(io, 3, ops->name);
        vmmio_visit(b->slot[i], io);
        state_end(io);
    }
}

void board_visit(struct board *b, struct state_io *io)
{
    state_begin(io, 1, "serial");
    serial_visit(&b->serial, io);
    state_end(io);
    state_begin(io, 2, "i8042");
    i8042_visit(&b->i8042, io);
    state_end(io);
    state_begin(io, 3, "PIC");
    pic_visit(&b->pic, io);
    state_end(io);
    state_begin(io, 4, "PIT");
    pit_visit(&b->pit, io);
    state_end(io);
    state_begin(io, 5, "IOAPIC");
    ioapic_visit(&b->ioapic, io);
    state_end(io);
    state_begin(io, 6, "RTC");
    rtc_visit(&b->rtc, io);
    state_end(io);
    state_begin(io, 7, "ACPI sleep");
    acpipm_visit(&b->acpipm, io);
    state_end(io);
    state_begin(io, 8, "generation ID");
    vmgenid_visit(&b->vmgenid, io);
    state_end(io);
    state_begin(io, 9, "virtio");
    slots_visit(b, io);
    state_end(io);
}
