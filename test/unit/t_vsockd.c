/* Unix sockets, the socket device and a guest's driver, all in one thread. */
#include "net/vsockd.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "os/loop.h"
#include "test/unit/vsguest.h"

enum { STREAM = 100 << 20, CHUNK = 65536 };

struct world {
    char dir[64], path[96];
    struct loop *l;
    struct vg v;
};

static void setup(struct world *w)
{
    struct vsock_host host;
    struct err e = {0};

    *w = (struct world){.dir = "/tmp/t_vsockd.XXXXXX"};
    assert_non_null(mkdtemp(w->dir));
    snprintf(w->path, sizeof(w->path), "%s/v", w->dir);
    w->l = loop_new(NULL, NULL);
    assert_int_equal(vsockd_new(w->path, w->l, &host, &e), 0);
    drv_plug(&w->v.d, &vsock_ops, vsock_new(VG_CID, &host, NULL));
    vg_start(&w->v, true);
}

static void teardown(struct world *w)
{
    struct stat st;

    drv_close(&w->v.d);
    loop_free(w->l);
    assert_int_equal(stat(w->path, &st), -1); /* the socket file is gone */
    assert_int_equal(rmdir(w->dir), 0);
}

static void turn(struct world *w)
{
    for (int i = 0; i < 4; i++)
        loop_once(w->l, 0);
}

static int client(const char *path)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    snprintf(a.sun_path, sizeof(a.sun_path), "%s", path);
    assert_int_equal(connect(fd, (const struct sockaddr *)&a, sizeof(a)), 0);
    return fd;
}

static void say(int fd, const char *s)
{
    assert_int_equal(send(fd, s, strlen(s), MSG_NOSIGNAL), (ssize_t)strlen(s));
}

static ssize_t hear(struct world *w, int fd, char *buf, size_t len)
{
    turn(w);
    ssize_t n = recv(fd, buf, len, 0);
    return n < 0 ? -errno : n;
}

/* A stream from a client to guest port 1024; returns the client. */
static int connected(struct world *w, uint32_t *host_port)
{
    char line[32] = {0}, want[32];
    int fd = client(w->path);
    struct vg_hdr h;

    say(fd, "CONNECT 1024\n");
    turn(w);
    assert_true(vg_recv(&w->v, &h, NULL));
    assert_int_equal(h.op, REQUEST);
    assert_int_equal(h.dst_port, 1024);
    *host_port = h.src_port;
    vg_send(&w->v, RESPONSE, *host_port, 1024, NULL, 0);
    snprintf(want, sizeof(want), "OK %u\n", *host_port);
    assert_int_equal(hear(w, fd, line, sizeof(line)), (ssize_t)strlen(want));
    assert_string_equal(line, want);
    return fd;
}

static void a_client_connects_and_bytes_go_both_ways(void **state)
{
    struct world w;
    uint32_t port;
    char buf[VG_RX_LEN];

    setup(&w);
    int fd = connected(&w, &port);
    say(fd, "ping");
    turn(&w);
    struct vg_hdr h = vg_expect(&w.v, RW, port, 1024, buf);
    assert_int_equal(h.len, 4);
    assert_memory_equal(buf, "ping", 4);
    vg_send(&w.v, RW, port, 1024, "pong!", 5);
    assert_int_equal(hear(&w, fd, buf, sizeof(buf)), 5);
    assert_memory_equal(buf, "pong!", 5);
    close(fd);
    teardown(&w);
}

