#include "network/usernet.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "base/cleanup.h"
#include "base/strv.h"
#include "net/passt.h"
#include "network/ipaddr.h"
#include "network/leases.h"
#include "network/publish.h"
#include "network/rtnl.h"
#include "os/fds.h"

#define GUEST4 "10.0.2.15"
#define GATEWAY4 "10.0.2.2"
#define GUEST6 "fd6b:696c:6e00::15"
#define GATEWAY6 "fe80::1"

enum {
    BITS4 = 24,
    BITS6 = 64,
    MTU = 65520, /* passt's own: the longest frame less its header, in whole words */
    READY_MS = 10000,
    SAID_MAX = 2048,
};

static bool host_has_ipv6(void)
{
    CLEANUP(rtnl) struct rtnl n = RTNL_NONE;
    unsigned index = 0;

    return rtnl_open(&n, NULL) == 0 && rtnl_way_out(&n, AF_INET6, &index, NULL) == 0 && index;
}

int usernet_lease(const struct network_want *w, struct network_lease *l, struct err *e)
{
    struct ipaddr ip;
    int r = publish_hold(w, l, e);

    if (r < 0)
        return r;
    /* They were free; the helper is who binds them. */
    for (unsigned i = 0; i < l->n_hold; i++)
        close(l->hold[i]);
    l->n_hold = 0;
    snprintf(l->ip, sizeof(l->ip), "%s", GUEST4);
    snprintf(l->gateway, sizeof(l->gateway), "%s", GATEWAY4);
    l->prefix = BITS4;
    if (host_has_ipv6()) {
        snprintf(l->ip6, sizeof(l->ip6), "%s", GUEST6);
        snprintf(l->gateway6, sizeof(l->gateway6), "%s", GATEWAY6);
        l->prefix6 = BITS6;
    }
    l->mtu = MTU;
    if (w->ip || w->ip6)
        return err_set(e, -EINVAL,
                       "invalid config for network user: user specified IP address is "
                       "supported on user defined networks only");
    r = ipaddr_parse(l->ip, AF_INET, &ip, e);
    leases_mac(&ip, l->mac);
    return r == 0 && w->mac ? leases_parse_mac(w->mac, l->mac, e) : r;
}

int usernet_stream(struct network_lease *l, struct err *e)
{
    struct passt_port port[NETWORK_PORTS_MAX];
    struct passt_conf c = {
        .ip4 = l->ip,
        .gateway4 = l->gateway,
        .prefix4 = l->prefix,
        .ip6 = l->ip6[0] ? l->ip6 : NULL,
        .gateway6 = l->ip6[0] ? l->gateway6 : NULL,
        .dns_forward4 = USERNET_DNS,
        .mtu = l->mtu,
        .port = port,
        .n_ports = l->n_ports,
        .no_map_gw = true,
    };
    struct passt p = PASST_NONE;

    for (unsigned i = 0; i < l->n_ports; i++)
        port[i] = (struct passt_port){.udp = l->port[i].udp,
                                      .ip = l->port[i].host_ip[0] ? l->port[i].host_ip : NULL,
                                      .host = l->port[i].host_port,
                                      .guest = l->port[i].ctr_port};
    int r = passt_start(&c, &p, e);
    if (r < 0)
        return r;
    l->fd[0] = p.fd;
    l->n_fds = 1;
    l->helper = p.pid;
    return 0;
}

/* --- pasta */

enum { PASTA_NETNS = 3, PASTA_USERNS, PASTA_PIDFILE, PASTA_FDS }; /* its descriptors */

static int add_ports(struct strv *v, const struct network_lease *l, bool udp)
{
    const char *flag = udp ? "-u" : "-t";
    bool any = false;
    int r = 0;

    for (unsigned i = 0; r == 0 && i < l->n_ports; i++) {
        const struct network_port *p = &l->port[i];

        if (p->udp != udp)
            continue;
        any = true;
        r = strv_add(v, flag);
        if (r == 0)
            r = strv_addf(v, "%s%s%u:%u", p->host_ip, p->host_ip[0] ? "/" : "", p->host_port,
                          p->ctr_port);
    }
    if (r == 0 && !any) /* else it takes over what listens inside by itself */
        r = strv_add(v, flag);
    return r == 0 && !any ? strv_add(v, "none") : r;
}

static int arguments(const struct network_lease *l, bool user_ns, struct strv *v)
{
    const char *const first[] = {
        "pasta",
        "--config-net",
        "--foreground",
        "--quiet",
        "--no-map-gw",
        "--ns-ifname",
        "eth0",
        "-T",
        "none",
        "-U",
        "none",
        "-D",
        "none",
        "-S",
        "none",
        "--dns-forward",
        USERNET_DNS,
        "-a",
        l->ip,
        "-g",
        l->gateway,
        "--netns",
        "/proc/self/fd/3",
        "-P",
        "/proc/self/fd/5",
    };
    int r = 0;

    for (size_t i = 0; r == 0 && i < ARRAY_LEN(first); i++)
        r = strv_add(v, first[i]);
    if (r == 0)
        r = strv_addf(v, "-n%u", l->prefix);
    if (r == 0)
        r = strv_addf(v, "-m%u", l->mtu);
    if (r == 0 && l->ip6[0])
        r = strv_addf(v, "--address=%s", l->ip6);
    if (r == 0 && l->ip6[0])
        r = strv_addf(v, "--gateway=%s", l->gateway6);
    if (r == 0)
        r = user_ns ? strv_add(v, "--userns=/proc/self/fd/4") : strv_add(v, "--netns-only");
    /* Else root's would change to nobody, who may enter neither. */
    if (r == 0 && geteuid() == 0)
        r = strv_add(v, "--runas=0:0");
    if (r == 0)
        r = add_ports(v, l, false);
    return r == 0 ? add_ports(v, l, true) : r;
}

