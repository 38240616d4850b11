#include "net/vsockd.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "os/loop.h"

enum { BACKLOG = 64, ACCEPTS_A_ROUND = 16 };

enum sock_state {
    S_LINE,    /* reading "CONNECT port\n" */
    S_WAITING, /* the guest has not answered */
    S_STREAM,
};

struct vsock_sock {
    struct vsockd *d;
    struct loop_fd h; /* fd owned */
    enum sock_state state;
    struct vsock_conn *conn; /* the device's end; NULL in S_LINE */
    uint32_t host_port;
    uint32_t events; /* what h is watched for */
    char line[VSOCKD_LINE_MAX];
    unsigned n_line;
    struct vsock_sock *prev, *next; /* of the clients in S_LINE, oldest first */
};

struct vsockd {
    struct loop *loop; /* borrowed */
    struct loop_fd h;  /* the listening socket, owned */
    struct vsock_guest guest;
    struct sockaddr_un addr;
    struct vsock_sock *first, *last; /* clients in S_LINE */
    unsigned pending;
    const struct vsockd_dial *dial; /* borrowed; NULL = we connect */
    bool unlink;                    /* the socket's file is ours */
    bool listening;                 /* false: out of descriptors until a client goes */
};

static void listen_again(struct vsockd *d)
{
    if (!d->listening)
        d->listening = loop_add(d->loop, &d->h, EPOLLIN, NULL) == 0;
}

/* ---- clients that have not said CONNECT ------------------------------------ */

static void pending_add(struct vsock_sock *s)
{
    struct vsockd *d = s->d;

    s->prev = d->last;
    s->next = NULL;
    if (d->last)
        d->last->next = s;
    else
        d->first = s;
    d->last = s;
    d->pending++;
}

static void pending_del(struct vsock_sock *s)
{
    struct vsockd *d = s->d;

    if (s->prev)
        s->prev->next = s->next;
    else
        d->first = s->next;
    if (s->next)
        s->next->prev = s->prev;
    else
        d->last = s->prev;
    d->pending--;
}

static void sock_free(struct vsock_sock *s)
{
    struct vsockd *d = s->d;

    loop_del(d->loop, &s->h);
    (void)close(s->h.fd);
    if (s->state == S_LINE)
        pending_del(s);
    free(s);
    listen_again(d);
}

/* "CONNECT <port>\n" and nothing else. Returns false on another line. */
static bool parse_connect(const char *line, uint32_t *port)
{
    char end[2];
    uint64_t v;

    if (strncmp(line, "CONNECT ", 8) != 0 || line[8] < '0' || line[8] > '9' ||
        sscanf(line + 8, "%11" SCNu64 "%1c%1c", &v, &end[0], &end[1]) != 2 || end[0] != '\n' ||
        v > UINT32_MAX)
        return false;
    *port = (uint32_t)v;
    return true;
}

/* Takes bytes up to the newline and none beyond: they belong to the stream. 1 = the line is whole,
 * 0 = more must come, -errno = no use. */
static int read_line(struct vsock_sock *s)
{
    size_t room = sizeof(s->line) - 1 - s->n_line;
    ssize_t n = recv(s->h.fd, s->line + s->n_line, room, MSG_PEEK | MSG_DONTWAIT);

    if (n < 0)
        return errno == EAGAIN || errno == EINTR ? 0 : -errno;
    if (n == 0)
        return -EPIPE;
    char *nl = memchr(s->line + s->n_line, '\n', (size_t)n);
    size_t take = nl ? (size_t)(nl - (s->line + s->n_line)) + 1 : (size_t)n;
    n = recv(s->h.fd, s->line + s->n_line, take, MSG_DONTWAIT);
    if (n != (ssize_t)take)
        return -EIO;
    s->n_line += (unsigned)take;
    s->line[s->n_line] = '\0';
    return nl ? 1 : s->n_line == sizeof(s->line) - 1 ? -EMSGSIZE : 0;
}

static void on_line(struct vsock_sock *s)
{
    struct vsockd *d = s->d;
    uint32_t port;
    int r = read_line(s);

    if (r == 0)
        return;
    if (r < 0 || !parse_connect(s->line, &port) || !d->guest.connect) {
        sock_free(s);
        return;
    }
    /* From here on only hangups are wanted, until the device asks for more. */
    pending_del(s);
    s->state = S_WAITING;
    s->events = EPOLLET;
    loop_mod(d->loop, &s->h, s->events);
    if (d->guest.connect(d->guest.dev, port, s, &s->conn, &s->host_port) < 0)
        sock_free(s);
}

/* ---- sockets -------------------------------------------------------------------- */

