#include "cpu/bt/btkeep.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/crc32c.h"
#include "mem/mem.h"

/* A block, a link and a place in the code are numbers, so what is stored are the structures
 * themselves. Each section begins at a page, so that it can be mapped. */
enum section { BLOCKS, HASH, PAGES, CODE, SECTIONS };

struct keep_head { /* alone in the first page */
    char magic[8];
    uint32_t crc;         /* of all that follows this field */
    uint32_t stubs, code; /* bytes of the area; those of the stubs are not stored */
    uint32_t blocks, pages;
    uint32_t block_bytes; /* sizeof(struct block) */
    uint32_t count;       /* bt_vm.count */
    uint32_t modes, mode[MODES_MAX];
    uint64_t ram;
    uint64_t at[SECTIONS]; /* in the file */
};
enum {
    CRC_FROM = offsetof(struct keep_head, stubs),
    HASH_BYTES = sizeof(block_ref) << BLOCK_HASH_BITS,
};

struct keep_page { /* one that code was made from */
    uint32_t page;
    block_ref first; /* of bt_vm.by_page */
    uint64_t chunks; /* of all its blocks */
};

static const char magic[8] = "KILNCOD2";

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

static int write_all(int fd, const void *p, size_t len, uint64_t at, struct err *e)
{
    const uint8_t *from = p;

    while (len > 0) {
        ssize_t n = pwrite(fd, from, len, (off_t)at);

        if (n < 0 && errno != EINTR)
            return err_errno(e, -errno, "keep translated code");
        n = n > 0 ? n : 0;
        from += n;
        at += (uint64_t)n;
        len -= (size_t)n;
    }
    return 0;
}

static struct keep_page *list_pages(const struct bt_vm *b, uint32_t *n)
{
    size_t pages = (size_t)(mem_size(b->vm->c.mem) / MEM_PAGE), cap = 0;
    struct keep_page *list = NULL;

    *n = 0;
    for (size_t i = 0; i < pages; i++) {
        if (!b->by_page[i])
            continue;
        if (*n == cap) {
            cap = cap ? 2 * cap : 1024;
            struct keep_page *more = reallocarray(list, cap, sizeof(*list));
            if (!more) {
                free(list);
                return NULL;
            }
            list = more;
        }
        struct keep_page *p = &list[(*n)++];
        *p = (struct keep_page){.page = (uint32_t)i, .first = b->by_page[i]};
        for (block_ref r = p->first; r; r = b->blocks[r - 1].page_next)
            p->chunks |= b->blocks[r - 1].chunks;
    }
    return list ? list : calloc(1, sizeof(*list));
}

static uint64_t page_up(uint64_t n)
{
    return (n + AREA_PAGE - 1) & ~(uint64_t)(AREA_PAGE - 1);
}

static const struct keep_head *fill_head(const struct bt_vm *b, uint32_t pages, struct keep_head *h)
{
    *h = (struct keep_head){.stubs = stub_bytes(b),
                            .code = (uint32_t)(b->code.e.p - b->code.rw),
                            .blocks = b->n_blocks,
                            .pages = pages,
                            .block_bytes = sizeof(struct block),
                            .count = b->count,
                            .modes = b->n_modes,
                            .ram = mem_size(b->vm->c.mem)};
    memcpy(h->magic, magic, sizeof(magic));
    memcpy(h->mode, b->modes, sizeof(h->mode));
    h->at[BLOCKS] = AREA_PAGE;
    h->at[HASH] = page_up(h->at[BLOCKS] + (uint64_t)h->blocks * sizeof(struct block));
    h->at[PAGES] = h->at[HASH] + HASH_BYTES;
    h->at[CODE] = page_up(h->at[PAGES] + (uint64_t)pages * sizeof(struct keep_page));
    h->crc = crc32c(0, (uint8_t *)h + CRC_FROM, sizeof(*h) - CRC_FROM);
    return h;
}

static int write_sections(const struct bt_vm *b, const struct keep_head *h,
                          const struct keep_page *pages, const uint8_t *code, int fd, struct err *e)
{
    int r = write_all(fd, b->blocks, h->blocks * sizeof(struct block), h->at[BLOCKS], e);

    if (r == 0)
        r = write_all(fd, b->hash, HASH_BYTES, h->at[HASH], e);
    if (r == 0)
        r = write_all(fd, pages, h->pages * sizeof(*pages), h->at[PAGES], e);
    if (r == 0)
        r = write_all(fd, code, h->code - h->stubs, h->at[CODE], e);
    if (r == 0 && ftruncate(fd, (off_t)(h->at[CODE] + page_up(h->code - h->stubs))) < 0)
        r = err_errno(e, -errno, "keep translated code");
    return r == 0 ? write_all(fd, h, sizeof(*h), 0, e) : r;
}

