#include "vm/snapmem.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zstd.h>

#include "base/cleanup.h"
#include "base/crc32c.h"

enum {
    MAP_PAGES_MIN = 16, /* a shorter run is read: as cheap as mapping it, and no mapping is kept */
    MAPS_MAX = 1024,    /* of one snapshot; the kernel has 65530 for a process */
    EXTENT_BYTES_MAX = SNAPFILE_EXTENT_PAGES * MEM_PAGE,
    ZSTD_LEVEL = 1,
    WRITEBACK_BYTES = 8 << 20,
};

static bool is_zero(const uint8_t *p, size_t len)
{
    uint64_t first;

    memcpy(&first, p, sizeof(first));
    return first == 0 && memcmp(p, p + sizeof(first), len - sizeof(first)) == 0;
}

static int write_at(int fd, const uint8_t *p, size_t len, uint64_t at, struct err *e)
{
    while (len > 0) {
        ssize_t n = pwrite(fd, p, len, (off_t)at);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return err_errno(e, n < 0 ? -errno : -EIO, "write the memory file");
        p += n;
        len -= (size_t)n;
        at += (uint64_t)n;
    }
    return 0;
}

static int read_at(int fd, uint8_t *p, size_t len, uint64_t at, struct err *e)
{
    while (len > 0) {
        ssize_t n = pread(fd, p, len, (off_t)at);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return err_errno(e, -errno, "read the memory file");
        if (n == 0)
            return err_set(e, -EBADMSG, "the memory file is truncated");
        p += n;
        len -= (size_t)n;
        at += (uint64_t)n;
    }
    return 0;
}

/* --- which pages go where --------------------------------------------------- */

struct plan {
    struct snapfile *f;
    size_t extents_cap, zeroes_cap;
    uint64_t gap; /* pages not wanted that may lie inside an extent: fewer, larger extents */
    bool diff;
};

static bool grow(void **list, size_t n, size_t *cap, size_t item)
{
    if (n < *cap)
        return true;
    size_t more = *cap ? 2 * *cap : 256;
    void *p = realloc(*list, more * item);
    if (!p)
        return false;
    *list = p;
    *cap = more;
    return true;
}

static int plan_page(struct plan *p, uint64_t page)
{
    struct snapfile *f = p->f;
    struct snap_extent *last = f->n_extents ? &f->extent[f->n_extents - 1] : NULL;

    if (last && page - last->first < SNAPFILE_EXTENT_PAGES &&
        page - last->first - last->pages <= p->gap) {
        last->pages = (uint32_t)(page - last->first + 1);
        return 0;
    }
    if (f->n_extents == SNAPFILE_EXTENTS_MAX)
        return -EFBIG;
    if (!grow((void **)&f->extent, f->n_extents, &p->extents_cap, sizeof(*f->extent)))
        return -ENOMEM;
    f->extent[f->n_extents++] = (struct snap_extent){.first = (uint32_t)page, .pages = 1};
    return 0;
}

static int plan_zero(struct plan *p, uint64_t page)
{
    struct snapfile *f = p->f;
    struct snap_zero *last = f->n_zeroes ? &f->zero[f->n_zeroes - 1] : NULL;

    if (!p->diff)
        return 0;
    if (last && last->first + last->pages == page) {
        last->pages++;
        return 0;
    }
    if (f->n_zeroes == SNAPFILE_EXTENTS_MAX)
        return -EFBIG;
    if (!grow((void **)&f->zero, f->n_zeroes, &p->zeroes_cap, sizeof(*f->zero)))
        return -ENOMEM;
    f->zero[f->n_zeroes++] = (struct snap_zero){(uint32_t)page, 1};
    return 0;
}

static int plan_all(struct plan *p, const struct mem *m, const uint64_t *candidates)
{
    uint64_t words = (mem_pages(m) + 63) / 64;
    int r = 0;

    for (uint64_t w = 0; r == 0 && w < words; w++) {
        for (uint64_t bits = candidates[w]; r == 0 && bits; bits &= bits - 1) {
            uint64_t page = w * 64 + (uint64_t)__builtin_ctzll(bits);
            bool zero = is_zero(mem_page_at(m, page), MEM_PAGE);

            r = zero ? plan_zero(p, page) : plan_page(p, page);
        }
    }
    return r;
}

/* As many extents as there are runs of pages, or fewer with some other pages in them: those have
 * the content they have now, which is never wrong. */
static int make_plan(const struct mem *m, const uint64_t *candidates, bool diff, struct snapfile *f,
                     struct err *e)
{
    struct plan p = {.f = f, .diff = diff};
    int r;

    do {
        f->n_extents = f->n_zeroes = 0;
        r = plan_all(&p, m, candidates);
        p.gap = 2 * p.gap + 1;
    } while (r == -EFBIG && p.gap < SNAPFILE_EXTENT_PAGES);
    return r < 0 ? err_errno(e, r, "list the pages of the memory") : 0;
}

/* --- writing ------------------------------------------------------------------ */

