/* The network card as a driver sees it. */
#include "dev/virtio/vnet.h"

#include "test/unit/driver.h"

enum {
    F_CSUM = 1 << 0,
    F_GUEST_CSUM = 1 << 1,
    F_GUEST_TSO4 = 1 << 7,
    F_MRG = 1 << 15,
    F_STATUS = 1 << 16,
    F_CTRL = 1 << 17,
    F_ANNOUNCE = 1 << 21,
    F_MQ = 1 << 22,
    F_ALL = F_CSUM | F_GUEST_CSUM | F_GUEST_TSO4 | F_MRG | F_STATUS | F_CTRL | F_ANNOUNCE,
};
enum { BUF = DRV_FREE, BUF_STEP = 0x10000, OUT = DRV_FREE + 0x200000, CTL = OUT + 0x20000 };
enum { QUEUED = 8 };

struct wire { /* the fake network */
    struct net n;
    struct net_card card;
    struct {
        uint8_t bytes[70000];
        int64_t len;
    } sent[QUEUED], come[QUEUED];
    unsigned n_sent, n_come, taken;
    int refuse; /* what send() says; 0 = takes */
    unsigned offloads, pairs, last_pair;
    bool closed;
};

struct world {
    struct drv d;
    struct wire wire;
};

static void attach(struct net *n, const struct net_card *card)
{
    ((struct wire *)n)->card = *card;
}

static int send_frame(struct net *n, unsigned pair, struct iovec *iov, unsigned n_iov)
{
    struct wire *w = (struct wire *)n;
    int64_t len = 0;

    if (w->refuse)
        return w->refuse;
    for (unsigned i = 0; i < n_iov; i++) {
        memcpy(w->sent[w->n_sent % QUEUED].bytes + len, iov[i].iov_base, iov[i].iov_len);
        len += (int64_t)iov[i].iov_len;
    }
    w->sent[w->n_sent++ % QUEUED].len = len;
    w->last_pair = pair;
    return 0;
}

static int64_t receive_frame(struct net *n, unsigned pair, struct iovec *iov, unsigned n_iov)
{
    struct wire *w = (struct wire *)n;
    int64_t len = 0, want;

    if (w->taken == w->n_come)
        return -EAGAIN;
    want = w->come[w->taken % QUEUED].len;
    for (unsigned i = 0; i < n_iov && len < want; i++) {
        int64_t k = want - len < (int64_t)iov[i].iov_len ? want - len : (int64_t)iov[i].iov_len;

        memcpy(iov[i].iov_base, w->come[w->taken % QUEUED].bytes + len, (size_t)k);
        len += k;
    }
    w->taken++;
    return len;
}

static void set_offloads(struct net *n, unsigned offloads)
{
    ((struct wire *)n)->offloads = offloads;
}

static void set_pairs(struct net *n, unsigned pairs)
{
    ((struct wire *)n)->pairs = pairs;
}

static void wire_close(struct net *n)
{
    ((struct wire *)n)->closed = true;
}

static const struct net_ops wire_ops = {
    .attach = attach,
    .send = send_frame,
    .receive = receive_frame,
    .set_offloads = set_offloads,
    .set_pairs = set_pairs,
    .close = wire_close,
};

static struct vnet_conf conf(struct world *w, unsigned pairs)
{
    w->wire.n = (struct net){.ops = &wire_ops, .pairs = pairs, .link = true};
    return (struct vnet_conf){.mac = {2, 1, 2, 3, 4, 5}, .pairs = pairs, .net = &w->wire.n};
}

static struct world *world_new(unsigned pairs, uint64_t features)
{
    struct world *w = calloc(1, sizeof(*w));
    struct vnet_conf c = conf(w, pairs);

    drv_plug(&w->d, vnet_ops(pairs), vnet_new(&c, NULL));
    if (features)
        drv_start(&w->d, features);
    return w;
}

static void world_free(struct world *w)
{
    drv_close(&w->d);
    assert_true(w->wire.closed || !w->wire.n.ops);
    free(w);
}

/* A frame of `len` bytes behind its header comes in. */
static void comes(struct world *w, uint32_t len, uint8_t first)
{
    struct wire *x = &w->wire;
    uint8_t *b = x->come[x->n_come % QUEUED].bytes;

    memset(b, 0, NET_HDR_LEN);
    for (uint32_t i = 0; i < len; i++)
        b[NET_HDR_LEN + i] = (uint8_t)(first + i);
    x->come[x->n_come++ % QUEUED].len = NET_HDR_LEN + len;
}

static void post(struct world *w, unsigned n, uint32_t len)
{
    for (unsigned i = 0; i < n; i++)
        drv_add(&w->d, 0, &(struct drv_seg){BUF + (w->d.next_desc[0] % 24) * BUF_STEP, len, true},
                1);
}

