/* RAM over files, shared RAM, and which of its pages hold something. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "mem/mem.h"

/* /proc/PID/pagemap, one u64 a page (Linux Documentation/admin-guide/mm/pagemap.rst). */
#define PM_PRESENT (1ull << 63)
#define PM_SWAPPED (1ull << 62)
#define PM_FILE (1ull << 61) /* of a file, or shared: not written by us */

enum { PM_BATCH = 4096 }; /* entries a read */

int mem_map_file(struct mem *m, int fd, uint64_t off, uint64_t len, struct err *e)
{
    int flags = MAP_PRIVATE | MAP_FIXED | MAP_NORESERVE | (fd < 0 ? MAP_ANONYMOUS : 0);

    if (off % MEM_PAGE != 0 || len % MEM_PAGE != 0 || len == 0 || off > m->size ||
        len > m->size - off || m->fd >= 0)
        return err_set(e, -EINVAL, "a piece of a memory file lies outside of RAM");
    void *p = mmap(m->hva + off, len, PROT_READ | PROT_WRITE, flags, fd, fd < 0 ? 0 : (off_t)off);
    return p == MAP_FAILED ? err_errno(e, -errno, "map guest RAM") : 0;
}

void mem_filed(struct mem *m, uint64_t off, uint64_t len, bool yes)
{
    uint64_t end = (off + len) >> MEM_PAGE_SHIFT;

    for (uint64_t p = off >> MEM_PAGE_SHIFT; p < end; p++) {
        uint64_t bit = 1ull << (p % 64);

        if (p % 64 == 0 && end - p >= 64) {
            m->filed[p / 64] = yes ? ~0ull : 0;
            p += 63;
        } else if (yes) {
            m->filed[p / 64] |= bit;
        } else {
            m->filed[p / 64] &= ~bit;
        }
    }
}

static int open_pagemap(void)
{
    return open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
}

void mem_keep_pagemap(struct mem *m)
{
    if (m->pagemap == -1)
        m->pagemap = open_pagemap();
}

/* Set the bits of pages this process holds a copy of its own of, or with `any`, has mapped. */
static int scan(const struct mem *m, uint64_t *bitmap, bool any, struct err *e)
{
    CLEANUP(fd) int own = m->pagemap == -1 ? open_pagemap() : -1;
    int fd = m->pagemap == -1 ? own : m->pagemap;
    uint64_t base = (uint64_t)(uintptr_t)m->hva >> MEM_PAGE_SHIFT;
    uint64_t entry[PM_BATCH];

    if (fd < 0)
        return err_errno(e, fd == MEM_NO_PAGEMAP ? -EACCES : -errno, "/proc/self/pagemap");
    for (uint64_t p = 0; p < mem_pages(m);) {
        uint64_t n = mem_pages(m) - p < PM_BATCH ? mem_pages(m) - p : PM_BATCH;
        ssize_t r = pread(fd, entry, n * sizeof(*entry), (off_t)((base + p) * sizeof(*entry)));

        if (r < (ssize_t)sizeof(*entry))
            return err_errno(e, r < 0 ? -errno : -EIO, "/proc/self/pagemap");
        n = (uint64_t)r / sizeof(*entry);
        for (uint64_t i = 0; i < n; i++) {
            if ((entry[i] & (PM_PRESENT | PM_SWAPPED)) && (any || !(entry[i] & PM_FILE)))
                bitmap[(p + i) / 64] |= 1ull << ((p + i) % 64);
        }
        p += n;
    }
    return 0;
}

/* Pages the memfd has: whoever wrote them. */
static int scan_shared(const struct mem *m, uint64_t *bitmap, struct err *e)
{
    for (off_t at = 0; at < (off_t)m->size;) {
        off_t data = lseek(m->fd, at, SEEK_DATA);
        off_t hole = data < 0 ? data : lseek(m->fd, data, SEEK_HOLE);

        if (hole < 0 && errno == ENXIO)
            return 0;
        if (hole < 0)
            return err_errno(e, -errno, "seek in guest RAM");
        for (uint64_t p = (uint64_t)data >> MEM_PAGE_SHIFT; p < (uint64_t)hole >> MEM_PAGE_SHIFT;
             p++)
            bitmap[p / 64] |= 1ull << (p % 64);
        at = hole;
    }
    return 0;
}

