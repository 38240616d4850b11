#include "network/netconf.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "network/etcfiles.h"
#include "network/resolvers.h"
#include "test/unit/t.h"
#include "test/unit/t_sh.h"

static char store[] = "/tmp/kiln-t-netconf-XXXXXX";

static int up(void **state)
{
    return mkdtemp(store) ? 0 : -1;
}

static int down(void **state)
{
    char cmd[128];

    snprintf(cmd, sizeof(cmd), "rm -rf %s", store);
    return t_sh(cmd, NULL, 0);
}

static int create(const char *name, const char *subnet, const char *gateway, struct netconf *c,
                  struct err *e)
{
    char *subnets[] = {(char *)subnet, NULL}, *gateways[] = {(char *)gateway, NULL};
    const struct netconf_want w = {.subnets = subnets, .gateways = gateways};

    return netconf_create(store, name, &w, c, e);
}

static void a_network_is_found_by_name_and_by_its_id(void **state)
{
    struct netconf c, f;
    struct err e = {0};
    char id[8];

    assert_int_equal(create("one", "198.18.7.9/24", NULL, &c, &e), 0);
    assert_int_equal(netconf_find(store, "one", &f, &e), 0);
    assert_string_equal(f.id, c.id);
    assert_int_equal(f.gateway.bytes[3], 1);
    assert_int_equal(f.subnet.bytes[3], 0);
    netconf_done(&f);
    snprintf(id, sizeof(id), "%.6s", c.id);
    assert_int_equal(netconf_find(store, id, &f, &e), 0);
    netconf_done(&f);
    assert_int_equal(netconf_find(store, "two", &f, &e), -ENOENT);
    assert_string_equal(e.msg, "network two not found");
    assert_int_equal(netconf_find(store, "../one", &f, &e), -ENOENT);
    assert_int_equal(netconf_find(store, "", &f, &e), -ENOENT);
    assert_int_equal(create("one", NULL, NULL, &f, &e), -EEXIST);
    assert_int_equal(create("two", "198.18.0.0/16", NULL, &f, &e), -EADDRINUSE);
    assert_int_equal(netconf_remove(store, "one", &e), 0);
    assert_int_equal(netconf_find(store, "one", &f, &e), -ENOENT);
    netconf_done(&c);
}

static void a_subnet_nobody_asked_for_is_free(void **state)
{
    struct netconf a, b;
    struct err e = {0};

    assert_int_equal(create("a", NULL, NULL, &a, &e), 0);
    assert_int_equal(create("b", NULL, NULL, &b, &e), 0);
    assert_false(ipaddr_overlap(&a.subnet, &b.subnet));
    assert_string_not_equal(a.interface, b.interface);
    netconf_done(&a);
    netconf_done(&b);
    assert_int_equal(netconf_remove(store, "a", &e), 0);
    assert_int_equal(netconf_remove(store, "b", &e), 0);
}

static void what_does_not_fit_together_is_refused(void **state)
{
    static const struct {
        const char *name, *subnet, *gateway;
        int error;
    } rows[] = {
        {"host", NULL, NULL, -EPERM},
        {"bridge", NULL, NULL, -EPERM},
        {"", NULL, NULL, -EINVAL},
        {"a/b", NULL, NULL, -EINVAL},
        {".hidden", NULL, NULL, -EINVAL},
        {"n", "198.18.0.0", NULL, -EINVAL},
        {"n", "198.18.0.0/31", NULL, -EINVAL},
        {"n", "198.18.0.0/24", "198.18.1.1", -EINVAL},
        {"n", "198.18.0.0/24", "198.18.0.0", -EINVAL},
        {"n", "198.18.0.0/24", "fd00::1", -EINVAL},
    };
    struct netconf c;

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct err e = {0};

        assert_int_equal(create(rows[i].name, rows[i].subnet, rows[i].gateway, &c, &e),
                         rows[i].error);
        assert_true(e.msg[0]);
    }
}

