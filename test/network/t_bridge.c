/* Bridge networks on a host of their own: what containers reach, what they do not, what is left. */
#include <errno.h>
#include <fcntl.h>
#include <linux/if_packet.h>
#include <arpa/inet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "network/netconf.h"
#include "network/netns.h"
#include "network/publish.h"
#include "test/network/netlab.h"
#include "test/unit/t.h"
#include "test/unit/t_sh.h"

static struct netlab lab;

static struct network_lease attach(unsigned number, const char *network)
{
    struct network_lease l = NETWORK_LEASE_NONE;
    struct err e = {0};
    int r = netlab_attach(&lab, number, network, false, NULL, 0, &l, &e);

    if (r < 0)
        fail_msg("attach %u to %s: %s", number, network, e.msg);
    return l;
}

static void nothing_is_left(void)
{
    assert_int_equal(netlab_count(&lab, 0), 0);
}

static void what_is_attached_is_gone_when_it_is_detached(void **state)
{
    struct network_lease a = attach(1, "bridge"), b = NETWORK_LEASE_NONE;
    struct err e = {0};
    char cmd[128];

    assert_int_equal(a.kind, NETWORK_NETNS);
    assert_int_equal(a.n_fds, 1);
    assert_string_equal(a.network, "bridge");
    assert_int_equal(netlab_attach(&lab, 2, NULL, true, NULL, 0, &b, &e), 0);
    assert_int_equal(b.kind, NETWORK_TAP);
    assert_int_equal(b.n_fds, 1);
    assert_string_not_equal(a.ip, b.ip);
    assert_string_not_equal(a.ip6, b.ip6);
    assert_string_equal(a.gateway, b.gateway);
    /* bridge, pair, tap; three tables; a minder */
    assert_int_equal(netlab_count(&lab, 7), 7);
    netlab_detach(&lab, 1, &a);
    netlab_detach(&lab, 1, &a); /* again: harmless */
    assert_int_equal(netlab_count(&lab, 6), 6);
    netlab_detach(&lab, 2, &b);
    nothing_is_left();
    snprintf(cmd, sizeof(cmd), "test ! -e %s/networks/bridge/leases", lab.store);
    assert_int_equal(t_sh(cmd, NULL, 0), 0);
}

static void containers_reach_each_other_by_address_and_by_name(void **state)
{
    struct network_lease a = attach(1, "bridge"), b = attach(2, "bridge");
    pid_t tcp = netlab_serve(b.fd[0], "::", 80, false, "tcp");
    pid_t udp = netlab_serve(b.fd[0], "::", 80, true, "udp");
    char t[64];

    assert_string_equal(netlab_ask(a.fd[0], b.ip, 80, false, t), "tcp");
    assert_string_equal(netlab_ask(a.fd[0], b.ip6, 80, false, t), "tcp");
    assert_string_equal(netlab_ask(a.fd[0], b.ip, 80, true, t), "udp");
    assert_string_equal(netlab_resolve(a.fd[0], a.gateway, "c2", false, t), b.ip);
    assert_string_equal(netlab_resolve(a.fd[0], a.gateway, "c2", true, t), b.ip6);
    assert_string_equal(netlab_resolve(a.fd[0], a.gateway6, "C2", false, t), b.ip);
    netlab_stop(tcp);
    netlab_stop(udp);
    netlab_detach(&lab, 2, &b);
    assert_string_equal(netlab_resolve(a.fd[0], a.gateway, "c2", false, t), "");
    netlab_detach(&lab, 1, &a);
    nothing_is_left();
}

static void they_reach_the_world_but_the_world_does_not_reach_them(void **state)
{
    struct network_lease a = attach(1, "bridge");
    pid_t out = netlab_serve(lab.outside, "::", 7000, false, "world");
    pid_t in = netlab_serve(a.fd[0], "::", 80, false, "inside");
    char t[64];

    assert_string_equal(netlab_ask(a.fd[0], NETLAB_OUTSIDE, 7000, false, t), "world");
    assert_string_equal(netlab_ask(a.fd[0], NETLAB_OUTSIDE6, 7000, false, t), "world");
    assert_int_equal(netlab_sh(lab.outside, "ip route add 10.0.0.0/8 via " NETLAB_HOST), 0);
    assert_string_equal(netlab_ask(lab.outside, a.ip, 80, false, t), "");
    assert_int_equal(netlab_sh(lab.outside, "ip route del 10.0.0.0/8"), 0);
    assert_string_equal(netlab_ask(lab.host, a.ip, 80, false, t), "inside");
    netlab_stop(out);
    netlab_stop(in);
    netlab_detach(&lab, 1, &a);
    nothing_is_left();
}