static void sock_ready(void *ctx, uint32_t events)
{
    struct vsock_sock *s = ctx;
    bool over = events & (EPOLLHUP | EPOLLERR);

    if (s->state == S_LINE) {
        on_line(s);
        return;
    }
    s->d->guest.ready(s->conn, (s->events & EPOLLIN) && ((events & EPOLLIN) || over),
                      (s->events & EPOLLOUT) && ((events & EPOLLOUT) || over), over);
}

/* Takes `fd`, also on failure. */
static struct vsock_sock *sock_new(struct vsockd *d, int fd, enum sock_state state, uint32_t events)
{
    struct vsock_sock *s = calloc(1, sizeof(*s));

    if (!s) {
        (void)close(fd);
        return NULL;
    }
    s->d = d;
    s->state = state;
    s->events = events;
    s->h = (struct loop_fd){.fd = fd, .ready = sock_ready, .ctx = s};
    if (loop_add(d->loop, &s->h, events, NULL) < 0) {
        (void)close(fd);
        free(s);
        return NULL;
    }
    if (state == S_LINE)
        pending_add(s);
    return s;
}

/* The oldest client that says nothing makes room for a new one. */
static void on_listen(void *ctx, uint32_t events)
{
    struct vsockd *d = ctx;

    for (int i = 0; i < ACCEPTS_A_ROUND; i++) {
        int fd = accept4(d->h.fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

        if (fd < 0 && (errno == EMFILE || errno == ENFILE || errno == ENOMEM)) {
            d->listening = false;
            loop_del(d->loop, &d->h);
        }
        if (fd < 0)
            return;
        if (d->pending == VSOCKD_PENDING_MAX)
            sock_free(d->first);
        (void)sock_new(d, fd, S_LINE, EPOLLIN);
    }
}

/* "PATH_port", or -ENAMETOOLONG. */
static int port_addr(struct sockaddr_un *a, const char *path, uint32_t port)
{
    *a = (struct sockaddr_un){.sun_family = AF_UNIX};
    int n = snprintf(a->sun_path, sizeof(a->sun_path), "%s_%" PRIu32, path, port);

    return n < 0 || (size_t)n >= sizeof(a->sun_path) ? -ENAMETOOLONG : 0;
}

/* ---- what the device calls -------------------------------------------------- */

static void host_attach(void *ctx, const struct vsock_guest *g)
{
    ((struct vsockd *)ctx)->guest = *g;
}

/* A Unix socket connects at once or not at all (unix(7)). */
int vsockd_connect(const char *path, uint32_t port)
{
    struct sockaddr_un a;
    int r = port_addr(&a, path, port);

    if (r < 0)
        return r;
    CLEANUP(fd) int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0 || connect(fd, (const struct sockaddr *)&a, sizeof(a)) < 0)
        return -errno;
    return take_fd(&fd);
}

static int host_open(void *ctx, uint32_t port, struct vsock_conn *c, struct vsock_sock **ret)
{
    struct vsockd *d = ctx;
    CLEANUP(fd)
    int fd = d->dial ? d->dial->dial(d->dial->ctx, port) : vsockd_connect(d->addr.sun_path, port);

    if (fd < 0)
        return fd;
    struct vsock_sock *s = sock_new(d, take_fd(&fd), S_STREAM, EPOLLET);
    if (!s)
        return -ENOMEM;
    s->conn = c;
    *ret = s;
    return 0;
}

/* The socket's buffer is empty: the line fits, or the client is gone, which reads will tell. */
static void host_accepted(struct vsock_sock *s)
{
    char line[VSOCKD_LINE_MAX];
    int n = snprintf(line, sizeof(line), "OK %" PRIu32 "\n", s->host_port);

    s->state = S_STREAM;
    (void)!send(s->h.fd, line, (size_t)n, MSG_NOSIGNAL | MSG_DONTWAIT);
}

static int64_t host_read(struct vsock_sock *s, const struct iovec *iov, unsigned n)
{
    struct msghdr m = {.msg_iov = (struct iovec *)(uintptr_t)iov, .msg_iovlen = n};
    ssize_t r;

    do
        r = recvmsg(s->h.fd, &m, MSG_DONTWAIT);
    while (r < 0 && errno == EINTR);
    return r < 0 ? -errno : r;
}

static int64_t host_write(struct vsock_sock *s, const struct iovec *iov, unsigned n)
{
    struct msghdr m = {.msg_iov = (struct iovec *)(uintptr_t)iov, .msg_iovlen = n};
    ssize_t r;

    do
        r = sendmsg(s->h.fd, &m, MSG_NOSIGNAL | MSG_DONTWAIT);
    while (r < 0 && errno == EINTR);
    return r < 0 ? -errno : r;
}

static void host_shutdown(struct vsock_sock *s, bool reads, bool writes)
{
    if (reads || writes)
        (void)shutdown(s->h.fd, reads && writes ? SHUT_RDWR : reads ? SHUT_RD : SHUT_WR);
}