/* What follows the line belongs to the stream, also when it comes with it. */
static void a_socket_taken_over_is_a_client_like_others(void **state)
{
    struct vsock_host host;
    struct world w = {.dir = "/tmp/t_vsockd.XXXXXX"};
    struct vg_hdr h;
    char buf[VG_RX_LEN];
    int pair[2];

    assert_non_null(mkdtemp(w.dir));
    snprintf(w.path, sizeof(w.path), "%s/v", w.dir);
    w.l = loop_new(NULL, NULL);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    say(pair[0], "CONNECT 1024\nping"); /* before there is a machine */
    assert_int_equal(vsockd_new(w.path, w.l, &host, NULL), 0);
    assert_int_equal(vsockd_adopt(&host, pair[1], NULL), 0);
    drv_plug(&w.v.d, &vsock_ops, vsock_new(VG_CID, &host, NULL));
    vg_start(&w.v, true);
    turn(&w);
    assert_true(vg_recv(&w.v, &h, NULL));
    assert_int_equal(h.op, REQUEST);
    vg_send(&w.v, RESPONSE, h.src_port, 1024, NULL, 0);
    turn(&w);
    assert_int_equal(vg_expect(&w.v, RW, h.src_port, 1024, buf).len, 4);
    assert_memory_equal(buf, "ping", 4);
    close(pair[0]);
    turn(&w);
    teardown(&w);
}

static void bytes_right_behind_the_line_are_kept(void **state)
{
    struct world w;
    struct vg_hdr h;
    char buf[VG_RX_LEN];

    setup(&w);
    int fd = client(w.path);
    say(fd, "CON");
    turn(&w);
    say(fd, "NECT 7\nhello");
    turn(&w);
    assert_true(vg_recv(&w.v, &h, NULL));
    assert_int_equal(h.op, REQUEST);
    vg_send(&w.v, RESPONSE, h.src_port, 7, NULL, 0);
    turn(&w);
    h = vg_expect(&w.v, RW, h.src_port, 7, buf);
    assert_int_equal(h.len, 5);
    assert_memory_equal(buf, "hello", 5);
    close(fd);
    teardown(&w);
}

static void nonsense_is_hung_up_on(void **state)
{
    static const char *const lines[] = {
        "\n",
        "CONNECT\n",
        "CONNECT \n",
        "CONNECT -1\n",
        "CONNECT 4294967296\n",
        "CONNECT 1 2\n",
        "connect 1\n",
        "CONNECT 1\r\n",
        "CONNECT +1\n",
        "CONNECT 0x10\n",
        "GET / HTTP/1.1\r\n",
        "CONNECT 99999999999999999999999999999999999999",
    };
    struct world w;
    char buf[8];

    setup(&w);
    for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
        int fd = client(w.path);

        say(fd, lines[i]);
        ssize_t n = hear(&w, fd, buf, sizeof(buf));
        assert_true(n == 0 || n == -ECONNRESET); /* reset: it had more to say */
        close(fd);
    }
    vg_expect_none(&w.v);
    teardown(&w);
}

static void a_refused_client_is_closed_without_a_word(void **state)
{
    struct world w;
    struct vg_hdr h;
    char buf[8];

    setup(&w);
    int fd = client(w.path);
    say(fd, "CONNECT 9\n");
    turn(&w);
    assert_true(vg_recv(&w.v, &h, NULL));
    vg_send(&w.v, RST, h.src_port, 9, NULL, 0);
    assert_int_equal(hear(&w, fd, buf, sizeof(buf)), 0);
    close(fd);
    drv_set(&w.v.d, 0x70, 0); /* no driver: no streams */
    fd = client(w.path);
    say(fd, "CONNECT 9\n");
    assert_int_equal(hear(&w, fd, buf, sizeof(buf)), 0);
    close(fd);
    teardown(&w);
}

static void a_client_that_gives_up_waiting_is_forgotten(void **state)
{
    struct world w;
    struct vg_hdr h;

    setup(&w);
    int fd = client(w.path);
    say(fd, "CONNECT 9\n");
    turn(&w);
    assert_true(vg_recv(&w.v, &h, NULL));
    close(fd);
    turn(&w);
    vg_expect(&w.v, RST, h.src_port, 9, NULL);
    teardown(&w);
}

