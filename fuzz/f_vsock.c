/* The socket device against a guest made by the fuzzer, and clients that come, write, stall and go.
 */
#include <assert.h>
#include <errno.h>

#include "dev/virtio/vsock.h"
#include "fuzz/virtio.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

enum { SOCKS = 64 };

struct vsock_sock {
    struct hub *hub;
    struct vsock_conn *conn;
    bool used, want_read, want_write;
    uint32_t to_read, takes;
    bool end, dead;
};

struct hub {
    struct vsock_guest guest;
    struct vsock_sock sock[SOCKS];
};

static struct vsock_sock *fresh(struct hub *h)
{
    for (unsigned i = 0; i < SOCKS; i++) {
        if (!h->sock[i].used) {
            h->sock[i] = (struct vsock_sock){.hub = h, .used = true, .takes = 100};
            return &h->sock[i];
        }
    }
    return NULL;
}

static void attach(void *ctx, const struct vsock_guest *g)
{
    ((struct hub *)ctx)->guest = *g;
}

static int host_open(void *ctx, uint32_t port, struct vsock_conn *c, struct vsock_sock **ret)
{
    struct vsock_sock *s = port % 8 == 7 ? NULL : fresh(ctx);

    if (!s)
        return -ECONNREFUSED;
    s->conn = c;
    *ret = s;
    return 0;
}

static void accepted(struct vsock_sock *s)
{
    assert(s->used);
}

static int64_t host_read(struct vsock_sock *s, const struct iovec *iov, unsigned n)
{
    int64_t done = 0;

    assert(s->used && n > 0);
    if (s->dead)
        return -ECONNRESET;
    for (unsigned i = 0; i < n; i++) {
        size_t k = iov[i].iov_len < s->to_read ? iov[i].iov_len : s->to_read;

        memset(iov[i].iov_base, 0x77, k);
        s->to_read -= (uint32_t)k;
        done += (int64_t)k;
    }
    return done ? done : s->end ? 0 : -EAGAIN;
}

static int64_t host_write(struct vsock_sock *s, const struct iovec *iov, unsigned n)
{
    int64_t done = 0;

    assert(s->used && n > 0);
    if (s->dead)
        return -EPIPE;
    for (unsigned i = 0; i < n; i++) {
        size_t k = iov[i].iov_len < s->takes ? iov[i].iov_len : s->takes;
        volatile uint8_t sum = 0;

        for (size_t j = 0; j < k; j++)
            sum = (uint8_t)(sum + ((const uint8_t *)iov[i].iov_base)[j]);
        s->takes -= (uint32_t)k;
        done += (int64_t)k;
    }
    return done ? done : -EAGAIN;
}

static void host_shutdown(struct vsock_sock *s, bool reads, bool writes)
{
    assert(s->used && (reads || writes));
}

static void watch(struct vsock_sock *s, bool readable, bool writable)
{
    assert(s->used);
    s->want_read = readable;
    s->want_write = writable;
}

static void host_close(struct vsock_sock *s)
{
    assert(s->used);
    s->used = false;
}

static void event(void *ctx, uint8_t arg, uint32_t value)
{
    struct hub *h = ctx;
    struct vsock_sock *s = &h->sock[value % SOCKS];
    uint32_t port;

    if (arg % 8 == 0) {
        s = fresh(h);
        if (s && h->guest.connect(h->guest.dev, value, s, &s->conn, &port) < 0)
            s->used = false;
        return;
    }
    if (!s->used)
        return;
    s->to_read += value >> 12;
    s->takes += value >> 16;
    s->end |= arg % 8 == 1;
    s->dead |= arg % 8 == 2;
    h->guest.ready(s->conn, s->want_read, s->want_write, s->dead || (s->end && arg & 0x80));
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    struct hub h = {0};
    struct vsock_host host = {.ctx = &h,
                              .attach = attach,
                              .open = host_open,
                              .accepted = accepted,
                              .read = host_read,
                              .write = host_write,
                              .shutdown = host_shutdown,
                              .watch = watch,
                              .close = host_close};

    fz_run(&vsock_ops, vsock_new(3, &host, NULL), p, n, event, &h);
    for (unsigned i = 0; i < SOCKS; i++)
        assert(!h.sock[i].used); /* each pair was taken apart */
    return 0;
}
