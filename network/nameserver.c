#include "network/nameserver.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "network/dnsjail.h"
#include "network/dnsstate.h"
#include "network/resolvers.h"
#include "os/fds.h"

enum { PORT = 53, BACKLOG = 32 };

static int open_one(const struct ipaddr *ip, int type, int *ret)
{
    CLEANUP(fd) int fd = socket(ip->family, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    union dnsaddr a;
    socklen_t len = dnsserve_fill(&a, ip, PORT);
    int yes = 1;

    if (fd < 0)
        return -errno;
    /* TCP: connections of a server that was here a moment ago do not count. */
    if ((type == SOCK_STREAM && setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes)) < 0) ||
        bind(fd, &a.any, len) < 0 || (type == SOCK_STREAM && listen(fd, BACKLOG) < 0))
        return -errno;
    *ret = take_fd(&fd);
    return 0;
}

int nameserver_open(const struct netconf *c, struct nameserver *n, struct err *e)
{
    const struct ipaddr *ip[DNSSERVE_LISTEN_MAX] = {&c->gateway, &c->gateway6};
    int r = 0;

    *n = NAMESERVER_NONE;
    for (unsigned i = 0; r == 0 && i < DNSSERVE_LISTEN_MAX; i++) {
        if (!ip[i]->family)
            continue;
        r = open_one(ip[i], SOCK_DGRAM, &n->udp[i]);
        if (r == 0)
            r = open_one(ip[i], SOCK_STREAM, &n->tcp[i]);
    }
    if (r < 0) {
        nameserver_close(n);
        return err_errno(e, r, "name server of network %s", c->name);
    }
    return 0;
}

void nameserver_close(struct nameserver *n)
{
    for (unsigned i = 0; i < DNSSERVE_LISTEN_MAX; i++) {
        cleanup_fd(&n->udp[i]);
        cleanup_fd(&n->tcp[i]);
    }
    *n = NAMESERVER_NONE;
}

static _Noreturn void serve(const struct netconf *c, int folder, const struct nameserver *n,
                            pid_t parent)
{
    struct dnsserve_conf conf = {.folder = folder, .net = c, .up_port = PORT};
    int keep[] = {folder, n->udp[0], n->udp[1], n->tcp[0], n->tcp[1]};
    CLEANUP(file) FILE *f = fopen("/etc/resolv.conf", "re");

    if (f)
        conf.n_up = resolvers_read(f, conf.up, DNSSERVE_UP_MAX);
    memcpy(conf.udp, n->udp, sizeof(conf.udp));
    memcpy(conf.tcp, n->tcp, sizeof(conf.tcp));
    (void)prctl(PR_SET_NAME, "kiln-dns");
    fds_close_but(keep, ARRAY_LEN(keep));
    struct dnsserve *s = dnsjail_enter(folder, parent, NULL) == 0 ? dnsserve_new(&conf) : NULL;
    while (s)
        dnsserve_once(s, -1);
    _exit(1); /* forked child */
}

pid_t nameserver_fork(const struct netconf *c, int folder, const struct nameserver *n)
{
    pid_t parent = getpid(), pid = fork();

    if (pid == 0)
        serve(c, folder, n, parent);
    return pid < 0 ? -errno : pid;
}
