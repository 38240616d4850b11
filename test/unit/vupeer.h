/* test/unit/vupeer.h - a vhost-user back end in the hands of a test. What it says is written before
 * it is asked, so that no thread is needed; what it heard is read afterwards. */
#ifndef TEST_UNIT_VUPEER_H
#define TEST_UNIT_VUPEER_H

#include <errno.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "test/unit/t.h"
#include "vhost/vuqueue.h"

enum {
    VU_GET_FEATURES = 1,
    VU_SET_FEATURES = 2,
    VU_SET_MEM_TABLE = 5,
    VU_SET_VRING_ADDR = 9,
    VU_GET_VRING_BASE = 11,
    VU_SET_VRING_KICK = 12,
    VU_SET_VRING_CALL = 13,
    VU_GET_PROTOCOL_FEATURES = 15,
    VU_GET_QUEUE_NUM = 17,
    VU_GET_CONFIG = 24,
    VU_REPLY = 5, /* flags of an answer: version 1, reply */
    VU_FDS_MAX = 8,
    VU_P_REPLY_ACK = 1 << 3,
    VU_P_CONFIG = 1 << 9,
};
#define VU_F_PROTOCOL (1ull << 30)
#define VU_F_VERSION_1 (1ull << 32)

struct vupeer_desc {
    uint64_t addr;
    uint32_t len;
    uint16_t flags, next;
};

struct vupeer {
    int fd;
    unsigned heard[64]; /* times each request came */
    uint64_t features;  /* that were set */
    struct {
        uint64_t gpa, size, uaddr;
        uint8_t *hva;
    } region[VU_FDS_MAX];
    unsigned n_regions;
    struct {
        uint64_t desc, used, avail; /* as the front end has them */
        int kick, call;
        uint16_t taken, returned;
    } q[2];
};

/* Returns the front end's socket. */
static inline int vupeer_open(struct vupeer *p)
{
    int s[2];

    *p = (struct vupeer){.q = {{.kick = -1, .call = -1}, {.kick = -1, .call = -1}}};
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, s), 0);
    p->fd = s[0];
    return s[1];
}

static inline void vupeer_unmap(struct vupeer *p)
{
    for (unsigned i = 0; i < p->n_regions; i++)
        munmap(p->region[i].hva, p->region[i].size);
    p->n_regions = 0;
}

static inline void vupeer_close(struct vupeer *p)
{
    vupeer_unmap(p);
    for (unsigned i = 0; i < 2; i++) {
        if (p->q[i].kick >= 0)
            close(p->q[i].kick);
        if (p->q[i].call >= 0)
            close(p->q[i].call);
    }
    if (p->fd >= 0)
        close(p->fd);
}

static inline void vupeer_raw(struct vupeer *p, uint32_t request, uint32_t flags, uint32_t size,
                              const void *payload, size_t len)
{
    uint32_t h[3] = {request, flags, size};

    assert_int_equal(write(p->fd, h, sizeof(h)), sizeof(h));
    if (len > 0)
        assert_int_equal(write(p->fd, payload, len), len);
}

static inline void vupeer_says(struct vupeer *p, uint32_t request, const void *payload, size_t len)
{
    vupeer_raw(p, request, VU_REPLY, (uint32_t)len, payload, len);
}

static inline void vupeer_says_u64(struct vupeer *p, uint32_t request, uint64_t v)
{
    vupeer_says(p, request, &v, sizeof(v));
}

/* What a connection begins with. */
static inline void vupeer_hello(struct vupeer *p, uint64_t features, uint64_t protocol)
{
    vupeer_says_u64(p, VU_GET_FEATURES, features);
    if (features & VU_F_PROTOCOL)
        vupeer_says_u64(p, VU_GET_PROTOCOL_FEATURES, protocol);
}

static inline void vupeer_base(struct vupeer *p, uint32_t queue, uint32_t base)
{
    uint32_t s[2] = {queue, base};

    vupeer_says(p, VU_GET_VRING_BASE, s, sizeof(s));
}

static inline void vupeer_memory(struct vupeer *p, const uint8_t *payload, const int *fd,
                                 unsigned n)
{
    uint32_t count;

    vupeer_unmap(p);
    memcpy(&count, payload, sizeof(count));
    assert_int_equal(count, n);
    for (unsigned i = 0; i < n; i++) {
        uint64_t r[4];

        memcpy(r, payload + 8 + i * sizeof(r), sizeof(r));
        void *hva = mmap(NULL, r[1], PROT_READ | PROT_WRITE, MAP_SHARED, fd[i], (off_t)r[3]);
        assert_ptr_not_equal(hva, MAP_FAILED);
        p->region[i].gpa = r[0];
        p->region[i].size = r[1];
        p->region[i].uaddr = r[2];
        p->region[i].hva = hva;
        close(fd[i]);
    }
    p->n_regions = n;
}