int btkeep_save(struct bt_vm *b, const uint64_t *written, int fd, struct err *e)
{
    const uint8_t *code = b->code.rx + stub_bytes(b);
    CLEANUP(mem) uint8_t *copy = NULL;
    struct keep_head h;
    uint32_t n;

    if (b->apart)
        return err_set(e, -ENOTSUP, "code for comparisons is not kept");
    if (written) {
        size_t bytes = (size_t)(b->code.e.p - b->after_stubs);

        copy = malloc(bytes + 1);
        if (!copy)
            return err_set(e, -ENOMEM, "out of memory");
        drop_others(b, written);
        memcpy(copy, code, bytes);
        blank_others(b, copy, (uint32_t)(b->code.e.p - b->code.rw));
        code = copy;
    }
    CLEANUP(mem) struct keep_page *pages = list_pages(b, &n);
    if (!pages)
        return err_set(e, -ENOMEM, "out of memory");
    return write_sections(b, fill_head(b, n, &h), pages, code, fd, e);
}

/* ---- loading ---------------------------------------------------------------- */

static int check(const struct bt_vm *b, const struct keep_head *h, uint64_t len, struct err *e)
{
    struct keep_head want;

    if (memcmp(h->magic, magic, sizeof(magic)) != 0 ||
        h->crc != crc32c(0, (const uint8_t *)h + CRC_FROM, sizeof(*h) - CRC_FROM) ||
        h->stubs > h->code || h->modes > MODES_MAX ||
        len != h->at[CODE] + page_up(h->code - h->stubs))
        return err_set(e, -EBADMSG, "kept code: not a file of it");
    fill_head(b, h->pages, &want);
    if (h->stubs != want.stubs || h->block_bytes != want.block_bytes || h->count != want.count ||
        h->code > b->code.size - BLOCK_BYTES_MAX || (uint64_t)h->blocks + 2 > b->max_blocks ||
        h->ram != want.ram || b->n_blocks > 0 || b->apart || b->perf_fd >= 0)
        return err_set(e, -ESTALE, "kept code: made for another machine");
    return 0;
}

/* What is written from now on must be heard of: no vCPU has a right to write yet. */
static void watch(struct bt_vm *b, const struct keep_page *p)
{
    b->by_page[p->page] = p->first;
    atomic_fetch_or_explicit(&b->vm->c.mem->code[p->page], p->chunks, memory_order_relaxed);
}

/* Over memory of our own, zeroed: what is changed is this machine's alone. */
static bool map_private(void *to, size_t bytes, int fd, uint64_t from)
{
    return bytes == 0 || mmap(to, page_up(bytes), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED,
                              fd, (off_t)from) != MAP_FAILED;
}

/* Executed where it lies, else copied. */
static int take_code(struct bt_vm *b, const struct keep_head *h, int fd, struct err *e)
{
    size_t bytes = h->code - h->stubs;

    if (bytes > 0 && btarea_share(&b->code, h->stubs, page_up(bytes), fd, h->at[CODE]) < 0 &&
        pread(fd, b->after_stubs, bytes, (off_t)h->at[CODE]) != (ssize_t)bytes)
        return err_set(e, -EBADMSG, "kept code: cannot be read");
    btarea_own(&b->code, h->code); /* where the next block will be */
    b->code.e.p = b->code.rw + h->code;
    return 0;
}

/* The list of pages, so much smaller than the blocks that all of it is read. */
static int take_pages(struct bt_vm *b, const struct keep_head *h, int fd, struct err *e)
{
    size_t bytes = h->pages * sizeof(struct keep_page);
    CLEANUP(mem) struct keep_page *list = malloc(bytes + 1);

    if (!list)
        return err_set(e, -ENOMEM, "out of memory");
    if (pread(fd, list, bytes, (off_t)h->at[PAGES]) != (ssize_t)bytes)
        return err_set(e, -EBADMSG, "kept code: cannot be read");
    for (uint32_t i = 0; i < h->pages; i++)
        if (list[i].page >= h->ram / MEM_PAGE || list[i].first > h->blocks)
            return err_set(e, -EBADMSG, "kept code: damaged");
    for (uint32_t i = 0; i < h->pages; i++)
        watch(b, &list[i]);
    return 0;
}

int btkeep_load(struct bt_vm *b, int fd, struct err *e)
{
    struct keep_head h;
    struct stat st;

    if (fstat(fd, &st) < 0 || pread(fd, &h, sizeof(h), 0) != sizeof(h))
        return err_set(e, -EBADMSG, "kept code: not a file of it");
    int r = check(b, &h, (uint64_t)st.st_size, e);
    if (r < 0)
        return r;
    if (!map_private(b->blocks, h.blocks * sizeof(struct block), fd, h.at[BLOCKS]) ||
        !map_private(b->hash, HASH_BYTES, fd, h.at[HASH]))
        r = err_errno(e, -errno, "kept code: map");
    if (r == 0)
        r = take_code(b, &h, fd, e);
    if (r == 0)
        r = take_pages(b, &h, fd, e);
    if (r < 0) {
        btcache_flush(b);
        return r;
    }
    memcpy(b->modes, h.mode, sizeof(b->modes));
    b->n_modes = h.modes;
    b->n_blocks = h.blocks;
    return 0;
}
