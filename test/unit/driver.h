/* test/unit/driver.h - the guest's end of a virtio device: what a driver does, in a few calls.
 * Queue n's rings lie at n * DRV_QUEUE; buffers are the test's, from DRV_FREE up. */
#ifndef TEST_UNIT_DRIVER_H
#define TEST_UNIT_DRIVER_H

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "dev/virtio/mmio.h"
#include "state/state.h"
#include "test/unit/t.h"

enum {
    DRV_RAM = 4 << 20,
    DRV_QUEUE = 0x10000,
    DRV_AVAIL = 0x4000,
    DRV_USED = 0x8000,
    DRV_FREE = 0x100000,
    DRV_SIZE = 256,
};
enum { DRV_NEXT = 1, DRV_WRITE = 2, DRV_INDIRECT = 4 };
enum { DRV_OK = 1 | 2 | 4 | 8, DRV_NEEDS_RESET = 64 };

struct drv {
    struct mem *m;
    struct vmmio *t;
    unsigned raised; /* rising edges of the line */
    bool level;
    uint16_t avail[VIRTIO_QUEUES_MAX], used[VIRTIO_QUEUES_MAX];
    uint16_t next_desc[VIRTIO_QUEUES_MAX];
};

struct drv_seg {
    gpa_t gpa;
    uint32_t len;
    bool write;
};

static inline void drv_irq(void *ctx, unsigned n, bool level)
{
    struct drv *d = ctx;

    d->raised += level && !d->level;
    d->level = level;
}

static inline uint32_t drv_reg(struct drv *d, unsigned off)
{
    return (uint32_t)vmmio_read(d->t, off, 4);
}

static inline void drv_set(struct drv *d, unsigned off, uint32_t v)
{
    vmmio_write(d->t, off, 4, v);
}

static inline void drv_put(struct drv *d, gpa_t gpa, const void *p, size_t n)
{
    assert_int_equal(mem_write(d->m, gpa, p, n), 0);
}

static inline void drv_get(struct drv *d, gpa_t gpa, void *p, size_t n)
{
    assert_int_equal(mem_read(d->m, gpa, p, n), 0);
}

/* The device in a slot, not yet touched. */
static inline void drv_plug(struct drv *d, const struct virtio_ops *ops, void *dev)
{
    *d = (struct drv){.m = mem_new(DRV_RAM, NULL)};
    assert_non_null(d->m);
    struct vmmio_conf c = {.mem = d->m, .irq = {.set = drv_irq, .ctx = d}, .ops = ops, .dev = dev};
    d->t = vmmio_new(&c, NULL);
    assert_non_null(d->t);
}

static inline gpa_t drv_ring(unsigned n)
{
    return (gpa_t)n * DRV_QUEUE;
}

static inline void drv_queue(struct drv *d, unsigned n)
{
    drv_set(d, 0x30, n);
    drv_set(d, 0x38, DRV_SIZE);
    drv_set(d, 0x80, (uint32_t)drv_ring(n));
    drv_set(d, 0x84, 0);
    drv_set(d, 0x90, (uint32_t)drv_ring(n) + DRV_AVAIL);
    drv_set(d, 0x94, 0);
    drv_set(d, 0xa0, (uint32_t)drv_ring(n) + DRV_USED);
    drv_set(d, 0xa4, 0);
    drv_set(d, 0x44, 1);
}

/* 3.1.1, with `features` and those every driver wants. */
static inline void drv_start(struct drv *d, uint64_t features)
{
    features |= VIRTIO_F_VERSION_1 | VIRTIO_F_INDIRECT_DESC;
    drv_set(d, 0x70, 0);
    drv_set(d, 0x70, 1);
    drv_set(d, 0x70, 3);
    for (uint32_t i = 0; i < 2; i++) {
        drv_set(d, 0x24, i);
        drv_set(d, 0x20, (uint32_t)(features >> (32 * i)));
    }
    drv_set(d, 0x70, 11);
    assert_int_equal(drv_reg(d, 0x70), 11);
    for (unsigned i = 0; i < vmmio_ops(d->t)->n_queues; i++) {
        uint8_t zero[DRV_QUEUE] = {0};

        drv_put(d, drv_ring(i), zero, sizeof(zero));
        drv_queue(d, i);
        d->avail[i] = d->used[i] = d->next_desc[i] = 0;
    }
    drv_set(d, 0x70, DRV_OK);
    assert_int_equal(drv_reg(d, 0x70), DRV_OK);
}