static inline void vupeer_fd(int *to, int *fd, unsigned n)
{
    assert_int_equal(n, 1);
    if (*to >= 0)
        close(*to);
    *to = *fd;
}

/* Read all that was sent. */
static inline void vupeer_listen(struct vupeer *p)
{
    for (;;) {
        uint32_t h[3];
        uint8_t payload[1024];
        char control[CMSG_SPACE(VU_FDS_MAX * sizeof(int))];
        struct iovec iov = {h, sizeof(h)};
        struct msghdr m = {.msg_iov = &iov,
                           .msg_iovlen = 1,
                           .msg_control = control,
                           .msg_controllen = sizeof(control)};
        int fd[VU_FDS_MAX];
        unsigned n = 0, q;

        if (recvmsg(p->fd, &m, MSG_DONTWAIT) != sizeof(h))
            return;
        struct cmsghdr *c = CMSG_FIRSTHDR(&m);
        if (c) {
            n = (unsigned)((c->cmsg_len - CMSG_LEN(0)) / sizeof(int));
            memcpy(fd, CMSG_DATA(c), n * sizeof(int));
        }
        assert_true(h[2] <= sizeof(payload));
        if (h[2] > 0)
            assert_int_equal(recv(p->fd, payload, h[2], MSG_DONTWAIT), h[2]);
        p->heard[h[0] % 64]++;
        memcpy(&q, payload, sizeof(q));
        switch (h[0]) {
        case VU_SET_FEATURES:
            memcpy(&p->features, payload, 8);
            break;
        case VU_SET_MEM_TABLE:
            vupeer_memory(p, payload, fd, n);
            break;
        case VU_SET_VRING_ADDR:
            memcpy(&p->q[q].desc, payload + 8, 8);
            memcpy(&p->q[q].used, payload + 16, 8);
            memcpy(&p->q[q].avail, payload + 24, 8);
            p->q[q].taken = p->q[q].returned = 0;
            break;
        case VU_SET_VRING_KICK:
            vupeer_fd(&p->q[q].kick, fd, n);
            break;
        case VU_SET_VRING_CALL:
            vupeer_fd(&p->q[q].call, fd, n);
            break;
        }
    }
}

static inline uint8_t *vupeer_at(struct vupeer *p, uint64_t addr, bool guest)
{
    for (unsigned i = 0; i < p->n_regions; i++) {
        uint64_t from = guest ? p->region[i].gpa : p->region[i].uaddr;

        if (addr >= from && addr - from < p->region[i].size)
            return p->region[i].hva + (addr - from);
    }
    fail_msg("the address is in no region");
    return NULL;
}

static inline uint16_t *vupeer_u16(struct vupeer *p, uint64_t addr)
{
    return (uint16_t *)vupeer_at(p, addr, false);
}

static inline bool vupeer_kicked(struct vupeer *p, unsigned q)
{
    uint64_t n;

    return recv(p->fd, &n, 0, MSG_DONTWAIT) <= 0 && read(p->q[q].kick, &n, sizeof(n)) == sizeof(n);
}

/* Take the next request: its head, and its descriptors in d[]; -1 = none. */
static inline int vupeer_take(struct vupeer *p, unsigned q, struct vupeer_desc d[], unsigned *n)
{
    uint16_t idx = *vupeer_u16(p, p->q[q].avail + 2);

    *n = 0;
    if (idx == p->q[q].taken)
        return -1;
    uint16_t head = *vupeer_u16(p, p->q[q].avail + 4 + 2u * (p->q[q].taken++ % VUQUEUE_SIZE));
    uint16_t at = head;
    do {
        memcpy(&d[*n], vupeer_at(p, p->q[q].desc + 16u * at, false), sizeof(d[0]));
        at = d[*n].next;
    } while (d[(*n)++].flags & 1);
    return head;
}

static inline void vupeer_call(struct vupeer *p, unsigned q)
{
    uint64_t one = 1;

    assert_int_equal(write(p->q[q].call, &one, sizeof(one)), sizeof(one));
}

/* Return a request, or what the test says is one. */
static inline void vupeer_return(struct vupeer *p, unsigned q, uint32_t head, uint32_t len)
{
    uint32_t e[2] = {head, len};
    uint64_t used = p->q[q].used;

    memcpy(vupeer_at(p, used + 4 + 8u * (p->q[q].returned % VUQUEUE_SIZE), false), e, sizeof(e));
    p->q[q].returned++;
    *vupeer_u16(p, used + 2) = p->q[q].returned;
}

#endif
