#include "cpu/bt/btkeep.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/crc32c.h"
#include "mem/mem.h"

/* A block, a link and a place in the code are numbers, so what is stored are the structures
 * themselves. */
struct keep_head {
    char magic[8];
    uint32_t crc;         /* of all that follows this field */
    uint32_t stubs, code; /* bytes of the area; those of the stubs are not stored */
    uint32_t blocks;      /* stored behind this head, the code behind them */
    uint32_t block_bytes; /* sizeof(struct block) */
    uint32_t count;       /* bt_vm.count */
    uint32_t modes, mode[MODES_MAX];
    uint64_t ram;
};
enum { CRC_FROM = offsetof(struct keep_head, stubs) };

static const char magic[8] = "KILNCOD1";

static uint32_t stub_bytes(const struct bt_vm *b)
{
    return (uint32_t)(b->after_stubs - b->code.rw);
}

/* ---- saving ---------------------------------------------------------------- */

static bool has(const struct bt_vm *b, const uint64_t *bits, gpa_t gpa)
{
    int64_t page = mem_page(b->vm->c.mem, gpa);

    return page < 0 || (bits[page / 64] >> (page % 64) & 1);
}

static void drop_others(struct bt_vm *b, const uint64_t *written)
{
    for (unsigned i = 0; i < b->n_blocks; i++) {
        struct block *k = &b->blocks[i];

        if (k->second || k->dead)
            continue;
        if (has(b, written, k->gpa) || (k->straddles && has(b, written, k[1].gpa)))
            btcache_kill_one(b, k);
    }
}

static uint32_t begins(const struct block *k)
{
    uint32_t at = k->entry_m < k->entry_f ? k->entry_m : k->entry_f;

    return k->body < at ? k->body : at;
}

/* Code of blocks that are not kept may hold what the guest's programs hold: it is blanked. Blocks
 * lie in the area in their order; `area` begins behind the stubs. */
static void blank_others(const struct bt_vm *b, uint8_t *area, uint32_t end)
{
    uint32_t to = end;

    for (unsigned i = b->n_blocks; i-- > 0;) {
        const struct block *k = &b->blocks[i];

        if (k->second)
            continue; /* has no code */
        if (k->dead)
            memset(area + (begins(k) - stub_bytes(b)), 0, to - begins(k));
        to = begins(k);
    }
}

static int write_all(int fd, const void *p, size_t len, struct err *e)
{
    const uint8_t *at = p;

    while (len > 0) {
        ssize_t n = write(fd, at, len);

        if (n < 0 && errno != EINTR)
            return err_errno(e, -errno, "keep translated code");
        at += n > 0 ? n : 0;
        len -= n > 0 ? (size_t)n : 0;
    }
    return 0;
}

int btkeep_save(struct bt_vm *b, const uint64_t *written, int fd, struct err *e)
{
    struct keep_head h = {.stubs = stub_bytes(b),
                          .code = (uint32_t)(b->code.e.p - b->code.rw),
                          .blocks = b->n_blocks,
                          .block_bytes = sizeof(struct block),
                          .count = b->count,
                          .modes = b->n_modes,
                          .ram = mem_size(b->vm->c.mem)};
    size_t code = h.code - h.stubs, blocks = b->n_blocks * sizeof(struct block);

    if (b->apart)
        return err_set(e, -ENOTSUP, "code for comparisons is not kept");
    CLEANUP(mem) uint8_t *area = malloc(code + 1);
    if (!area)
        return err_set(e, -ENOMEM, "out of memory");
    memcpy(h.magic, magic, sizeof(magic));
    memcpy(h.mode, b->modes, sizeof(h.mode));
    drop_others(b, written);
    memcpy(area, b->after_stubs, code);
    blank_others(b, area, h.code);
    h.crc = crc32c(0, (uint8_t *)&h + CRC_FROM, sizeof(h) - CRC_FROM);
    h.crc = crc32c(h.crc, b->blocks, blocks);
    h.crc = crc32c(h.crc, area, code);
    int r = write_all(fd, &h, sizeof(h), e);
    if (r == 0)
        r = write_all(fd, b->blocks, blocks, e);
    return r == 0 ? write_all(fd, area, code, e) : r;
}

/* ---- loading ---------------------------------------------------------------- */

static size_t bytes_of_code(const struct keep_head *h)
{
    return h->code - h->stubs;
}

static int check(const struct bt_vm *b, const struct keep_head *h, uint64_t len, struct err *e)
{
    if (memcmp(h->magic, magic, sizeof(magic)) != 0 || h->stubs > h->code || h->modes > MODES_MAX ||
        len != sizeof(*h) + (uint64_t)h->blocks * sizeof(struct block) + bytes_of_code(h))
        return err_set(e, -EBADMSG, "kept code: not a file of it");
    if (h->stubs != stub_bytes(b) || h->block_bytes != sizeof(struct block) ||
        h->count != b->count || h->code > b->code.size - BLOCK_BYTES_MAX ||
        (uint64_t)h->blocks + 2 > b->max_blocks || h->ram != mem_size(b->vm->c.mem) ||
        b->n_blocks > 0 || b->apart || b->perf_fd >= 0)
        return err_set(e, -ESTALE, "kept code: made for another machine");
    return 0;
}

/* What is written from now on must be heard of: no vCPU has a right to write yet. */
static void watch(struct bt_vm *b, const struct block *k)
{
    int64_t page = mem_page(b->vm->c.mem, k->gpa);

    atomic_fetch_or_explicit(&b->vm->c.mem->code[page], k->chunks, memory_order_relaxed);
}

static void revive(struct bt_vm *b, const struct keep_head *h)
{
    b->code.e.p = b->code.rw + h->code;
    memcpy(b->modes, h->mode, sizeof(b->modes));
    b->n_modes = h->modes;
    b->n_blocks = h->blocks;
    for (uint32_t i = 0; i < h->blocks; i++) {
        struct block *k = &b->blocks[i];

        if (k->dead || (k->second && k[-1].dead))
            continue;
        if (k->second)
            btcache_to_page(b, k);
        else
            btcache_insert(b, k);
        watch(b, k);
    }
}

static bool read_all(int fd, const struct iovec *v, int n)
{
    size_t want = 0;

    for (int i = 0; i < n; i++)
        want += v[i].iov_len;
    return readv(fd, v, n) == (ssize_t)want;
}

int btkeep_load(struct bt_vm *b, int fd, struct err *e)
{
    struct keep_head h;
    struct stat st;

    if (fstat(fd, &st) < 0 || read(fd, &h, sizeof(h)) != sizeof(h))
        return err_set(e, -EBADMSG, "kept code: not a file of it");
    int r = check(b, &h, (uint64_t)st.st_size, e);
    if (r < 0)
        return r;
    struct iovec v[] = {{b->blocks, h.blocks * sizeof(*b->blocks)},
                        {b->after_stubs, bytes_of_code(&h)}};
    /* One call instead of a fault for each page. */
    (void)madvise(b->code.rw, h.code, MADV_POPULATE_WRITE);
    (void)madvise(b->blocks, v[0].iov_len, MADV_POPULATE_WRITE);
    bool whole = read_all(fd, v, ARRAY_LEN(v));
    uint32_t crc = crc32c(0, (const uint8_t *)&h + CRC_FROM, sizeof(h) - CRC_FROM);
    for (unsigned i = 0; i < ARRAY_LEN(v); i++)
        crc = crc32c(crc, v[i].iov_base, v[i].iov_len);
    if (!whole || crc != h.crc)
        return err_set(e, -EBADMSG, "kept code: damaged");
    revive(b, &h);
    return 0;
}
