/* PIC and IOAPIC, with lines that move and a CPU that acknowledges. */
#include "dev/ioapic.h"
#include "dev/pic.h"
#include "fuzz/guest.h"

struct world {
    struct pic pic;
    struct ioapic io;
    struct fake f;
    uint64_t sent;
};

static void send(void *ctx, struct msi m)
{
    struct world *w = ctx;

    assert(m.addr >> 20 == 0xfee);
    w->sent += m.data;
}

static void visit(void *ctx, struct state_io *io)
{
    struct world *w = ctx;

    state_begin(io, 1, "PIC");
    pic_visit(&w->pic, io);
    state_end(io);
    state_begin(io, 2, "IOAPIC");
    ioapic_visit(&w->io, io);
    state_end(io);
}

static void poke(void *ctx, uint64_t v)
{
    struct world *w = ctx;
    unsigned n = v >> 2 & 31;
    struct msi m;

    switch (v & 3) {
    case 0:
    case 1:
        pic_set(&w->pic, n, v & 1);
        ioapic_set(&w->io, n, v & 1);
        break;
    case 2: {
        int vector = pic_ack(&w->pic);
        assert(vector >= 0 && vector < 256);
        break;
    }
    default:
        ioapic_eoi(&w->io, (uint8_t)(v >> 8));
        (void)ioapic_msi(&w->io, n, &m);
        break;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    struct bus pio = {0}, mmio = {0};
    struct world w = {.sent = 0};

    fake_init(&w.f, 0);
    struct irq_line out = fake_line(&w.f, 0);
    pic_init(&w.pic, &out);
    ioapic_init(&w.io, &(struct ioapic_conf){.msi = {send, &w}});
    if (pic_map(&w.pic, &pio, NULL) < 0 || ioapic_map(&w.io, &mmio, NULL) < 0)
        return 0;
    guest_run(&(struct guest){p, n, &w.f, {&pio, &mmio}, visit, &w, poke});
    fake_done(&w.f);
    return 0;
}
