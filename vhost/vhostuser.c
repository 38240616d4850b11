#include "vhost/vhostuser.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"

enum { /* "Front-end message types" */
       GET_FEATURES = 1,
       SET_FEATURES = 2,
       SET_OWNER = 3,
       SET_MEM_TABLE = 5,
       SET_VRING_NUM = 8,
       SET_VRING_ADDR = 9,
       SET_VRING_BASE = 10,
       GET_VRING_BASE = 11,
       SET_VRING_KICK = 12,
       SET_VRING_CALL = 13,
       GET_PROTOCOL_FEATURES = 15,
       SET_PROTOCOL_FEATURES = 16,
       GET_QUEUE_NUM = 17,
       SET_VRING_ENABLE = 18,
       GET_CONFIG = 24,
};

enum { /* "Header" */
       VERSION = 1,
       VERSION_MASK = 3,
       REPLY = 1 << 2,
       NEED_REPLY = 1 << 3,
};

#define F_PROTOCOL_FEATURES (1ull << 30)
enum { /* "Protocol features" */
       P_MQ = 1 << 0,
       P_REPLY_ACK = 1 << 3,
       P_CONFIG = 1 << 9,
       P_WANTED = P_MQ | P_REPLY_ACK | P_CONFIG,
};

/* The wire is in the host's byte order, as the protocol says. */
struct header {
    uint32_t request, flags, size;
};
_Static_assert(sizeof(struct header) == 12, "\"Header\"");

struct vring_state {
    uint32_t index, num;
};

struct vring_addr { /* "A vring address description" */
    uint32_t index, flags;
    uint64_t desc, used, avail, log;
};
_Static_assert(sizeof(struct vring_addr) == 40, "\"A vring address description\"");

struct mem_table { /* "Memory regions description" */
    uint32_t n, padding;
    struct {
        uint64_t gpa, size, uaddr, offset;
    } region[VHOSTUSER_REGIONS_MAX];
};
_Static_assert(sizeof(struct mem_table) == 8 + 32 * VHOSTUSER_REGIONS_MAX, "8 regions");

struct config { /* "Virtio device config space" */
    uint32_t offset, size, flags;
    uint8_t bytes[VHOSTUSER_CONFIG_MAX];
};
enum { CONFIG_HEADER = 12 };

/* --- bytes, until the deadline ------------------------------------------------------------ */

static uint64_t now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void begin(struct vhostuser *v, unsigned ms)
{
    v->deadline = now_ns() + ms * 1000000ull;
}

static int await(struct vhostuser *v, short events, struct err *e)
{
    for (;;) {
        struct pollfd p = {.fd = v->fd, .events = events};
        uint64_t now = now_ns();
        int ms = now >= v->deadline ? 0 : (int)((v->deadline - now + 999999) / 1000000);
        int r = poll(&p, 1, ms);

        if (r > 0)
            return 0;
        if (r == 0)
            return err_set(e, -ETIMEDOUT, "the vhost-user back end does not answer");
        if (errno != EINTR)
            return err_errno(e, -errno, "poll");
    }
}

static int gone(struct err *e)
{
    return err_set(e, -ECONNRESET, "the vhost-user back end hung up");
}

static int send_bytes(struct vhostuser *v, const void *buf, size_t len, const int *fds,
                      unsigned n_fds, struct err *e)
{
    char control[CMSG_SPACE(VHOSTUSER_REGIONS_MAX * sizeof(int))] = {0};
    struct iovec iov = {.iov_base = (void *)(uintptr_t)buf, .iov_len = len};
    struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1};

    if (n_fds > 0) {
        m.msg_control = control;
        m.msg_controllen = CMSG_SPACE(n_fds * sizeof(int));
        struct cmsghdr *c = CMSG_FIRSTHDR(&m);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(n_fds * sizeof(int));
        memcpy(CMSG_DATA(c), fds, n_fds * sizeof(int));
    }
    while (iov.iov_len > 0) {
        ssize_t n = sendmsg(v->fd, &m, MSG_NOSIGNAL | MSG_DONTWAIT);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN) {
            int r = await(v, POLLOUT, e);
            if (r < 0)
                return r;
            continue;
        }
        if (n < 0)
            return errno == EPIPE || errno == ECONNRESET
                       ? gone(e)
                       : err_errno(e, -errno, "send to the vhost-user back end");
        iov.iov_base = (uint8_t *)iov.iov_base + n;
        iov.iov_len -= (size_t)n;
        m.msg_control = NULL; /* went with the first byte */
        m.msg_controllen = 0;
    }
    return 0;
}

/* Without room for control messages: the kernel drops descriptors that come along. */
static int receive(struct vhostuser *v, void *buf, size_t len, struct err *e)
{
    uint8_t *p = buf;

    while (len > 0) {
        struct iovec iov = {.iov_base = p, .iov_len = len};
        struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1};
        ssize_t n = recvmsg(v->fd, &m, MSG_DONTWAIT);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN) {
            int r = await(v, POLLIN, e);
            if (r < 0)
                return r;
            continue;
        }
        if (n <= 0)
            return n == 0 || errno == ECONNRESET
                       ? gone(e)
                       : err_errno(e, -errno, "hear from the vhost-user back end");
        p += n;
        len -= (size_t)n;
    }
    return 0;
}