static int write_packed(const struct mem *m, int fd, struct snapfile *f, struct err *e)
{
    size_t cap = ZSTD_compressBound(EXTENT_BYTES_MAX);
    CLEANUP(mem) uint8_t *out = malloc(cap);
    ZSTD_CCtx *z = ZSTD_createCCtx();
    uint64_t at = 0;
    int r = out && z ? 0 : err_set(e, -ENOMEM, "out of memory");

    for (size_t i = 0; r == 0 && i < f->n_extents; i++) {
        struct snap_extent *x = &f->extent[i];
        size_t len = (size_t)x->pages * MEM_PAGE;
        size_t n = ZSTD_compressCCtx(z, out, cap, mem_page_at(m, x->first), len, ZSTD_LEVEL);

        if (ZSTD_isError(n)) {
            r = err_set(e, -EIO, "compress the memory: %s", ZSTD_getErrorName(n));
            break;
        }
        x->packed = (uint32_t)n;
        x->at = at;
        r = write_at(fd, out, n, at, e);
        at += n;
    }
    ZSTD_freeCCtx(z);
    return r;
}

int snapmem_write(const struct mem *m, const uint64_t *candidates, bool diff, int fd,
                  struct snapfile *f, struct err *e)
{
    int r = make_plan(m, candidates, diff, f, e);
    uint64_t begun = 0, since = 0;

    for (size_t i = 0; r == 0 && i < f->n_extents; i++) {
        struct snap_extent *x = &f->extent[i];
        size_t len = (size_t)x->pages * MEM_PAGE;
        uint64_t at = (uint64_t)x->first * MEM_PAGE;
        const uint8_t *p = mem_page_at(m, x->first);

        x->crc = crc32c(0, p, len);
        if (f->compressed)
            continue;
        r = write_at(fd, p, len, at, e);
        since += len;
        if (since >= WRITEBACK_BYTES) { /* the disk works while we do: less is left for fsync(2) */
            (void)sync_file_range(fd, (off_t)begun, (off_t)(at + len - begun),
                                  SYNC_FILE_RANGE_WRITE);
            begun = at + len;
            since = 0;
        }
    }
    if (r == 0 && f->compressed)
        return write_packed(m, fd, f, e);
    if (r == 0 && ftruncate(fd, (off_t)mem_size(m)) < 0)
        return err_errno(e, -errno, "write the memory file");
    return r;
}

/* --- reading -------------------------------------------------------------------- */

struct snapmem_reader {
    const struct snapfile *f;
    int fd;
    uint8_t *in; /* owned: packed bytes; NULL where there are none */
    ZSTD_DCtx *z;
};

static int reader_init(struct snapmem_reader *r, const struct snapfile *f, int fd, struct err *e)
{
    struct stat st;

    *r = (struct snapmem_reader){.f = f, .fd = fd};
    if (fstat(fd, &st) < 0)
        return err_errno(e, -errno, "the memory file");
    if (!S_ISREG(st.st_mode) || (!f->compressed && (uint64_t)st.st_size != f->shape.ram_bytes))
        return err_set(e, -EBADMSG, "the memory file has %llu bytes, not %llu",
                       (unsigned long long)st.st_size, (unsigned long long)f->shape.ram_bytes);
    if (!f->compressed)
        return 0;
    r->in = malloc(2 * EXTENT_BYTES_MAX); /* what snapfile_parse() lets `packed` be */
    r->z = ZSTD_createDCtx();
    return r->in && r->z ? 0 : err_set(e, -ENOMEM, "out of memory");
}

static void reader_done(struct snapmem_reader *r)
{
    free(r->in);
    ZSTD_freeDCtx(r->z);
}

int snapmem_reader_new(const struct snapfile *f, int fd, struct snapmem_reader **ret, struct err *e)
{
    struct snapmem_reader *r = malloc(sizeof(*r));
    int rc = r ? reader_init(r, f, fd, e) : err_set(e, -ENOMEM, "out of memory");

    if (rc < 0)
        snapmem_reader_free(r);
    else
        *ret = r;
    return rc;
}

void snapmem_reader_free(struct snapmem_reader *r)
{
    if (r)
        reader_done(r);
    free(r);
}

int snapmem_read(struct snapmem_reader *r, const struct snap_extent *x, uint8_t *to, struct err *e)
{
    size_t len = (size_t)x->pages * MEM_PAGE;
    int rc;

    if (x->packed) {
        rc = read_at(r->fd, r->in, x->packed, x->at, e);
        if (rc == 0 && ZSTD_decompressDCtx(r->z, to, len, r->in, x->packed) != len)
            rc = err_set(e, -EBADMSG, "the memory file is damaged at byte %llu",
                         (unsigned long long)x->at);
    } else {
        rc = read_at(r->fd, to, len, (uint64_t)x->first * MEM_PAGE, e);
    }
    if (rc == 0 && crc32c(0, to, len) != x->crc)
        rc = err_set(e, -EBADMSG, "the memory file is damaged in pages %u to %u", x->first,
                     x->first + x->pages - 1);
    return rc;
}