static inline void drv_open(struct drv *d, const struct virtio_ops *ops, void *dev)
{
    drv_plug(d, ops, dev);
    drv_start(d, 0);
}

static inline void drv_close(struct drv *d)
{
    vmmio_free(d->t);
    mem_free(d->m);
}

static inline void drv_desc(struct drv *d, gpa_t table, unsigned i, uint64_t gpa, uint32_t len,
                            uint16_t flags, uint16_t next)
{
    struct {
        uint64_t a;
        uint32_t l;
        uint16_t f, n;
    } e = {gpa, len, flags, next};

    drv_put(d, table + 16ull * i, &e, sizeof(e));
}

static inline void drv_offer(struct drv *d, unsigned n, uint16_t head)
{
    gpa_t ring = drv_ring(n) + DRV_AVAIL;

    drv_put(d, ring + 4 + 2ull * (d->avail[n] % DRV_SIZE), &head, 2);
    d->avail[n]++;
    drv_put(d, ring + 2, &d->avail[n], 2);
}

/* A chain of `k` segments in consecutive descriptors. Returns its head. */
static inline uint16_t drv_add(struct drv *d, unsigned n, const struct drv_seg *s, unsigned k)
{
    uint16_t head = d->next_desc[n];

    for (unsigned i = 0; i < k; i++) {
        uint16_t at = (uint16_t)((head + i) % DRV_SIZE);

        drv_desc(d, drv_ring(n), at, s[i].gpa, s[i].len,
                 (uint16_t)((s[i].write ? DRV_WRITE : 0) | (i + 1 < k ? DRV_NEXT : 0)),
                 (uint16_t)((at + 1) % DRV_SIZE));
    }
    d->next_desc[n] = (uint16_t)((head + k) % DRV_SIZE);
    drv_offer(d, n, head);
    return head;
}

static inline void drv_kick(struct drv *d, unsigned n)
{
    drv_set(d, 0x50, n);
}

/* The next used element; false = none. */
static inline bool drv_used(struct drv *d, unsigned n, uint32_t *id, uint32_t *len)
{
    uint16_t idx;
    uint32_t e[2];
    gpa_t ring = drv_ring(n) + DRV_USED;

    drv_get(d, ring + 2, &idx, 2);
    if (idx == d->used[n])
        return false;
    drv_get(d, ring + 4 + 8ull * (d->used[n] % DRV_SIZE), e, sizeof(e));
    d->used[n]++;
    if (id)
        *id = e[0];
    if (len)
        *len = e[1];
    return true;
}

static inline void drv_ack(struct drv *d)
{
    drv_set(d, 0x64, drv_reg(d, 0x60));
}

static inline bool drv_broken(struct drv *d)
{
    return drv_reg(d, 0x70) & DRV_NEEDS_RESET;
}

/* Saves a's slot, loads it into b's, and sees every shorter copy refused. */
static inline void drv_move(struct drv *a, struct drv *b)
{
    struct state_io out, in;
    struct err e = {0};
    uint8_t *buf = NULL, *ram;
    size_t len = 0;

    state_save_init(&out);
    vmmio_visit(a->t, &out);
    assert_int_equal(state_take(&out, &buf, &len, &e), 0);
    for (size_t n = 0; n < len; n++) {
        uint8_t *cut = malloc(n ? n : 1); /* of the exact size: an overread would be seen */

        memcpy(cut, buf, n);
        state_load_init(&in, cut, n);
        vmmio_visit(b->t, &in);
        assert_int_equal(state_done(&in, &e), -EBADMSG);
        free(cut);
    }
    ram = malloc(DRV_RAM);
    drv_get(a, 0, ram, DRV_RAM);
    drv_put(b, 0, ram, DRV_RAM);
    free(ram);
    state_load_init(&in, buf, len);
    vmmio_visit(b->t, &in);
    assert_int_equal(state_done(&in, &e), 0);
    free(buf);
    memcpy(b->avail, a->avail, sizeof(b->avail));
    memcpy(b->used, a->used, sizeof(b->used));
    memcpy(b->next_desc, a->next_desc, sizeof(b->next_desc));
}

#endif
