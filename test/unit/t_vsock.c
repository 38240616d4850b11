/* The socket device between a hostile driver and a fake host side. */
#include "dev/virtio/vsock.h"

#include <errno.h>
#include <stdlib.h>

#include "test/unit/vsguest.h"

enum { SOCKS = 300, OUT_MAX = 2 << 20 };

struct vsock_sock {
    struct vsock_conn *conn;
    bool used, closed, accepted, shut_reads, shut_writes, want_read, want_write;
    const char *in; /* what read() gives, then -EAGAIN, or the end */
    size_t in_len;
    bool end;
    size_t out_len, out_max; /* bytes write() took, and takes at most */
    int error;
};

struct world {
    struct vsock_guest guest;
    struct vsock_sock sock[SOCKS];
    unsigned n, closed;
    bool destroyed;
    int refuse;
    struct vg v;
};

static void attach(void *ctx, const struct vsock_guest *g)
{
    ((struct world *)ctx)->guest = *g;
}

static struct vsock_sock *fresh(struct world *w)
{
    assert_true(w->n < SOCKS);
    struct vsock_sock *s = &w->sock[w->n++];
    *s = (struct vsock_sock){.used = true, .out_max = OUT_MAX};
    return s;
}

static int host_open(void *ctx, uint32_t port, struct vsock_conn *c, struct vsock_sock **ret)
{
    struct world *w = ctx;

    if (w->refuse)
        return w->refuse;
    *ret = fresh(w);
    (*ret)->conn = c;
    return 0;
}

static void accepted(struct vsock_sock *s)
{
    s->accepted = true;
}

static int64_t host_read(struct vsock_sock *s, const struct iovec *iov, unsigned n)
{
    size_t done = 0;

    assert_false(s->closed);
    for (unsigned i = 0; i < n && s->in_len > 0; i++) {
        size_t k = iov[i].iov_len < s->in_len ? iov[i].iov_len : s->in_len;

        memcpy(iov[i].iov_base, s->in, k);
        s->in += k;
        s->in_len -= k;
        done += k;
    }
    return done ? (int64_t)done : s->end ? 0 : -EAGAIN;
}

static int64_t host_write(struct vsock_sock *s, const struct iovec *iov, unsigned n)
{
    size_t done = 0;

    assert_false(s->closed);
    if (s->error)
        return s->error;
    for (unsigned i = 0; i < n && s->out_len < s->out_max; i++) {
        size_t room = s->out_max - s->out_len;
        size_t k = iov[i].iov_len < room ? iov[i].iov_len : room;

        s->out_len += k;
        done += k;
    }
    return done ? (int64_t)done : -EAGAIN;
}

static void host_shutdown(struct vsock_sock *s, bool reads, bool writes)
{
    assert_false(s->closed);
    s->shut_reads |= reads;
    s->shut_writes |= writes;
}

static void watch(struct vsock_sock *s, bool readable, bool writable)
{
    assert_false(s->closed);
    s->want_read = readable;
    s->want_write = writable;
}

static void host_close(struct vsock_sock *s)
{
    assert_true(s->used && !s->closed); /* exactly once */
    s->closed = true;
}

static void destroy(void *ctx)
{
    ((struct world *)ctx)->destroyed = true;
}

static struct vsock_host host_of(struct world *w)
{
    return (struct vsock_host){.ctx = w,
                               .attach = attach,
                               .open = host_open,
                               .accepted = accepted,
                               .read = host_read,
                               .write = host_write,
                               .shutdown = host_shutdown,
                               .watch = watch,
                               .close = host_close,
                               .destroy = destroy};
}

static int setup(void **state)
{
    struct world *w = calloc(1, sizeof(*w));
    struct vsock_host host = host_of(w);

    drv_plug(&w->v.d, &vsock_ops, vsock_new(VG_CID, &host, NULL));
    vg_start(&w->v, true);
    *state = w;
    return 0;
}

static int teardown(void **state)
{
    struct world *w = *state;

    drv_close(&w->v.d);
    assert_true(w->destroyed);
    for (unsigned i = 0; i < w->n; i++)
        assert_true(w->sock[i].closed);
    free(w);
    return 0;
}

