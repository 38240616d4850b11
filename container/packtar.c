#include "container/packtar.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "proto/packdiff.h"

enum { CHUNK = 65536, NAME_LEN = PACK_PATH_MAX + 300 };

static int archive_failed(struct archive *a, struct err *e)
{
    int code = archive_errno(a) > 0 ? -archive_errno(a) : -EIO;

    return err_set(e, code, "tar: %s",
                   archive_error_string(a) ? archive_error_string(a) : "it failed");
}

/* ---- to a tar */

struct writer {
    struct archive *a;
    struct archive_entry *entry;
    const char *name;
    bool image;
    uint64_t left; /* of the file under way: the tar was told its size */
    uint8_t zero[CHUNK];
};

static void set_path(struct writer *w, const char *path, char out[NAME_LEN])
{
    snprintf(out, NAME_LEN, "%s%s%s", w->name, w->name[0] && path[0] ? "/" : "", path);
}

static int put_header(struct writer *w, const char *path, const struct pack_entry *en,
                      struct err *e)
{
    static const unsigned type[] = {
        [PACK_FILE] = AE_IFREG,    [PACK_DIR] = AE_IFDIR,   [PACK_SYMLINK] = AE_IFLNK,
        [PACK_CHAR] = AE_IFCHR,    [PACK_BLOCK] = AE_IFBLK, [PACK_FIFO] = AE_IFIFO,
        [PACK_HARDLINK] = AE_IFREG};
    struct archive_entry *x = archive_entry_clear(w->entry);
    char link[NAME_LEN];

    archive_entry_set_pathname(x, path);
    archive_entry_set_filetype(x, type[en->type]);
    archive_entry_set_perm(x, en->mode);
    archive_entry_set_uid(x, en->uid);
    archive_entry_set_gid(x, en->gid);
    archive_entry_set_mtime(x, en->mtime_s, en->mtime_ns);
    if (en->type == PACK_FILE)
        archive_entry_set_size(x, (int64_t)en->size);
    if (en->type == PACK_SYMLINK)
        archive_entry_set_symlink(x, en->link);
    if (en->type == PACK_HARDLINK) {
        set_path(w, en->link, link);
        archive_entry_set_hardlink(x, link);
    }
    if (en->type == PACK_CHAR || en->type == PACK_BLOCK) {
        archive_entry_set_rdevmajor(x, en->major);
        archive_entry_set_rdevminor(x, en->minor);
    }
    for (unsigned i = 0; i < en->n_xattrs; i++)
        archive_entry_xattr_add_entry(x, en->xattr[i].name, en->xattr[i].value, en->xattr[i].len);
    w->left = en->type == PACK_FILE ? en->size : 0;
    return archive_write_header(w->a, x) < ARCHIVE_WARN ? archive_failed(w->a, e) : 0;
}

/* A folder to mount on stays, empty; a file is passed over with its content. */
static bool is_left_out(const struct writer *w, const struct pack_entry *en)
{
    return w->image && en->type != PACK_DIR && packdiff_is_ours(en->path);
}

static int put_entry(struct writer *w, const struct pack_entry *en, struct err *e)
{
    char path[NAME_LEN];

    set_path(w, en->path, path);
    w->left = 0;
    if (en->type == PACK_ABSENT)
        return err_set(e, -EBADMSG, "a stream of files is damaged: it has differences");
    if (!path[0]) /* the root of entries that stand alone */
        return en->type == PACK_DIR ? 0 : err_set(e, -EBADMSG, "a file without a name");
    return is_left_out(w, en) ? 0 : put_header(w, path, en, e);
}

/* What is beyond the size that was told is cut off; what is missing libarchive fills up. */
static int put_bytes(struct writer *w, const struct pack_record *rec, struct err *e)
{
    uint64_t len = rec->len < w->left ? rec->len : w->left;

    w->left -= len;
    while (len > 0) {
        size_t n = rec->kind == PACK_DATA || len < CHUNK ? len : CHUNK;
        la_ssize_t k = archive_write_data(w->a, rec->kind == PACK_DATA ? rec->data : w->zero, n);

        if (k < 0)
            return archive_failed(w->a, e);
        if ((size_t)k != n)
            return err_set(e, -EIO, "tar: it took less than it was given");
        len -= n;
    }
    return 0;
}

static int put_record(struct writer *w, const struct pack_record *rec, struct err *e)
{
    return rec->kind == PACK_ENTRY ? put_entry(w, &rec->entry, e) : put_bytes(w, rec, e);
}

int packtar_write(struct pack_in *in, const struct pack_record *first, const char *name, bool image,
                  int fd, struct err *e)
{
    CLEANUP(mem) struct writer *w = calloc(1, sizeof(*w));
    CLEANUP(mem) struct pack_record *rec = calloc(1, sizeof(*rec));
    int r = 0;

    if (!w || !rec)
        return err_errno(e, -ENOMEM, "tar");
    w->name = name;
    w->image = image;
    w->a = archive_write_new();
    w->entry = archive_entry_new();
    if (!w->a || !w->entry)
        r = err_errno(e, -ENOMEM, "tar");
    if (r == 0 && (archive_write_set_format_pax_restricted(w->a) != ARCHIVE_OK ||
                   archive_write_open_fd(w->a, fd) != ARCHIVE_OK))
        r = archive_failed(w->a, e);
    if (r == 0 && first)
        r = put_record(w, first, e);
    while (r == 0) {
        r = pack_next(in, rec, e);
        if (r < 0 || rec->kind == PACK_END)
            break;
        r = put_record(w, rec, e);
    }
    if (r == 0 && archive_write_close(w->a) != ARCHIVE_OK)
        r = archive_failed(w->a, e);
    archive_entry_free(w->entry);
    archive_write_free(w->a);
    return r;
}