static void silent_clients_make_room_for_others(void **state)
{
    struct world w;
    int fd[VSOCKD_PENDING_MAX + 8];
    uint32_t port;
    char buf[8];

    setup(&w);
    for (unsigned i = 0; i < VSOCKD_PENDING_MAX + 8; i++) {
        fd[i] = client(w.path);
        turn(&w);
    }
    assert_int_equal(hear(&w, fd[0], buf, sizeof(buf)), 0);
    assert_int_equal(hear(&w, fd[8], buf, sizeof(buf)), -EAGAIN);
    int good = connected(&w, &port);
    close(good);
    for (unsigned i = 0; i < VSOCKD_PENDING_MAX + 8; i++)
        close(fd[i]);
    turn(&w);
    teardown(&w);
}

static int listener(struct world *w, uint32_t port, char *path, size_t n)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    snprintf(path, n, "%s_%u", w->path, port);
    snprintf(a.sun_path, sizeof(a.sun_path), "%s", path);
    assert_int_equal(bind(fd, (const struct sockaddr *)&a, sizeof(a)), 0);
    assert_int_equal(listen(fd, 1), 0);
    return fd;
}

static void the_guest_reaches_a_listener(void **state)
{
    struct world w;
    char path[128], buf[VG_RX_LEN];

    setup(&w);
    vg_send(&w.v, REQUEST, 1025, 50, NULL, 0);
    vg_expect(&w.v, RST, 1025, 50, NULL); /* nobody listens */
    int l = listener(&w, 1025, path, sizeof(path));
    vg_send(&w.v, REQUEST, 1025, 50, NULL, 0);
    vg_expect(&w.v, RESPONSE, 1025, 50, NULL);
    int fd = accept4(l, NULL, NULL, SOCK_NONBLOCK);
    assert_true(fd >= 0);
    vg_send(&w.v, RW, 1025, 50, "!", 1);
    assert_int_equal(hear(&w, fd, buf, sizeof(buf)), 1);
    vg_shutdown(&w.v, 1025, 50, 3);
    vg_expect(&w.v, RST, 1025, 50, NULL);
    assert_int_equal(hear(&w, fd, buf, sizeof(buf)), 0);
    close(fd);
    close(l);
    unlink(path);
    teardown(&w);
}

static void half_closes_pass_through(void **state)
{
    struct world w;
    uint32_t port;
    char buf[VG_RX_LEN];

    setup(&w);
    int fd = connected(&w, &port);
    say(fd, "last");
    shutdown(fd, SHUT_WR);
    turn(&w);
    vg_expect(&w.v, RW, port, 1024, buf);
    struct vg_hdr h = vg_expect(&w.v, SHUTDOWN, port, 1024, NULL);
    assert_int_equal(h.flags, 2); /* the client will send no more, but listens */
    vg_send(&w.v, RW, port, 1024, "answer", 6);
    assert_int_equal(hear(&w, fd, buf, sizeof(buf)), 6);
    vg_shutdown(&w.v, port, 1024, 2);
    assert_int_equal(hear(&w, fd, buf, sizeof(buf)), 0);
    h = vg_expect(&w.v, SHUTDOWN, port, 1024, NULL);
    assert_int_equal(h.flags, 3);
    vg_send(&w.v, RST, port, 1024, NULL, 0);
    vg_expect_none(&w.v);
    close(fd);
    teardown(&w);
}

static void a_guest_that_ends_its_side_first_still_reads(void **state)
{
    struct world w;
    uint32_t port;
    char buf[VG_RX_LEN];

    setup(&w);
    int fd = connected(&w, &port);
    vg_send(&w.v, RW, port, 1024, "bye", 3);
    vg_shutdown(&w.v, port, 1024, 2);
    assert_int_equal(hear(&w, fd, buf, sizeof(buf)), 3);
    assert_int_equal(hear(&w, fd, buf, sizeof(buf)), 0);
    say(fd, "more");
    turn(&w);
    struct vg_hdr h = vg_expect(&w.v, RW, port, 1024, buf);
    assert_int_equal(h.len, 4);
    close(fd);
    turn(&w);
    h = vg_expect(&w.v, SHUTDOWN, port, 1024, NULL);
    assert_int_equal(h.flags, 3);
    teardown(&w);
}