static void sends(struct world *w, unsigned queue, uint32_t len)
{
    uint8_t frame[2000] = {0};

    for (uint32_t i = 0; i < len; i++)
        frame[NET_HDR_LEN + i] = (uint8_t)i;
    drv_put(&w->d, OUT, frame, NET_HDR_LEN + len);
    drv_add(&w->d, queue,
            (struct drv_seg[]){{OUT, NET_HDR_LEN, false}, {OUT + NET_HDR_LEN, len, false}}, 2);
    drv_kick(&w->d, queue);
}

static uint8_t command(struct world *w, unsigned queue, uint8_t class, uint8_t cmd, const void *p,
                       uint32_t len)
{
    uint8_t head[2] = {class, cmd}, ack = 99;

    drv_put(&w->d, CTL, head, 2);
    if (len)
        drv_put(&w->d, CTL + 2, p, len);
    drv_put(&w->d, CTL + 64, &ack, 1);
    drv_add(&w->d, queue, (struct drv_seg[]){{CTL, 2 + len, false}, {CTL + 64, 1, true}}, 2);
    drv_kick(&w->d, queue);
    drv_get(&w->d, CTL + 64, &ack, 1);
    return ack;
}

static void frames_are_sent_from_where_they_lie(void **state)
{
    struct world *w = world_new(1, F_ALL);
    uint32_t len;

    sends(w, 1, 100);
    assert_int_equal(w->wire.n_sent, 1);
    assert_int_equal(w->wire.sent[0].len, NET_HDR_LEN + 100);
    assert_int_equal(w->wire.sent[0].bytes[NET_HDR_LEN + 99], 99);
    assert_true(drv_used(&w->d, 1, NULL, &len));
    assert_int_equal(len, 0);
    sends(w, 1, 13); /* less than an Ethernet header: dropped */
    assert_int_equal(w->wire.n_sent, 1);
    assert_true(drv_used(&w->d, 1, NULL, NULL));
    assert_false(drv_broken(&w->d));
    world_free(w);
}

static void what_the_network_does_not_take_waits(void **state)
{
    struct world *w = world_new(1, F_ALL);

    w->wire.refuse = -EAGAIN;
    sends(w, 1, 100);
    assert_false(drv_used(&w->d, 1, NULL, NULL));
    w->wire.refuse = 0;
    w->wire.card.writable(w->wire.card.ctx, 0);
    assert_int_equal(w->wire.n_sent, 1);
    assert_true(drv_used(&w->d, 1, NULL, NULL));
    w->wire.refuse = -EINVAL; /* a header the host does not like: lost, as on a wire */
    sends(w, 1, 100);
    assert_true(drv_used(&w->d, 1, NULL, NULL));
    assert_false(drv_broken(&w->d));
    world_free(w);
}

static void a_frame_fills_as_many_buffers_as_it_needs(void **state)
{
    struct world *w = world_new(1, F_ALL);
    uint32_t len = 0, sum = 0, n = 0;
    uint16_t count;
    uint8_t b;

    post(w, 20, 4096);
    drv_kick(&w->d, 0);
    comes(w, 10000, 7);
    comes(w, 60, 1);
    w->wire.card.readable(w->wire.card.ctx, 0);
    drv_get(&w->d, BUF + 10, &count, 2);
    assert_int_equal(count, 3);
    for (n = 0; n < 3; n++) {
        assert_true(drv_used(&w->d, 0, NULL, &len));
        sum += len;
    }
    assert_int_equal(sum, NET_HDR_LEN + 10000);
    drv_get(&w->d, BUF + BUF_STEP, &b, 1);
    assert_int_equal(b, (uint8_t)(7 + 4096 - NET_HDR_LEN));
    drv_get(&w->d, BUF + 3 * BUF_STEP + 10, &count, 2);
    assert_int_equal(count, 1);
    assert_int_equal(w->d.raised, 1); /* for both */
    world_free(w);
}

static void frames_wait_for_buffers(void **state)
{
    struct world *w = world_new(1, F_ALL);

    comes(w, 60, 1);
    w->wire.card.readable(w->wire.card.ctx, 0);
    assert_int_equal(w->wire.taken, 0);
    post(w, 10, 4096); /* less than the largest frame: it is not known how large the next is */
    drv_kick(&w->d, 0);
    assert_int_equal(w->wire.taken, 0);
    post(w, 7, 4096);
    drv_kick(&w->d, 0);
    assert_int_equal(w->wire.taken, 1);
    assert_true(drv_used(&w->d, 0, NULL, NULL));
    world_free(w);
}