/* ---- from a tar */

/* "/a/./b/" -> "a/b". False: it climbs. */
static bool clean(const char *name, char out[PACK_PATH_MAX + 1])
{
    size_t len = 0;

    while (*name) {
        size_t n = strcspn(name, "/");

        if (n == 2 && strncmp(name, "..", 2) == 0)
            return false;
        if (n > 0 && !(n == 1 && *name == '.')) {
            if (len + n + 1 > PACK_PATH_MAX)
                return false;
            if (len > 0)
                out[len++] = '/';
            memcpy(out + len, name, n);
            len += n;
        }
        name += n + (name[n] == '/');
    }
    out[len] = '\0';
    return true;
}

static enum pack_type type_of(struct archive_entry *x)
{
    if (archive_entry_hardlink(x))
        return PACK_HARDLINK;
    switch (archive_entry_filetype(x)) {
    case AE_IFREG:
        return PACK_FILE;
    case AE_IFDIR:
        return PACK_DIR;
    case AE_IFLNK:
        return PACK_SYMLINK;
    case AE_IFCHR:
        return PACK_CHAR;
    case AE_IFBLK:
        return PACK_BLOCK;
    case AE_IFIFO:
        return PACK_FIFO;
    default:
        return 0;
    }
}

static void take_xattrs(struct archive_entry *x, struct pack_entry *en)
{
    const char *name;
    const void *value;
    size_t len, sum = 0;

    archive_entry_xattr_reset(x);
    while (en->n_xattrs < PACK_XATTRS_MAX &&
           archive_entry_xattr_next(x, &name, &value, &len) == ARCHIVE_OK) {
        if (strlen(name) > PACK_XATTR_NAME_MAX || len > PACK_XATTR_BYTES_MAX - sum)
            continue;
        en->xattr[en->n_xattrs++] = (struct pack_xattr){name, value, (uint32_t)len};
        sum += len;
    }
}

/* 0 = passed over, 1 = told. */
static int take_header(struct archive_entry *x, struct pack_out *o, struct err *e)
{
    char path[PACK_PATH_MAX + 1], link[PACK_PATH_MAX + 1] = "";
    const char *name = archive_entry_pathname(x);
    struct pack_entry en = {
        .type = type_of(x),
        .mode = archive_entry_perm(x) & 07777,
        .uid = (uint32_t)archive_entry_uid(x),
        .gid = (uint32_t)archive_entry_gid(x),
        .mtime_s = archive_entry_mtime(x),
        .mtime_ns = (uint32_t)archive_entry_mtime_nsec(x),
        .path = path,
        .link = link,
    };

    if (!name || !clean(name, path))
        return err_set(e, -EBADMSG, "tar: '%.200s' leads out", name ? name : "");
    if (!en.type || (!path[0] && en.type != PACK_DIR))
        return 0;
    if (en.type == PACK_FILE)
        en.size = (uint64_t)archive_entry_size(x);
    if (en.type == PACK_HARDLINK && !clean(archive_entry_hardlink(x), link))
        return err_set(e, -EBADMSG, "tar: '%.200s' leads out", archive_entry_hardlink(x));
    if (en.type == PACK_SYMLINK)
        snprintf(link, sizeof(link), "%s", archive_entry_symlink(x));
    if (en.type == PACK_CHAR || en.type == PACK_BLOCK) {
        en.major = (uint32_t)archive_entry_rdevmajor(x);
        en.minor = (uint32_t)archive_entry_rdevminor(x);
    }
    take_xattrs(x, &en);
    int r = pack_put_entry(o, &en);
    return r < 0 ? err_errno(e, r, "'%.200s'", path) : en.type == PACK_FILE ? 1 : 0;
}

static int take_content(struct archive *a, struct pack_out *o, struct err *e)
{
    const void *p;
    size_t len;
    la_int64_t at, done = 0;
    int r;

    while ((r = archive_read_data_block(a, &p, &len, &at)) == ARCHIVE_OK) {
        if (at > done && pack_put_hole(o, (uint64_t)(at - done)) < 0)
            return err_errno(e, o->failed, "write");
        if (pack_put_data(o, p, len) < 0)
            return err_errno(e, o->failed, "write");
        done = at + (la_int64_t)len;
    }
    return r == ARCHIVE_EOF ? 0 : archive_failed(a, e);
}

int packtar_read(int fd, struct pack_out *o, struct err *e)
{
    struct archive *a = archive_read_new();
    struct archive_entry *x;
    int r = 0, got = ARCHIVE_OK;

    if (!a)
        return err_errno(e, -ENOMEM, "tar");
    archive_read_support_filter_all(a);
    archive_read_support_format_tar(a);
    archive_read_support_format_empty(a);
    if (archive_read_open_fd(a, fd, CHUNK) != ARCHIVE_OK)
        r = archive_failed(a, e);
    while (r == 0 && (got = archive_read_next_header(a, &x)) >= ARCHIVE_WARN &&
           got != ARCHIVE_EOF) {
        r = take_header(x, o, e);
        if (r == 1)
            r = take_content(a, o, e);
    }
    if (r == 0 && got != ARCHIVE_EOF)
        r = archive_failed(a, e) < 0 ? -EBADMSG : 0;
    archive_read_free(a);
    return r;
}
