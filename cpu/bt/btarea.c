/* The memory of translated code: see code_area in bt.h. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "cpu/bt/bt.h"

static bool is_shared(const struct code_area *a, size_t page)
{
    return a->shared[page / 64] >> (page % 64) & 1;
}

/* Pages of `rx` become those of `own_rx`, which has its rights: by one call, so that a CPU that is
 * executing there finds the one or the other. */
static int take_own(struct code_area *a, size_t at, size_t bytes)
{
    void *from = (void *)(uintptr_t)(a->own_rx + at), *to = (void *)(uintptr_t)(a->rx + at);

    return mremap(from, 0, bytes, MREMAP_MAYMOVE | MREMAP_FIXED, to) == MAP_FAILED ? -errno : 0;
}

/* Shared memory without a file, and further mappings of it (mremap(2): an old size of 0): perf
 * looks into its map of a process only for what it takes for anonymous, and a memfd is not. What is
 * executable is so from the start: a process in its jail gains no more of that (PR_SET_MDWE). */
int btarea_init(struct code_area *a, size_t bytes, struct err *e)
{
    void *rx = mmap(NULL, bytes, PROT_READ | PROT_EXEC, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    void *rw = rx == MAP_FAILED ? rx : mremap(rx, 0, bytes, MREMAP_MAYMOVE);

    a->size = bytes;
    a->rx = rx == MAP_FAILED ? NULL : rx;
    a->rw = rw == MAP_FAILED ? NULL : rw;
    if (!a->rw || mprotect(rw, bytes, PROT_READ | PROT_WRITE) < 0)
        return err_errno(e, -errno, "map a code cache of %zu MiB", bytes >> 20);
    a->shared = calloc(bytes / AREA_PAGE / 64 + 1, sizeof(*a->shared));
    if (!a->shared)
        return err_set(e, -ENOMEM, "out of memory");
    a->e = (struct emit){.p = a->rw, .end = a->rw + bytes, .to_rx = a->rx - a->rw};
    return 0;
}

void btarea_done(struct code_area *a)
{
    if (a->rw)
        munmap(a->rw, a->size);
    if (a->own_rx)
        munmap((void *)(uintptr_t)a->own_rx, a->size);
    if (a->rx)
        munmap((void *)(uintptr_t)a->rx, a->size);
    free(a->shared);
}

/* Before the first file comes: where own pages are to be had from again. */
static int keep_own(struct code_area *a)
{
    void *own = a->own_rx ? (void *)(uintptr_t)a->own_rx
                          : mremap((void *)(uintptr_t)a->rx, 0, a->size, MREMAP_MAYMOVE);

    if (own == MAP_FAILED)
        return -errno;
    a->own_rx = own;
    return 0;
}

int btarea_share(struct code_area *a, size_t at, size_t bytes, int fd, uint64_t from)
{
    void *to = (void *)(uintptr_t)(a->rx + at);
    int kept = keep_own(a);

    if (kept < 0)
        return kept;
    /* A file system without the right to execute says so here. */
    if (mmap(to, bytes, PROT_READ | PROT_EXEC, MAP_SHARED | MAP_FIXED, fd, (off_t)from) ==
        MAP_FAILED) {
        int r = -errno;

        BUG_ON(take_own(a, at, bytes) < 0);
        return r;
    }
    for (size_t page = at / AREA_PAGE; page < (at + bytes) / AREA_PAGE; page++)
        a->shared[page / 64] |= 1ull << (page % 64);
    return 0;
}

void btarea_own(struct code_area *a, size_t at)
{
    size_t page = at / AREA_PAGE;

    if (!is_shared(a, page))
        return;
    memcpy(a->rw + page * AREA_PAGE, a->rx + page * AREA_PAGE, AREA_PAGE);
    if (take_own(a, page * AREA_PAGE, AREA_PAGE) < 0) {
        btarea_own_all(a, true); /* there are more mappings than a process may have */
        return;
    }
    a->shared[page / 64] &= ~(1ull << (page % 64));
}

void btarea_own_all(struct code_area *a, bool copy)
{
    bool any = false;

    for (size_t page = 0; page < a->size / AREA_PAGE; page++) {
        if (!is_shared(a, page))
            continue;
        any = true;
        if (copy)
            memcpy(a->rw + page * AREA_PAGE, a->rx + page * AREA_PAGE, AREA_PAGE);
    }
    if (!any)
        return;
    BUG_ON(take_own(a, 0, a->size) < 0);
    memset(a->shared, 0, (a->size / AREA_PAGE / 64 + 1) * sizeof(*a->shared));
}
