#include "net/passt.h"

#include <arpa/inet.h>
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/strv.h"
#include "os/fds.h"

enum { READY_MS = 10000, ARP_LEN = 42, SAID_MAX = 2048 };

/* --- ports: passt goes on without those it cannot have, so it is asked for none of these --- */

static int try_bind(const struct passt_port *p, int family, const void *sa, socklen_t len,
                    struct err *e)
{
    int one = 1;
    CLEANUP(fd) int fd = socket(family, (p->udp ? SOCK_DGRAM : SOCK_STREAM) | SOCK_CLOEXEC, 0);

    if (fd < 0)
        return errno == EAFNOSUPPORT ? 0 : err_errno(e, -errno, "socket");
    if (!p->udp) /* else connections that ended lately would be in the way */
        (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    if (family == AF_INET6)
        (void)setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof(one));
    if (bind(fd, sa, len) < 0 && !(family == AF_INET6 && errno == EADDRNOTAVAIL && !p->ip))
        return err_errno(e, -errno, "%s%s%s port %u", p->ip ? p->ip : "", p->ip ? " " : "",
                         p->udp ? "UDP" : "TCP", p->host ? p->host : p->guest);
    return 0;
}

static int check_port(const struct passt_port *p, struct err *e)
{
    uint16_t be = htons(p->host ? p->host : p->guest);
    struct sockaddr_in a4 = {.sin_family = AF_INET, .sin_port = be};
    struct sockaddr_in6 a6 = {.sin6_family = AF_INET6, .sin6_port = be};
    bool is4 = p->ip && inet_pton(AF_INET, p->ip, &a4.sin_addr) == 1;
    bool is6 = p->ip && inet_pton(AF_INET6, p->ip, &a6.sin6_addr) == 1;
    int r = 0;

    if (p->ip && !is4 && !is6)
        return err_set(e, -EINVAL, "'%s' is no address to publish a port on", p->ip);
    if (p->guest == 0)
        return err_set(e, -EINVAL, "port 0 cannot be published");
    if (!is6)
        r = try_bind(p, AF_INET, &a4, sizeof(a4), e);
    if (r == 0 && !is4)
        r = try_bind(p, AF_INET6, &a6, sizeof(a6), e);
    return r;
}

/* --- its command line ------------------------------------------------------------ */

static int option(struct strv *v, const char *name, const char *value)
{
    if (!value)
        return 0;
    int r = strv_add(v, name);
    return r == 0 ? strv_add(v, value) : r;
}

static int number(struct strv *v, const char *name, unsigned n)
{
    if (n == 0)
        return 0;
    int r = strv_add(v, name);
    return r == 0 ? strv_addf(v, "%u", n) : r;
}

static int port(struct strv *v, const struct passt_port *p)
{
    int r = strv_add(v, p->udp ? "-u" : "-t");

    return r < 0 ? r
                 : strv_addf(v, "%s%s%u:%u", p->ip ? p->ip : "", p->ip ? "/" : "",
                             p->host ? p->host : p->guest, p->guest);
}

static int arguments(const struct passt_conf *c, struct strv *v)
{
    const char *const pairs[][2] = {
        {"--fd", "3"},
        {"-a", c->ip4},
        {"-a", c->ip6},
        {"-g", c->gateway4},
        {"-g", c->gateway6},
        {"-S", c->search},
        {"--dns-forward", c->dns_forward4},
        {"--dns-forward", c->dns_forward6},
        {"-l", c->log},
    };
    int r = strv_add(v, c->program ? c->program : "passt");

    if (r == 0)
        r = strv_add(v, "--foreground");
    if (r == 0 && !c->log)
        r = strv_add(v, "--quiet");
    for (size_t i = 0; r == 0 && i < ARRAY_LEN(pairs); i++)
        r = option(v, pairs[i][0], pairs[i][1]);
    if (r == 0)
        r = number(v, "-n", c->prefix4);
    if (r == 0)
        r = number(v, "-m", c->mtu);
    if (r == 0 && c->no_map_gw)
        r = strv_add(v, "--no-map-gw");
    for (unsigned i = 0; r == 0 && i < c->n_dns && i < PASST_DNS_MAX; i++)
        r = option(v, "-D", c->dns[i]);
    for (unsigned i = 0; r == 0 && i < c->n_ports; i++)
        r = port(v, &c->port[i]);
    return r;
}

/* --- starting -------------------------------------------------------------------- */

static _Noreturn void child(struct strv *v, int sock, int complaints)
{
    sigset_t none;

    (void)setsid(); /* Ctrl-C is for the machine */
    if (dup2(complaints, 2) < 0 || dup2(sock, 3) < 0 || fcntl(3, F_SETFD, 0) < 0)
        _exit(127); /* forked child */
    int null = open("/dev/null", O_RDWR);
    if (null >= 0) {
        (void)dup2(null, 0);
        (void)dup2(null, 1);
    }
    fds_close_but((int[]){3}, 1);
    /* Nobody listens to it later, which must not end it. */
    signal(SIGPIPE, SIG_IGN);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    execvp(v->v[0], v->v);
    dprintf(2, "%s\n", strerror(errno));
    _exit(errno == ENOENT ? 127 : 126); /* forked child */
}