static void a_published_port_works_from_everywhere(void **state)
{
    struct network_port p[] = {
        {"", 8080, 80, false}, {"", 5353, 53, true}, {"127.0.0.1", 0, 80, false}};
    struct network_lease a = NETWORK_LEASE_NONE, b;
    struct err e = {0};
    char t[64];

    assert_int_equal(netlab_attach(&lab, 1, "bridge", false, p, 3, &a, &e), 0);
    b = attach(2, "bridge");
    assert_int_equal(a.n_ports, 3);
    assert_true(a.port[2].host_port > 0);
    pid_t tcp = netlab_serve(a.fd[0], "::", 80, false, "tcp");
    pid_t udp = netlab_serve(a.fd[0], "0.0.0.0", 53, true, "udp");
    /* outside; this host under each of its addresses; another container; itself */
    assert_string_equal(netlab_ask(lab.outside, NETLAB_HOST, 8080, false, t), "tcp");
    assert_string_equal(netlab_ask(lab.outside, NETLAB_HOST6, 8080, false, t), "tcp");
    assert_string_equal(netlab_ask(lab.outside, NETLAB_HOST, 5353, true, t), "udp");
    assert_string_equal(netlab_ask(lab.host, NETLAB_HOST, 8080, false, t), "tcp");
    assert_string_equal(netlab_ask(lab.host, "127.0.0.1", 8080, false, t), "tcp");
    assert_string_equal(netlab_ask(lab.host, "127.0.0.1", 5353, true, t), "udp");
    assert_string_equal(netlab_ask(lab.host, a.gateway, 8080, false, t), "tcp");
    assert_string_equal(netlab_ask(b.fd[0], NETLAB_HOST, 8080, false, t), "tcp");
    assert_string_equal(netlab_ask(b.fd[0], a.gateway, 8080, false, t), "tcp");
    assert_string_equal(netlab_ask(a.fd[0], NETLAB_HOST, 8080, false, t), "tcp");
    /* of one address only */
    assert_string_equal(netlab_ask(lab.host, "127.0.0.1", a.port[2].host_port, false, t), "tcp");
    assert_string_equal(netlab_ask(lab.host, NETLAB_HOST, a.port[2].host_port, false, t), "");
    assert_string_equal(netlab_ask(lab.outside, NETLAB_HOST, a.port[2].host_port, false, t), "");
    netlab_stop(tcp);
    netlab_stop(udp);
    netlab_detach(&lab, 1, &a);
    assert_string_equal(netlab_ask(lab.host, "127.0.0.1", 8080, false, t), "");
    netlab_detach(&lab, 2, &b);
    nothing_is_left();
}

static void a_port_that_is_taken_is_refused_and_nothing_is_left(void **state)
{
    struct network_port p = {"", 8080, 80, false}, q = {NETLAB_HOST, 7777, 80, false};
    struct network_lease a = NETWORK_LEASE_NONE, b = NETWORK_LEASE_NONE;
    struct err e = {0};

    assert_int_equal(netlab_attach(&lab, 1, "bridge", false, &p, 1, &a, &e), 0);
    unsigned before = netlab_count(&lab, 6);
    assert_int_equal(netlab_attach(&lab, 2, "bridge", false, &p, 1, &b, &e), -EADDRINUSE);
    assert_string_equal(e.msg, "failed to bind host port 0.0.0.0:8080/tcp: address already in use");
    pid_t other = netlab_serve(lab.host, "0.0.0.0", 7777, false, "mine");
    assert_int_equal(netlab_attach(&lab, 2, "bridge", false, &q, 1, &b, &e), -EADDRINUSE);
    q = (struct network_port){"203.0.113.7", 7778, 80, false};
    assert_int_equal(netlab_attach(&lab, 2, "bridge", false, &q, 1, &b, &e), -EADDRNOTAVAIL);
    netlab_stop(other);
    assert_int_equal(netlab_count(&lab, before), before);
    netlab_detach(&lab, 1, &a);
    /* free again at once */
    assert_int_equal(netlab_attach(&lab, 2, "bridge", false, &p, 1, &b, &e), 0);
    netlab_detach(&lab, 2, &b);
    nothing_is_left();
}

