#include "image/packdir.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"

enum { PACK_CHUNK = 1 << 18 }; /* bytes */

struct pack {
    struct archive *in, *out;
    struct archive_entry_linkresolver *links;
    uint8_t *buf;
    const char *root; /* borrowed */
    size_t root_len;
};

static int failed(struct archive *a, const char *what, struct err *e)
{
    const char *why = archive_error_string(a);
    int code = archive_errno(a);

    return err_set(e, code == ENOSPC ? -ENOSPC : -EIO, "%s: %.300s", what, why ? why : "failed");
}

static int copy_file(struct pack *k, const char *source, struct archive_entry *entry, struct err *e)
{
    int64_t left = archive_entry_size(entry);
    CLEANUP(fd) int fd = open(source, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);

    if (fd < 0)
        return err_errno(e, -errno, "'%.300s'", source);
    while (left > 0) {
        ssize_t n = read(fd, k->buf, left < PACK_CHUNK ? (size_t)left : PACK_CHUNK);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return err_set(e, -EIO, "'%.300s' changed while it was read", source);
        if (archive_write_data(k->out, k->buf, (size_t)n) != n)
            return failed(k->out, "writing to the store", e);
        left -= n;
    }
    return 0;
}

static int pack_entry(struct pack *k, struct archive_entry *entry, struct err *e)
{
    const char *source = archive_entry_sourcepath(entry);
    CLEANUP(mem) char *from = source ? strdup(source) : NULL;
    const char *path = archive_entry_pathname(entry);
    struct archive_entry *spare = NULL;

    if (!from || !path || strncmp(path, k->root, k->root_len) != 0)
        return err_set(e, -EIO, "a name that is not UTF-8, or out of memory");
    if (archive_entry_filetype(entry) == AE_IFSOCK)
        return 0;
    path += k->root_len;
    path += strspn(path, "/");
    CLEANUP(mem) char *inner = strdup(*path ? path : ".");
    if (!inner)
        return err_set(e, -ENOMEM, "out of memory");
    archive_entry_copy_pathname(entry, inner);
    archive_entry_sparse_clear(entry);
    archive_entry_linkify(k->links, &entry, &spare);
    int r = archive_write_header(k->out, entry);
    if (r != ARCHIVE_OK && r != ARCHIVE_WARN)
        return failed(k->out, inner, e);
    if (archive_entry_filetype(entry) == AE_IFREG && !archive_entry_hardlink(entry))
        return copy_file(k, from, entry, e);
    return 0;
}

static int walk(struct pack *k, merge_progress p, void *ctx, struct err *e)
{
    struct archive_entry *entry = archive_entry_new();
    uint64_t files = 0;
    int r = 0;

    if (!entry)
        return err_set(e, -ENOMEM, "out of memory");
    while (r == 0) {
        archive_entry_clear(entry);
        int got = archive_read_next_header2(k->in, entry);
        if (got == ARCHIVE_EOF)
            break;
        if (got != ARCHIVE_OK) {
            r = failed(k->in, "reading the folder", e);
            break;
        }
        r = pack_entry(k, entry, e);
        archive_read_disk_descend(k->in);
        if (p && ++files % 1024 == 0)
            p(ctx, "packing the folder", files, 0);
    }
    archive_entry_free(entry);
    return r;
}

static int open_both(struct pack *k, int fd)
{
    if (!k->in || !k->out || !k->links || !k->buf)
        return -ENOMEM;
    archive_read_disk_set_symlink_physical(k->in);
    archive_write_set_format_pax_restricted(k->out);
    archive_entry_linkresolver_set_strategy(k->links, archive_format(k->out));
    if (archive_write_open_fd(k->out, fd) != ARCHIVE_OK ||
        archive_read_disk_open(k->in, k->root) != ARCHIVE_OK)
        return -EIO;
    return 0;
}

int packdir_write(const char *path, int fd, merge_progress p, void *ctx, struct err *e)
{
    struct pack k = {
        .in = archive_read_disk_new(),
        .out = archive_write_new(),
        .links = archive_entry_linkresolver_new(),
        .buf = malloc(PACK_CHUNK),
        .root = path,
        .root_len = strlen(path),
    };
    int r = open_both(&k, fd);

    if (r < 0)
        r = err_set(e, r, "cannot read the folder");
    else
        r = walk(&k, p, ctx, e);
    if (r == 0 && archive_write_close(k.out) != ARCHIVE_OK)
        r = failed(k.out, "writing to the store", e);
    if (r < 0 && k.out)
        archive_write_fail(k.out);
    archive_read_free(k.in);
    archive_write_free(k.out);
    archive_entry_linkresolver_free(k.links);
    free(k.buf);
    return r;
}