/* A stream the guest began: host port 80, guest port 4000. */
static struct vsock_sock *opened(struct world *w)
{
    vg_send(&w->v, REQUEST, 80, 4000, NULL, 0);
    vg_expect(&w->v, RESPONSE, 80, 4000, NULL);
    assert_true(w->n > 0);
    assert_true(w->sock[w->n - 1].want_read);
    return &w->sock[w->n - 1];
}

static void headers_that_lie_are_reset_or_ignored(void **state)
{
    struct world *w = *state;
    static const struct {
        uint64_t src, dst;
        uint32_t len; /* said; 10 are there */
        uint16_t type, op;
        bool reset;
    } rows[] = {
        {VG_CID, 2, 10, 1, RW, true},            /* no such stream */
        {VG_CID, 2, 0, 1, 0, true},              /* no such operation */
        {VG_CID, 2, 0, 1, 8, true},              /**/
        {VG_CID, 2, 0, 1, 65535, true},          /**/
        {VG_CID, 2, 0, 2, REQUEST, true},        /* SEQPACKET was not offered */
        {VG_CID, 2, 0, 0, REQUEST, true},        /**/
        {VG_CID, 2, 11, 1, REQUEST, true},       /* longer than the chain */
        {VG_CID, 2, UINT32_MAX, 1, RW, true},    /**/
        {VG_CID, 2, 0, 1, RESPONSE, true},       /* nobody asked */
        {VG_CID, 2, 0, 1, SHUTDOWN, true},       /**/
        {VG_CID, 2, 0, 1, CREDIT_UPDATE, true},  /**/
        {VG_CID, 2, 0, 1, CREDIT_REQUEST, true}, /**/
        {VG_CID, 2, 0, 1, RST, false},           /* is not answered */
        {VG_CID, 3, 0, 1, REQUEST, false},       /* not to this host */
        {VG_CID + 1, 2, 0, 1, REQUEST, false},   /* not from this guest */
        {2, 2, 0, 1, REQUEST, false},            /**/
        {1ull << 32 | VG_CID, 2, 0, 1, REQUEST, false},
    };

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct vg_hdr h = vg_hdr(&w->v, rows[i].op, 80, 4000, rows[i].len);

        h.src_cid = rows[i].src;
        h.dst_cid = rows[i].dst;
        h.type = rows[i].type;
        vg_raw(&w->v, &h, "0123456789", 10);
        if (rows[i].reset)
            vg_expect(&w->v, RST, 80, 4000, NULL);
        vg_expect_none(&w->v);
        assert_int_equal(w->v.tx, 0); /* every buffer comes back */
    }
    assert_int_equal(w->n, 0);
    assert_false(drv_broken(&w->v.d));
}

static void nonsense_on_a_stream_ends_it(void **state)
{
    struct world *w = *state;
    static const uint16_t ops[] = {0, REQUEST, RESPONSE, 8, 255};

    for (size_t i = 0; i < sizeof(ops) / sizeof(ops[0]); i++) {
        struct vsock_sock *s = opened(w);

        vg_send(&w->v, ops[i], 80, 4000, NULL, 0);
        vg_expect(&w->v, RST, 80, 4000, NULL);
        assert_true(s->closed);
    }
    struct vsock_sock *s = opened(w);
    struct vg_hdr h = vg_hdr(&w->v, RW, 80, 4000, 100);
    vg_raw(&w->v, &h, "short", 5);
    vg_expect(&w->v, RST, 80, 4000, NULL);
    assert_true(s->closed && s->out_len == 0);
}

static void a_packet_without_a_header_breaks_the_device(void **state)
{
    struct world *w = *state;

    drv_add(&w->v.d, 1, &(struct drv_seg){vg_tx_at(0), 43, false}, 1);
    drv_kick(&w->v.d, 1);
    assert_true(drv_broken(&w->v.d));
    vg_start(&w->v, true);
    opened(w);
    drv_add(&w->v.d, 1, &(struct drv_seg){vg_tx_at(0), 100, true}, 1); /* nothing readable */
    drv_kick(&w->v.d, 1);
    assert_true(drv_broken(&w->v.d));
}

static void a_receive_buffer_too_small_breaks_the_device(void **state)
{
    struct world *w = *state;

    vg_start(&w->v, false);
    drv_add(&w->v.d, 0, &(struct drv_seg){vg_rx_at(0), 43, true}, 1);
    drv_kick(&w->v.d, 0);
    vg_send(&w->v, RW, 80, 4000, NULL, 0);
    assert_true(drv_broken(&w->v.d));
}

