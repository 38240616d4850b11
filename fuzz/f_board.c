/* The whole board: every register of every device, and its state as a whole. */
#include "machine/board.h"

#include "dev/virtio/device.h"
#include "dev/virtio/rng.h"
#include "fuzz/guest.h"

static int fill(void *ctx, void *buf, size_t len)
{
    memset(buf, 0x5a, len);
    return 0;
}

static void visit(void *b, struct state_io *io)
{
    board_visit(b, io);
}

static void poke(void *b, uint64_t v)
{
    uint8_t c = (uint8_t)v;
    struct msi m;

    board_serial_in(b, &c, board_serial_room(b) ? 1 : 0);
    board_eoi(b, c);
    (void)board_pin_msi(b, c, &m);
    assert(board_pic_ack(b) < 256);
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    struct fake f;
    struct board *b = NULL;
    struct mem *m = mem_new(1 << 20, NULL);
    unsigned slot;

    if (!m)
        return 0;
    fake_init(&f, 1700000000);
    struct board_conf c = {.mem = m, .clock = &f.clock, .timers = &f.timers};
    struct rng *r = rng_new((struct rng_source){.fill = fill}, NULL);
    if (r && board_new(&c, &b, NULL) == 0 &&
        board_add_virtio(b, &rng_ops, r, NULL, NULL, &slot, NULL) == 0) {
        /* The rest of the input also lies in RAM, for the rings. */
        (void)!mem_write(m, 0, p, n < 4096 ? n : 4096);
        guest_run(&(struct guest){p, n, &f, {board_pio(b), board_mmio(b)}, visit, b, poke});
    }
    board_free(b);
    fake_done(&f);
    mem_free(m);
    return 0;
}
