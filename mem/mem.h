/* mem/mem.h - guest physical memory: one private mapping of this process, or where another process
 * serves a device of the machine, a shared one.
 *
 * Charter: the only door to guest RAM. Outside mem/ and cpu/ nobody keeps a raw
 * pointer into it. Every address and length came from the guest and is hostile
 * until checked here.
 *
 * Layout: RAM fills [0, MEM_LOW_MAX), the rest lies at [4 GiB, ...). Both parts
 * are consecutive in the host mapping and in a memory file (offset of the high
 * part = MEM_LOW_MAX).
 *
 * The mapping is private: fork(2) shares it copy-on-write, and pieces of it may lie
 * over files (mem_map_file) whose pages are read when first touched and never
 * written. Nothing here costs in proportion to the size of RAM. A shared mapping is a memfd: no
 * file lies under it, and a forked process would write to the same RAM.
 *
 * Besides bytes, mem knows per 4 KiB page
 *  - the code map: which 64-byte chunks hold instructions some software engine
 *    has decoded; a write into one must be announced (mem_code_*);
 *  - the dirty log: pages written since the log was last fetched.
 *
 * Threads: read/write/iov may be called from any thread at any time. */
#ifndef MEM_MEM_H
#define MEM_MEM_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "base/err.h"

typedef uint64_t gpa_t; /* guest physical address, bytes */
typedef uint64_t gva_t; /* guest linear or virtual address, bytes */

#define MEM_PAGE 4096u
#define MEM_PAGE_SHIFT 12
#define MEM_CHUNK 64u             /* bytes a bit of the code map stands for */
#define MEM_LOW_MAX 0xc0000000ull /* 3 GiB: MMIO hole from here to 4 GiB */
#define MEM_HIGH_BASE 0x100000000ull
#define MEM_SIZE_MAX (1ull << 40) /* bytes: 1 TiB */

enum { MEM_NO_PAGEMAP = -2 }; /* it cannot be had any more */
struct mem {                  /* fields are private to mem/ and cpu/ */
    uint64_t size;            /* bytes of RAM in all, a multiple of MEM_PAGE */
    uint64_t low;             /* bytes of it below MEM_LOW_MAX */
    int pagemap;     /* owned: /proc/self/pagemap, mem_keep_pagemap(); -1 = not open, or none */
    uint8_t *hva;    /* owned mapping of all RAM */
    int fd;          /* owned: the memfd it is a shared mapping of; -1 = it is private */
    uint64_t *filed; /* [size/4096] bits: the page's first content lies in a file */
    _Atomic uint64_t *code; /* [size/4096] bit i: chunk i (64 bytes) holds code */
    _Atomic uint8_t *dirty; /* [size/4096] 1 = written since last fetch; NULL = log off */
    /* Called after bytes of a page with code bits were changed through
     * mem_write() or mem_wrote(). Set by the software engines' VM. */
    void (*code_written)(void *ctx, gpa_t gpa, size_t len);
    void *code_ctx;
    _Atomic uint64_t wrote; /* times that others than the CPUs wrote */
};

struct mem_region { /* one contiguous piece, for KVM slots, vhost-user, e820 */
    gpa_t gpa;
    uint64_t size;   /* bytes */
    uint64_t offset; /* in the host mapping and in a memory file */
    uint8_t *hva;
};
enum { MEM_REGIONS_MAX = 2 };

/* `size` bytes of zeroed RAM, a multiple of 4 KiB, at most MEM_SIZE_MAX.
 * Errors: NULL with *e: -EINVAL, -ENOMEM. Caller owns: mem_free(). */
struct mem *mem_new(uint64_t size, struct err *e);
void mem_free(struct mem *m); /* m may be NULL */

/* Make RAM a shared mapping of a memfd, sealed against shrinking, with the same content; the cost
 * follows the pages in use. Before anything holds an address in it. Errors: what memfd_create(2)
 * and mmap(2) say; RAM is as before. */
int mem_share(struct mem *m, struct err *e) MUST_CHECK;
/* The memfd, borrowed; offsets in it are those of mem_regions(). -1: RAM is private. */
static inline int mem_fd(const struct mem *m)
{
    return m->fd;
}

uint64_t mem_size(const struct mem *m);
static inline uint64_t mem_pages(const struct mem *m)
{
    return m->size >> MEM_PAGE_SHIFT;
}
/* Fills out[], returns how many (1 or 2). */
unsigned mem_regions(const struct mem *m, struct mem_region out[MEM_REGIONS_MAX]);

/* Copy. All or nothing. Errors: -EFAULT when any byte is not RAM (the sum may
 * not wrap). len == 0 succeeds at any address. mem_write keeps the dirty log
 * and announces writes to code. */
int mem_read(const struct mem *m, gpa_t gpa, void *dst, size_t len) MUST_CHECK;
int mem_write(struct mem *m, gpa_t gpa, const void *src, size_t len) MUST_CHECK;
int mem_fill(struct mem *m, gpa_t gpa, uint8_t byte, size_t len) MUST_CHECK;