static void a_client_that_goes_away_ends_both_directions(void **state)
{
    struct world w;
    uint32_t port;

    setup(&w);
    int fd = connected(&w, &port);
    close(fd);
    turn(&w);
    struct vg_hdr h = vg_expect(&w.v, SHUTDOWN, port, 1024, NULL);
    assert_int_equal(h.flags, 3);
    vg_send(&w.v, RW, port, 1024, "to nobody", 9); /* on its way already: no harm */
    vg_send(&w.v, RST, port, 1024, NULL, 0);
    vg_expect_none(&w.v);
    teardown(&w);
}

static void a_reset_by_the_guest_closes_the_client(void **state)
{
    struct world w;
    uint32_t port;
    char buf[8];

    setup(&w);
    int fd = connected(&w, &port);
    vg_send(&w.v, RST, port, 1024, NULL, 0);
    assert_int_equal(hear(&w, fd, buf, sizeof(buf)), 0);
    close(fd);
    fd = connected(&w, &port);
    drv_set(&w.v.d, 0x70, 0); /* of the device, too */
    assert_int_equal(hear(&w, fd, buf, sizeof(buf)), 0);
    close(fd);
    teardown(&w);
}

/* The guest wrote, closed and reset while the client slept: it still gets every byte. */
static void a_slow_client_gets_what_a_closed_guest_sent(void **state)
{
    struct world w;
    uint32_t port;
    static char data[CHUNK], got[CHUNK];
    size_t sent = 0, heard = 0;

    setup(&w);
    int fd = connected(&w, &port);
    for (int i = 0; i < 8; i++) {
        memset(data, i, sizeof(data));
        vg_send(&w.v, RW, port, 1024, data, sizeof(data));
        sent += sizeof(data);
    }
    vg_shutdown(&w.v, port, 1024, 3);
    vg_send(&w.v, RST, port, 1024, NULL, 0);
    for (;;) {
        ssize_t n = hear(&w, fd, got, sizeof(got));

        assert_true(n >= 0);
        if (n == 0)
            break;
        for (ssize_t i = 0; i < n; i++)
            assert_int_equal(got[i], (char)((heard + (size_t)i) / CHUNK));
        heard += (size_t)n;
    }
    assert_int_equal(heard, sent);
    close(fd);
    teardown(&w);
}

static uint32_t noise(uint64_t at)
{
    at = (at + 1) * 0x9e3779b97f4a7c15ull;
    return (uint32_t)(at >> 32);
}

static void fill(uint32_t *p, uint64_t at, size_t n)
{
    for (size_t i = 0; i < n / 4; i++)
        p[i] = noise(at / 4 + i);
}

/* The guest takes data at its own pace and gives credit only now and then. */
static void a_long_stream_to_the_guest_is_whole(void **state)
{
    struct world w;
    uint32_t port;
    static uint32_t out[CHUNK / 4];
    static uint8_t in[VG_RX_LEN];
    uint64_t sent = 0, got = 0;
    size_t left = 0, off = 0;
    struct vg_hdr h;

    setup(&w);
    int fd = connected(&w, &port);
    while (got < STREAM) {
        if (left == 0 && sent < STREAM) {
            fill(out, sent, CHUNK);
            left = CHUNK;
            off = 0;
        }
        ssize_t n = send(fd, (char *)out + off, left, MSG_NOSIGNAL);
        if (n > 0) {
            left -= (size_t)n;
            off += (size_t)n;
            sent += (uint64_t)n;
        }
        loop_once(w.l, 0);
        while (vg_recv(&w.v, &h, in)) {
            if (h.op != RW) {
                assert_int_equal(h.op, CREDIT_REQUEST);
                vg_send(&w.v, CREDIT_UPDATE, port, 1024, NULL, 0);
                continue;
            }
            for (uint32_t i = 0; i < h.len; i += 509)
                assert_int_equal(in[i], (uint8_t)(noise((got + i) / 4) >> (8 * ((got + i) % 4))));
            got += h.len;
            w.v.fwd += h.len;
        }
    }
    assert_int_equal(got, STREAM);
    close(fd);
    teardown(&w);
}

