/* Snapshots as they lie on disk: opened, checked, verified. snapcreate.c makes them. */
#include "vm/snapshot.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "vm/snapmem.h"
#include "vm/snapopen.h"

static int open_part(int dir, const char *name, struct err *e)
{
    int fd = openat(dir, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    struct stat st;

    if (fd < 0)
        return err_errno(e, -errno, "its file '%s'", name);
    if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode)) {
        close(fd);
        return err_set(e, -EBADMSG, "its file '%s' is not a file", name);
    }
    return fd;
}

static int read_state(struct snapshot *s, struct err *e)
{
    CLEANUP(fd) int fd = open_part(s->dir, "state", e);
    struct stat st;

    if (fd < 0)
        return fd;
    if (fstat(fd, &st) < 0)
        return err_errno(e, -errno, "state");
    if (st.st_size == 0 || (uint64_t)st.st_size > SNAPFILE_BYTES_MAX + 4096)
        return err_set(e, -EBADMSG, "state: a file of %lld bytes", (long long)st.st_size);
    size_t len = (size_t)st.st_size;
    CLEANUP(mem) uint8_t *bytes = malloc(len);
    if (!bytes)
        return err_set(e, -ENOMEM, "out of memory");
    for (size_t got = 0; got < len;) {
        ssize_t n = pread(fd, bytes + got, len - got, (off_t)got);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return err_errno(e, n < 0 ? -errno : -EBADMSG, "state: read");
        got += (size_t)n;
    }
    int r = snapfile_parse(bytes, len, &s->f, e);
    return r < 0 ? err_wrap(e, r, "state") : 0;
}

int snapshot_memory(const struct snapshot *s, struct err *e)
{
    return open_part(s->dir, s->f.compressed ? "memory.zst" : "memory", e);
}

int snapshot_disk(const struct snapshot *s, unsigned i, struct err *e)
{
    char name[16];
    struct stat st;

    snprintf(name, sizeof(name), "disk%u", i);
    CLEANUP(fd) int fd = open_part(s->dir, name, e);
    if (fd < 0)
        return fd;
    if (fstat(fd, &st) < 0)
        return err_errno(e, -errno, "%s", name);
    if ((uint64_t)st.st_size != s->f.shape.disk[i].size)
        return err_set(e, -EBADMSG, "its file '%s' has %llu bytes, not %llu", name,
                       (unsigned long long)st.st_size, (unsigned long long)s->f.shape.disk[i].size);
    return take_fd(&fd);
}

/* The other files are there and as long as they should be. */
static int check_files(const struct snapshot *s, struct err *e)
{
    CLEANUP(fd) int fd = snapshot_memory(s, e);
    struct stat st;
    uint64_t want = s->f.shape.ram_bytes;

    if (fd < 0)
        return fd;
    if (fstat(fd, &st) < 0)
        return err_errno(e, -errno, "memory");
    for (size_t i = 0; s->f.compressed && i <= s->f.n_extents; i++)
        want = i == 0 ? 0 : s->f.extent[i - 1].at + s->f.extent[i - 1].packed;
    if ((uint64_t)st.st_size != want)
        return err_set(e, -EBADMSG, "the memory file has %llu bytes, not %llu",
                       (unsigned long long)st.st_size, (unsigned long long)want);
    for (unsigned i = 0; i < s->f.shape.n_disks; i++) {
        if (!shape_own_disk(&s->f.shape.disk[i]))
            continue;
        int d = snapshot_disk(s, i, e);
        if (d < 0)
            return d;
        close(d);
    }
    return 0;
}

int snapshot_open(const char *dir, struct snapshot **ret, struct err *e)
{
    struct snapshot *s = calloc(1, sizeof(*s));
    int r = 0;

    if (!s)
        return err_set(e, -ENOMEM, "out of memory");
    s->dir = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    s->path = realpath(dir, NULL);
    if (s->dir < 0 || !s->path)
        r = err_errno(e, -errno, "open the folder");
    if (r == 0)
        r = read_state(s, e);
    if (r == 0)
        r = check_files(s, e);
    if (r < 0) {
        snapshot_close(s);
        return err_wrap(e, r, "snapshot '%s'", dir);
    }
    *ret = s;
    return 0;
}