static void a_description_survives_json_and_a_damaged_one_is_refused(void **state)
{
    static const char *const members[] = {"name", "id", "network_interface", "subnets"};
    struct netconf c, back;
    struct err e = {0};

    assert_int_equal(create("j", "198.18.3.0/24", NULL, &c, &e), 0);
    for (size_t i = 0; i < ARRAY_LEN(members); i++) {
        json_t *j = netconf_to_json(&c);

        assert_int_equal(netconf_from_json(j, &back, &e), 0);
        assert_true(ipaddr_equal(&back.subnet, &c.subnet));
        netconf_done(&back);
        json_object_set_new(j, members[i], json_string("../x"));
        assert_int_equal(netconf_from_json(j, &back, &e),
                         strcmp(members[i], "id") == 0 ? 0 : -EBADMSG);
        if (strcmp(members[i], "id") == 0)
            netconf_done(&back);
        json_decref(j);
    }
    netconf_done(&c);
    assert_int_equal(netconf_remove(store, "j", &e), 0);
}

static void texts_of_etc_name_the_container_and_its_servers(void **state)
{
    static const char *const servers[] = {"10.0.0.1", NULL};
    char *hosts[] = {(char *)"db:10.0.0.9", (char *)"gw:host-gateway", NULL};
    char *search[] = {(char *)"example.org", NULL};
    struct network_want w = {
        .id = "0123456789abcdef", .hostname = "web", .add_hosts = hosts, .dns_search = search};
    struct network_lease l = NETWORK_LEASE_NONE;
    struct err e = {0};

    snprintf(l.ip, sizeof(l.ip), "10.0.0.2");
    snprintf(l.gateway, sizeof(l.gateway), "10.0.0.1");
    assert_int_equal(etcfiles_make(&w, servers, &l, &e), 0);
    assert_string_equal(l.resolv, "search example.org\nnameserver 10.0.0.1\n");
    assert_non_null(strstr(l.hosts, "10.0.0.9\tdb\n10.0.0.1\tgw\n10.0.0.2\tweb\n"));
    network_lease_done(&l);
    hosts[0] = (char *)"db:ten";
    assert_int_equal(etcfiles_make(&w, servers, &l, &e), -EINVAL);
    hosts[0] = (char *)"a\nb:1.1.1.1";
    assert_int_equal(etcfiles_make(&w, servers, &l, &e), -EINVAL);
    hosts[0] = NULL;
    w.hostname = "x\n127.0.0.1 evil";
    assert_int_equal(etcfiles_make(&w, servers, &l, &e), -EINVAL);
}

static void servers_of_a_resolv_conf_are_read(void **state)
{
    char text[] = "# nameserver 1.1.1.1\nsearch a\n nameserver\t9.9.9.9 # one\n"
                  "nameserver fe80::1%eth0\nnameservers 8.8.8.8\nnameserver x\nnameserver ::1\n";
    struct ipaddr a[4];
    CLEANUP(file) FILE *f = fmemopen(text, sizeof(text) - 1, "r");
    char buf[IPADDR_TEXT];

    assert_int_equal(resolvers_read(f, a, 4), 3);
    assert_string_equal(ipaddr_text(&a[0], buf), "9.9.9.9");
    assert_string_equal(ipaddr_text(&a[1], buf), "fe80::1");
    assert_string_equal(ipaddr_text(&a[2], buf), "::1");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_network_is_found_by_name_and_by_its_id),
        cmocka_unit_test(a_subnet_nobody_asked_for_is_free),
        cmocka_unit_test(what_does_not_fit_together_is_refused),
        cmocka_unit_test(a_description_survives_json_and_a_damaged_one_is_refused),
        cmocka_unit_test(texts_of_etc_name_the_container_and_its_servers),
        cmocka_unit_test(servers_of_a_resolv_conf_are_read),
    };

    return cmocka_run_group_tests(tests, up, down);
}
