#include "network/ipaddr.h"

#include <errno.h>
#include <string.h>

#include "base/cleanup.h"
#include "test/unit/t.h"

static struct ipaddr cidr(const char *text)
{
    struct ipaddr a;
    struct err e = {0};

    assert_int_equal(ipaddr_parse_cidr(text, &a, &e), 0);
    return a;
}

static void a_prefix_is_read_and_printed(void **state)
{
    static const char *const good[] = {"10.0.0.1/24", "0.0.0.0/0", "fd00::1/64", "::/128"};
    static const char *const bad[] = {
        "",    "10.0.0.1",    "10.0.0/24",   "10.0.0.1/33", "fd00::/129", "10.0.0.1/",
        "/24", "10.0.0.1/2x", "10.0.0.1/ 2", "10.0.0.1/-1", "10.0.0.1/+1"};
    char text[IPADDR_CIDR_TEXT];
    struct ipaddr a;

    for (size_t i = 0; i < ARRAY_LEN(good); i++) {
        a = cidr(good[i]);
        assert_string_equal(ipaddr_cidr(&a, text), good[i]);
    }
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        assert_int_equal(ipaddr_parse_cidr(bad[i], &a, NULL), -EINVAL);
}

static void the_network_of_an_address_has_no_host_bits(void **state)
{
    static const char *const rows[][2] = {
        {"10.1.2.3/8", "10.0.0.0/8"},
        {"10.1.255.3/20", "10.1.240.0/20"},
        {"10.1.2.3/32", "10.1.2.3/32"},
        {"10.1.2.3/0", "0.0.0.0/0"},
        {"fd00:1:2:3::4/64", "fd00:1:2:3::/64"},
        {"fdff::/9", "fd80::/9"},
    };
    char text[IPADDR_CIDR_TEXT];

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct ipaddr a = cidr(rows[i][0]), net = ipaddr_network(&a);

        assert_string_equal(ipaddr_cidr(&net, text), rows[i][1]);
    }
}

static void prefixes_overlap_when_one_lies_in_the_other(void **state)
{
    static const struct {
        const char *a, *b;
        bool overlap;
    } rows[] = {
        {"10.0.0.0/8", "10.1.0.0/16", true},   {"10.1.0.0/16", "10.0.0.0/8", true},
        {"10.1.0.0/16", "10.2.0.0/16", false}, {"fd00::/64", "fd00::1/128", true},
        {"fd00::/64", "10.0.0.0/8", false},    {"0.0.0.0/0", "10.0.0.0/8", true},
    };
    const struct ipaddr none = {0};

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct ipaddr a = cidr(rows[i].a), b = cidr(rows[i].b);

        assert_int_equal(ipaddr_overlap(&a, &b), rows[i].overlap);
        assert_false(ipaddr_overlap(&none, &b));
        assert_false(ipaddr_overlap(&a, &none));
    }
}

static void the_nth_address_and_its_index_are_inverse(void **state)
{
    static const char *const nets[] = {"10.0.0.0/8", "192.168.1.0/30", "fd00::/64", "fd00::/120"};
    static const uint64_t at[] = {0, 1, 3, 200, 255, 256, 65537};

    for (size_t i = 0; i < ARRAY_LEN(nets); i++) {
        struct ipaddr net = cidr(nets[i]);

        for (size_t k = 0; k < ARRAY_LEN(at) && at[k] < ipaddr_count(&net); k++) {
            struct ipaddr a = ipaddr_nth(&net, at[k]);

            assert_true(ipaddr_contains(&net, &a));
            assert_int_equal(ipaddr_index(&net, &a), at[k]);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_prefix_is_read_and_printed),
        cmocka_unit_test(the_network_of_an_address_has_no_host_bits),
        cmocka_unit_test(prefixes_overlap_when_one_lies_in_the_other),
        cmocka_unit_test(the_nth_address_and_its_index_are_inverse),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