/* A hangup is always reported by epoll; edge-triggered it is reported once. */
static void host_watch(struct vsock_sock *s, bool readable, bool writable)
{
    s->events = (readable ? EPOLLIN : 0u) | (writable ? EPOLLOUT : 0u);
    if (s->events == 0)
        s->events = EPOLLET;
    loop_mod(s->d->loop, &s->h, s->events);
}

static void host_close(struct vsock_sock *s)
{
    sock_free(s);
}

static void host_destroy(void *ctx)
{
    struct vsockd *d = ctx;

    while (d->first)
        sock_free(d->first);
    if (d->h.fd >= 0) {
        loop_del(d->loop, &d->h);
        (void)close(d->h.fd);
        if (d->unlink)
            (void)unlink(d->addr.sun_path);
    }
    free(d);
}

/* ---- the listener ---------------------------------------------------------------- */

/* A socket file whose owner is gone is in the way; anything else is not ours to remove. */
static int clear_stale(const struct sockaddr_un *a, struct err *e)
{
    struct stat st;

    if (lstat(a->sun_path, &st) < 0)
        return errno == ENOENT ? 0 : err_errno(e, -errno, "look at the socket");
    CLEANUP(fd) int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return err_errno(e, -errno, "socket");
    if (!S_ISSOCK(st.st_mode) || connect(fd, (const struct sockaddr *)a, sizeof(*a)) == 0 ||
        errno != ECONNREFUSED)
        return err_set(e, -EADDRINUSE, "in use by another process");
    if (unlink(a->sun_path) < 0)
        return err_errno(e, -errno, "remove the old socket");
    return 0;
}

static int set_path(struct sockaddr_un *a, const char *path, struct err *e)
{
    struct sockaddr_un longest;
    int r = port_addr(&longest, path, UINT32_MAX);

    if (r < 0)
        return err_set(e, r, "too long for a socket and its ports");
    *a = (struct sockaddr_un){.sun_family = AF_UNIX};
    memcpy(a->sun_path, path, strlen(path) + 1); /* fits: with a port behind it, it did */
    return 0;
}

int vsockd_listen(const char *path, struct err *e)
{
    struct sockaddr_un a;
    int r = set_path(&a, path, e);

    if (r == 0)
        r = clear_stale(&a, e);
    if (r < 0)
        return r;
    CLEANUP(fd) int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return err_errno(e, -errno, "socket");
    /* The mode before bind() is the mode of the file: no moment in which others could connect. */
    if (fchmod(fd, 0600) < 0 || bind(fd, (const struct sockaddr *)&a, sizeof(a)) < 0 ||
        listen(fd, BACKLOG) < 0)
        return err_errno(e, -errno, "listen");
    return take_fd(&fd);
}

int vsockd_new_fd(int listener, const char *path, const struct vsockd_dial *dial, struct loop *l,
                  struct vsock_host *host, struct err *e)
{
    CLEANUP(fd) int fd = listener;
    struct vsockd *d = calloc(1, sizeof(*d));

    if (!d)
        return err_set(e, -ENOMEM, "out of memory");
    d->loop = l;
    d->dial = dial;
    d->h = (struct loop_fd){.fd = -1, .ready = on_listen, .ctx = d};
    int r = set_path(&d->addr, path, e);
    if (r == 0) {
        d->h.fd = take_fd(&fd);
        r = loop_add(d->loop, &d->h, EPOLLIN, e);
        d->listening = r == 0;
    }
    if (r < 0) {
        host_destroy(d);
        return r;
    }
    *host = (struct vsock_host){.ctx = d,
                                .attach = host_attach,
                                .open = host_open,
                                .accepted = host_accepted,
                                .read = host_read,
                                .write = host_write,
                                .shutdown = host_shutdown,
                                .watch = host_watch,
                                .close = host_close,
                                .destroy = host_destroy};
    return 0;
}

int vsockd_new(const char *path, struct loop *l, struct vsock_host *host, struct err *e)
{
    int fd = vsockd_listen(path, e);
    int r = fd < 0 ? fd : vsockd_new_fd(fd, path, NULL, l, host, e);

    if (r == 0)
        ((struct vsockd *)host->ctx)->unlink = true;
    else if (fd >= 0)
        (void)unlink(path);
    return r;
}

int vsockd_adopt(const struct vsock_host *host, int fd, struct err *e)
{
    if (fcntl(fd, F_SETFL, O_NONBLOCK) < 0) {
        int r = err_errno(e, -errno, "take a client");

        (void)close(fd);
        return r;
    }
    return sock_new(host->ctx, fd, S_LINE, EPOLLIN) ? 0 : err_set(e, -ENOMEM, "out of memory");
}
