/* A device that another process serves, between a guest and a back end that are both the fuzzer:
 * the guest's script is fuzz/virtio.h's, its events are the back end's. */
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "dev/virtio/vublk.h"
#include "fuzz/virtio.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

enum { GET_FEATURES = 1, GET_VRING_BASE = 11, GET_PROTOCOL_FEATURES = 15, GET_CONFIG = 24 };
enum { USED = 0x5000, USED_RING = USED + 4, F_FLUSH = 1 << 9, P_CONFIG = 1 << 9, SAYS_MAX = 64 };
#define FEATURES (VIRTIO_F_VERSION_1 | 1ull << 30 | F_FLUSH)

struct peer {
    int fd; /* the back end's end */
    struct loop *loop;
    struct vudev *dev;
    uint8_t *rings; /* mapped as the back end has them */
    uint16_t returned;
    unsigned said;
};

static void raw(struct peer *p, uint32_t request, uint32_t flags, uint32_t size,
                const void *payload)
{
    uint8_t buf[12 + 512];
    uint32_t h[3] = {request, flags, size};

    if (p->fd < 0 || p->said++ > SAYS_MAX || size > 512)
        return;
    memcpy(buf, h, sizeof(h));
    memcpy(buf + 12, payload, size);
    (void)!send(p->fd, buf, 12 + size, MSG_NOSIGNAL | MSG_DONTWAIT);
}

static void says(struct peer *p, uint32_t request, const void *payload, uint32_t size)
{
    raw(p, request, 5, size, payload);
}

static void says_u64(struct peer *p, uint32_t request, uint64_t v)
{
    says(p, request, &v, sizeof(v));
}

/* The next used entry, in the shared memory as it is. */
static void give(struct peer *p, uint32_t head, uint32_t len)
{
    uint32_t e[2] = {head, len};

    memcpy(p->rings + USED_RING + 8u * (p->returned % VUQUEUE_SIZE), e, sizeof(e));
    p->returned++;
    memcpy(p->rings + USED + 2, &p->returned, 2);
}

static void event(void *ctx, uint8_t arg, uint32_t value)
{
    struct peer *p = ctx;
    uint64_t one = 1;
    uint32_t base[2] = {0, value};
    struct vhostuser_queue q;

    vuqueues_queue(p->dev->queue, 0, &q);
    switch (arg % 9) {
    case 0:
        give(p, value, value >> 8);
        break;
    case 1: /* honestly: the request that was offered in turn */
        give(p, p->rings[0x4000 + 4 + 2u * (p->returned % VUQUEUE_SIZE)], value);
        break;
    case 2:
        p->rings[value % VUQUEUE_BYTES] = (uint8_t)(value >> 16);
        break;
    case 3:
        says_u64(p, GET_FEATURES, arg & 0x80 ? value : FEATURES);
        break;
    case 4:
        says(p, GET_VRING_BASE, base, sizeof(base));
        break;
    case 5:
        raw(p, value % 64, arg, value >> 8 & 0xff, p->rings);
        break;
    case 6:
        p->returned = 0; /* the rings began anew */
        break;
    case 7:
        if (p->fd >= 0)
            (void)shutdown(p->fd, SHUT_WR);
        break;
    default:
        (void)!write(q.call, &one, sizeof(one));
        loop_once(p->loop, 0);
        break;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct peer p = {.loop = loop_new(NULL, NULL)};
    struct vulink *link = NULL;
    struct vhostuser_region r;
    uint8_t config[12 + 60] = {0, 0, 0, 0, 60};
    int s[2];

    if (!p.loop || mem_share(fz_ram(), NULL) < 0 ||
        socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, s) < 0)
        abort();
    p.fd = s[0];
    says_u64(&p, GET_FEATURES, FEATURES);
    says_u64(&p, GET_PROTOCOL_FEATURES, P_CONFIG);
    config[13] = 1;
    says(&p, GET_CONFIG, config, sizeof(config));
    /* The script's last byte: what is said of bringing the device to life. */
    for (unsigned i = 0; n > 0 && i < (data[n - 1] & 7); i++)
        says_u64(&p, GET_FEATURES, FEATURES);
    if (vulink_new(&(struct vulink_place){.fd = s[1]}, p.loop, &link, NULL) < 0)
        abort();
    p.dev = vublk_new(link, fz_ram(), p.loop, NULL);
    if (!p.dev)
        abort();
    p.dev->stop_ms = vulink_conn(link)->answer_ms = 0; /* what is to be said was said before */
    vuqueues_region(p.dev->queue, &r);
    p.rings = mmap(NULL, r.size, PROT_READ | PROT_WRITE, MAP_SHARED, r.fd, 0);
    if (p.rings == MAP_FAILED)
        abort();
    fz_run(&vublk_ops, p.dev, data, n, event, &p);
    munmap(p.rings, VUQUEUE_BYTES);
    close(p.fd);
    loop_free(p.loop);
    return 0;
}