static void without_mergeable_buffers_a_frame_has_one(void **state)
{
    struct world *w = world_new(1, F_STATUS);
    uint32_t len;
    uint16_t count;

    post(w, 2, 1526);
    drv_kick(&w->d, 0);
    comes(w, 1514, 1);
    comes(w, 1515, 1); /* too large: lost */
    comes(w, 60, 9);
    w->wire.card.readable(w->wire.card.ctx, 0);
    assert_true(drv_used(&w->d, 0, NULL, &len));
    assert_int_equal(len, 1526);
    drv_get(&w->d, BUF + 10, &count, 2);
    assert_int_equal(count, 1);
    assert_true(drv_used(&w->d, 0, NULL, &len));
    assert_int_equal(len, 72);
    assert_int_equal(w->wire.taken, 3);
    world_free(w);
}

static void a_header_split_anyhow_gets_its_count(void **state)
{
    struct world *w = world_new(1, F_MRG | F_STATUS);
    uint8_t lo, hi;

    drv_add(
        &w->d, 0,
        (struct drv_seg[]){
            {BUF, 5, true}, {BUF + 100, 6, true}, {BUF + 200, 1, true}, {BUF + 300, 3000, true}},
        4);
    drv_kick(&w->d, 0);
    comes(w, 60, 1);
    w->wire.card.readable(w->wire.card.ctx, 0);
    drv_get(&w->d, BUF + 105, &lo, 1); /* byte 10 */
    drv_get(&w->d, BUF + 200, &hi, 1);
    assert_int_equal(lo, 1);
    assert_int_equal(hi, 0);
    world_free(w);
}

static void chains_of_the_wrong_direction_break_the_device(void **state)
{
    struct world *w = world_new(1, F_ALL);

    drv_add(&w->d, 1, &(struct drv_seg){OUT, 100, true}, 1);
    drv_kick(&w->d, 1);
    assert_true(drv_broken(&w->d));
    drv_start(&w->d, F_ALL);
    drv_add(&w->d, 0, &(struct drv_seg){OUT, 100, false}, 1);
    drv_kick(&w->d, 0);
    assert_true(drv_broken(&w->d));
    drv_start(&w->d, F_ALL);
    drv_add(&w->d, 0, &(struct drv_seg){OUT, 11, true}, 1);
    drv_kick(&w->d, 0);
    assert_true(drv_broken(&w->d));
    drv_start(&w->d, F_ALL);
    drv_add(&w->d, 1, &(struct drv_seg){OUT, 11, false}, 1);
    drv_kick(&w->d, 1);
    assert_true(drv_broken(&w->d));
    drv_start(&w->d, F_ALL);
    drv_add(&w->d, 2, &(struct drv_seg){CTL, 2, false}, 1); /* no place for the answer */
    drv_kick(&w->d, 2);
    assert_true(drv_broken(&w->d));
    world_free(w);
}

static void commands_are_obeyed(void **state)
{
    struct world *w = world_new(2, F_ALL | F_MQ | 1 << 2 | 1 << 23);
    const uint8_t mac[6] = {2, 9, 9, 9, 9, 9};
    uint64_t offloads = F_GUEST_CSUM;

    assert_int_equal(w->wire.offloads, NET_RX_CSUM | NET_RX_TSO4);
    assert_int_equal(command(w, 4, 1, 1, mac, 6), 0);
    assert_int_equal(vmmio_read(w->d.t, 0x105, 1), 9);
    assert_int_equal(command(w, 4, 1, 1, mac, 5), 1);
    assert_int_equal(command(w, 4, 0, 0, "\1", 1), 0); /* promiscuous */
    assert_int_equal(command(w, 4, 0, 6, "\1", 1), 1);
    assert_int_equal(command(w, 4, 5, 0, &offloads, 8), 0);
    assert_int_equal(w->wire.offloads, NET_RX_CSUM);
    offloads = 1 << 8; /* was not negotiated */
    assert_int_equal(command(w, 4, 5, 0, &offloads, 8), 1);
    assert_int_equal(command(w, 4, 4, 0, "\3\0", 2), 1);
    assert_int_equal(command(w, 4, 4, 0, "\0\0", 2), 1);
    sends(w, 3, 60);
    assert_int_equal(w->wire.n_sent, 0); /* the second pair is not in use */
    assert_int_equal(command(w, 4, 4, 0, "\2\0", 2), 0);
    assert_int_equal(w->wire.pairs, 2);
    assert_int_equal(w->wire.n_sent, 1); /* what waited there */
    assert_int_equal(w->wire.last_pair, 1);
    assert_int_equal(command(w, 4, 77, 0, NULL, 0), 1);
    world_free(w);
}

static void the_link_is_told(void **state)
{
    struct world *w = world_new(1, F_ALL);

    assert_int_equal(vmmio_read(w->d.t, 0x106, 2), 1);
    w->wire.n.link = false;
    w->wire.card.link(w->wire.card.ctx, false);
    assert_int_equal(vmmio_read(w->d.t, 0x106, 2), 0);
    assert_int_equal(drv_reg(&w->d, 0x60), 2);
    sends(w, 1, 60);
    assert_true(drv_used(&w->d, 1, NULL, NULL)); /* as with the cable out: gone */
    assert_int_equal(w->wire.n_sent, 0);
    world_free(w);
}

