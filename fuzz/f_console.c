/* The console against a guest made by the fuzzer; its terminal is slow, and types. */
#include <assert.h>

#include "dev/virtio/console.h"
#include "fuzz/virtio.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

struct terminal {
    struct console *c;
    size_t takes;
};

static size_t out(void *ctx, const void *bytes, size_t len)
{
    struct terminal *t = ctx;
    size_t n = len < t->takes ? len : t->takes;

    t->takes -= n;
    return n;
}

static void event(void *ctx, uint8_t arg, uint32_t value)
{
    struct terminal *t = ctx;
    static const uint8_t keys[CONSOLE_IN_MAX + 1];

    if (arg % 3 == 0) {
        size_t room = console_room(t->c), want = value % sizeof(keys);

        assert(console_in(t->c, keys, want) == (want < room ? want : room));
    } else if (arg % 3 == 1) {
        t->takes = value % 5000;
        console_out_ready(t->c);
    } else {
        console_resize(t->c, (uint16_t)value, (uint16_t)(value >> 16));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    struct terminal t = {.takes = 3000};
    struct console_conf c = {.out = out, .ctx = &t, .cols = 80, .rows = 25};

    t.c = console_new(&c, NULL);
    fz_run(&console_ops, t.c, p, n, event, &t);
    return 0;
}