/* --- messages ------------------------------------------------------------------------------- */

static int send_message(struct vhostuser *v, uint32_t request, uint32_t flags, const void *payload,
                        size_t len, const int *fds, unsigned n_fds, struct err *e)
{
    uint8_t buf[sizeof(struct header) + sizeof(struct mem_table) + sizeof(struct config)];
    struct header h = {.request = request, .flags = VERSION | flags, .size = (uint32_t)len};

    memcpy(buf, &h, sizeof(h));
    if (len > 0)
        memcpy(buf + sizeof(h), payload, len);
    return send_bytes(v, buf, sizeof(h) + len, fds, n_fds, e);
}

/* The answer to `request`: exactly `len` bytes. */
static int receive_reply(struct vhostuser *v, uint32_t request, void *payload, size_t len,
                         struct err *e)
{
    struct header h;
    int r = receive(v, &h, sizeof(h), e);

    if (r < 0)
        return r;
    if (h.request != request || (h.flags & (VERSION_MASK | REPLY)) != (VERSION | REPLY) ||
        h.size != len)
        return err_set(e, -EPROTO,
                       "the vhost-user back end answers request %u by %u, flags 0x%x, %u bytes",
                       request, h.request, h.flags, h.size);
    return receive(v, payload, len, e);
}

static int ask_u64(struct vhostuser *v, uint32_t request, uint64_t *value, struct err *e)
{
    int r = send_message(v, request, 0, NULL, 0, NULL, 0, e);

    return r < 0 ? r : receive_reply(v, request, value, sizeof(*value), e);
}

/* A message without an answer of its own: with REPLY_ACK the back end says whether it took it. */
static int tell_fds(struct vhostuser *v, uint32_t request, const void *payload, size_t len,
                    const int *fds, unsigned n_fds, struct err *e)
{
    bool ack = v->protocol & P_REPLY_ACK;
    uint64_t refused = 0;
    int r = send_message(v, request, ack ? NEED_REPLY : 0, payload, len, fds, n_fds, e);

    if (r == 0 && ack)
        r = receive_reply(v, request, &refused, sizeof(refused), e);
    if (r == 0 && refused)
        return err_set(e, -EREMOTEIO, "the vhost-user back end refuses request %u", request);
    return r;
}

static int tell(struct vhostuser *v, uint32_t request, const void *payload, size_t len,
                struct err *e)
{
    return tell_fds(v, request, payload, len, NULL, 0, e);
}

/* --- the connection --------------------------------------------------------------------------- */

int vhostuser_connect(const char *path, struct err *e)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};

    if (strlen(path) >= sizeof(a.sun_path))
        return err_set(e, -ENAMETOOLONG, "the path of a socket has at most %zu bytes",
                       sizeof(a.sun_path) - 1);
    memcpy(a.sun_path, path, strlen(path));
    CLEANUP(fd) int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return err_errno(e, -errno, "make a socket");
    if (connect(fd, (struct sockaddr *)&a, sizeof(a)) < 0)
        return err_errno(e, -errno, "connect");
    return take_fd(&fd);
}

static int hello(struct vhostuser *v, struct err *e)
{
    int r = ask_u64(v, GET_FEATURES, &v->features, e);
    uint64_t p = 0, queues = 0;

    if (r < 0)
        return r;
    if (v->features & F_PROTOCOL_FEATURES) {
        r = ask_u64(v, GET_PROTOCOL_FEATURES, &p, e);
        p &= P_WANTED;
        if (r == 0)
            r = send_message(v, SET_PROTOCOL_FEATURES, 0, &p, sizeof(p), NULL, 0, e);
        v->protocol = p;
    }
    if (r == 0)
        r = tell(v, SET_OWNER, NULL, 0, e);
    if (r == 0 && (v->protocol & P_MQ)) {
        r = ask_u64(v, GET_QUEUE_NUM, &queues, e);
        v->queues = queues > VHOSTUSER_QUEUES_MAX ? VHOSTUSER_QUEUES_MAX : (unsigned)queues;
    }
    return r;
}

int vhostuser_open(int fd, unsigned ms, struct vhostuser *v, struct err *e)
{
    struct vhostuser n = {.fd = fd, .answer_ms = VHOSTUSER_ANSWER_MS};

    begin(&n, ms);
    int r = hello(&n, e);
    if (r < 0) {
        vhostuser_close(&n);
        return r;
    }
    *v = n;
    return 0;
}

int vhostuser_peek(const struct vhostuser *v)
{
    char byte;
    struct iovec iov = {.iov_base = &byte, .iov_len = 1};
    struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1};
    ssize_t n = recvmsg(v->fd, &m, MSG_PEEK | MSG_DONTWAIT);

    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return 0;
    return n > 0 ? -EPROTO : -ECONNRESET;
}

void vhostuser_close(struct vhostuser *v)
{
    cleanup_fd(&v->fd);
    *v = VHOSTUSER_NONE;
}

