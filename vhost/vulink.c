#include "vhost/vulink.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/timerfd.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "os/loop.h"

struct vulink {
    struct loop *loop;              /* borrowed */
    char *path;                     /* owned; NULL = this connection is the only one */
    const struct vulink_dial *dial; /* borrowed, may be NULL */
    int listening;                  /* owned: socket at `path`; -1 = the back end listens there */
    struct vhostuser conn;
    struct vulink_user user;
    struct loop_fd watch, tick, knock;
    int timer; /* owned */
};

/* Nothing comes that was not asked for, and answers are read where they are asked for. */
static void conn_ready(void *ctx, uint32_t events)
{
    struct vulink *k = ctx;
    int r = vhostuser_peek(&k->conn);

    (void)events;
    if (r == 0)
        return; /* read meanwhile */
    if (k->user.lost)
        k->user.lost(k->user.ctx, r);
    else
        vulink_drop(k, false);
}

static int begin(struct vulink *k, int fd, unsigned ms, struct err *e)
{
    int r = vhostuser_open(fd, ms, &k->conn, e);

    if (r < 0)
        return r;
    k->watch = (struct loop_fd){.fd = k->conn.fd, .ready = conn_ready, .ctx = k};
    r = loop_add(k->loop, &k->watch, EPOLLIN | EPOLLRDHUP, e);
    if (r < 0)
        vhostuser_close(&k->conn);
    return r;
}

static void set_timer(struct vulink *k, unsigned ms)
{
    struct itimerspec t = {.it_value = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000L}};

    (void)timerfd_settime(k->timer, 0, &t, NULL); /* fails for bad values only */
}

static int next_connection(struct vulink *k)
{
    if (k->conn.fd >= 0 || !k->path)
        return -1;
    if (k->listening >= 0)
        return accept4(k->listening, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (k->dial)
        return k->dial->dial(k->dial->ctx, k->path);
    return vhostuser_connect(k->path, NULL);
}

void vulink_try(struct vulink *k)
{
    int fd = next_connection(k);

    if (fd < 0)
        return;
    int r = begin(k, fd, VHOSTUSER_ANSWER_MS, NULL);
    if (r == 0 && k->user.found)
        k->user.found(k->user.ctx);
    else if (r < 0 && r != -ECONNRESET && k->user.lost)
        k->user.lost(k->user.ctx, r);
}

static void tick_ready(void *ctx, uint32_t events)
{
    struct vulink *k = ctx;
    uint64_t n;

    (void)events;
    if (read(k->timer, &n, sizeof(n)) != sizeof(n) || k->conn.fd >= 0)
        return;
    set_timer(k, VULINK_RETRY_MS);
    vulink_try(k);
    if (k->conn.fd >= 0)
        set_timer(k, 0);
}

static void knock_ready(void *ctx, uint32_t events)
{
    struct vulink *k = ctx;

    (void)events;
    vulink_try(k);
    if (k->conn.fd >= 0)
        loop_del(k->loop, &k->knock);
}

/* The name a killed machine left is taken away. */
static int listen_at(const char *path, struct err *e)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    struct err why = {0};
    CLEANUP(fd) int there = vhostuser_connect(path, &why);

    if (there >= 0)
        return err_set(e, -EADDRINUSE, "somebody listens there already");
    if (why.code == -ENAMETOOLONG)
        return err_set(e, why.code, "%s", why.msg);
    if (why.code == -ECONNREFUSED)
        (void)unlink(path);
    memcpy(a.sun_path, path, strlen(path));
    CLEANUP(fd) int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    /* The mode before bind() is the mode of the file: no moment in which others could connect. */
    if (fd < 0 || fchmod(fd, 0600) < 0 || bind(fd, (struct sockaddr *)&a, sizeof(a)) < 0 ||
        listen(fd, 1) < 0)
        return err_errno(e, -errno, "listen");
    return take_fd(&fd);
}

static int await_first(const struct vulink *k, struct err *e)
{
    struct pollfd p = {.fd = k->listening, .events = POLLIN};
    int r;

    do
        r = poll(&p, 1, VULINK_AWAIT_MS);
    while (r < 0 && errno == EINTR);
    int fd = r > 0 ? accept4(k->listening, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK) : -1;
    if (r == 0)
        return err_set(e, -ETIMEDOUT, "no vhost-user back end connected");
    return fd < 0 ? err_errno(e, -errno, "accept") : fd;
}

/* A descriptor of the first connection. */
static int first_connection(struct vulink *k, const struct vulink_place *p, struct err *e)
{
    if (!p->listen)
        return vhostuser_connect(k->path, e);
    k->listening = listen_at(k->path, e);
    if (k->listening < 0)
        return k->listening;
    k->knock = (struct loop_fd){.fd = k->listening, .ready = knock_ready, .ctx = k};
    return await_first(k, e);
}

int vulink_new(const struct vulink_place *p, struct loop *l, struct vulink **ret, struct err *e)
{
    CLEANUP(fd) int own = p->path ? -1 : p->fd;
    struct vulink *k = calloc(1, sizeof(*k));

    if (!k)
        return err_set(e, -ENOMEM, "out of memory");
    k->loop = l;
    k->conn = VHOSTUSER_NONE;
    k->timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    k->listening = -1;
    k->dial = p->dial;
    k->path = p->path ? strdup(p->path) : NULL;
    k->tick = (struct loop_fd){.fd = k->timer, .ready = tick_ready, .ctx = k};
    int r = k->timer < 0 ? err_errno(e, -errno, "make a timer") : 0;
    if (r == 0 && p->path && !k->path)
        r = err_set(e, -ENOMEM, "out of memory");
    if (r == 0)
        r = loop_add(l, &k->tick, EPOLLIN, e);
    if (r == 0 && k->path) {
        own = first_connection(k, p, e);
        r = own < 0 ? own : 0;
    }
    if (r == 0)
        r = begin(k, take_fd(&own), VHOSTUSER_HELLO_MS, e);
    if (r < 0) {
        vulink_free(k);
        return r;
    }
    *ret = k;
    return 0;
}

void vulink_free(struct vulink *k)
{
    if (!k)
        return;
    vulink_drop(k, false);
    loop_del(k->loop, &k->tick);
    cleanup_fd(&k->timer);
    if (k->listening >= 0) {
        (void)unlink(k->path);
        close(k->listening);
    }
    free(k->path);
    free(k);
}

void vulink_attach(struct vulink *k, const struct vulink_user *u)
{
    k->user = *u;
}

struct vhostuser *vulink_conn(struct vulink *k)
{
    return k->conn.fd >= 0 ? &k->conn : NULL;
}

bool vulink_alive(const struct vulink *k)
{
    return k->conn.fd >= 0 && vhostuser_peek(&k->conn) != -ECONNRESET;
}

bool vulink_lasting(const struct vulink *k)
{
    return k->path != NULL;
}

void vulink_drop(struct vulink *k, bool retry)
{
    if (k->conn.fd >= 0)
        loop_del(k->loop, &k->watch);
    vhostuser_close(&k->conn);
    if (k->listening >= 0) {
        loop_del(k->loop, &k->knock);
        if (retry)
            (void)!loop_add(k->loop, &k->knock, EPOLLIN, NULL);
    } else if (k->timer >= 0) {
        set_timer(k, retry && k->path ? VULINK_RETRY_MS : 0);
    }
}
