#include "mem/mem.h"

#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/cleanup.h"

/* Zeroed memory that costs nothing until touched. NULL on failure. */
static void *lazy_array(size_t bytes)
{
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
                   -1, 0);

    return p == MAP_FAILED ? NULL : p;
}

static void unmap(void *p, size_t bytes)
{
    if (p)
        munmap(p, bytes);
}

static size_t bitmap_bytes(const struct mem *m)
{
    return (mem_pages(m) + 63) / 64 * sizeof(uint64_t);
}

struct mem *mem_new(uint64_t size, struct err *e)
{
    struct mem *m;

    if (size == 0 || size % MEM_PAGE != 0 || size > MEM_SIZE_MAX) {
        err_set(e, -EINVAL, "guest RAM of %llu bytes is not a multiple of 4 KiB up to 1 TiB",
                (unsigned long long)size);
        return NULL;
    }
    m = calloc(1, sizeof(*m));
    if (!m) {
        err_set(e, -ENOMEM, "out of memory");
        return NULL;
    }
    m->fd = -1;
    m->pagemap = -1;
    m->size = size;
    m->low = size < MEM_LOW_MAX ? size : MEM_LOW_MAX;
    m->hva = lazy_array(size);
    if (!m->hva) {
        err_errno(e, -errno, "map guest RAM of %llu MiB", (unsigned long long)(size >> 20));
        mem_free(m);
        return NULL;
    }
    m->code = lazy_array(mem_pages(m) * sizeof(*m->code));
    m->filed = lazy_array(bitmap_bytes(m));
    if (!m->code || !m->filed) {
        err_set(e, -ENOMEM, "map the code map of guest RAM");
        mem_free(m);
        return NULL;
    }
    return m;
}

void mem_free(struct mem *m)
{
    if (!m)
        return;
    mem_dirty_stop(m);
    if (m->pagemap >= 0)
        (void)close(m->pagemap);
    unmap((void *)m->code, mem_pages(m) * sizeof(*m->code));
    unmap(m->filed, bitmap_bytes(m));
    unmap(m->hva, m->size);
    if (m->fd >= 0)
        (void)close(m->fd);
    free(m);
}

uint64_t mem_size(const struct mem *m)
{
    return m->size;
}

unsigned mem_regions(const struct mem *m, struct mem_region out[MEM_REGIONS_MAX])
{
    out[0] = (struct mem_region){.gpa = 0, .size = m->low, .offset = 0, .hva = m->hva};
    if (m->size == m->low)
        return 1;
    out[1] = (struct mem_region){
        .gpa = MEM_HIGH_BASE, .size = m->size - m->low, .offset = m->low, .hva = m->hva + m->low};
    return 2;
}

/* Offset of [gpa, gpa+len) in the mapping, or -1. Subtractions only: nothing a guest sends makes
 * them wrap. */
static int64_t span(const struct mem *m, gpa_t gpa, size_t len)
{
    if (gpa < m->low && len <= m->low - gpa)
        return (int64_t)gpa;
    uint64_t high = m->size - m->low;
    if (gpa >= MEM_HIGH_BASE && gpa - MEM_HIGH_BASE < high && len <= high - (gpa - MEM_HIGH_BASE))
        return (int64_t)(gpa - MEM_HIGH_BASE + m->low);
    return -1;
}

int mem_read(const struct mem *m, gpa_t gpa, void *dst, size_t len)
{
    if (len == 0)
        return 0;
    int64_t off = span(m, gpa, len);
    if (off < 0)
        return -EFAULT;
    memcpy(dst, m->hva + off, len);
    return 0;
}

int mem_write(struct mem *m, gpa_t gpa, const void *src, size_t len)
{
    if (len == 0)
        return 0;
    int64_t off = span(m, gpa, len);
    if (off < 0)
        return -EFAULT;
    memcpy(m->hva + off, src, len);
    mem_wrote(m, gpa, len);
    return 0;
}

int mem_fill(struct mem *m, gpa_t gpa, uint8_t byte, size_t len)
{
    if (len == 0)
        return 0;
    int64_t off = span(m, gpa, len);
    if (off < 0)
        return -EFAULT;
    memset(m->hva + off, byte, len);
    mem_wrote(m, gpa, len);
    return 0;
}

static _Atomic uint16_t *word16(const struct mem *m, gpa_t gpa)
{
    int64_t off = gpa % sizeof(uint16_t) == 0 ? span(m, gpa, sizeof(uint16_t)) : -1;

    return off < 0 ? NULL : (_Atomic uint16_t *)(void *)(m->hva + off);
}

int mem_load16(const struct mem *m, gpa_t gpa, uint16_t *v)
{
    const _Atomic uint16_t *p = word16(m, gpa);

    if (!p)
        return -EFAULT;
    *v = le16toh(atomic_load_explicit(p, memory_order_acquire));
    return 0;
}

int mem_store16(struct mem *m, gpa_t gpa, uint16_t v)
{
    _Atomic uint16_t *p = word16(m, gpa);

    if (!p)
        return -EFAULT;
    atomic_store_explicit(p, htole16(v), memory_order_release);
    mem_wrote(m, gpa, sizeof(v));
    return 0;
}

int mem_iov(const struct mem *m, gpa_t gpa, size_t len, struct iovec *out)
{
    int64_t off = span(m, gpa, len);

    if (off < 0)
        return -EFAULT;
    *out = (struct iovec){.iov_base = m->hva + off, .iov_len = len};
    return 0;
}

/* The order matters against an engine that marks code: it sets the map's bits, then reads the
 * bytes; we wrote the bytes, now look at the bits. */
void mem_wrote(struct mem *m, gpa_t gpa, size_t len)
{
    int64_t off = len ? span(m, gpa, len) : -1;

    if (off < 0)
        return;
    atomic_fetch_add(&m->wrote, 1);
    atomic_thread_fence(memory_order_seq_cst);
    int64_t first = off >> MEM_PAGE_SHIFT;
    int64_t last = (int64_t)((uint64_t)off + len - 1) >> MEM_PAGE_SHIFT;
    bool code = false;
    for (int64_t p = first; p <= last; p++) {
        mem_mark_dirty(m, p);
        code |= atomic_load_explicit(&m->code[p], memory_order_relaxed) != 0;
    }
    if (code && m->code_written)
        m->code_written(m->code_ctx, gpa, len);
}

int mem_dirty_start(struct mem *m, struct err *e)
{
    mem_dirty_stop(m);
    void *p = lazy_array(mem_pages(m));
    if (!p)
        return err_set(e, -ENOMEM, "map the dirty log of guest RAM");
    m->dirty = p;
    return 0;
}

void mem_dirty_stop(struct mem *m)
{
    if (m->dirty)
        munmap((void *)m->dirty, mem_pages(m));
    m->dirty = NULL;
}

uint64_t mem_dirty_fetch(struct mem *m, uint64_t *bitmap)
{
    uint64_t n = 0, eight;

    for (uint64_t p = 0; m->dirty && p < mem_pages(m); p++) {
        /* Eight clean pages at a look: most are. */
        if (p % 8 == 0 && p + 8 <= mem_pages(m)) {
            memcpy(&eight, (const void *)&m->dirty[p], sizeof(eight));
            if (!eight) {
                p += 7;
                continue;
            }
        }
        if (atomic_exchange_explicit(&m->dirty[p], 0, memory_order_acq_rel)) {
            bitmap[p / 64] |= 1ull << (p % 64);
            n++;
        }
    }
    return n;
}