/* --- what they may not */

static int packet_socket(int ns, const char *dev)
{
    struct sockaddr_ll a = {.sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL)};
    int back;

    assert_int_equal(netns_enter(ns, &back, NULL), 0);
    int fd = socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK, htons(ETH_P_ALL));
    a.sll_ifindex = (int)if_nametoindex(dev);
    netns_leave(&back);
    assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof(a)), 0);
    return fd;
}

enum { COMES_MS = 10000, STAYS_AWAY_MS = 150 };

/* A frame to all, with a mark at its end; does it come through within this time? */
static bool arrives(int from, int to, uint8_t *frame, size_t len, int within_ms)
{
    static uint8_t mark;
    uint8_t buf[256];

    frame[len - 1] = ++mark;
    assert_int_equal(send(from, frame, len, 0), len);
    for (;;) {
        struct pollfd p = {to, POLLIN, 0};

        if (poll(&p, 1, within_ms) <= 0)
            return false;
        ssize_t n = recv(to, buf, sizeof(buf), 0);
        if (n >= (ssize_t)len && memcmp(buf + 6, frame + 6, len - 6) == 0)
            return true;
    }
}

static bool comes_through(int from, int to, uint8_t *frame, size_t len)
{
    return arrives(from, to, frame, len, COMES_MS);
}

static bool is_dropped(int from, int to, uint8_t *frame, size_t len)
{
    return !arrives(from, to, frame, len, STAYS_AWAY_MS);
}

static void put_ip(uint8_t *to, const char *text)
{
    assert_int_equal(inet_pton(AF_INET, text, to), 1);
}

/* The header's checksum (RFC 791, 3.1): others drop a wrong one, which is not what is tested. */
static void put_sum(uint8_t *h)
{
    uint32_t sum = 0;

    h[10] = h[11] = 0;
    for (unsigned i = 0; i < 20; i += 2)
        sum += (uint32_t)(h[i] << 8 | h[i + 1]);
    while (sum >> 16)
        sum = (sum & 0xffff) + (sum >> 16);
    h[10] = (uint8_t)(~sum >> 8);
    h[11] = (uint8_t)~sum;
}

#define ALL 0xff, 0xff, 0xff, 0xff, 0xff, 0xff
static void a_container_sends_with_its_own_addresses_only(void **state)
{
    struct network_lease a = attach(1, "bridge"), b = attach(2, "bridge");
    int from = packet_socket(a.fd[0], "eth0"), to = packet_socket(b.fd[0], "eth0");
    uint8_t arp[64] = {ALL, 0, 0, 0, 0, 0, 0, 8, 6, 0, 1, 8, 0, 6, 4, 0, 2};
    uint8_t ip[64] = {ALL, 0, 0, 0, 0, 0, 0, 8, 0, 0x45, 0, 0, 50, 0, 0, 0, 0, 64, 253};
    uint8_t ip6[96] = {ALL, 0, 0, 0, 0, 0, 0, 0x86, 0xdd, 0x60, 0, 0, 0, 0, 42, 59, 255};
    uint8_t vlan[64] = {ALL, 0, 0, 0, 0, 0, 0, 0x81, 0, 0, 5, 8, 0};
    uint8_t other[64] = {ALL, 0, 0, 0, 0, 0, 0, 0x88, 0xb5};

    for (unsigned i = 0; i < 5; i++)
        memcpy((uint8_t *[]){arp, ip, ip6, vlan, other}[i] + 6, a.mac, 6);
    memcpy(arp + 22, a.mac, 6);
    put_ip(arp + 28, a.ip);
    put_ip(arp + 38, b.ip);
    put_ip(ip + 26, a.ip);
    put_ip(ip + 30, b.ip);
    put_sum(ip + 14);
    inet_pton(AF_INET6, a.ip6, ip6 + 22);
    assert_true(comes_through(from, to, arp, sizeof(arp)));
    assert_true(comes_through(from, to, ip, sizeof(ip)));
    assert_true(comes_through(from, to, ip6, sizeof(ip6)));
    /* the gateway's address, another MAC address, another's */
    put_ip(arp + 28, a.gateway);
    assert_true(is_dropped(from, to, arp, sizeof(arp)));
    put_ip(arp + 28, a.ip);
    arp[27] ^= 1;
    assert_true(is_dropped(from, to, arp, sizeof(arp)));
    put_ip(ip + 26, b.ip);
    put_sum(ip + 14);
    assert_true(is_dropped(from, to, ip, sizeof(ip)));
    put_ip(ip + 26, a.ip);
    put_sum(ip + 14);
    ip[11] ^= 1;
    assert_true(is_dropped(from, to, ip, sizeof(ip)));
    ip6[37] ^= 1;
    assert_true(is_dropped(from, to, ip6, sizeof(ip6)));
    assert_true(is_dropped(from, to, vlan, sizeof(vlan)));
    assert_true(is_dropped(from, to, other, sizeof(other)));
    close(from);
    close(to);
    netlab_detach(&lab, 1, &a);
    netlab_detach(&lab, 2, &b);
    nothing_is_left();
}

