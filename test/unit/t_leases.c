#include "network/leases.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "network/netlock.h"
#include "test/unit/t.h"
#include "test/unit/t_sh.h"

static struct ipaddr net, gateway;

static int up(void **state)
{
    return ipaddr_parse_cidr("10.9.0.0/29", &net, NULL) < 0 ||
           ipaddr_parse_cidr("10.9.0.1/29", &gateway, NULL) < 0;
}

static void add(struct leases *l, const char *id, const struct ipaddr *ip)
{
    struct leases_entry en = {.mac = {2}, .ip = *ip};

    snprintf(en.id, sizeof(en.id), "%s", id);
    assert_int_equal(leases_add(l, &en, NULL), 0);
}

static void addresses_are_handed_out_once_and_lowest_first(void **state)
{
    struct leases l = {0};
    struct err e = {0};
    struct ipaddr a;
    char text[IPADDR_TEXT], id[8];

    /* 8 addresses: the network's, the gateway's and the broadcast one are not for containers. */
    for (unsigned i = 2; i <= 6; i++) {
        char want[16];

        assert_int_equal(leases_pick(&l, &net, &net, &gateway, &a, &e), 0);
        snprintf(want, sizeof(want), "10.9.0.%u", i);
        assert_string_equal(ipaddr_text(&a, text), want);
        assert_int_equal(a.bits, 29);
        snprintf(id, sizeof(id), "c%u", i);
        add(&l, id, &a);
    }
    assert_int_equal(leases_pick(&l, &net, &net, &gateway, &a, &e), -ENOSPC);
    leases_remove(&l, leases_find(&l, "c4"));
    assert_null(leases_find(&l, "c4"));
    assert_int_equal(leases_pick(&l, &net, &net, &gateway, &a, &e), 0);
    assert_string_equal(ipaddr_text(&a, text), "10.9.0.4");
    leases_done(&l);
}

static void an_address_that_is_asked_for_must_be_free(void **state)
{
    struct leases l = {0};
    struct err e = {0};
    struct ipaddr a;

    assert_int_equal(ipaddr_parse("10.9.0.3", 0, &a, NULL), 0);
    assert_int_equal(leases_check(&l, &net, &gateway, &a, &e), 0);
    add(&l, "c", &a);
    assert_int_equal(leases_check(&l, &net, &gateway, &a, &e), -EADDRINUSE);
    assert_non_null(strstr(e.msg, "address already in use"));
    assert_int_equal(leases_check(&l, &net, &gateway, &gateway, &e), -EADDRINUSE);
    assert_int_equal(ipaddr_parse("10.9.0.9", 0, &a, NULL), 0);
    assert_int_equal(leases_check(&l, &net, &gateway, &a, &e), -EINVAL);
    leases_done(&l);
}

static void a_range_limits_what_is_handed_out(void **state)
{
    struct leases l = {0};
    struct ipaddr range, a;
    char text[IPADDR_TEXT];

    assert_int_equal(ipaddr_parse_cidr("10.9.0.4/31", &range, NULL), 0);
    for (unsigned i = 4; i <= 5; i++) {
        assert_int_equal(leases_pick(&l, &net, &range, &gateway, &a, NULL), 0);
        assert_int_equal(a.bytes[3], i);
        add(&l, ipaddr_text(&a, text), &a);
    }
    assert_int_equal(leases_pick(&l, &net, &range, &gateway, &a, NULL), -ENOSPC);
    leases_done(&l);
}

static const char line[] =
    "c0ffee web kp-0123456789ab 02:6b:0a:09:00:02 10.9.0.2/29 fd00::2/64 77 123456 "
    "www,db.local 9.9.9.9,fd00::9 tcp/8080/80/,udp/53/5353/127.0.0.1,tcp/1/2/::1\n"
    "beef - - 02:6b:0a:09:00:03 - - 0 0 - - -\n";

static void what_is_written_is_read_back(void **state)
{
    struct leases l = {0};
    struct err e = {0};
    CLEANUP(mem) char *text = strdup(line);
    size_t len;

    assert_int_equal(leases_parse(text, sizeof(line) - 1, &l, &e), 0);
    assert_int_equal(l.n, 2);
    assert_string_equal(l.v[0].name, "web");
    assert_int_equal(l.v[0].n_ports, 3);
    assert_true(l.v[0].port[1].udp);
    assert_string_equal(l.v[0].port[2].host_ip, "::1");
    assert_int_equal(l.v[0].alias.n, 2);
    assert_string_equal(l.v[0].dns.v[1], "fd00::9");
    assert_int_equal(l.v[0].helper, 77);
    CLEANUP(mem) char *again = leases_format(&l, &len);
    assert_string_equal(again, line);
    leases_done(&l);
}