/* Is there anybody? Asks for the owner of an address nobody has (RFC 826): passt answers for all.
 */
static int send_question(int fd)
{
    static const uint8_t question[4 + ARP_LEN] = {
        0,    0,    0,    ARP_LEN,                                     /* the stream's length */
        0xff, 0xff, 0xff, 0xff,    0xff, 0xff, 2,   0,  0,   0,  0, 1, /* to all, from us */
        8,    6,    0,    1,       8,    0,    6,   4,  0,   1,        /* ARP request for IPv4 */
        2,    0,    0,    0,       0,    1,    0,   0,  0,   0,        /* sender */
        0,    0,    0,    0,       0,    0,    198, 51, 100, 77,       /* target (RFC 5737) */
    };

    return send(fd, question, sizeof(question), MSG_NOSIGNAL) == sizeof(question) ? 0 : -errno;
}

int passt_spawn(const struct passt_conf *c, struct passt *p, struct err *e)
{
    struct strv v = {0};
    int sock[2], said[2], r = 0;

    *p = PASST_NONE;
    if (c->n_ports > PASST_PORTS_MAX)
        return err_set(e, -EINVAL, "more than %d published ports", PASST_PORTS_MAX);
    for (unsigned i = 0; r == 0 && i < c->n_ports; i++)
        r = check_port(&c->port[i], e);
    if (r < 0)
        return r;
    if (arguments(c, &v) < 0) {
        strv_done(&v);
        return err_set(e, -ENOMEM, "out of memory");
    }
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sock) < 0 ||
        pipe2(said, O_CLOEXEC) < 0) {
        r = err_errno(e, -errno, "passt");
        strv_done(&v);
        return r;
    }
    p->fd = sock[0];
    p->complaints = said[0];
    p->pid = fork();
    if (p->pid == 0)
        child(&v, sock[1], said[1]);
    r = p->pid < 0 ? err_errno(e, -errno, "fork") : 0;
    close(sock[1]);
    close(said[1]);
    strv_done(&v);
    if (r == 0)
        r = send_question(p->fd);
    if (r < 0) {
        p->pid = p->pid < 0 ? 0 : p->pid;
        passt_stop(p);
        return err_errno(e, r, "passt");
    }
    return 0;
}

/* It ended. Its last line that says something. */
static int why(struct passt *p, struct err *e)
{
    char said[SAID_MAX + 1], *line, *save, *last = NULL;
    size_t len = 0;
    ssize_t n;
    int status = 0;

    while (len < SAID_MAX && (n = read(p->complaints, said + len, SAID_MAX - len)) > 0)
        len += (size_t)n;
    said[len] = '\0';
    for (line = strtok_r(said, "\n", &save); line; line = strtok_r(NULL, "\n", &save))
        if (strncmp(line, "Failed to send", 14) != 0) /* to a log that is not there */
            last = line;
    (void)kill(p->pid, SIGKILL);
    while (waitpid(p->pid, &status, 0) < 0 && errno == EINTR) {
    }
    p->pid = 0;
    if (WIFEXITED(status) && WEXITSTATUS(status) == 127)
        return err_set(e, -ENOENT, "no passt on this host: install the package 'passt'");
    return err_set(e, -EINVAL, "passt: %s", last ? last : "it ended without a word");
}

int passt_ready(struct passt *p, struct err *e)
{
    uint8_t answer[4 + ARP_LEN];
    struct pollfd w = {.fd = p->fd, .events = POLLIN};
    size_t got = 0;
    int r;

    while (got < sizeof(answer)) {
        while ((r = poll(&w, 1, READY_MS)) < 0 && errno == EINTR) {
        }
        if (r == 0) {
            passt_stop(p);
            return err_set(e, -ETIMEDOUT, "passt does not answer");
        }
        ssize_t n = recv(p->fd, answer + got, sizeof(answer) - got, 0);
        if (n <= 0) {
            r = why(p, e);
            passt_stop(p);
            return r;
        }
        got += (size_t)n;
    }
    cleanup_fd(&p->complaints);
    p->complaints = -1;
    return 0;
}

int passt_start(const struct passt_conf *c, struct passt *p, struct err *e)
{
    int r = passt_spawn(c, p, e);

    return r == 0 ? passt_ready(p, e) : r;
}

void passt_stop(struct passt *p)
{
    if (p->pid > 0) {
        (void)kill(p->pid, SIGKILL); /* there is nothing it would have to tidy up */
        while (waitpid(p->pid, NULL, 0) < 0 && errno == EINTR) {
        }
    }
    cleanup_fd(&p->fd);
    cleanup_fd(&p->complaints);
    *p = PASST_NONE;
}