static void a_container_is_neither_router_nor_neighbour_of_others(void **state)
{
    struct network_lease a = attach(1, "bridge"), b = attach(2, "bridge");
    int from = packet_socket(a.fd[0], "eth0"), to = packet_socket(b.fd[0], "eth0");
    uint8_t nd[96] = {ALL, 0, 0, 0, 0, 0, 0, 0x86, 0xdd, 0x60, 0, 0, 0, 0, 42, 58, 255};

    memcpy(nd + 6, a.mac, 6);
    inet_pton(AF_INET6, a.ip6, nd + 22);
    inet_pton(AF_INET6, "ff02::1", nd + 38);
    nd[54] = 136; /* neighbour advertisement (RFC 4861, 4.4) */
    inet_pton(AF_INET6, a.ip6, nd + 62);
    assert_true(comes_through(from, to, nd, sizeof(nd)));
    inet_pton(AF_INET6, a.gateway6, nd + 62);
    assert_true(is_dropped(from, to, nd, sizeof(nd)));
    nd[54] = 134; /* router advertisement */
    inet_pton(AF_INET6, a.ip6, nd + 62);
    assert_true(is_dropped(from, to, nd, sizeof(nd)));
    close(from);
    close(to);
    netlab_detach(&lab, 1, &a);
    netlab_detach(&lab, 2, &b);
    nothing_is_left();
}

static void networks_do_not_reach_each_other_nor_the_hosts_loopback(void **state)
{
    struct netconf_want w = {.internal = true};
    struct netconf c;
    struct err e = {0};
    char t[64];

    assert_int_equal(netconf_create(lab.store, "inside", &w, &c, &e), 0);
    netconf_done(&c);
    w.internal = false;
    assert_int_equal(netconf_create(lab.store, "other", &w, &c, &e), 0);
    netconf_done(&c);
    struct network_lease a = attach(1, "inside"), b = attach(2, "other"), d = attach(3, "inside");
    pid_t sa = netlab_serve(d.fd[0], "0.0.0.0", 80, false, "inside");
    pid_t sb = netlab_serve(b.fd[0], "0.0.0.0", 80, false, "other");
    pid_t out = netlab_serve(lab.outside, "0.0.0.0", 7000, false, "world");
    pid_t lo = netlab_serve(lab.host, "127.0.0.1", 7001, false, "secret");
    assert_string_equal(a.gateway, "");
    assert_string_equal(netlab_ask(a.fd[0], d.ip, 80, false, t), "inside");
    assert_string_equal(netlab_ask(b.fd[0], d.ip, 80, false, t), "");
    assert_string_equal(netlab_ask(b.fd[0], NETLAB_OUTSIDE, 7000, false, t), "world");
    assert_int_equal(netlab_sh(a.fd[0], "ip route add default dev eth0"), 0);
    assert_string_equal(netlab_ask(a.fd[0], b.ip, 80, false, t), "");
    assert_string_equal(netlab_ask(a.fd[0], NETLAB_OUTSIDE, 7000, false, t), "");
    /* a packet to 127.0.0.1 that comes over the bridge */
    assert_int_equal(netlab_sh(b.fd[0], "sysctl -qw net.ipv4.conf.all.route_localnet=1 && "
                                        "ip addr del 127.0.0.1/8 dev lo && "
                                        "ip route add 127.0.0.1 via $(ip route | "
                                        "sed -n 's/default via \\([0-9.]*\\).*/\\1/p')"),
                     0);
    assert_string_equal(netlab_ask(b.fd[0], "127.0.0.1", 7001, false, t), "");
    struct network_port p = {"", 8080, 80, false};
    struct network_lease x = NETWORK_LEASE_NONE;
    assert_int_equal(netlab_attach(&lab, 4, "inside", false, &p, 1, &x, &e), -EINVAL);
    netlab_stop(sa);
    netlab_stop(sb);
    netlab_stop(out);
    netlab_stop(lo);
    assert_int_equal(netconf_remove(lab.store, "inside", &e), -EBUSY);
    assert_string_equal(e.msg, "network inside has active endpoints: c1, c3");
    netlab_detach(&lab, 1, &a);
    netlab_detach(&lab, 2, &b);
    netlab_detach(&lab, 3, &d);
    assert_int_equal(netconf_remove(lab.store, "inside", &e), 0);
    assert_int_equal(netconf_remove(lab.store, "other", &e), 0);
    nothing_is_left();
}

