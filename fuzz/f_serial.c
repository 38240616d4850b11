#include "dev/serial.h"

#include "fuzz/guest.h"

static void visit(void *s, struct state_io *io)
{
    serial_visit(s, io);
}

static void out(void *ctx, const uint8_t *p, size_t n)
{
    *(size_t *)ctx += n + p[0];
}

/* The far end types. */
static void poke(void *s, uint64_t v)
{
    uint8_t text[300] = {(uint8_t)v};
    size_t before = serial_room(s), n = v >> 8 << 1;

    if (n > sizeof(text))
        n = sizeof(text);
    serial_in(s, text, n);
    assert(serial_room(s) + n >= before);
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    struct fake f;
    struct bus b = {0};
    struct serial s;
    size_t sent = 0;

    fake_init(&f, 0);
    serial_init(&s, &(struct serial_conf){.irq = fake_line(&f, 4), .out = out, .ctx = &sent});
    if (serial_map(&s, &b, 0x3f8, NULL) < 0)
        return 0;
    guest_run(&(struct guest){p, n, &f, {&b}, visit, &s, poke});
    fake_done(&f);
    return 0;
}
