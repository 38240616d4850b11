/* Questions are put together by hand; servers are sockets of this process. */
#include "network/dnsserve.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "test/unit/t.h"
#include "test/unit/t_sh.h"

static const char leases_text[] =
    "c0ffee123456789 web - 02:6b:0a:09:00:02 127.0.0.2/8 fd00::2/64 0 0 www,both - -\n"
    "beef00000000000 DB - 02:6b:0a:09:00:03 127.0.0.3/8 - 0 0 both 127.0.0.9 -\n";

static struct netconf net = {.name = "lan"};

static int setup(void **state)
{
    return ipaddr_parse_cidr("127.0.0.0/8", &net.subnet, NULL) < 0 ||
           ipaddr_parse_cidr("fd00::/64", &net.subnet6, NULL) < 0;
}

static size_t ask(uint8_t *p, const char *name, uint16_t type)
{
    static const uint8_t head[DNSMSG_HEADER] = {0x12, 0x34, 1, 0, 0, 1};
    size_t at = DNSMSG_HEADER;

    memcpy(p, head, sizeof(head));
    while (*name) {
        size_t n = strcspn(name, ".");

        p[at++] = (uint8_t)n;
        memcpy(p + at, name, n);
        at += n;
        name += n + (name[n] == '.');
    }
    p[at++] = 0;
    p[at++] = (uint8_t)(type >> 8);
    p[at++] = (uint8_t)type;
    p[at++] = 0;
    p[at++] = 1;
    return at;
}

static void load(struct leases *l)
{
    CLEANUP(mem) char *text = strdup(leases_text);

    assert_int_equal(leases_parse(text, sizeof(leases_text) - 1, l, NULL), 0);
}

static bool answer(const char *name, uint16_t type, struct dnsmsg_answer *a)
{
    struct leases l = {0};
    struct dnsmsg_query q;
    uint8_t p[512];

    load(&l);
    assert_int_equal(dnsmsg_parse(p, ask(p, name, type), &q), 0);
    bool ours = dnsname_answer(&net, &l, &q, 0, a);
    leases_done(&l);
    return ours;
}

static void a_container_has_its_name_its_aliases_and_its_id(void **state)
{
    static const char *const names[] = {
        "web", "WEB", "www", "c0ffee123456", "c0ffee123456789", "web.lan", "www.LAN"};
    struct dnsmsg_answer a;

    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        assert_true(answer(names[i], DNSMSG_A, &a));
        assert_int_equal(a.n, 1);
        assert_int_equal(a.ip[0].bytes[3], 2);
    }
    assert_true(answer("db", DNSMSG_A, &a));
    assert_int_equal(a.ip[0].bytes[3], 3);
    assert_true(answer("both", DNSMSG_A, &a));
    assert_int_equal(a.n, 2);
    assert_false(answer("c0ffee", DNSMSG_A, &a));
    assert_false(answer("web.other", DNSMSG_A, &a));
    assert_false(answer("", DNSMSG_A, &a));
    assert_false(answer("lan", DNSMSG_A, &a));
}

static void a_type_it_does_not_have_is_an_empty_answer(void **state)
{
    struct dnsmsg_answer a;

    assert_true(answer("db", DNSMSG_AAAA, &a));
    assert_int_equal(a.rcode, DNSMSG_NOERROR);
    assert_int_equal(a.n, 0);
    assert_true(answer("web", 15, &a));
    assert_int_equal(a.n, 0);
}

static void addresses_have_names(void **state)
{
    struct dnsmsg_answer a;

    assert_true(answer("3.0.0.127.in-addr.arpa", DNSMSG_PTR, &a));
    assert_string_equal(a.ptr, "DB");
    assert_true(answer("2.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.d.f.ip6.arpa",
                       DNSMSG_PTR, &a));
    assert_string_equal(a.ptr, "web");
    assert_true(answer("77.0.0.127.in-addr.arpa", DNSMSG_PTR, &a));
    assert_int_equal(a.rcode, DNSMSG_NXDOMAIN);
    assert_false(answer("1.1.1.1.in-addr.arpa", DNSMSG_PTR, &a));
    assert_false(answer("1.1.1.in-addr.arpa", DNSMSG_PTR, &a));
    assert_false(answer("1.1.1.999.in-addr.arpa", DNSMSG_PTR, &a));
}