/* Pages from extent `i` on that lie together; *next: the first extent behind them. */
static uint64_t run_of(const struct snapfile *f, size_t i, size_t *next)
{
    uint64_t end = f->extent[i].first;

    for (*next = i; *next < f->n_extents && f->extent[*next].first == end; (*next)++)
        end += f->extent[*next].pages;
    return end - f->extent[i].first;
}

static int load_diff(struct mem *m, struct snapmem_reader *r, struct err *e)
{
    const struct snapfile *f = r->f;
    unsigned maps = 0;
    int rc = 0;

    for (size_t i = 0, next; rc == 0 && i < f->n_extents; i = next) {
        uint64_t pages = run_of(f, i, &next);
        uint64_t off = (uint64_t)f->extent[i].first * MEM_PAGE;

        mem_filed(m, off, pages * MEM_PAGE, true);
        if (!f->compressed && pages >= MAP_PAGES_MIN && maps++ < MAPS_MAX) {
            rc = mem_map_file(m, r->fd, off, pages * MEM_PAGE, e);
            continue;
        }
        for (; rc == 0 && i < next; i++)
            rc = snapmem_read(r, &f->extent[i], mem_page_at(m, f->extent[i].first), e);
    }
    for (size_t i = 0; rc == 0 && i < f->n_zeroes; i++) {
        uint64_t off = (uint64_t)f->zero[i].first * MEM_PAGE;
        uint64_t len = (uint64_t)f->zero[i].pages * MEM_PAGE;

        mem_filed(m, off, len, false);
        if (f->zero[i].pages >= MAP_PAGES_MIN && maps++ < MAPS_MAX)
            rc = mem_map_file(m, -1, off, len, e);
        else
            memset(mem_page_at(m, f->zero[i].first), 0, len);
    }
    return rc;
}

int snapmem_load(struct mem *m, const struct snapfile *f, int fd, struct err *e)
{
    struct snapmem_reader r;
    int rc = reader_init(&r, f, fd, e);

    if (rc == 0 && (f->parent_id[0] || f->compressed)) {
        rc = load_diff(m, &r, e);
    } else if (rc == 0) {
        rc = mem_map_file(m, fd, 0, mem_size(m), e);
        for (size_t i = 0; i < f->n_extents; i++)
            mem_filed(m, (uint64_t)f->extent[i].first * MEM_PAGE,
                      (uint64_t)f->extent[i].pages * MEM_PAGE, true);
    }
    reader_done(&r);
    return rc;
}

/* --- verifying -------------------------------------------------------------------- */

/* Between the extents of a plain file nothing may lie. */
static int verify_gap(int fd, uint64_t from, uint64_t to, uint8_t *buf, struct err *e)
{
    while (from < to) {
        off_t data = lseek(fd, (off_t)from, SEEK_DATA);

        if (data < 0 && errno == ENXIO)
            return 0;
        if (data > (off_t)from)
            from = (uint64_t)data;
        if (from >= to)
            return 0;
        size_t len = to - from < EXTENT_BYTES_MAX ? (size_t)(to - from) : EXTENT_BYTES_MAX;
        int r = read_at(fd, buf, len, from, e);
        if (r < 0)
            return r;
        if (!is_zero(buf, len))
            return err_set(e, -EBADMSG, "the memory file holds pages that do not belong to it");
        from += len;
    }
    return 0;
}

/* Nor behind the last packed extent. */
static int verify_end(const struct snapfile *f, int fd, uint64_t end, uint8_t *buf, struct err *e)
{
    struct stat st;

    if (!f->compressed)
        return verify_gap(fd, end, f->shape.ram_bytes, buf, e);
    if (fstat(fd, &st) < 0)
        return err_errno(e, -errno, "the memory file");
    return (uint64_t)st.st_size == end
               ? 0
               : err_set(e, -EBADMSG, "the memory file has %llu bytes, not %llu",
                         (unsigned long long)st.st_size, (unsigned long long)end);
}

int snapmem_verify(const struct snapfile *f, int fd, struct err *e)
{
    CLEANUP(mem) uint8_t *buf = malloc(EXTENT_BYTES_MAX);
    struct snapmem_reader r;
    uint64_t end = 0;
    int rc = buf ? reader_init(&r, f, fd, e) : err_set(e, -ENOMEM, "out of memory");

    if (!buf)
        return rc;
    for (size_t i = 0; rc == 0 && i < f->n_extents; i++) {
        const struct snap_extent *x = &f->extent[i];
        uint64_t at = x->packed ? x->at : (uint64_t)x->first * MEM_PAGE;

        if (x->packed && at != end)
            rc = err_set(e, -EBADMSG, "extent %zu of the memory file is not behind the last", i);
        else if (!x->packed)
            rc = verify_gap(fd, end, at, buf, e);
        if (rc == 0)
            rc = snapmem_read(&r, x, buf, e);
        end = at + (x->packed ? x->packed : (uint64_t)x->pages * MEM_PAGE);
    }
    if (rc == 0)
        rc = verify_end(f, fd, end, buf, e);
    reader_done(&r);
    return rc;
}
