/* What a network card's backends do: rate limits, checksums, frames on a stream, taps. */
#include "net/net.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "net/csum.h"
#include "net/passt.h"
#include "net/ratelimit.h"
#include "os/loop.h"
#include "test/unit/t.h"

#define S 1000000000ull /* ns */

/* --- rate limits ------------------------------------------------------------ */

static void a_bucket_lets_through_its_rate(void **state)
{
    struct ratelimit r;
    uint64_t now = 5 * S, sum = 0;

    ratelimit_init(&r, 1000000, 50000, now);
    for (unsigned i = 0; i < 100000; i++) {
        if (ratelimit_open(&r, now)) {
            ratelimit_spend(&r, 1514);
            sum += 1514;
            continue;
        }
        assert_true(ratelimit_when(&r, now) > now);
        now = ratelimit_when(&r, now);
        assert_true(ratelimit_open(&r, now));
        if (now > 15 * S)
            break;
    }
    assert_true(sum > 10000000 && sum < 10000000 + 50000 + 2 * 1514);
}

static void a_bucket_holds_no_more_than_its_burst(void **state)
{
    struct ratelimit r;

    ratelimit_init(&r, 100, 10, 0);
    assert_true(ratelimit_open(&r, 1000 * S));
    ratelimit_spend(&r, 10);
    assert_false(ratelimit_open(&r, 1000 * S));
    assert_int_equal(ratelimit_when(&r, 1000 * S), 1000 * S + S / 100);
    assert_false(ratelimit_open(&r, 999 * S)); /* a clock that goes back gives nothing */
}

static void time_that_is_no_whole_unit_is_not_lost(void **state)
{
    struct ratelimit r;
    uint64_t now = 0;
    unsigned n = 0;

    ratelimit_init(&r, 3, 1, now);
    for (; now < 100 * S; now += 7777777) { /* asked often */
        if (ratelimit_open(&r, now)) {
            ratelimit_spend(&r, 1);
            n++;
        }
    }
    assert_true(n >= 295 && n <= 301);
}

static void extremes_do_not_overflow(void **state)
{
    struct ratelimit r;

    ratelimit_init(&r, UINT64_MAX, UINT64_MAX, 0);
    for (unsigned i = 0; i < 10; i++)
        ratelimit_spend(&r, UINT64_MAX);
    assert_false(ratelimit_open(&r, 0));
    assert_true(ratelimit_when(&r, 0) > 0);
    assert_true(ratelimit_open(&r, UINT64_MAX));
    ratelimit_init(&r, 0, 0, 0);
    ratelimit_spend(&r, UINT64_MAX);
    assert_true(ratelimit_open(&r, 0));
}

/* --- checksums -------------------------------------------------------------- */

/* RFC 1071 as it stands there, in network order. */
static uint16_t plain_sum(const uint8_t *p, size_t len)
{
    uint32_t sum = 0;

    for (size_t i = 0; i < len; i++)
        sum += i % 2 ? p[i] : (uint32_t)p[i] << 8;
    while (sum >> 16)
        sum = (sum & 0xffff) + (sum >> 16);
    return (uint16_t)~sum;
}

static size_t join(const struct iovec *v, int n, uint8_t *to)
{
    size_t len = 0;

    for (int i = 0; i < n; i++) {
        memcpy(to + len, v[i].iov_base, v[i].iov_len);
        len += v[i].iov_len;
    }
    return len;
}

static void checksums_are_filled_in_wherever_the_pieces_end(void **state)
{
    static uint8_t frame[NET_HDR_LEN + 5000], whole[5000], got[6000];
    struct csum_head *h = calloc(1, sizeof(*h));

    for (size_t i = 0; i < sizeof(frame); i++)
        frame[i] = (uint8_t)(i * 37 + i / 256);
    memset(frame, 0, NET_HDR_LEN);
    frame[0] = 1; /* NEEDS_CSUM */
    frame[6] = 34;
    frame[8] = 16;
    memcpy(whole, frame + NET_HDR_LEN, sizeof(whole));
    uint16_t sum = plain_sum(whole + 34, sizeof(whole) - 34);
    whole[34 + 16] = (uint8_t)(sum >> 8);
    whole[34 + 17] = (uint8_t)sum;
    for (size_t a = 1; a < 1300; a += 7) { /* cut in three, odd pieces too */
        struct iovec in[] = {{frame, a},
                             {frame + a, 777},
                             {frame + a + 777, sizeof(frame) - a - 777}},
                     out[4];
        int n = csum_finish(in, 3, h, out);

        assert_true(n > 0 && n <= 4);
        assert_int_equal(h->frame_len, sizeof(whole));
        assert_int_equal(join(out, n, got), sizeof(whole));
        assert_memory_equal(got, whole, sizeof(whole));
    }
    assert_int_equal(frame[NET_HDR_LEN + 50], (uint8_t)((NET_HDR_LEN + 50) * 37)); /* untouched */
    free(h);
}