/* --- many, and killed ones */

enum { MANY = 12 };

static void starts_at_the_same_time_get_different_addresses(void **state)
{
    struct shared {
        char ip[MANY][16], ip6[MANY][46];
    } *s = mmap(NULL, sizeof(*s), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    pid_t pid[MANY];
    int hold[2];

    assert_int_equal(pipe(hold), 0);
    for (unsigned i = 0; i < MANY; i++) {
        pid[i] = fork();
        if (pid[i] == 0) {
            struct network_lease l = NETWORK_LEASE_NONE;
            char c;

            if (netlab_attach(&lab, 100 + i, "bridge", i & 1, NULL, 0, &l, NULL) == 0) {
                memcpy(s->ip[i], l.ip, sizeof(l.ip));
                memcpy(s->ip6[i], l.ip6, sizeof(l.ip6));
            }
            close(hold[1]);
            (void)!read(hold[0], &c, 1); /* until all have theirs */
            netlab_detach(&lab, 100 + i, &l);
            _exit(0);
        }
    }
    /* bridge, ports, tables, minder */
    assert_int_equal(netlab_count(&lab, 1 + MANY + 3 + 1), 1 + MANY + 3 + 1);
    close(hold[0]);
    close(hold[1]);
    for (unsigned i = 0; i < MANY; i++)
        waitpid(pid[i], NULL, 0);
    for (unsigned i = 0; i < MANY; i++) {
        assert_true(s->ip[i][0] && s->ip6[i][0]);
        for (unsigned k = 0; k < i; k++) {
            assert_string_not_equal(s->ip[i], s->ip[k]);
            assert_string_not_equal(s->ip6[i], s->ip6[k]);
        }
    }
    munmap(s, sizeof(*s));
    nothing_is_left();
}

static bool nobody(void *ctx, const char *id)
{
    return false;
}

/* A keeper is killed right behind its attach. */
static void attach_and_die(unsigned number)
{
    pid_t pid = fork();

    if (pid == 0) {
        struct network_port p = {"", 8080, 80, false};
        struct network_lease l = NETWORK_LEASE_NONE;

        if (netlab_attach(&lab, number, "bridge", false, &p, 1, &l, NULL) == 0)
            kill(getpid(), SIGKILL);
        _exit(1);
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status));
}