static _Noreturn void child(char **argv, const int fd[PASTA_FDS], int out)
{
    int high[PASTA_FDS];
    sigset_t none;

    (void)setsid(); /* Ctrl-C is for the container */
    for (int i = PASTA_NETNS; i < PASTA_FDS; i++)
        high[i] = fd[i] < 0 ? -1 : fcntl(fd[i], F_DUPFD_CLOEXEC, 16);
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (null < 0 || dup2(out, 2) < 0 || dup2(null, 0) < 0 || dup2(null, 1) < 0)
        _exit(126); /* forked child */
    for (int i = PASTA_NETNS; i < PASTA_FDS; i++)
        if (high[i] >= 0 && dup2(high[i], i) < 0)
            _exit(126); /* forked child */
    fds_close_but((int[]){PASTA_NETNS, PASTA_USERNS, PASTA_PIDFILE}, 3);
    signal(SIGPIPE, SIG_DFL); /* pasta takes "was ignored" for a failure of signal(2) */
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    execvp(argv[0], argv);
    dprintf(2, "%s\n", errno == ENOENT ? "not installed" : strerror(errno));
    _exit(126); /* forked child */
}

/* Its last line that says something of itself; the packaged one also tells that no log is there. */
static int complain(int out, struct err *e)
{
    char said[SAID_MAX + 1], *save, *last = NULL;
    ssize_t n = pread(out, said, SAID_MAX, 0);

    said[n > 0 ? n : 0] = '\0';
    for (char *line = strtok_r(said, "\n", &save); line; line = strtok_r(NULL, "\n", &save))
        if (strncmp(line, "Failed to send", 14) != 0)
            last = line;
    return err_set(e, -EIO, "pasta: %s", last ? last : "it ended without a word");
}

/* It writes its pid once the namespace is set up and the ports are bound. */
static int wait_ready(int ready)
{
    struct pollfd p = {ready, POLLIN, 0};
    char digit;
    int r;

    while ((r = poll(&p, 1, READY_MS)) < 0 && errno == EINTR)
        ;
    return r > 0 && read(ready, &digit, 1) == 1 ? 0 : -EIO;
}

static bool same_user_ns(int fd)
{
    struct stat a, b;

    return fstat(fd, &a) == 0 && stat("/proc/self/ns/user", &b) == 0 && a.st_ino == b.st_ino;
}

static int start(struct network_lease *l, const int ns[2], struct err *e)
{
    struct strv v = {0};
    bool user_ns = !same_user_ns(ns[1]);
    CLEANUP(fd) int out = memfd_create("pasta", MFD_CLOEXEC);
    int ready[2], r = arguments(l, user_ns, &v);

    if (r < 0 || out < 0 || pipe2(ready, O_CLOEXEC) < 0) {
        strv_done(&v);
        return err_errno(e, r < 0 ? r : -errno, "pasta");
    }
    const int fd[PASTA_FDS] = {
        [PASTA_NETNS] = ns[0], [PASTA_USERNS] = user_ns ? ns[1] : -1, [PASTA_PIDFILE] = ready[1]};
    pid_t pid = fork();
    if (pid == 0)
        child(v.v, fd, out);
    r = pid < 0 ? -errno : 0;
    close(ready[1]);
    strv_done(&v);
    if (r == 0)
        r = wait_ready(ready[0]);
    close(ready[0]);
    if (r == 0) {
        l->helper = pid;
        return 0;
    }
    if (pid < 0)
        return err_errno(e, r, "pasta");
    (void)kill(pid, SIGKILL);
    while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
        ;
    return complain(out, e);
}

int usernet_plug(struct network_lease *l, pid_t pid, struct err *e)
{
    char path[2][40];
    int ns[2], r = 0;

    snprintf(path[0], sizeof(path[0]), "/proc/%d/ns/net", (int)pid);
    snprintf(path[1], sizeof(path[1]), "/proc/%d/ns/user", (int)pid);
    for (unsigned i = 0; i < 2; i++) {
        ns[i] = open(path[i], O_RDONLY | O_CLOEXEC);
        if (ns[i] < 0 && r == 0)
            r = err_errno(e, -errno, "%s", path[i]);
    }
    if (r == 0)
        r = start(l, ns, e);
    for (unsigned i = 0; i < 2; i++)
        cleanup_fd(&ns[i]);
    return r;
}
