#include "test/network/netlab.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "network/netconf.h"
#include "network/minder.h"
#include "network/netlock.h"
#include "network/netns.h"
#include "test/unit/t_sh.h"

enum { SKIP = 77, WAIT_TRIES = 1000, WAIT_US = 10000, ANSWER_MS = 4000 };

static void need(bool yes, const char *what)
{
    if (yes)
        return;
    printf("skipped: %s\n", what);
    exit(SKIP);
}

int netlab_sh(int ns, const char *cmd)
{
    int back, status;

    if (netns_enter(ns, &back, NULL) < 0)
        return -1;
    status = t_sh(cmd, NULL, 0);
    netns_leave(&back);
    return status;
}

void netlab_open(struct netlab *n)
{
    char cmd[256];

    need(geteuid() == 0, "needs root");
    need(unshare(CLONE_NEWNET) == 0, "this host makes no network namespaces");
    need(t_sh("nft list tables", NULL, 0) == 0, "needs nft and nftables in the kernel");
    need(t_sh("ip link set lo up", NULL, 0) == 0, "needs ip (iproute2)");
    snprintf(n->store, sizeof(n->store), "/tmp/kiln-t-network-XXXXXX");
    need(mkdtemp(n->store), "needs /tmp");
    n->host = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
    n->outside = netns_new(NULL);
    need(n->outside >= 0, "this host makes no network namespaces");
    snprintf(cmd, sizeof(cmd),
             "ip link add out0 type veth peer name in0 netns /proc/%d/fd/%d && "
             "ip addr add " NETLAB_HOST "/24 dev out0 && "
             "ip -6 addr add " NETLAB_HOST6 "/64 dev out0 nodad && "
             "ip link set out0 up",
             (int)getpid(), n->outside);
    need(t_sh(cmd, NULL, 0) == 0, "this host makes no veth pairs");
    need(netlab_sh(n->outside, "ip addr add " NETLAB_OUTSIDE "/24 dev in0 && "
                               "ip -6 addr add " NETLAB_OUTSIDE6 "/64 dev in0 nodad && "
                               "ip link set in0 up") == 0,
         "no address can be set");
    need(t_sh("ip route add default via " NETLAB_OUTSIDE " && "
              "ip -6 route add default via " NETLAB_OUTSIDE6,
              NULL, 0) == 0,
         "no route can be set");
}

void netlab_close(struct netlab *n)
{
    char cmd[64];

    snprintf(cmd, sizeof(cmd), "rm -rf %s", n->store);
    (void)t_sh(cmd, NULL, 0);
    close(n->outside);
    close(n->host);
}

/* --- counting */

static unsigned count_links(void)
{
    struct if_nameindex *all = if_nameindex();
    unsigned found = 0;

    for (struct if_nameindex *i = all; i && i->if_name; i++)
        found += i->if_name[0] == 'k' && i->if_name[2] == '-';
    if (all)
        if_freenameindex(all);
    return found;
}

static unsigned count_tables(void)
{
    char out[1024], *p = out;
    unsigned found = 0;

    if (t_sh("nft list tables", out, sizeof(out)) != 0)
        return 100;
    while ((p = strstr(p, " kiln"))) {
        found++;
        p++;
    }
    return found;
}

static unsigned count_minders(const struct netlab *n)
{
    struct netconf *list;
    unsigned found = 0;
    size_t count;

    if (netconf_list(n->store, &list, &count, NULL) < 0)
        return 0;
    for (size_t i = 0; i < count; i++) {
        char path[256];

        snprintf(path, sizeof(path), "%s/networks/%s", n->store, list[i].name);
        CLEANUP(fd) int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        found += fd >= 0 && minder_runs(fd);
        netconf_done(&list[i]);
    }
    free(list);
    return found;
}

unsigned netlab_count(const struct netlab *n, unsigned want)
{
    unsigned now = 0;

    for (unsigned i = 0; i < WAIT_TRIES; i++) {
        now = count_links() + count_tables() + count_minders(n);
        if (now == want)
            break;
        usleep(WAIT_US);
    }
    return now;
}

/* --- containers */

void netlab_id(unsigned number, char id[65])
{
    snprintf(id, 65, "%08x%056x", number * 2654435761u, number);
}

int netlab_attach(const struct netlab *n, unsigned number, const char *network, bool machine,
                  const struct network_port *ports, size_t n_ports, struct network_lease *l,
                  struct err *e)
{
    char id[65], name[16];

    netlab_id(number, id);
    snprintf(name, sizeof(name), "c%u", number);
    const struct network_want w = {.store = n->store,
                                   .id = id,
                                   .name = name,
                                   .machine = machine,
                                   .network = network,
                                   .ports = ports,
                                   .n_ports = n_ports};
    return network_attach(&w, l, e);
}

