#include "container/ctrlog.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "container/ctrlogfile.h"
#include "container/spec.h"

void ctrlogfile_put32(uint8_t *p, uint32_t v)
{
    for (unsigned i = 0; i < 4; i++)
        p[i] = (uint8_t)(v >> (8 * i));
}

uint32_t ctrlogfile_get32(const uint8_t *p)
{
    return p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

bool ctrlogfile_header(const uint8_t h[CTRLOG_HEADER], struct ctrlogfile_entry *out)
{
    *out = (struct ctrlogfile_entry){
        .len = ctrlogfile_get32(h + 4),
        .ns = (int64_t)(ctrlogfile_get32(h + 8) | (uint64_t)ctrlogfile_get32(h + 12) << 32),
        .stream = ctrlogfile_get32(h + 16),
    };
    return ctrlogfile_get32(h) == CTRLOGFILE_MAGIC && out->len > 0 &&
           out->len <= CTRLOG_ENTRY_MAX && out->stream <= 1;
}

void ctrlogfile_name(unsigned n, char out[CTRLOGFILE_NAME])
{
    if (n == 0)
        snprintf(out, CTRLOGFILE_NAME, "log");
    else
        snprintf(out, CTRLOGFILE_NAME, "log.%u", n);
}

/* Where the last whole entry ends. */
static uint64_t whole(int fd, uint64_t size)
{
    uint8_t h[CTRLOG_HEADER], t[CTRLOG_TRAILER];
    struct ctrlogfile_entry en;
    uint64_t at = 0;

    /* Almost always the end is one: then nothing is read but that. */
    if (size >= CTRLOG_HEADER + CTRLOG_TRAILER &&
        pread(fd, t, sizeof(t), (off_t)(size - sizeof(t))) == sizeof(t)) {
        uint64_t back = (uint64_t)ctrlogfile_get32(t) + CTRLOG_HEADER + CTRLOG_TRAILER;

        if (back <= size && pread(fd, h, sizeof(h), (off_t)(size - back)) == sizeof(h) &&
            ctrlogfile_header(h, &en) && en.len == ctrlogfile_get32(t))
            return size;
    }
    while (pread(fd, h, sizeof(h), (off_t)at) == sizeof(h) && ctrlogfile_header(h, &en)) {
        uint64_t next = at + CTRLOG_HEADER + en.len + CTRLOG_TRAILER;

        if (next > size)
            break;
        at = next;
    }
    return at;
}

static bool open_file(struct ctrlog *l)
{
    struct stat st;

    l->fd = openat(l->dir, "log", O_RDWR | O_CREAT | O_APPEND | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (l->fd < 0 || fstat(l->fd, &st) < 0) {
        ctrlog_close(l);
        return false;
    }
    l->size = whole(l->fd, (uint64_t)st.st_size);
    if (l->size < (uint64_t)st.st_size && ftruncate(l->fd, (off_t)l->size) < 0)
        ctrlog_close(l);
    return l->fd >= 0;
}

/* log.1 becomes log.2 and so on; the oldest goes. */
static void rotate(struct ctrlog *l)
{
    char from[CTRLOGFILE_NAME], to[CTRLOGFILE_NAME];

    ctrlog_close(l);
    if (l->max_files <= 1)
        (void)unlinkat(l->dir, "log", 0);
    for (unsigned i = l->max_files - 1; i > 0; i--) {
        ctrlogfile_name(i - 1, from);
        ctrlogfile_name(i, to);
        (void)renameat(l->dir, from, l->dir, to);
    }
}

void ctrlog_open(struct ctrlog *l, int dir, const char *driver, int64_t max_size, int64_t max_files)
{
    *l = (struct ctrlog){.dir = dir,
                         .fd = -1,
                         .max_size = max_size > 0 ? (uint64_t)max_size : 0,
                         .max_files = max_files > 1 ? (unsigned)max_files : 1,
                         .off = driver && strcmp(driver, "none") == 0};
    if (l->max_files > CTRLOG_FILES_MAX)
        l->max_files = CTRLOG_FILES_MAX;
}

static void write_entry(struct ctrlog *l, unsigned stream, int64_t ns, const void *bytes,
                        size_t len)
{
    uint8_t h[CTRLOG_HEADER], t[CTRLOG_TRAILER];
    size_t total = sizeof(h) + len + sizeof(t);
    struct iovec v[] = {{h, sizeof(h)}, {(void *)(uintptr_t)bytes, len}, {t, sizeof(t)}};

    if (l->fd >= 0 && l->max_size && l->size > 0 && l->size + total > l->max_size)
        rotate(l);
    if (l->fd < 0 && !open_file(l))
        return;
    ctrlogfile_put32(h, CTRLOGFILE_MAGIC);
    ctrlogfile_put32(h + 4, (uint32_t)len);
    ctrlogfile_put32(h + 8, (uint32_t)(uint64_t)ns);
    ctrlogfile_put32(h + 12, (uint32_t)((uint64_t)ns >> 32));
    ctrlogfile_put32(h + 16, stream);
    ctrlogfile_put32(t, (uint32_t)len);
    ssize_t n = writev(l->fd, v, 3);
    if (n == (ssize_t)total)
        l->size += total;
    else if (n >= 0 && ftruncate(l->fd, (off_t)l->size) < 0) /* the disk is full */
        ctrlog_close(l);
}

/* Of len bytes: those of the next entry. A portion that is more than a file may have is split where
 * lines end. */
static size_t piece(const struct ctrlog *l, const uint8_t *p, size_t len)
{
    size_t max = l->max_size > 2 * (CTRLOG_HEADER + CTRLOG_TRAILER)
                     ? l->max_size - CTRLOG_HEADER - CTRLOG_TRAILER
                     : CTRLOG_HEADER + CTRLOG_TRAILER;

    if (!l->max_size || max > CTRLOG_ENTRY_MAX)
        max = CTRLOG_ENTRY_MAX;
    if (len <= max)
        return len;
    const uint8_t *nl = memrchr(p, '\n', max);
    return nl ? (size_t)(nl + 1 - p) : max;
}

void ctrlog_write(struct ctrlog *l, unsigned stream, int64_t ns, const void *bytes, size_t len)
{
    const uint8_t *p = bytes;

    while (!l->off && len > 0) {
        size_t n = piece(l, p, len);

        write_entry(l, stream, ns, p, n);
        p += n;
        len -= n;
    }
}

void ctrlog_close(struct ctrlog *l)
{
    cleanup_fd(&l->fd);
    l->fd = -1;
}