static void what_a_killed_process_left_is_undone_by_any_other(void **state)
{
    struct network_lease l = NETWORK_LEASE_NONE;
    struct network_port p = {"", 8080, 80, false};
    char id[65];
    struct err e = {0};

    attach_and_die(7);
    netlab_id(7, id);
    network_detach(lab.store, id);
    nothing_is_left();
    attach_and_die(8);
    assert_int_equal(network_recover(lab.store, nobody, NULL, &e), 1);
    assert_int_equal(network_recover(lab.store, nobody, NULL, &e), 0);
    nothing_is_left();
    attach_and_die(9); /* and is started again, before anybody recovered it */
    assert_int_equal(netlab_attach(&lab, 9, "bridge", false, &p, 1, &l, &e), 0);
    netlab_detach(&lab, 9, &l);
    nothing_is_left();
    attach_and_die(10); /* its port and address go to the next */
    assert_int_equal(netlab_attach(&lab, 11, "bridge", false, &p, 1, &l, &e), 0);
    netlab_id(10, id);
    network_detach(lab.store, id);
    netlab_detach(&lab, 11, &l);
    nothing_is_left();
}

static void a_network_whose_minder_was_killed_is_taken_down(void **state)
{
    struct network_lease l = attach(1, "bridge");
    struct err e = {0};
    char cmd[128];

    snprintf(cmd, sizeof(cmd), "kill -9 $(cut -d' ' -f2 %s/networks/bridge/minder)", lab.store);
    assert_int_equal(t_sh(cmd, NULL, 0), 0);
    assert_int_equal(netlab_count(&lab, 5), 5);
    struct network_lease m = attach(2, "bridge"); /* starts another */
    assert_int_equal(netlab_count(&lab, 7), 7);
    char t[64];
    assert_string_equal(netlab_resolve(m.fd[0], m.gateway, "c1", false, t), l.ip);
    assert_int_equal(t_sh(cmd, NULL, 0), 0);
    assert_int_equal(netlab_count(&lab, 6), 6);
    netlab_detach(&lab, 1, &l);
    netlab_detach(&lab, 2, &m);
    assert_int_equal(network_recover(lab.store, nobody, NULL, &e), 0);
    nothing_is_left();
}

static void a_running_container_is_connected_and_disconnected(void **state)
{
    const struct netconf_want w = {0};
    struct network_lease a = attach(1, "bridge"), b, c = NETWORK_LEASE_NONE;
    struct network_want more = {.store = lab.store, .name = "c1", .network = "more"};
    struct netconf conf;
    struct err e = {0};
    char id[65], t[64];

    netlab_id(1, id);
    more.id = id;
    assert_int_equal(netconf_create(lab.store, "more", &w, &conf, &e), 0);
    netconf_done(&conf);
    b = attach(2, "more");
    pid_t s = netlab_serve(b.fd[0], "0.0.0.0", 80, false, "more");
    pid_t in = fork();
    if (in == 0) {
        int back;

        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (netns_enter(a.fd[0], &back, NULL) == 0)
            pause();
        _exit(1);
    }
    while (netlab_ask(a.fd[0], b.ip, 80, false, t)[0] == '\0' && c.network[0] == '\0') {
        int ns = netns_of(in, NULL);
        struct network_lease got = NETWORK_LEASE_NONE;

        /* until it has entered the namespace */
        if (ns >= 0 && netlab_sh(ns, "ip link show eth0 > /dev/null 2>&1") == 0 &&
            network_connect(&more, in, &got, &e) == 0)
            c = got;
        cleanup_fd(&ns);
    }
    assert_string_equal(netlab_ask(a.fd[0], b.ip, 80, false, t), "more");
    assert_int_equal(network_connect(&more, in, &c, &e), -EEXIST);
    assert_int_equal(network_disconnect(lab.store, id, "more", &e), 0);
    assert_int_equal(network_disconnect(lab.store, id, "more", &e), -ENOENT);
    assert_string_equal(netlab_ask(a.fd[0], b.ip, 80, false, t), "");
    more.machine = true;
    assert_int_equal(network_connect(&more, in, &c, &e), -EOPNOTSUPP);
    netlab_stop(s);
    netlab_stop(in);
    network_lease_done(&c);
    netlab_detach(&lab, 1, &a);
    netlab_detach(&lab, 2, &b);
    assert_int_equal(netconf_remove(lab.store, "more", &e), 0);
    nothing_is_left();
}