void netlab_detach(const struct netlab *n, unsigned number, struct network_lease *l)
{
    char id[65];

    netlab_id(number, id);
    network_detach(n->store, id);
    network_lease_done(l);
}

/* --- sockets */

static socklen_t fill(struct sockaddr_storage *a, const char *ip, unsigned port)
{
    struct sockaddr_in *in = (struct sockaddr_in *)a;
    struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)a;

    memset(a, 0, sizeof(*a));
    if (inet_pton(AF_INET, ip, &in->sin_addr) == 1) {
        in->sin_family = AF_INET;
        in->sin_port = htons((uint16_t)port);
        return sizeof(*in);
    }
    inet_pton(AF_INET6, ip, &in6->sin6_addr);
    in6->sin6_family = AF_INET6;
    in6->sin6_port = htons((uint16_t)port);
    return sizeof(*in6);
}

static _Noreturn void serve(int fd, bool udp, const char *word)
{
    for (;;) {
        struct sockaddr_storage from;
        socklen_t len = sizeof(from);
        char buf[64];

        if (udp) {
            if (recvfrom(fd, buf, sizeof(buf), 0, (struct sockaddr *)&from, &len) >= 0)
                (void)!sendto(fd, word, strlen(word), 0, (struct sockaddr *)&from, len);
            continue;
        }
        int c = accept(fd, NULL, NULL);
        (void)!write(c, word, strlen(word));
        close(c);
    }
}

pid_t netlab_serve(int ns, const char *ip, unsigned port, bool udp, const char *word)
{
    struct sockaddr_storage a;
    socklen_t len = fill(&a, ip, port);
    int back, one = 1;

    if (netns_enter(ns, &back, NULL) < 0)
        return -1;
    int fd = socket(a.ss_family, udp ? SOCK_DGRAM : SOCK_STREAM, 0);
    netns_leave(&back);
    (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    if (bind(fd, (struct sockaddr *)&a, len) < 0 || (!udp && listen(fd, 8) < 0)) {
        close(fd);
        return -1;
    }
    pid_t pid = fork();
    if (pid == 0) {
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
        serve(fd, udp, word);
    }
    close(fd);
    return pid;
}

void netlab_stop(pid_t pid)
{
    if (pid <= 0)
        return;
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
}

static bool wait_for(int fd, short events)
{
    struct pollfd p = {fd, events, 0};

    return poll(&p, 1, ANSWER_MS) > 0;
}

const char *netlab_ask(int ns, const char *ip, unsigned port, bool udp, char answer[64])
{
    struct sockaddr_storage a;
    socklen_t len = fill(&a, ip, port);
    int back = -1;

    answer[0] = '\0';
    if (ns >= 0 && netns_enter(ns, &back, NULL) < 0)
        return answer;
    CLEANUP(fd) int fd = socket(a.ss_family, (udp ? SOCK_DGRAM : SOCK_STREAM) | SOCK_NONBLOCK, 0);
    netns_leave(&back);
    if (connect(fd, (struct sockaddr *)&a, len) < 0 && errno != EINPROGRESS)
        return answer;
    if (udp && send(fd, "?", 1, 0) != 1)
        return answer;
    ssize_t n = wait_for(fd, POLLIN) ? recv(fd, answer, 63, 0) : -1;
    answer[n > 0 ? n : 0] = '\0';
    return answer;
}

const char *netlab_resolve(int ns, const char *server, const char *name, bool ip6, char answer[64])
{
    uint8_t p[300] = {0x12, 0x34, 1, 0, 0, 1};
    struct sockaddr_storage a;
    socklen_t len = fill(&a, server, 53);
    size_t at = 13 + strlen(name);
    unsigned size = ip6 ? 16 : 4;
    int back;

    answer[0] = '\0';
    p[12] = (uint8_t)strlen(name); /* one label */
    memcpy(p + 13, name, strlen(name));
    p[at + 2] = ip6 ? 28 : 1;
    p[at + 4] = 1;
    at += 5;
    if (netns_enter(ns, &back, NULL) < 0)
        return answer;
    CLEANUP(fd) int fd = socket(a.ss_family, SOCK_DGRAM, 0);
    netns_leave(&back);
    if (connect(fd, (struct sockaddr *)&a, len) < 0 || send(fd, p, at, 0) < 0 ||
        !wait_for(fd, POLLIN))
        return answer;
    ssize_t n = recv(fd, p, sizeof(p), 0);
    if (n >= (ssize_t)(at + 12 + size) && p[7] > 0)
        inet_ntop(ip6 ? AF_INET6 : AF_INET, p + at + 12, answer, 64);
    return answer;
}