static void questions_that_are_none_are_told_apart(void **state)
{
    uint8_t p[512];
    struct dnsmsg_query q;
    size_t len = ask(p, "web", DNSMSG_A);

    for (size_t n = 0; n < len; n++)
        assert_int_equal(dnsmsg_parse(p, n, &q), n < DNSMSG_HEADER ? -EPROTO : -EBADMSG);
    p[2] |= 0x80;
    assert_int_equal(dnsmsg_parse(p, len, &q), -EPROTO);
    p[2] = 0x28;
    assert_int_equal(dnsmsg_parse(p, len, &q), -EOPNOTSUPP);
    p[2] = 1;
    p[5] = 2;
    assert_int_equal(dnsmsg_parse(p, len, &q), -EBADMSG);
    p[5] = 1;
    p[DNSMSG_HEADER] = 0xc0; /* a pointer, to itself */
    p[DNSMSG_HEADER + 1] = DNSMSG_HEADER;
    assert_int_equal(dnsmsg_parse(p, len, &q), -EBADMSG);
}

static void more_than_fits_is_cut_and_said(void **state)
{
    uint8_t p[512], out[DNSMSG_UDP];
    struct dnsmsg_query q;
    struct dnsmsg_answer a = {.n = DNSMSG_ANSWERS_MAX};

    assert_int_equal(dnsmsg_parse(p, ask(p, "web", DNSMSG_AAAA), &q), 0);
    for (unsigned i = 0; i < a.n; i++)
        a.ip[i] = (struct ipaddr){.family = AF_INET6, .bits = 64, .bytes = {0xfd, (uint8_t)i}};
    size_t len = dnsmsg_reply(p, &q, &a, out, sizeof(out));
    assert_in_range(len, DNSMSG_UDP - 28, DNSMSG_UDP);
    assert_true(out[2] & 2); /* TC */
    assert_int_equal(out[7], (len - q.question) / 28);
}

/* --- with sockets */

struct world {
    char dir[40];
    int folder, asker, upstream;
    struct dnsserve_conf c;
    struct sockaddr_in at, up;
    struct dnsserve *s;
};

static int bound(int type, const char *ip, struct sockaddr_in *at)
{
    int fd = socket(AF_INET, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    socklen_t len = sizeof(*at);

    *at = (struct sockaddr_in){.sin_family = AF_INET};
    inet_pton(AF_INET, ip, &at->sin_addr);
    assert_int_equal(bind(fd, (struct sockaddr *)at, sizeof(*at)), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)at, &len), 0);
    return fd;
}

