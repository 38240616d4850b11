/* test/unit/vsguest.h - a guest's socket driver: packets in and out, buffers laid out as Linux
 * does. */
#ifndef TEST_UNIT_VSGUEST_H
#define TEST_UNIT_VSGUEST_H

#include "dev/virtio/vsock.h"
#include "test/unit/driver.h"

enum { REQUEST = 1, RESPONSE, RST, SHUTDOWN, RW, CREDIT_UPDATE, CREDIT_REQUEST };
enum { VG_RX = 64, VG_RX_LEN = 4096, VG_TX = 16, VG_TX_LEN = 65536, VG_CID = 5 };

struct vg_hdr {
    uint64_t src_cid, dst_cid;
    uint32_t src_port, dst_port, len;
    uint16_t type, op;
    uint32_t flags, buf_alloc, fwd_cnt;
} __attribute__((packed));

struct vg {
    struct drv d;
    uint32_t buf_alloc, fwd; /* said in each packet */
    unsigned tx;             /* packets offered and not yet used */
    unsigned tx_slot;
    uint16_t rx_slot[DRV_SIZE]; /* by head of the chain */
};

static inline gpa_t vg_rx_at(unsigned slot)
{
    return DRV_FREE + (gpa_t)slot * 8192;
}

static inline gpa_t vg_tx_at(unsigned slot)
{
    return DRV_FREE + 0x100000 + (gpa_t)slot * (VG_TX_LEN + 4096);
}

/* Give the device receive buffer `slot`: header and payload apart. */
static inline void vg_post(struct vg *v, unsigned slot)
{
    uint16_t head = drv_add(
        &v->d, 0,
        (struct drv_seg[]){{vg_rx_at(slot), 44, true}, {vg_rx_at(slot) + 64, VG_RX_LEN, true}}, 2);

    v->rx_slot[head] = (uint16_t)slot;
}

static inline void vg_start(struct vg *v, bool buffers)
{
    drv_start(&v->d, VIRTIO_F_EVENT_IDX);
    v->buf_alloc = 256 * 1024;
    v->fwd = v->tx = v->tx_slot = 0;
    for (unsigned i = 0; buffers && i < VG_RX; i++)
        vg_post(v, i);
    drv_kick(&v->d, 0);
}

/* Next packet to the guest, its payload into buf[VG_RX_LEN]; false = none. */
static inline bool vg_recv(struct vg *v, struct vg_hdr *h, void *buf)
{
    uint32_t id, len;

    if (!drv_used(&v->d, 0, &id, &len))
        return false;
    unsigned slot = v->rx_slot[id];
    drv_get(&v->d, vg_rx_at(slot), h, sizeof(*h));
    assert_int_equal(len, 44 + h->len);
    assert_true(h->len <= VG_RX_LEN);
    assert_int_equal(h->src_cid, 2);
    assert_int_equal(h->dst_cid, VG_CID);
    if (h->len && buf)
        drv_get(&v->d, vg_rx_at(slot) + 64, buf, h->len);
    vg_post(v, slot);
    drv_kick(&v->d, 0);
    return true;
}

/* A packet from the guest, header and payload in one buffer. */
static inline void vg_raw(struct vg *v, const struct vg_hdr *h, const void *data, uint32_t len)
{
    gpa_t at = vg_tx_at(v->tx_slot);

    v->tx_slot = (v->tx_slot + 1) % VG_TX;
    drv_put(&v->d, at, h, sizeof(*h));
    drv_put(&v->d, at + sizeof(*h), data, len);
    drv_add(&v->d, 1, &(struct drv_seg){at, (uint32_t)sizeof(*h) + len, false}, 1);
    v->tx++;
    drv_kick(&v->d, 1);
    while (drv_used(&v->d, 1, NULL, NULL))
        v->tx--;
}

static inline struct vg_hdr vg_hdr(struct vg *v, unsigned op, uint32_t host_port,
                                   uint32_t guest_port, uint32_t len)
{
    return (struct vg_hdr){.src_cid = VG_CID,
                           .dst_cid = 2,
                           .src_port = guest_port,
                           .dst_port = host_port,
                           .len = len,
                           .type = 1,
                           .op = (uint16_t)op,
                           .buf_alloc = v->buf_alloc,
                           .fwd_cnt = v->fwd};
}

static inline void vg_send(struct vg *v, unsigned op, uint32_t host_port, uint32_t guest_port,
                           const void *data, uint32_t len)
{
    struct vg_hdr h = vg_hdr(v, op, host_port, guest_port, len);

    vg_raw(v, &h, data, len);
}

static inline void vg_shutdown(struct vg *v, uint32_t host_port, uint32_t guest_port,
                               uint32_t flags)
{
    struct vg_hdr h = vg_hdr(v, SHUTDOWN, host_port, guest_port, 0);

    h.flags = flags;
    vg_raw(v, &h, NULL, 0);
}

/* The next packet must be this one. */
static inline struct vg_hdr vg_expect(struct vg *v, unsigned op, uint32_t host_port,
                                      uint32_t guest_port, void *buf)
{
    struct vg_hdr h;

    assert_true(vg_recv(v, &h, buf));
    assert_int_equal(h.op, op);
    assert_int_equal(h.src_port, host_port);
    assert_int_equal(h.dst_port, guest_port);
    return h;
}

static inline void vg_expect_none(struct vg *v)
{
    struct vg_hdr h;

    assert_false(vg_recv(v, &h, NULL));
}

#endif
