/* fuzz/virtio.h - the fuzzer is the guest: its bytes are a script of register accesses, and all of
 * RAM.
 *
 * Input: u8 count (bit 7: negotiate and set up the queues first), count * {u8 kind, u8 arg, u32
 * value}, RAM. Queue n's rings lie at n * 0x400. */
#ifndef FUZZ_VIRTIO_H
#define FUZZ_VIRTIO_H

#include <stdlib.h>
#include <string.h>

#include "dev/virtio/mmio.h"
#include "state/state.h"

enum { FZ_RAM = 128 * 1024, FZ_SIZE = 16, FZ_STEP = 6, FZ_STEPS = 0x7f };

struct fz {
    struct mem *m;
    struct vmmio *t;
    unsigned interrupts;
    void (*event)(void *ctx, uint8_t arg, uint32_t value); /* something happens on the host */
    void *ctx;
};

static inline void fz_irq(void *ctx, unsigned n, bool level)
{
    ((struct fz *)ctx)->interrupts += level;
}

static inline void fz_set(struct fz *z, unsigned off, uint32_t v)
{
    vmmio_write(z->t, off, 4, v);
}

static inline void fz_handshake(struct fz *z)
{
    unsigned n = vmmio_ops(z->t)->n_queues;

    fz_set(z, 0x70, 3);
    for (uint32_t i = 0; i < 2; i++) {
        fz_set(z, 0x14, i);
        fz_set(z, 0x24, i);
        fz_set(z, 0x20, (uint32_t)vmmio_read(z->t, 0x10, 4));
    }
    fz_set(z, 0x70, 11);
    for (unsigned i = 0; i < n; i++) {
        fz_set(z, 0x30, i);
        fz_set(z, 0x38, FZ_SIZE);
        fz_set(z, 0x80, i * 0x400);
        fz_set(z, 0x90, i * 0x400 + 0x100);
        fz_set(z, 0xa0, i * 0x400 + 0x200);
        fz_set(z, 0x44, 1);
    }
    fz_set(z, 0x70, 15);
}

/* A machine that is saved and loaded in place goes on, or stands still. */
static inline void fz_save_and_load(struct fz *z, uint32_t value)
{
    struct state_io out, in;
    uint8_t *buf = NULL;
    size_t len = 0;

    vmmio_drain(z->t);
    state_save_init(&out);
    vmmio_visit(z->t, &out);
    if (state_take(&out, &buf, &len, NULL) < 0)
        abort();
    if (value % 2)
        buf[value % len] ^= (uint8_t)(value >> 16);
    state_load_init(&in, buf, len);
    vmmio_visit(z->t, &in);
    if (state_done(&in, NULL) < 0 && value % 2 == 0)
        abort(); /* what we saved ourselves must load */
    free(buf);
}

static inline void fz_step(struct fz *z, const uint8_t *s)
{
    uint32_t v;

    memcpy(&v, s + 2, sizeof(v));
    switch (s[0] % 6) {
    case 0:
        fz_set(z, s[1] * 4u, v);
        break;
    case 1:
        vmmio_write(z->t, v % VMMIO_SIZE, 1u << s[1] % 4, v);
        (void)vmmio_read(z->t, v % VMMIO_SIZE, 1u << s[1] % 4);
        break;
    case 2:
        vmmio_kick(z->t, s[1] % VIRTIO_QUEUES_MAX);
        break;
    case 3:
        if (z->event)
            z->event(z->ctx, s[1], v);
        break;
    case 4:
        (void)!mem_write(z->m, v % FZ_RAM, s + 1, 1); /* the other vCPU writes meanwhile */
        vmmio_kick(z->t, s[1] % VIRTIO_QUEUES_MAX);
        break;
    case 5:
        fz_save_and_load(z, v);
        break;
    }
}

/* RAM is the same every time but for what is in it. */
static inline struct mem *fz_ram(void)
{
    static struct mem *ram;

    if (!ram)
        ram = mem_new(FZ_RAM, NULL);
    if (!ram)
        abort();
    return ram;
}

/* Plays the script against `dev`, and frees it. */
static inline void fz_run(const struct virtio_ops *ops, void *dev, const uint8_t *p, size_t n,
                          void (*event)(void *, uint8_t, uint32_t), void *ctx)
{
    struct mem *ram = fz_ram();
    struct fz z = {.event = event, .ctx = ctx};

    z.m = ram;
    struct vmmio_conf c = {.mem = ram, .irq = {.set = fz_irq, .ctx = &z}, .ops = ops, .dev = dev};
    z.t = vmmio_new(&c, NULL);
    if (!z.t)
        abort();
    uint8_t first = n ? p[0] : 0;
    size_t steps = first & FZ_STEPS, at = 1 + steps * FZ_STEP;
    if (n > 0 && at <= n) {
        size_t len = n - at < FZ_RAM ? n - at : FZ_RAM;

        if (mem_write(ram, 0, p + at, len) < 0 || mem_fill(ram, len, 0, FZ_RAM - len) < 0)
            abort();
        if (first & 0x80)
            fz_handshake(&z);
        for (size_t i = 0; i < steps; i++)
            fz_step(&z, p + 1 + i * FZ_STEP);
    }
    vmmio_free(z.t);
}

#endif