int vhostuser_config(struct vhostuser *v, void *buf, size_t len, struct err *e)
{
    struct config c = {.size = (uint32_t)len}, got = {0};

    if (!(v->protocol & P_CONFIG) || len > sizeof(c.bytes))
        return err_set(e, -ENOTSUP, "the vhost-user back end does not tell a configuration");
    begin(v, v->answer_ms);
    int r = send_message(v, GET_CONFIG, 0, &c, CONFIG_HEADER + len, NULL, 0, e);
    if (r == 0)
        r = receive_reply(v, GET_CONFIG, &got, CONFIG_HEADER + len, e);
    if (r < 0)
        return r;
    if (got.offset != 0 || got.size != len)
        return err_set(e, -EPROTO,
                       "the vhost-user back end tells %u bytes of configuration from %u", got.size,
                       got.offset);
    memcpy(buf, got.bytes, len);
    return 0;
}

/* --- going live ---------------------------------------------------------------------------------
 */

static int set_memory(struct vhostuser *v, const struct vhostuser_region *region, unsigned n,
                      struct err *e)
{
    struct mem_table t = {.n = n};
    int fds[VHOSTUSER_REGIONS_MAX];

    BUG_ON(n == 0 || n > VHOSTUSER_REGIONS_MAX);
    for (unsigned i = 0; i < n; i++) {
        t.region[i].gpa = region[i].gpa;
        t.region[i].size = region[i].size;
        t.region[i].uaddr = (uint64_t)(uintptr_t)region[i].hva;
        t.region[i].offset = region[i].offset;
        fds[i] = region[i].fd;
    }
    return tell_fds(v, SET_MEM_TABLE, &t, 8 + n * sizeof(t.region[0]), fds, n, e);
}

static int set_number(struct vhostuser *v, uint32_t request, unsigned index, uint32_t num,
                      struct err *e)
{
    struct vring_state s = {.index = index, .num = num};

    return tell(v, request, &s, sizeof(s), e);
}

static int set_fd(struct vhostuser *v, uint32_t request, unsigned index, int fd, struct err *e)
{
    uint64_t u = index; /* bits 0-7; bit 8 would mean that there is no descriptor */

    return tell_fds(v, request, &u, sizeof(u), &fd, 1, e);
}

/* The order back ends expect: the kick descriptor starts the ring ("Ring states"). */
static int set_queue(struct vhostuser *v, const struct vhostuser_queue *q, struct err *e)
{
    struct vring_addr a = {
        .index = q->index,
        .desc = (uint64_t)(uintptr_t)q->desc,
        .used = (uint64_t)(uintptr_t)q->used,
        .avail = (uint64_t)(uintptr_t)q->avail,
    };
    int r = set_number(v, SET_VRING_NUM, q->index, q->size, e);

    if (r == 0)
        r = set_number(v, SET_VRING_BASE, q->index, q->base, e);
    if (r == 0)
        r = tell(v, SET_VRING_ADDR, &a, sizeof(a), e);
    if (r == 0)
        r = set_fd(v, SET_VRING_CALL, q->index, q->call, e);
    if (r == 0)
        r = set_fd(v, SET_VRING_KICK, q->index, q->kick, e);
    return r;
}

int vhostuser_start(struct vhostuser *v, uint64_t features, const struct vhostuser_region *region,
                    unsigned n_regions, const struct vhostuser_queue *queue, unsigned n_queues,
                    struct err *e)
{
    uint64_t f = (features & v->features) | (v->features & F_PROTOCOL_FEATURES), seen;
    int r;

    if (features & ~v->features)
        return err_set(e, -ENOTSUP, "the vhost-user back end lacks features 0x%llx",
                       (unsigned long long)(features & ~v->features));
    begin(v, v->answer_ms);
    r = tell(v, SET_FEATURES, &f, sizeof(f), e);
    if (r == 0)
        r = set_memory(v, region, n_regions, e);
    for (unsigned i = 0; r == 0 && i < n_queues; i++)
        r = set_queue(v, &queue[i], e);
    /* With protocol features rings begin disabled ("Ring states"). */
    for (unsigned i = 0; r == 0 && i < n_queues && (f & F_PROTOCOL_FEATURES); i++)
        r = set_number(v, SET_VRING_ENABLE, queue[i].index, 1, e);
    if (r == 0 && !(v->protocol & P_REPLY_ACK))
        r = ask_u64(v, GET_FEATURES, &seen, e); /* answered once all before it was read */
    return r;
}

int vhostuser_stop(struct vhostuser *v, unsigned index, uint16_t *base, struct err *e)
{
    struct vring_state s = {.index = index}, got;

    begin(v, v->answer_ms);
    int r = send_message(v, GET_VRING_BASE, 0, &s, sizeof(s), NULL, 0, e);
    if (r == 0)
        r = receive_reply(v, GET_VRING_BASE, &got, sizeof(got), e);
    if (r < 0)
        return r;
    if (got.index != index || got.num > UINT16_MAX)
        return err_set(e, -EPROTO, "the vhost-user back end stopped ring %u at %u, not ring %u",
                       got.index, got.num, index);
    *base = (uint16_t)got.num;
    return 0;
}