static void checksums_outside_the_frame_are_refused(void **state)
{
    uint8_t frame[NET_HDR_LEN + 60] = {1, 0, 0, 0, 0, 0, 34, 0, 25, 0};
    struct iovec in = {frame, sizeof(frame)}, out[2];
    struct csum_head *h = calloc(1, sizeof(*h));

    assert_int_equal(csum_finish(&in, 1, h, out), -EINVAL); /* its second byte is the frame's end */
    frame[8] = 24;
    assert_int_equal(csum_finish(&in, 1, h, out), 1);
    frame[6] = frame[7] = frame[8] = frame[9] = 0xff;
    assert_int_equal(csum_finish(&in, 1, h, out), -EINVAL);
    in.iov_len = NET_HDR_LEN - 1;
    assert_int_equal(csum_finish(&in, 1, h, out), -EINVAL);
    free(h);
}

static void a_checksum_of_zero_is_written_as_ones(void **state)
{
    uint8_t frame[NET_HDR_LEN + 60] = {1, 0, 0, 0, 0, 0, 34, 0, 16, 0}, got[64];
    struct iovec in = {frame, sizeof(frame)}, out[2];
    struct csum_head *h = calloc(1, sizeof(*h));

    frame[NET_HDR_LEN + 40] = frame[NET_HDR_LEN + 41] = 0xff;
    int n = csum_finish(&in, 1, h, out);
    join(out, n, got);
    assert_int_equal(got[50], 0xff);
    assert_int_equal(got[51], 0xff);
    free(h);
}

/* --- a stream ------------------------------------------------------------------ */

struct world {
    struct loop *l;
    struct net *n;
    int peer;
    unsigned readable, writable;
    int link; /* -1: not told */
};

static void on_readable(void *ctx, unsigned pair)
{
    ((struct world *)ctx)->readable++;
}

static void on_writable(void *ctx, unsigned pair)
{
    ((struct world *)ctx)->writable++;
}

static void on_link(void *ctx, bool up)
{
    ((struct world *)ctx)->link = up;
}

static int setup(void **state)
{
    struct world *w = calloc(1, sizeof(*w));
    int v[2];

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, v), 0);
    w->l = loop_new(NULL, NULL);
    w->peer = v[1];
    w->link = -1;
    assert_int_equal(stream_net(v[0], w->l, &w->n, NULL), 0);
    w->n->ops->attach(
        w->n, &(struct net_card){
                  .ctx = w, .readable = on_readable, .writable = on_writable, .link = on_link});
    *state = w;
    return 0;
}

static int teardown(void **state)
{
    struct world *w = *state;

    w->n->ops->close(w->n);
    loop_free(w->l);
    if (w->peer >= 0)
        close(w->peer);
    free(w);
    return 0;
}

static int64_t receive(struct world *w, uint8_t *buf, size_t len)
{
    struct iovec v[] = {{buf, 5}, {buf + 5, 9}, {buf + 14, len - 14}};

    return w->n->ops->receive(w->n, 0, v, 3);
}

static void put(struct world *w, const void *p, size_t len)
{
    assert_int_equal(write(w->peer, p, len), (ssize_t)len);
}

static void frames_have_their_length_before_them(void **state)
{
    struct world *w = *state;
    uint8_t frame[NET_HDR_LEN + 60] = {0}, got[200];
    struct iovec v = {frame, sizeof(frame)};

    memset(frame + NET_HDR_LEN, 7, 60);
    assert_int_equal(w->n->ops->send(w->n, 0, &v, 1), 0);
    assert_int_equal(read(w->peer, got, sizeof(got)), 64);
    assert_memory_equal(got, "\0\0\0\74", 4);
    assert_memory_equal(got + 4, frame + NET_HDR_LEN, 60);
}