static void a_refused_port_is_reset(void **state)
{
    struct world *w = *state;

    w->refuse = -ECONNREFUSED;
    vg_send(&w->v, REQUEST, 80, 4000, NULL, 0);
    vg_expect(&w->v, RST, 80, 4000, NULL);
    w->refuse = 0;
    opened(w);
}

static void the_table_of_streams_is_bounded(void **state)
{
    struct world *w = *state;

    for (uint32_t i = 0; i < VSOCK_CONNS_MAX + 10; i++) {
        vg_send(&w->v, REQUEST, 80, i, NULL, 0);
        vg_expect(&w->v, i < VSOCK_CONNS_MAX ? RESPONSE : RST, 80, i, NULL);
    }
    vg_send(&w->v, RST, 80, 7, NULL, 0);
    vg_send(&w->v, REQUEST, 80, 9999, NULL, 0);
    vg_expect(&w->v, RESPONSE, 80, 9999, NULL);
    assert_int_equal(w->n, VSOCK_CONNS_MAX + 1);
}

/* A driver that gives no receive buffers finds its transmit queue stopped, not our memory full. */
static void replies_nobody_takes_stop_the_sender(void **state)
{
    struct world *w = *state;
    unsigned n = 0;
    struct vg_hdr h;

    vg_start(&w->v, false);
    for (uint32_t i = 0; i < VSOCK_REPLIES_MAX + 10; i++)
        vg_send(&w->v, RW, 80, i, NULL, 0);
    assert_int_equal(w->v.tx, 10);
    for (unsigned i = 0; i < VG_RX; i++)
        vg_post(&w->v, i);
    drv_kick(&w->v.d, 0);
    drv_kick(&w->v.d, 1);
    while (vg_recv(&w->v, &h, NULL))
        n++;
    assert_int_equal(n, VSOCK_REPLIES_MAX + 10);
    assert_false(drv_broken(&w->v.d));
}

static void more_than_the_credit_ends_the_stream(void **state)
{
    struct world *w = *state;
    struct vsock_sock *s = opened(w);
    static char data[VG_TX_LEN];

    s->out_max = 1000;
    for (int i = 0; i < VSOCK_BUF_MAX / VG_TX_LEN; i++)
        vg_send(&w->v, RW, 80, 4000, data, sizeof(data));
    assert_true(s->want_write);
    vg_send(&w->v, RW, 80, 4000, data, 1000); /* what was written is room again */
    vg_expect_none(&w->v);
    vg_send(&w->v, RW, 80, 4000, data, 1);
    vg_expect(&w->v, RST, 80, 4000, NULL);
    assert_true(s->closed);
}

static void a_slow_client_is_written_to_when_it_can_take_more(void **state)
{
    struct world *w = *state;
    struct vsock_sock *s = opened(w);
    static char data[VG_TX_LEN];
    struct vg_hdr h;

    s->out_max = 10;
    for (int i = 0; i < 4; i++)
        vg_send(&w->v, RW, 80, 4000, data, sizeof(data));
    vg_shutdown(&w->v, 80, 4000, 2);
    assert_false(s->shut_writes);
    s->out_max = 100000;
    w->guest.ready(s->conn, false, true, false);
    assert_true(s->want_write);
    s->out_max = OUT_MAX;
    w->guest.ready(s->conn, false, true, false);
    assert_false(s->want_write);
    assert_true(s->shut_writes);
    assert_int_equal(s->out_len, 4 * sizeof(data));
    h = vg_expect(&w->v, CREDIT_UPDATE, 80, 4000, NULL);
    assert_int_equal(h.fwd_cnt, 4 * sizeof(data));
    assert_int_equal(h.buf_alloc, VSOCK_BUF_MAX);
}

