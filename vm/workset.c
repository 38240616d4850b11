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

_Static_assert(WORKSET_BYTES_MAX == HEADER + WORKSET_RUNS_MAX * RUN + TRAILER, "the file's bound");

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

static int open_folder(const char *dir)
{
    CLEANUP(fd) int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    if (fd < 0 || faccessat(fd, name, F_OK, 0) == 0 || faccessat(fd, ".", W_OK, 0) < 0)
        return -1;
    return take_fd(&fd);
}

bool workset_wanted(const char *dir)
{
    CLEANUP(fd) int fd = open_folder(dir);

    return fd >= 0;
}

size_t workset_take(const struct vm *vm, uint8_t **bytes)
{
    uint64_t pages = mem_pages(vm->mem);
    uint32_t n;

    CLEANUP(mem) uint64_t *bitmap = calloc((pages + 63) / 64, sizeof(*bitmap));
    if (!vm->workset_wanted || !bitmap || mem_touched(vm->mem, bitmap, NULL) < 0)
        return 0;
    uint8_t *b = pack(bitmap, pages, &n);
    if (!b)
        return 0;
    size_t len = HEADER + (size_t)n * RUN;
    memcpy(b, magic, sizeof(magic));
    put_u32(b + 8, VERSION);
    put_u32(b + 12, n);
    put_u32(b + len, crc32c(0, b, len));
    *bytes = b;
    return len + TRAILER;
}

static bool good(const uint8_t *b, size_t bytes)
{
    size_t len = bytes - TRAILER;

    return bytes >= HEADER + TRAILER && bytes <= WORKSET_BYTES_MAX &&
           memcmp(b, magic, sizeof(magic)) == 0 && get_u32(b + 8) == VERSION &&
           get_u32(b + 12) == (len - HEADER) / RUN && get_u32(b + len) == crc32c(0, b, len);
}

void workset_store(const char *dir, const uint8_t *bytes, size_t len)
{
    CLEANUP(fd) int fd = good(bytes, len) ? open_folder(dir) : -1;

    if (fd >= 0)
        store(fd, bytes, len);
}

void workset_ahead(int dir, int memory)
{
    CLEANUP(fd) int fd = openat(dir, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    struct stat st;

    if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || st.st_size < HEADER + TRAILER ||
        st.st_size > WORKSET_BYTES_MAX)
        return;
    size_t len = (size_t)st.st_size;
    CLEANUP(mem) uint8_t *b = malloc(len);
    if (!b || pread(fd, b, len, 0) != st.st_size || !good(b, len))
        return;
    for (const uint8_t *r = b + HEADER; r + RUN <= b + len - TRAILER; r += RUN)
        (void)posix_fadvise(memory, (off_t)get_u32(r) * MEM_PAGE, (off_t)get_u32(r + 4) * MEM_PAGE,
                            POSIX_FADV_WILLNEED);
}