static void open_world(struct world *w)
{
    struct leases l = {0};

    *w = (struct world){.dir = "/tmp/kiln-t-dns-XXXXXX"};
    assert_non_null(mkdtemp(w->dir));
    w->folder = open(w->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    load(&l);
    assert_int_equal(leases_save(w->folder, &l, NULL), 0);
    leases_done(&l);
    w->upstream = bound(SOCK_DGRAM, "127.0.0.9", &w->up);
    w->asker = bound(SOCK_DGRAM, "127.0.0.3", &(struct sockaddr_in){0});
    w->c = (struct dnsserve_conf){.udp = {bound(SOCK_DGRAM, "127.0.0.1", &w->at), -1},
                                  .tcp = {-1, -1},
                                  .folder = w->folder,
                                  .net = &net,
                                  .up_port = ntohs(w->up.sin_port)};
    w->s = dnsserve_new(&w->c);
    assert_non_null(w->s);
}

static void close_world(struct world *w)
{
    char cmd[64];

    dnsserve_free(w->s);
    close(w->c.udp[0]);
    close(w->asker);
    close(w->upstream);
    close(w->folder);
    snprintf(cmd, sizeof(cmd), "rm -rf %s", w->dir);
    assert_int_equal(t_sh(cmd, NULL, 0), 0);
}

static ssize_t ask_world(struct world *w, const char *name, uint8_t *out, size_t size)
{
    uint8_t p[512];
    size_t len = ask(p, name, DNSMSG_A);

    assert_int_equal(sendto(w->asker, p, len, 0, (struct sockaddr *)&w->at, sizeof(w->at)), len);
    dnsserve_once(w->s, 1000);
    return recv(w->asker, out, size, MSG_DONTWAIT);
}

static void names_follow_the_leases(void **state)
{
    struct leases none = {0};
    struct world w;
    uint8_t out[512];

    open_world(&w);
    assert_true(ask_world(&w, "web", out, sizeof(out)) > DNSMSG_HEADER);
    assert_int_equal(out[7], 1);
    assert_int_equal(leases_save(w.folder, &none, NULL), 0);
    /* Now it is nobody's name: it is passed on to nobody who answers. */
    assert_int_equal(ask_world(&w, "web", out, sizeof(out)), -1);
    close_world(&w);
}

static void a_question_passed_on_has_an_id_of_its_own(void **state)
{
    struct world w;
    uint8_t in[512], out[512];
    struct sockaddr_in from;
    socklen_t len = sizeof(from);

    open_world(&w);
    assert_int_equal(ask_world(&w, "example.org", out, sizeof(out)), -1);
    ssize_t n = recvfrom(w.upstream, in, sizeof(in), 0, (struct sockaddr *)&from, &len);
    assert_true(n > DNSMSG_HEADER);
    in[2] |= 0x80;
    in[0] ^= 1; /* a guess */
    assert_int_equal(sendto(w.upstream, in, (size_t)n, 0, (struct sockaddr *)&from, len), n);
    dnsserve_once(w.s, 1000);
    assert_int_equal(recv(w.asker, out, sizeof(out), MSG_DONTWAIT), -1);
    in[0] ^= 1;
    assert_int_equal(sendto(w.upstream, in, (size_t)n, 0, (struct sockaddr *)&from, len), n);
    dnsserve_once(w.s, 1000);
    assert_int_equal(recv(w.asker, out, sizeof(out), MSG_DONTWAIT), n);
    assert_int_equal(out[0], 0x12);
    assert_int_equal(out[1], 0x34);
    close_world(&w);
}

static void one_asker_does_not_take_all_places(void **state)
{
    struct world w;
    uint8_t out[512];
    unsigned n = 0;

    open_world(&w);
    for (unsigned i = 0; i < DNSSERVE_ASKS_EACH + 20; i++)
        assert_int_equal(ask_world(&w, "example.org", out, sizeof(out)), -1);
    while (recv(w.upstream, out, sizeof(out), MSG_DONTWAIT) > 0)
        n++;
    assert_int_equal(n, DNSSERVE_ASKS_EACH);
    close_world(&w);
}

static void an_internal_network_tells_nobody_what_is_asked(void **state)
{
    struct world w;
    uint8_t out[512];

    net.internal = true;
    open_world(&w);
    assert_true(ask_world(&w, "example.org", out, sizeof(out)) > 0);
    assert_int_equal(out[3] & 15, DNSMSG_NXDOMAIN);
    assert_int_equal(recv(w.upstream, out, sizeof(out), MSG_DONTWAIT), -1);
    assert_true(ask_world(&w, "db", out, sizeof(out)) > 0);
    assert_int_equal(out[7], 1);
    close_world(&w);
    net.internal = false;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_container_has_its_name_its_aliases_and_its_id),
        cmocka_unit_test(a_type_it_does_not_have_is_an_empty_answer),
        cmocka_unit_test(addresses_have_names),
        cmocka_unit_test(questions_that_are_none_are_told_apart),
        cmocka_unit_test(more_than_fits_is_cut_and_said),
        cmocka_unit_test(names_follow_the_leases),
        cmocka_unit_test(a_question_passed_on_has_an_id_of_its_own),
        cmocka_unit_test(one_asker_does_not_take_all_places),
        cmocka_unit_test(an_internal_network_tells_nobody_what_is_asked),
    };

    return cmocka_run_group_tests(tests, setup, NULL);
}