static void data_wait_for_the_guests_credit(void **state)
{
    struct world *w = *state;
    static char data[20000], buf[VG_RX_LEN];
    struct vg_hdr h;
    uint32_t got = 0;

    w->v.buf_alloc = 6000;
    struct vsock_sock *s = opened(w);
    s->in = data;
    s->in_len = sizeof(data);
    w->guest.ready(s->conn, true, false, false);
    assert_int_equal(vg_expect(&w->v, RW, 80, 4000, buf).len, 4096);
    assert_int_equal(vg_expect(&w->v, RW, 80, 4000, buf).len, 6000 - 4096);
    vg_expect(&w->v, CREDIT_REQUEST, 80, 4000, NULL);
    vg_expect_none(&w->v);
    assert_false(s->want_read); /* or the loop would spin */
    w->v.fwd = 6001;            /* more than was sent: a lie that gives no more than silence */
    vg_send(&w->v, CREDIT_UPDATE, 80, 4000, NULL, 0);
    vg_expect_none(&w->v);
    w->v.fwd = 6000;
    w->v.buf_alloc = UINT32_MAX;
    vg_send(&w->v, CREDIT_UPDATE, 80, 4000, NULL, 0);
    while (vg_recv(&w->v, &h, buf))
        got += h.len;
    assert_int_equal(got, sizeof(data) - 6000);
    assert_true(s->want_read);
}

static void data_wait_for_receive_buffers(void **state)
{
    struct world *w = *state;
    static char data[10000];
    struct vg_hdr h;
    uint32_t got = 0;

    vg_start(&w->v, false);
    vg_post(&w->v, 0);
    drv_kick(&w->v.d, 0);
    vg_send(&w->v, REQUEST, 80, 4000, NULL, 0);
    struct vsock_sock *s = &w->sock[0];
    s->in = data;
    s->in_len = sizeof(data);
    s->end = true;
    w->guest.ready(s->conn, true, false, false); /* the response took the only buffer */
    assert_false(s->want_read);
    vg_expect(&w->v, RESPONSE, 80, 4000, NULL);
    while (vg_recv(&w->v, &h, NULL) && h.op == RW)
        got += h.len;
    assert_int_equal(got, sizeof(data));
    assert_true(s->want_read);
    w->guest.ready(s->conn, true, false, false);
    assert_int_equal(vg_expect(&w->v, SHUTDOWN, 80, 4000, NULL).flags, 2);
}

static void a_stream_the_host_begins(void **state)
{
    struct world *w = *state;
    struct vsock_sock *s = fresh(w), *t = fresh(w);
    uint32_t p = 0, q = 0;

    assert_int_equal(w->guest.connect(w->guest.dev, 22, s, &s->conn, &p), 0);
    assert_int_equal(w->guest.connect(w->guest.dev, 22, t, &t->conn, &q), 0);
    assert_int_not_equal(p, q);
    vg_expect(&w->v, REQUEST, p, 22, NULL);
    vg_expect(&w->v, REQUEST, q, 22, NULL);
    vg_send(&w->v, RESPONSE, p, 22, NULL, 0);
    assert_true(s->accepted && s->want_read);
    vg_send(&w->v, RW, q, 22, "x", 1); /* before it answered */
    vg_expect(&w->v, RST, q, 22, NULL);
    assert_true(t->closed && t->out_len == 0);
}

static void a_client_that_stopped_reading_is_told_to_the_guest(void **state)
{
    struct world *w = *state;
    struct vsock_sock *s = opened(w);

    s->error = -EPIPE;
    vg_send(&w->v, RW, 80, 4000, "x", 1);
    assert_int_equal(vg_expect(&w->v, SHUTDOWN, 80, 4000, NULL).flags, 1);
    assert_false(s->closed); /* what it wrote before may still be read */
    s->in = "tail";
    s->in_len = 4;
    s->end = true;
    w->guest.ready(s->conn, true, false, true);
    assert_int_equal(vg_expect(&w->v, RW, 80, 4000, NULL).len, 4);
    w->guest.ready(s->conn, true, false, true);
    assert_int_equal(vg_expect(&w->v, SHUTDOWN, 80, 4000, NULL).flags, 3);
    assert_true(s->closed);
}

static void writing_after_a_shutdown_ends_the_stream(void **state)
{
    struct world *w = *state;
    struct vsock_sock *s = opened(w);

    vg_shutdown(&w->v, 80, 4000, 2);
    assert_true(s->shut_writes && !s->shut_reads);
    vg_send(&w->v, RW, 80, 4000, "x", 1);
    vg_expect(&w->v, RST, 80, 4000, NULL);
    assert_true(s->closed);
}

