#include "vm/workset.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/crc32c.h"
#include "mem/mem.h"
#include "vm/vm_private.h"

static const char magic[8] = "KILNWSET";
static const char name[] = "working-set";

enum {
    VERSION = 1,
    HEADER = 16,
    RUN = 8,
    TRAILER = 4,
    GAP = 8 /* pages between two runs that are read with them: one request is cheaper than two */
};

static void put_u32(uint8_t *p, uint32_t v)
{
    for (unsigned i = 0; i < 4; i++)
        p[i] = (uint8_t)(v >> (8 * i));
}

static uint32_t get_u32(const uint8_t *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

/* Runs of set bits, as bytes of the file; *n of them. */
static uint8_t *pack(const uint64_t *bitmap, uint64_t pages, uint32_t *n)
{
    uint8_t *b = malloc(HEADER + (size_t)WORKSET_RUNS_MAX * RUN + TRAILER);
    uint64_t first = 0, end = 0;

    *n = 0;
    for (uint64_t p = 0; b && p < pages && *n < WORKSET_RUNS_MAX; p++) {
        if (!bitmap[p / 64]) {
            p |= 63;
            continue;
        }
        if (!(bitmap[p / 64] >> (p % 64) & 1))
            continue;
        if (*n == 0 || p > end + GAP) {
            first = p;
            ++*n;
        }
        end = p;
        put_u32(b + HEADER + (*n - 1) * RUN, (uint32_t)first);
        put_u32(b + HEADER + (*n - 1) * RUN + 4, (uint32_t)(end - first + 1));
    }
    return b;
}

/* Under another name first: who reads meanwhile sees all of it or nothing. */
static void store(int dir, const uint8_t *b, size_t len)
{
    char temp[32];

    snprintf(temp, sizeof(temp), "%s.%d", name, (int)getpid());
    CLEANUP(fd) int fd = openat(dir, temp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0)
        return;
    if (write(fd, b, len) != (ssize_t)len || renameat(dir, temp, dir, name) < 0)
        (void)unlinkat(dir, temp, 0);
}

void workset_record(struct vm *vm)
{
    uint64_t pages = mem_pages(vm->mem);
    uint32_t n;

    CLEANUP(fd)
    int dir = vm->grown_from ? open(vm->grown_from, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    if (dir < 0 || faccessat(dir, name, F_OK, 0) == 0 || faccessat(dir, ".", W_OK, 0) < 0)
        return;
    CLEANUP(mem) uint64_t *bitmap = calloc((pages + 63) / 64, sizeof(*bitmap));
    if (!bitmap || mem_touched(vm->mem, bitmap, NULL) < 0)
        return;
    CLEANUP(mem) uint8_t *b = pack(bitmap, pages, &n);
    if (!b)
        return;
    size_t len = HEADER + (size_t)n * RUN;
    memcpy(b, magic, sizeof(magic));
    put_u32(b + 8, VERSION);
    put_u32(b + 12, n);
    put_u32(b + len, crc32c(0, b, len));
    store(dir, b, len + TRAILER);
}

void workset_ahead(int dir, int memory)
{
    CLEANUP(fd) int fd = openat(dir, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    struct stat st;

    if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || st.st_size < HEADER + TRAILER ||
        st.st_size > HEADER + (off_t)WORKSET_RUNS_MAX * RUN + TRAILER)
        return;
    size_t len = (size_t)st.st_size - TRAILER;
    CLEANUP(mem) uint8_t *b = malloc(len + TRAILER);
    if (!b || pread(fd, b, len + TRAILER, 0) != st.st_size ||
        memcmp(b, magic, sizeof(magic)) != 0 || get_u32(b + 8) != VERSION ||
        get_u32(b + 12) != (len - HEADER) / RUN || get_u32(b + len) != crc32c(0, b, len))
        return;
    for (const uint8_t *r = b + HEADER; r + RUN <= b + len; r += RUN)
        (void)posix_fadvise(memory, (off_t)get_u32(r) * MEM_PAGE, (off_t)get_u32(r + 4) * MEM_PAGE,
                            POSIX_FADV_WILLNEED);
}