static void tables_of_others_are_left_alone(void **state)
{
    char before[4096], after[4096];

    assert_int_equal(t_sh("nft add table ip other; nft add chain ip other c "
                          "'{ type filter hook forward priority 0; }'; nft add table ip kilns",
                          NULL, 0),
                     0);
    assert_int_equal(t_sh("nft list ruleset", before, sizeof(before)), 0);
    struct network_lease l = attach(1, "bridge");
    netlab_detach(&lab, 1, &l);
    assert_int_equal(t_sh("while nft list tables | grep -qw kiln; do sleep 0.1; done", NULL, 0), 0);
    assert_int_equal(t_sh("nft list ruleset", after, sizeof(after)), 0);
    assert_string_equal(before, after);
    assert_int_equal(t_sh("nft delete table ip other; nft delete table ip kilns", NULL, 0), 0);
    nothing_is_left();
}

enum { CROWD = 200 };

static void two_hundred_are_on_one_bridge(void **state)
{
    struct network_lease *l = calloc(CROWD, sizeof(*l));
    struct err e = {0};
    char t[64];

    for (unsigned i = 0; i < CROWD; i++) {
        l[i] = NETWORK_LEASE_NONE;
        assert_int_equal(netlab_attach(&lab, i, "bridge", false, NULL, 0, &l[i], &e), 0);
    }
    pid_t s = netlab_serve(l[CROWD - 1].fd[0], "0.0.0.0", 80, false, "last");
    assert_string_equal(netlab_resolve(l[0].fd[0], l[0].gateway, "c199", false, t),
                        l[CROWD - 1].ip);
    assert_string_equal(netlab_ask(l[0].fd[0], l[CROWD - 1].ip, 80, false, t), "last");
    netlab_stop(s);
    for (unsigned i = 0; i < CROWD; i++)
        netlab_detach(&lab, i, &l[i]);
    free(l);
    nothing_is_left();
}

static void wrong_wishes_are_refused_in_a_sentence(void **state)
{
    static const struct {
        const char *network;
        bool machine;
        int error;
        const char *words;
    } rows[] = {
        {"nosuch", false, -ENOENT, "network nosuch not found"},
        {"host", true, -EOPNOTSUPP, "a machine has a network stack of its own"},
        {"container:gone", false, -ENOENT, "non running container"},
        {"ns:/etc/passwd", false, -EINVAL, "is not a network namespace"},
        {"ns:/nosuch", false, -ENOENT, "/nosuch"},
        {"tap:nosuch0", true, -ENOENT, "no such interface"},
        {"tap:lo", false, -EOPNOTSUPP, "ns:PATH"},
        {"vhost-user:x", true, -EINVAL, "not an absolute path"},
    };

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct network_lease l = NETWORK_LEASE_NONE;
        struct err e = {0};

        assert_int_equal(netlab_attach(&lab, 1, rows[i].network, rows[i].machine, NULL, 0, &l, &e),
                         rows[i].error);
        assert_non_null(strstr(e.msg, rows[i].words));
    }
    nothing_is_left();
}

static int up(void **state)
{
    (void)prctl(PR_SET_CHILD_SUBREAPER, 1); /* what ends here is reaped here */
    netlab_open(&lab);
    return 0;
}

static int down(void **state)
{
    netlab_close(&lab);
    while (waitpid(-1, NULL, WNOHANG) > 0)
        ;
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_attached_is_gone_when_it_is_detached),
        cmocka_unit_test(containers_reach_each_other_by_address_and_by_name),
        cmocka_unit_test(they_reach_the_world_but_the_world_does_not_reach_them),
        cmocka_unit_test(a_published_port_works_from_everywhere),
        cmocka_unit_test(a_port_that_is_taken_is_refused_and_nothing_is_left),
        cmocka_unit_test(a_container_sends_with_its_own_addresses_only),
        cmocka_unit_test(a_container_is_neither_router_nor_neighbour_of_others),
        cmocka_unit_test(networks_do_not_reach_each_other_nor_the_hosts_loopback),
        cmocka_unit_test(starts_at_the_same_time_get_different_addresses),
        cmocka_unit_test(what_a_killed_process_left_is_undone_by_any_other),
        cmocka_unit_test(a_network_whose_minder_was_killed_is_taken_down),
        cmocka_unit_test(a_running_container_is_connected_and_disconnected),
        cmocka_unit_test(tables_of_others_are_left_alone),
        cmocka_unit_test(two_hundred_are_on_one_bridge),
        cmocka_unit_test(wrong_wishes_are_refused_in_a_sentence),
    };

    return cmocka_run_group_tests(tests, up, down);
}