static void a_guest_that_reads_no_more_stops_the_client(void **state)
{
    struct world *w = *state;
    struct vsock_sock *s = opened(w);

    vg_shutdown(&w->v, 80, 4000, 1);
    assert_true(s->shut_reads && !s->want_read);
    vg_shutdown(&w->v, 80, 4000, 0xfffffffe); /* unknown bits mean nothing */
    vg_expect(&w->v, RST, 80, 4000, NULL);
    assert_true(s->closed);
}

static void credit_is_told_when_asked(void **state)
{
    struct world *w = *state;

    opened(w);
    vg_send(&w->v, RW, 80, 4000, "abc", 3);
    vg_send(&w->v, CREDIT_REQUEST, 80, 4000, NULL, 0);
    assert_int_equal(vg_expect(&w->v, CREDIT_UPDATE, 80, 4000, NULL).fwd_cnt, 3);
}

static void a_load_drops_streams_and_says_so(void **state)
{
    struct world *w = *state, *x = calloc(1, sizeof(*x));
    struct vsock_host host = host_of(x);
    uint32_t event = 77, len = 0, port;

    struct vsock_sock *s = opened(w);
    drv_add(&w->v.d, 2, &(struct drv_seg){DRV_FREE + 0x2f0000, 4, true}, 1);
    drv_kick(&w->v.d, 2);
    drv_plug(&x->v.d, &vsock_ops, vsock_new(VG_CID, &host, NULL));
    drv_move(&w->v.d, &x->v.d);
    assert_false(s->closed); /* saving changes nothing */
    drv_kick(&x->v.d, 2);
    assert_true(drv_used(&x->v.d, 2, NULL, &len));
    assert_int_equal(len, 4);
    drv_get(&x->v.d, DRV_FREE + 0x2f0000, &event, 4);
    assert_int_equal(event, 0);
    struct vsock_sock *early = fresh(x);
    assert_int_equal(x->guest.connect(x->guest.dev, 22, early, &early->conn, &port), 0);
    drv_kick(&x->v.d, 2);
    vg_expect_none(&x->v); /* the driver is still dropping what it had */
    drv_kick(&x->v.d, 2);  /* loads kick by themselves */
    vg_expect_none(&x->v);
    drv_add(&x->v.d, 2, &(struct drv_seg){DRV_FREE + 0x2f0000, 4, true}, 1);
    drv_kick(&x->v.d, 2);
    memcpy(x->v.rx_slot, w->v.rx_slot, sizeof(x->v.rx_slot));
    x->v.buf_alloc = w->v.buf_alloc;
    vg_expect(&x->v, REQUEST, port, 22, NULL);
    vg_send(&x->v, RW, 80, 4000, "x", 1); /* the stream of before */
    vg_expect(&x->v, RST, 80, 4000, NULL);
    opened(x);
    void *p = x;
    teardown(&p);
}

static void cids_that_are_reserved_are_refused(void **state)
{
    static const uint64_t bad[] = {0, 1, 2, UINT32_MAX, 1ull << 32, UINT64_MAX};

    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct world w = {0};
        struct vsock_host host = host_of(&w);
        struct err e = {0};

        assert_null(vsock_new(bad[i], &host, &e));
        assert_int_equal(e.code, -EINVAL);
        assert_true(w.destroyed);
    }
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(headers_that_lie_are_reset_or_ignored),
        T(nonsense_on_a_stream_ends_it),
        T(a_packet_without_a_header_breaks_the_device),
        T(a_receive_buffer_too_small_breaks_the_device),
        T(a_refused_port_is_reset),
        T(the_table_of_streams_is_bounded),
        T(replies_nobody_takes_stop_the_sender),
        T(more_than_the_credit_ends_the_stream),
        T(a_slow_client_is_written_to_when_it_can_take_more),
        T(data_wait_for_the_guests_credit),
        T(data_wait_for_receive_buffers),
        T(a_stream_the_host_begins),
        T(a_client_that_stopped_reading_is_told_to_the_guest),
        T(writing_after_a_shutdown_ends_the_stream),
        T(a_guest_that_reads_no_more_stops_the_client),
        T(credit_is_told_when_asked),
        T(a_load_drops_streams_and_says_so),
        cmocka_unit_test(cids_that_are_reserved_are_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