/* A naturally aligned little-endian word that the guest reads and writes meanwhile: in one access,
 * which copies are not, with acquire and release. Errors: -EFAULT, also when it is not aligned. */
int mem_load16(const struct mem *m, gpa_t gpa, uint16_t *v) MUST_CHECK;
int mem_store16(struct mem *m, gpa_t gpa, uint16_t v) MUST_CHECK;

/* [gpa, gpa+len) as host memory for a transfer (always one piece).
 * The iovec is borrowed until the transfer ends and must not be dereferenced by a
 * parser: copy first. After the host wrote through it call mem_wrote().
 * Errors: -EFAULT. */
int mem_iov(const struct mem *m, gpa_t gpa, size_t len, struct iovec *out) MUST_CHECK;
void mem_wrote(struct mem *m, gpa_t gpa, size_t len);

/* --- RAM from files, and which pages there are; vm/ only -------------------------------- */

/* Lay [off, off+len) of RAM, whole pages, privately over the same offsets of file `fd` (borrowed
 * during the call), or over nothing (zeroes) where fd is -1. Before anything runs. Which pages of
 * the file hold data is told by mem_filed(). Errors: -EINVAL, also where RAM is shared; what
 * mmap(2) says. */
int mem_map_file(struct mem *m, int fd, uint64_t off, uint64_t len, struct err *e) MUST_CHECK;
/* Page `page` in this process. */
static inline uint8_t *mem_page_at(const struct mem *m, uint64_t page)
{
    return m->hva + (page << MEM_PAGE_SHIFT);
}
/* The pages of [off, off+len) have a first content other than zeroes (yes), or not. */
void mem_filed(struct mem *m, uint64_t off, uint64_t len, bool yes);
/* Keep /proc/self/pagemap open for the three calls below: soon this process opens no files. */
void mem_keep_pagemap(struct mem *m);
/* Set the bits (one a page) of pages that may differ from zeroes: touched here, or in a file; all,
 * where the kernel does not tell. Cost follows these pages, not the size of RAM. Errors: what
 * reading /proc/self/pagemap says. */
int mem_used(const struct mem *m, uint64_t *bitmap, struct err *e) MUST_CHECK;
/* The same for pages this process has written since the mappings were made. -ENOTSUP: RAM is
 * shared, that is not known. */
int mem_written(const struct mem *m, uint64_t *bitmap, struct err *e) MUST_CHECK;
/* Pages that lie in a file and were read or written here (the kernel maps neighbours of a page that
 * is read along with it). bitmap[] is zeroed. */
int mem_touched(const struct mem *m, uint64_t *bitmap, struct err *e) MUST_CHECK;
/* After fork(2), in the child: the RAM stays, what engines knew about it goes (code map, dirty log,
 * callback). Errors: -ENOMEM. */
int mem_forget(struct mem *m, struct err *e) MUST_CHECK;

/* --- for cpu/ only ------------------------------------------------------ */

/* Page index of `gpa` in code/dirty arrays, or -1 if not RAM. */
static inline int64_t mem_page(const struct mem *m, gpa_t gpa)
{
    if (gpa < m->low)
        return (int64_t)(gpa >> MEM_PAGE_SHIFT);
    if (gpa >= MEM_HIGH_BASE && gpa - MEM_HIGH_BASE < m->size - m->low)
        return (int64_t)((gpa - MEM_HIGH_BASE + m->low) >> MEM_PAGE_SHIFT);
    return -1;
}

/* Host address of the page that holds `gpa`, plus the offset; NULL if not RAM.
 * Good up to the end of that page. */
static inline uint8_t *mem_hva(const struct mem *m, gpa_t gpa)
{
    int64_t p = mem_page(m, gpa);

    return p < 0 ? NULL : m->hva + ((uint64_t)p << MEM_PAGE_SHIFT) + (gpa & (MEM_PAGE - 1));
}

static inline void mem_mark_dirty(struct mem *m, int64_t page)
{
    if (m->dirty)
        atomic_store_explicit(&m->dirty[page], 1, memory_order_relaxed);
}

/* Bits of the 64-byte chunks that [off, off+len) of one page touches. */
static inline uint64_t mem_chunks(unsigned off, size_t len)
{
    unsigned a = off >> 6;
    unsigned b = (unsigned)((off + len - 1) >> 6);

    return (~0ull << a) & (~0ull >> (63 - (b > 63 ? 63 : b)));
}

/* --- dirty log ---------------------------------------------------------- */

/* Start with every page clean. The software engines must forget fast-path write
 * rights before this returns: the vm/ layer pauses the vCPUs around it.
 * Errors: -ENOMEM. */
int mem_dirty_start(struct mem *m, struct err *e) MUST_CHECK;
void mem_dirty_stop(struct mem *m);
/* OR the log into bitmap[] (one bit a page, mem_size/4096 bits) and clear it.
 * Returns how many pages were dirty. */
uint64_t mem_dirty_fetch(struct mem *m, uint64_t *bitmap);

#endif
