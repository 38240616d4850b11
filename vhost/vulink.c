#include "vhost/vulink.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "os/loop.h"

struct vulink {
    struct loop *loop; /* borrowed */
    char *path;        /* owned; NULL = this connection is the only one */
    struct vhostuser conn;
    struct vulink_user user;
    struct loop_fd watch, tick;
    int timer; /* owned */
};

/* Nothing comes that was not asked for, and answers are read where they are asked for. */
static void conn_ready(void *ctx, uint32_t events)
{
    struct vulink *k = ctx;
    char byte;
    ssize_t n = recv(k->conn.fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);

    (void)events;
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return; /* read meanwhile */
    if (k->user.lost)
        k->user.lost(k->user.ctx, n > 0 ? -EPROTO : -ECONNRESET);
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

void vulink_try(struct vulink *k)
{
    int fd = k->conn.fd < 0 && k->path ? vhostuser_connect(k->path, NULL) : -1;

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

int vulink_new(const char *path, int fd, struct loop *l, struct vulink **ret, struct err *e)
{
    CLEANUP(fd) int own = path ? -1 : fd;
    struct vulink *k = calloc(1, sizeof(*k));

    if (!k)
        return err_set(e, -ENOMEM, "out of memory");
    k->loop = l;
    k->conn = VHOSTUSER_NONE;
    k->timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    k->path = path ? strdup(path) : NULL;
    k->tick = (struct loop_fd){.fd = k->timer, .ready = tick_ready, .ctx = k};
    int r = k->timer < 0 ? err_errno(e, -errno, "make a timer") : 0;
    if (r == 0 && path && !k->path)
        r = err_set(e, -ENOMEM, "out of memory");
    if (r == 0)
        r = loop_add(l, &k->tick, EPOLLIN, e);
    if (r == 0 && path) {
        own = vhostuser_connect(path, e);
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
    char byte;

    if (k->conn.fd < 0)
        return false;
    ssize_t n = recv(k->conn.fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
    return n > 0 || (n < 0 && (errno == EAGAIN || errno == EINTR));
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
    if (k->timer >= 0)
        set_timer(k, retry && k->path ? VULINK_RETRY_MS : 0);
}