int mem_written(const struct mem *m, uint64_t *bitmap, struct err *e)
{
    if (m->fd >= 0)
        return err_set(e, -ENOTSUP, "which pages of shared memory were written is not known");
    return scan(m, bitmap, false, e);
}

int mem_touched(const struct mem *m, uint64_t *bitmap, struct err *e)
{
    int r = scan(m, bitmap, true, e);

    for (uint64_t i = 0; i < (mem_pages(m) + 63) / 64; i++)
        bitmap[i] &= m->filed[i];
    return r;
}

int mem_used(const struct mem *m, uint64_t *bitmap, struct err *e)
{
    for (uint64_t i = 0; i < (mem_pages(m) + 63) / 64; i++)
        bitmap[i] |= m->filed[i];
    if (m->pagemap == MEM_NO_PAGEMAP && m->fd < 0) {
        memset(bitmap, 0xff, mem_pages(m) / 64 * sizeof(*bitmap));
        for (uint64_t p = mem_pages(m) / 64 * 64; p < mem_pages(m); p++)
            bitmap[p / 64] |= 1ull << (p % 64);
        return 0;
    }
    return m->fd >= 0 ? scan_shared(m, bitmap, e) : scan(m, bitmap, false, e);
}

static void copy_pages(uint8_t *to, const struct mem *m, const uint64_t *bitmap)
{
    for (uint64_t p = 0; p < mem_pages(m); p++) {
        if (!bitmap[p / 64])
            p |= 63;
        else if (bitmap[p / 64] & 1ull << (p % 64))
            memcpy(to + (p << MEM_PAGE_SHIFT), mem_page_at(m, p), MEM_PAGE);
    }
}

static int shared_file(uint64_t size, struct err *e)
{
    CLEANUP(fd) int fd = memfd_create("kiln-ram", MFD_CLOEXEC | MFD_ALLOW_SEALING);

    if (fd < 0 || ftruncate(fd, (off_t)size) < 0 ||
        fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0)
        return err_errno(e, -errno, "make shared guest RAM");
    return take_fd(&fd);
}

int mem_share(struct mem *m, struct err *e)
{
    if (m->fd >= 0)
        return 0;
    CLEANUP(mem) uint64_t *used = calloc((mem_pages(m) + 63) / 64, sizeof(*used));
    CLEANUP(fd) int fd = shared_file(m->size, e);
    if (fd < 0)
        return fd;
    if (!used)
        return err_set(e, -ENOMEM, "out of memory");
    int r = mem_used(m, used, e);
    if (r < 0)
        return r;
    void *p = mmap(NULL, m->size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd, 0);
    if (p == MAP_FAILED)
        return err_errno(e, -errno, "map guest RAM of %llu MiB",
                         (unsigned long long)(m->size >> 20));
    copy_pages(p, m, used);
    (void)munmap(m->hva, m->size);
    mem_filed(m, 0, m->size, false);
    m->hva = p;
    m->fd = take_fd(&fd);
    return 0;
}

int mem_forget(struct mem *m, struct err *e)
{
    size_t bytes = mem_pages(m) * sizeof(*m->code);

    mem_dirty_stop(m);
    if (m->pagemap >= 0) { /* the parent's, and what keeps one opens no other */
        (void)close(m->pagemap);
        m->pagemap = MEM_NO_PAGEMAP;
    }
    m->code_written = NULL;
    m->code_ctx = NULL;
    if (mmap((void *)m->code, bytes, PROT_READ | PROT_WRITE,
             MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0) == MAP_FAILED)
        return err_errno(e, -errno, "map the code map of guest RAM");
    return 0;
}