/* The guest keeps to its credit; the client reads in odd pieces. */
static void a_long_stream_from_the_guest_is_whole(void **state)
{
    struct world w;
    uint32_t port;
    static uint32_t out[CHUNK / 4];
    static uint8_t in[50000];
    uint64_t sent = 0, got = 0, acked = 0;
    struct vg_hdr h;

    setup(&w);
    int fd = connected(&w, &port);
    while (got < STREAM) {
        while (sent < STREAM && sent - acked + CHUNK <= VSOCK_BUF_MAX) {
            fill(out, sent, CHUNK);
            vg_send(&w.v, RW, port, 1024, out, CHUNK);
            sent += CHUNK;
        }
        loop_once(w.l, 0);
        while (vg_recv(&w.v, &h, NULL)) {
            assert_int_equal(h.op, CREDIT_UPDATE);
            acked += (uint32_t)(h.fwd_cnt - (uint32_t)acked);
        }
        ssize_t n = recv(fd, in, sizeof(in), 0);
        for (ssize_t i = 0; i < n; i += 509) {
            uint64_t at = got + (uint64_t)i;
            assert_int_equal(in[i], (uint8_t)(noise(at / 4) >> (8 * (at % 4))));
        }
        if (n > 0)
            got += (uint64_t)n;
    }
    assert_int_equal(got, STREAM);
    assert_false(drv_broken(&w.v.d));
    close(fd);
    teardown(&w);
}

static void a_socket_in_use_is_refused_and_a_stale_one_replaced(void **state)
{
    struct world w;
    struct vsock_host host;
    struct err e = {0};
    char other[128], stale[128], deep[200];

    setup(&w);
    assert_int_equal(vsockd_new(w.path, w.l, &host, &e), -EADDRINUSE);
    snprintf(other, sizeof(other), "%s/file", w.dir);
    close(open(other, O_CREAT | O_WRONLY, 0600));
    assert_int_equal(vsockd_new(other, w.l, &host, &e), -EADDRINUSE);
    assert_int_equal(unlink(other), 0); /* it is still there */
    close(listener(&w, 3, stale, sizeof(stale)));
    assert_int_equal(vsockd_new(stale, w.l, &host, &e), 0);
    host.destroy(host.ctx);
    memset(deep, 'x', sizeof(deep));
    deep[100] = '\0'; /* fits, but not with a port behind it */
    assert_int_equal(vsockd_new(deep, w.l, &host, &e), -ENAMETOOLONG);
    assert_int_equal(vsockd_new("/does/not/exist", w.l, &host, &e), -ENOENT);
    teardown(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_client_connects_and_bytes_go_both_ways),
        cmocka_unit_test(a_socket_taken_over_is_a_client_like_others),
        cmocka_unit_test(bytes_right_behind_the_line_are_kept),
        cmocka_unit_test(nonsense_is_hung_up_on),
        cmocka_unit_test(a_refused_client_is_closed_without_a_word),
        cmocka_unit_test(a_client_that_gives_up_waiting_is_forgotten),
        cmocka_unit_test(silent_clients_make_room_for_others),
        cmocka_unit_test(the_guest_reaches_a_listener),
        cmocka_unit_test(half_closes_pass_through),
        cmocka_unit_test(a_guest_that_ends_its_side_first_still_reads),
        cmocka_unit_test(a_client_that_goes_away_ends_both_directions),
        cmocka_unit_test(a_reset_by_the_guest_closes_the_client),
        cmocka_unit_test(a_slow_client_gets_what_a_closed_guest_sent),
        cmocka_unit_test(a_long_stream_to_the_guest_is_whole),
        cmocka_unit_test(a_long_stream_from_the_guest_is_whole),
        cmocka_unit_test(a_socket_in_use_is_refused_and_a_stale_one_replaced),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