static void frames_come_however_the_bytes_do(void **state)
{
    struct world *w = *state;
    uint8_t bytes[2 * 64], got[200];

    for (unsigned i = 0; i < 2; i++) {
        memcpy(bytes + 64 * i, "\0\0\0\74", 4);
        memset(bytes + 64 * i + 4, (int)(7 + i), 60);
    }
    assert_int_equal(receive(w, got, sizeof(got)), -EAGAIN);
    for (unsigned i = 0; i < 63; i++) { /* byte by byte, and never a part of a frame */
        put(w, bytes + i, 1);
        assert_int_equal(receive(w, got, sizeof(got)), -EAGAIN);
    }
    put(w, bytes + 63, 65); /* the rest, and another */
    for (unsigned i = 0; i < 2; i++) {
        memset(got, 0xee, sizeof(got));
        assert_int_equal(receive(w, got, sizeof(got)), NET_HDR_LEN + 60);
        assert_memory_equal(got, "\0\0\0\0\0\0\0\0\0\0\0\0", NET_HDR_LEN);
        assert_memory_equal(got + NET_HDR_LEN, bytes + 64 * i + 4, 60);
    }
    assert_int_equal(receive(w, got, sizeof(got)), -EAGAIN);
    put(w, bytes, 1);
    loop_once(w->l, 0);
    assert_true(w->readable > 0);
}

static void a_peer_that_is_slow_gets_whole_frames(void **state)
{
    static uint8_t frame[NET_HDR_LEN + 60000], got[4 + 60000];
    struct world *w = *state;
    unsigned sent = 0, seen = 0;
    size_t have = 0;

    for (int r = 0; r == 0; sent += r == 0) {
        struct iovec v = {frame, sizeof(frame)};

        memset(frame + NET_HDR_LEN, (int)sent, 60000);
        r = w->n->ops->send(w->n, 0, &v, 1);
        assert_true(r == 0 || r == -EAGAIN);
    }
    assert_true(sent > 1);
    while (seen < sent) {
        ssize_t n = recv(w->peer, got + have, sizeof(got) - have, MSG_DONTWAIT);

        if (n < 0) {
            loop_once(w->l, 0); /* the rest of a frame goes when there is room */
            continue;
        }
        have += (size_t)n;
        if (have < sizeof(got))
            continue;
        assert_int_equal(got[4], (uint8_t)seen);
        assert_int_equal(got[sizeof(got) - 1], (uint8_t)seen);
        have = 0;
        seen++;
    }
    loop_once(w->l, 0);
    assert_true(w->writable > 0);
}

static void nonsense_and_the_end_take_the_link_down(void **state)
{
    static const uint8_t *const lengths[] = {
        (const uint8_t *)"\0\0\0\0", (const uint8_t *)"\0\0\0\15", (const uint8_t *)"\0\1\0\22",
        (const uint8_t *)"\377\377\377\377", NULL};
    uint8_t got[200];

    teardown(state);
    for (unsigned i = 0; i < 5; i++) {
        setup(state);
        struct world *w = *state;
        struct iovec v = {got, 100};

        if (lengths[i]) {
            put(w, lengths[i], 4);
        } else {
            close(w->peer);
            w->peer = -1;
        }
        assert_true(receive(w, got, sizeof(got)) < 0);
        assert_false(w->n->link);
        assert_int_equal(w->link, -1); /* never inside a call */
        loop_once(w->l, 0);
        assert_int_equal(w->link, 0);
        assert_int_equal(w->n->ops->send(w->n, 0, &v, 1), -EPIPE);
        assert_int_equal(receive(w, got, sizeof(got)), -EPIPE);
        if (i < 4)
            teardown(state);
    }
}

static void what_is_no_stream_is_refused(void **state)
{
    struct loop *l = loop_new(NULL, NULL);
    struct net *n;
    struct err e = {0};
    int v[2];

    assert_int_equal(socketpair(AF_UNIX, SOCK_DGRAM, 0, v), 0);
    assert_int_equal(stream_net(v[0], l, &n, &e), -EPROTOTYPE);
    close(v[1]);
    assert_int_equal(tap_net((int[]){open("/dev/null", O_RDWR)}, 1, l, &n, &e), -ENOTTY);
    assert_non_null(strstr(e.msg, "not a tap"));
    loop_free(l);
}

/* --- a tap ------------------------------------------------------------------------ */