static void a_card_goes_on_with_another_network_or_none(void **state)
{
    struct world *w = world_new(1, F_ALL), *x = world_new(1, 0), *y = calloc(1, sizeof(*y));
    struct vnet_conf c = {.mac = {2, 1, 2, 3, 4, 5}, .pairs = 1};

    post(w, 20, 4096);
    drv_kick(&w->d, 0);
    comes(w, 60, 1);
    w->wire.card.readable(w->wire.card.ctx, 0);
    assert_true(drv_used(&w->d, 0, NULL, NULL));
    drv_ack(&w->d);
    vmmio_drain(w->d.t);
    drv_move(&w->d, &x->d);
    assert_int_equal(x->wire.offloads, NET_RX_CSUM | NET_RX_TSO4);
    assert_int_equal(drv_reg(&x->d, 0x60), 2); /* tell the neighbours */
    assert_int_equal(vmmio_read(x->d.t, 0x106, 2), 3);
    assert_int_equal(command(x, 2, 3, 0, NULL, 0), 0);
    assert_int_equal(vmmio_read(x->d.t, 0x106, 2), 1);
    comes(x, 60, 1);
    x->wire.card.readable(x->wire.card.ctx, 0);
    assert_true(drv_used(&x->d, 0, NULL, NULL)); /* the buffers that were not used are there */

    drv_plug(&y->d, vnet_ops(1), vnet_new(&c, NULL));
    vmmio_drain(x->d.t);
    drv_move(&x->d, &y->d);
    assert_int_equal(vmmio_read(y->d.t, 0x106, 2), 0);
    sends(y, 1, 60);
    assert_true(drv_used(&y->d, 1, NULL, NULL));
    world_free(w);
    world_free(x);
    drv_close(&y->d);
    free(y);
}

static uint64_t fake_ns(void *ctx)
{
    return *(uint64_t *)ctx;
}

static void limits_hold_frames_back(void **state)
{
    struct world *w = calloc(1, sizeof(*w));
    struct vnet_conf c = conf(w, 1);
    uint64_t now = 1000000000;
    struct clock_source src = {
        .ns = fake_ns, .tsc = fake_ns, .wall_ns = fake_ns, .ctx = &now, .tsc_khz = 1000000};
    struct clock clock;
    struct timerq timers;

    clock_init(&clock, &src, 0);
    timerq_init(&timers, NULL, NULL);
    c.clock = &clock;
    c.timers = &timers;
    c.tx = (struct rate_conf){.bytes = 1000, .burst = 100};
    c.rx = (struct rate_conf){.ops = 10};
    drv_plug(&w->d, vnet_ops(1), vnet_new(&c, NULL));
    drv_start(&w->d, F_ALL);
    for (unsigned i = 0; i < 3; i++)
        sends(w, 1, 100);
    assert_int_equal(w->wire.n_sent, 1); /* the bucket is empty */
    now += 1000000;
    timerq_run(&timers, clock_ns(&clock));
    assert_int_equal(w->wire.n_sent, 2); /* and in debt */
    now += 99000000;
    timerq_run(&timers, clock_ns(&clock));
    assert_int_equal(w->wire.n_sent, 2);
    now += 1000000;
    timerq_run(&timers, clock_ns(&clock));
    assert_int_equal(w->wire.n_sent, 3);

    post(w, 20, 4096);
    drv_kick(&w->d, 0);
    for (unsigned i = 0; i < 4; i++)
        comes(w, 60, 1);
    w->wire.card.readable(w->wire.card.ctx, 0);
    assert_int_equal(w->wire.taken, 2); /* a tenth of a second's, and one */
    now += 101000000;
    timerq_run(&timers, clock_ns(&clock));
    assert_int_equal(w->wire.taken, 3);
    world_free(w);
    timerq_done(&timers);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(frames_are_sent_from_where_they_lie),
        cmocka_unit_test(what_the_network_does_not_take_waits),
        cmocka_unit_test(a_frame_fills_as_many_buffers_as_it_needs),
        cmocka_unit_test(frames_wait_for_buffers),
        cmocka_unit_test(without_mergeable_buffers_a_frame_has_one),
        cmocka_unit_test(a_header_split_anyhow_gets_its_count),
        cmocka_unit_test(chains_of_the_wrong_direction_break_the_device),
        cmocka_unit_test(commands_are_obeyed),
        cmocka_unit_test(the_link_is_told),
        cmocka_unit_test(a_card_goes_on_with_another_network_or_none),
        cmocka_unit_test(limits_hold_frames_back),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