void snapshot_close(struct snapshot *s)
{
    if (!s)
        return;
    cleanup_fd(&s->dir);
    free(s->path);
    snapfile_done(&s->f);
    free(s);
}

struct snap_info snapshot_info(const struct snapshot *s)
{
    const struct snapfile *f = &s->f;
    bool diff = f->parent_id[0] != '\0';

    return (struct snap_info){.id = f->id,
                              .parent_id = diff ? f->parent_id : NULL,
                              .parent = diff ? f->parent : NULL,
                              .engine = f->engine,
                              .program = f->program,
                              .note = f->note,
                              .created_ns = f->created_ns,
                              .pages = snapfile_pages(f),
                              .compressed = f->compressed,
                              .shape = &f->shape};
}

/* --- chains ------------------------------------------------------------------ */

/* Beside the child first: a chain that was moved as a whole stays one. */
static int open_parent(const struct snapshot *s, struct snapshot **ret, struct err *e)
{
    const char *base = strrchr(s->f.parent, '/');
    const char *slash = strrchr(s->path, '/');
    CLEANUP(mem) char *beside = NULL;

    if (base && slash && asprintf(&beside, "%.*s%s", (int)(slash - s->path), s->path, base) < 0)
        return err_set(e, -ENOMEM, "out of memory");
    if (beside && snapshot_open(beside, ret, NULL) == 0) {
        if (strcmp((*ret)->f.id, s->f.parent_id) == 0)
            return 0;
        snapshot_close(*ret);
        *ret = NULL;
    }
    int r = snapshot_open(s->f.parent, ret, e);
    if (r < 0)
        return err_wrap(e, r, "snapshot '%s': its parent", s->path);
    if (strcmp((*ret)->f.id, s->f.parent_id) != 0) {
        snapshot_close(*ret);
        *ret = NULL;
        return err_set(e, -EBADMSG, "snapshot '%s': '%s' is not the parent it was made from",
                       s->path, s->f.parent);
    }
    return 0;
}

int snapshot_chain(const char *dir, struct snapshot *chain[SNAP_CHAIN_MAX], struct err *e)
{
    int n = 0, r = snapshot_open(dir, &chain[0], e);

    for (n = r == 0 ? 1 : 0; r == 0 && chain[n - 1]->f.parent_id[0];) {
        if (n == SNAP_CHAIN_MAX)
            r = err_set(e, -ELOOP, "snapshot '%s': a chain of more than %d", dir, SNAP_CHAIN_MAX);
        else
            r = open_parent(chain[n - 1], &chain[n], e);
        if (r == 0 && chain[n++]->f.shape.ram_bytes != chain[0]->f.shape.ram_bytes)
            r = err_set(e, -EBADMSG, "snapshot '%s': its parent has another size of memory", dir);
    }
    if (r < 0)
        snapshot_close_chain(chain, n);
    return r < 0 ? r : n;
}

void snapshot_close_chain(struct snapshot *chain[], int n)
{
    while (n-- > 0)
        snapshot_close(chain[n]);
}

int snapshot_verify(const char *dir, struct err *e)
{
    struct snapshot *chain[SNAP_CHAIN_MAX];
    int n = snapshot_chain(dir, chain, e), r = 0;

    if (n < 0)
        return n;
    for (int i = 0; r == 0 && i < n; i++) {
        CLEANUP(fd) int fd = snapshot_memory(chain[i], e);

        r = fd < 0 ? fd : snapmem_verify(&chain[i]->f, fd, e);
        if (r < 0)
            err_wrap(e, r, "snapshot '%s'", chain[i]->path);
    }
    snapshot_close_chain(chain, n);
    return r;
}