static void names_that_no_interface_has_are_refused(void **state)
{
    int fd[NET_PAIRS_MAX];
    struct err e = {0};

    assert_int_equal(tap_open("", 1, fd, &e), -EINVAL);
    assert_int_equal(tap_open("kiln%d", 1, fd, &e), -EINVAL);
    assert_int_equal(tap_open("a/b", 1, fd, &e), -EINVAL);
    assert_int_equal(tap_open("sixteen-letters-", 1, fd, &e), -EINVAL);
    assert_int_equal(tap_open("kilntest0", NET_PAIRS_MAX + 1, fd, &e), -EINVAL);
}

static void a_tap_is_opened_with_all_its_queues(void **state)
{
    struct loop *l = loop_new(NULL, NULL);
    int fd[NET_PAIRS_MAX];
    struct err e = {0};
    struct net *n;
    uint8_t buf[100];
    struct iovec v = {buf, sizeof(buf)};
    char name[IFNAMSIZ];

    snprintf(name, sizeof(name), "kt%u", (unsigned)getpid() % 100000000);
    int r = tap_open(name, 2, fd, &e);
    if (r == -EPERM || r == -ENOENT || r == -EACCES) {
        loop_free(l);
        skip();
    }
    assert_int_equal(r, 0);
    assert_int_equal(tap_net(fd, 2, l, &n, &e), 0);
    assert_int_equal(n->pairs, 2);
    assert_true(n->link);
    n->ops->set_offloads(n, NET_RX_CSUM | NET_RX_TSO4 | NET_RX_TSO6 | NET_RX_ECN | NET_RX_UFO);
    n->ops->set_pairs(n, 2);
    n->ops->set_pairs(n, 1);
    assert_int_equal(n->ops->receive(n, 0, &v, 1), -EAGAIN);
    n->ops->close(n);

    struct ifreq q = {.ifr_flags = IFF_TAP | IFF_NO_PI};
    int plain = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
    assert_int_equal(ioctl(plain, TUNSETIFF, &q), 0);
    assert_int_equal(tap_net(&plain, 1, l, &n, &e), -EINVAL);
    assert_non_null(strstr(e.msg, "IFF_VNET_HDR"));
    loop_free(l);
}

/* --- passt ------------------------------------------------------------------------- */

static void ports_that_cannot_be_had_are_refused(void **state)
{
    struct sockaddr_storage sa = {.ss_family = AF_INET};
    socklen_t len = 16;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct passt_port p = {.ip = "127.0.0.1", .guest = 80};
    struct passt_conf c = {.port = &p, .n_ports = 1};
    struct passt x;
    struct err e = {0};
    uint16_t be;

    assert_int_equal(bind(fd, (struct sockaddr *)&sa, len), 0);
    assert_int_equal(listen(fd, 1), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&sa, &len), 0);
    memcpy(&be, (uint8_t *)&sa + 2, 2);
    p.host = be16toh(be);
    assert_int_equal(passt_start(&c, &x, &e), -EADDRINUSE);
    p.ip = NULL;
    assert_int_equal(passt_start(&c, &x, &e), -EADDRINUSE);
    p.ip = "nowhere";
    assert_int_equal(passt_start(&c, &x, &e), -EINVAL);
    assert_int_equal(x.fd, -1);
    close(fd);
    c = (struct passt_conf){.program = "no-such-passt"};
    assert_int_equal(passt_start(&c, &x, &e), -ENOENT);
    assert_int_equal(x.fd, -1);
    assert_int_equal(x.pid, 0);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_bucket_lets_through_its_rate),
        cmocka_unit_test(a_bucket_holds_no_more_than_its_burst),
        cmocka_unit_test(time_that_is_no_whole_unit_is_not_lost),
        cmocka_unit_test(extremes_do_not_overflow),
        cmocka_unit_test(checksums_are_filled_in_wherever_the_pieces_end),
        cmocka_unit_test(checksums_outside_the_frame_are_refused),
        cmocka_unit_test(a_checksum_of_zero_is_written_as_ones),
        T(frames_have_their_length_before_them),
        T(frames_come_however_the_bytes_do),
        T(a_peer_that_is_slow_gets_whole_frames),
        T(nonsense_and_the_end_take_the_link_down),
        cmocka_unit_test(what_is_no_stream_is_refused),
        cmocka_unit_test(names_that_no_interface_has_are_refused),
        cmocka_unit_test(a_tap_is_opened_with_all_its_queues),
        cmocka_unit_test(ports_that_cannot_be_had_are_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