static void a_damaged_line_is_named(void **state)
{
    static const char *const bad[] = {
        "x",
        "c0ffee web kp 02:6b:0a:09:00:02 10.9.0.2/29 - 0 0 - -\n",         /* one word short */
        "c0ffee web kp 02:6b:0a:09:00:02 10.9.0.2/29 - 0 0 - - - -\n",     /* one too many */
        "c0ffee w/b kp 02:6b:0a:09:00:02 10.9.0.2/29 - 0 0 - - -\n",       /* a name */
        "c0ffee web kp 03:6b:0a:09:00:02 10.9.0.2/29 - 0 0 - - -\n",       /* multicast */
        "c0ffee web kp 02:6b:0a:09:00:02 fd00::1/64 - 0 0 - - -\n",        /* other family */
        "c0ffee web kp 02:6b:0a:09:00:02 - - -1 0 - - -\n",                /* a pid */
        "c0ffee web kp 02:6b:0a:09:00:02 - - 0 0 - - sctp/1/2/\n",         /* protocol */
        "c0ffee web kp 02:6b:0a:09:00:02 - - 0 0 - - tcp/70000/2/\n",      /* port */
        "c0ffee web kp 02:6b:0a:09:00:02 - - 0 0 - - tcp/1/2/localhost\n", /* address */
        "- web kp 02:6b:0a:09:00:02 - - 0 0 - - -\n",                      /* no id */
    };

    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct leases l = {0};
        struct err e = {0};
        CLEANUP(mem) char *text = strdup(bad[i]);

        assert_int_equal(leases_parse(text, strlen(bad[i]), &l, &e), -EBADMSG);
        assert_non_null(strstr(e.msg, "line 1"));
        assert_int_equal(l.n, 0);
    }
}

static void a_file_without_containers_is_no_file(void **state)
{
    char dir[] = "/tmp/kiln-t-leases-XXXXXX", cmd[64];
    struct leases l = {0}, back;
    struct err e = {0};

    assert_non_null(mkdtemp(dir));
    CLEANUP(fd) int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_int_equal(leases_load(fd, &back, &e), 0);
    assert_int_equal(back.n, 0);
    assert_int_equal(e.code, 0);
    add(&l, "c0ffee", &gateway);
    assert_int_equal(leases_save(fd, &l, &e), 0);
    assert_int_equal(leases_load(fd, &back, &e), 0);
    assert_int_equal(back.n, 1);
    leases_done(&back);
    leases_remove(&l, leases_find(&l, "c0ffee"));
    assert_int_equal(leases_save(fd, &l, &e), 0);
    assert_int_equal(faccessat(fd, "leases", F_OK, 0), -1);
    leases_done(&l);
    snprintf(cmd, sizeof(cmd), "rm -rf %s", dir);
    assert_int_equal(t_sh(cmd, NULL, 0), 0);
}

static void a_mac_address_is_six_bytes_of_one_machine(void **state)
{
    uint8_t mac[6];

    assert_int_equal(leases_parse_mac("02:6b:0a:00:00:Ff", mac, NULL), 0);
    assert_int_equal(mac[5], 0xff);
    assert_int_equal(leases_parse_mac("01:00:5e:00:00:01", mac, NULL), -EINVAL);
    assert_int_equal(leases_parse_mac("02:6b:0a:00:00", mac, NULL), -EINVAL);
    assert_int_equal(leases_parse_mac("02:6b:0a:00:00:01:02", mac, NULL), -EINVAL);
    assert_int_equal(leases_parse_mac("02-6b-0a-00-00-01", mac, NULL), -EINVAL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(addresses_are_handed_out_once_and_lowest_first),
        cmocka_unit_test(an_address_that_is_asked_for_must_be_free),
        cmocka_unit_test(a_range_limits_what_is_handed_out),
        cmocka_unit_test(what_is_written_is_read_back),
        cmocka_unit_test(a_damaged_line_is_named),
        cmocka_unit_test(a_file_without_containers_is_no_file),
        cmocka_unit_test(a_mac_address_is_six_bytes_of_one_machine),
    };

    return cmocka_run_group_tests(tests, up, NULL);
}
