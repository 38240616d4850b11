/* The block device against a guest made by the fuzzer; its disk answers late and in any order. */
#include <assert.h>
#include <errno.h>

#include "dev/virtio/blk.h"
#include "fuzz/virtio.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

enum { DISK = 64 * 1024 };

struct disk {
    struct block b;
    struct block_req *wait[BLK_INFLIGHT_MAX];
    unsigned n;
};

static uint8_t bytes[DISK];

static void submit(struct block *b, struct block_req *r)
{
    struct disk *d = (struct disk *)b;
    uint64_t sum = 0;

    assert(d->n < BLK_INFLIGHT_MAX);
    assert(r->op == BLOCK_FLUSH || (r->len > 0 && r->len <= DISK && r->offset <= DISK - r->len));
    assert(!b->info.read_only || r->op == BLOCK_READ);
    if (r->op == BLOCK_READ || r->op == BLOCK_WRITE) {
        for (unsigned i = 0; i < r->n_iov; i++)
            sum += r->iov[i].iov_len;
        assert(sum == r->len && r->n_iov <= BLOCK_IOV_MAX);
    }
    d->wait[d->n++] = r;
}

static void answer(struct disk *d, unsigned i, int result)
{
    struct block_req *r = d->wait[i];
    uint8_t *at = bytes + r->offset;

    d->wait[i] = d->wait[--d->n];
    for (unsigned k = 0; k < r->n_iov && r->op <= BLOCK_WRITE; k++) {
        if (r->op == BLOCK_READ)
            memcpy(r->iov[k].iov_base, at, r->iov[k].iov_len);
        else
            memcpy(at, r->iov[k].iov_base, r->iov[k].iov_len);
        at += r->iov[k].iov_len;
    }
    r->done(r, result);
}

static void drain(struct block *b)
{
    struct disk *d = (struct disk *)b;

    while (d->n > 0)
        answer(d, 0, 0);
}

static void disk_close(struct block *b)
{
    assert(((struct disk *)b)->n == 0);
}

static void event(void *ctx, uint8_t arg, uint32_t value)
{
    static const int results[] = {0, 0, 0, -EIO, -EOPNOTSUPP};
    struct disk *d = ctx;

    if (d->n > 0)
        answer(d, value % d->n, results[arg % 5]);
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    static const struct block_ops ops = {.submit = submit, .drain = drain, .close = disk_close};
    bool read_only = n > 1 && p[n - 1] == 0x52;
    struct disk d = {.b = {.ops = &ops,
                           .info = {.size = DISK,
                                    .read_only = read_only,
                                    .can_discard = true,
                                    .can_write_zeroes = true,
                                    .block_size = 4096}}};

    fz_run(&blk_ops, blk_new(&d.b, "fuzz", NULL), p, n, event, &d);
    return 0;
}
