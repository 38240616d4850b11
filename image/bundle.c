#include "image/bundle.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "image/layer.h"
#include "image/ociconfig.h"
#include "image/packdir.h"

enum { SPOOL_CHUNK = 1 << 18 }; /* bytes */

struct member {
    char *name; /* normalised; owned */
    char *link; /* a name, when it is a link; owned */
    int number; /* of its spool file */
};

struct bundle {
    enum bundle_kind kind;
    int work;               /* borrowed */
    int dir;                /* of a layout that is a folder; owned, or -1 */
    int tar;                /* of a root file system; owned, or -1 */
    struct member *members; /* owned */
    size_t n_members;
    uint64_t bytes; /* spooled */
};

void bundle_close(struct bundle *b)
{
    if (!b)
        return;
    for (size_t i = 0; i < b->n_members; i++) {
        free(b->members[i].name);
        free(b->members[i].link);
    }
    free(b->members);
    cleanup_fd(&b->dir);
    cleanup_fd(&b->tar);
    free(b);
}

enum bundle_kind bundle_kind(const struct bundle *b)
{
    return b->kind;
}

/* `path`, meant from folder `base` (may be NULL), without "." and "..". NULL = climbs out, too long
 * or no memory. */
static char *normal(const char *base, const char *path)
{
    char out[2 * OCI_PATH_MAX + 2];
    size_t n = 0;
    const char *part[2] = {base ? base : "", path};

    if (strlen(part[0]) + strlen(path) + 1 > 2 * OCI_PATH_MAX)
        return NULL;
    for (unsigned i = 0; i < 2; i++) {
        for (const char *s = part[i]; *s;) {
            size_t len = strcspn(s, "/");

            if (len == 2 && s[0] == '.' && s[1] == '.') {
                if (n == 0)
                    return NULL;
                while (n > 0 && out[--n] != '/')
                    ;
            } else if (len > 1 || (len == 1 && s[0] != '.')) {
                if (n)
                    out[n++] = '/';
                memcpy(out + n, s, len);
                n += len;
            }
            s += len + (s[len] == '/');
        }
    }
    return strndup(out, n);
}

/* Whether a file of this name says that the archive is a root file system: then the rest need not
 * be read. */
static bool is_root_name(const char *name)
{
    static const char *const folders[] = {"bin",   "boot", "dev", "etc",  "home", "lib", "lib64",
                                          "media", "mnt",  "opt", "proc", "root", "run", "sbin",
                                          "srv",   "sys",  "tmp", "usr",  "var"};
    size_t n = strcspn(name, "/");

    for (size_t i = 0; i < ARRAY_LEN(folders); i++)
        if (strlen(folders[i]) == n && memcmp(folders[i], name, n) == 0)
            return true;
    return false;
}

/* What the archive is, from its names alone; *kind is set. */
static int classify(int fd, enum bundle_kind *kind, struct err *e)
{
    struct archive_entry *entry;
    struct layer *l;
    bool docker = false, index = false, blobs = false, root = false, any = false;
    int r = layer_open(fd, &l, e);

    if (r < 0)
        return r;
    while (!root && (r = layer_next(l, &entry, e)) > 0) {
        const char *path = archive_entry_pathname(entry);
        CLEANUP(mem) char *name = path ? normal(NULL, path) : NULL;

        any = true;
        if (!name || !*name)
            continue;
        root = is_root_name(name);
        docker |= strcmp(name, "manifest.json") == 0;
        index |= strcmp(name, "index.json") == 0;
        blobs |= strncmp(name, "blobs/", 6) == 0;
    }
    layer_close(l);
    if (r < 0)
        return r;
    if (!any)
        return err_set(e, -EBADMSG, "corrupt: the archive is empty");
    *kind = BUNDLE_ROOTFS;
    if (!root && docker)
        *kind = BUNDLE_DOCKER;
    else if (!root && index && blobs)
        *kind = BUNDLE_OCI;
    return 0;
}

static struct member *find(const struct bundle *b, const char *name)
{
    for (size_t i = 0; i < b->n_members; i++)
        if (strcmp(b->members[i].name, name) == 0)
            return &b->members[i];
    return NULL;
}

static void spool_name(int number, char out[32])
{
    snprintf(out, 32, "member-%d", number);
}

static int spool_contents(struct bundle *b, struct layer *l, int number, struct err *e)
{
    CLEANUP(mem) uint8_t *buf = malloc(SPOOL_CHUNK);
    char file[32];
    int64_t n;

    spool_name(number, file);
    CLEANUP(fd) int fd = openat(b->work, file, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (!buf || fd < 0)
        return err_errno(e, buf ? -errno : -ENOMEM, "spool file");
    while ((n = layer_read(l, buf, SPOOL_CHUNK, e)) > 0) {
        if ((uint64_t)n > BUNDLE_BYTES_MAX - b->bytes)
            return err_set(e, -EFBIG, "the archive is larger than any image may be");
        b->bytes += (uint64_t)n;
        for (int64_t done = 0; done < n;) {
            ssize_t k = write(fd, buf + done, (size_t)(n - done));

            if (k < 0 && errno != EINTR)
                return err_errno(e, -errno, "writing to the store");
            done += k > 0 ? k : 0;
        }
    }
    return (int)n;
}

static int spool_entry(struct bundle *b, struct layer *l, struct archive_entry *entry,
                       struct err *e)
{
    const char *path = archive_entry_pathname(entry);
    const char *hard = archive_entry_hardlink(entry);
    const char *soft = archive_entry_symlink(entry);
    CLEANUP(mem) char *name = path ? normal(NULL, path) : NULL;
    CLEANUP(mem) char *link = NULL;

    if (!name)
        return err_set(e, -EBADMSG, "the path '%.200s' climbs with '..' or is too long",
                       path ? path : "");
    if (!hard && !soft && archive_entry_filetype(entry) != AE_IFREG)
        return 0;
    if (b->n_members == BUNDLE_MEMBERS_MAX || find(b, name))
        return err_set(e, -EBADMSG, "more than %d files, or two named '%.200s'", BUNDLE_MEMBERS_MAX,
                       name);
    if (hard || soft) {
        CLEANUP(mem) char *base = soft ? strdup(name) : NULL;
        char *slash = base ? strrchr(base, '/') : NULL;

        if (slash)
            *slash = '\0';
        link = normal(slash ? base : NULL, hard ? hard : soft);
        if (!link)
            return err_set(e, -EBADMSG, "the link '%.200s' leads out of the archive", name);
    }
    struct member *m = &b->members[b->n_members];
    *m = (struct member){
        .name = take_ptr(&name), .link = take_ptr(&link), .number = (int)b->n_members};
    b->n_members++;
    return m->link ? 0 : spool_contents(b, l, m->number, e);
}

static int spool(struct bundle *b, int fd, merge_progress p, void *ctx, struct err *e)
{
    struct archive_entry *entry;
    struct layer *l;
    struct stat st;
    uint64_t total = fstat(fd, &st) == 0 ? (uint64_t)st.st_size : 0;

    b->members = calloc(BUNDLE_MEMBERS_MAX, sizeof(*b->members));
    if (!b->members)
        return err_set(e, -ENOMEM, "out of memory");
    int r = layer_open(fd, &l, e);
    if (r < 0)
        return r;
    while ((r = layer_next(l, &entry, e)) > 0) {
        if (p)
            p(ctx, "unpacking the archive", layer_progress(l), total);
        r = spool_entry(b, l, entry, e);
        if (r < 0)
            break;
    }
    if (r == 0)
        r = layer_finish(l, NULL, NULL, e);
    layer_close(l);
    return r;
}

static int open_archive(struct bundle *b, int fd, merge_progress p, void *ctx, struct err *e)
{
    int r = classify(fd, &b->kind, e);

    if (r < 0)
        return r;
    if (b->kind == BUNDLE_ROOTFS) {
        b->tar = dup(fd);
        return b->tar < 0 ? err_errno(e, -errno, "dup") : 0;
    }
    return spool(b, fd, p, ctx, e);
}

static int open_folder(struct bundle *b, int fd, const char *path, merge_progress p, void *ctx,
                       struct err *e)
{
    if (faccessat(fd, "index.json", F_OK, AT_SYMLINK_NOFOLLOW) == 0 &&
        faccessat(fd, "blobs", F_OK, AT_SYMLINK_NOFOLLOW) == 0) {
        b->kind = BUNDLE_OCI;
        b->dir = dup(fd);
        return b->dir < 0 ? err_errno(e, -errno, "dup") : 0;
    }
    b->kind = BUNDLE_ROOTFS;
    b->tar = openat(b->work, "folder.tar", O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (b->tar < 0)
        return err_errno(e, -errno, "writing to the store");
    return packdir_write(path, b->tar, p, ctx, e);
}

int bundle_open(const char *path, int work, merge_progress p, void *ctx, struct bundle **ret,
                struct err *e)
{
    CLEANUP(fd) int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    struct stat st;
    int r;

    if (fd < 0 || fstat(fd, &st) < 0)
        return err_errno(e, -errno, "open");
    if (!S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode))
        return err_set(e, -EINVAL, "neither a file nor a folder");
    struct bundle *b = calloc(1, sizeof(*b));
    if (!b)
        return err_set(e, -ENOMEM, "out of memory");
    b->work = work;
    b->dir = b->tar = -1;
    if (S_ISDIR(st.st_mode))
        r = open_folder(b, fd, path, p, ctx, e);
    else
        r = open_archive(b, fd, p, ctx, e);
    if (r < 0) {
        bundle_close(b);
        return r;
    }
    *ret = b;
    return 0;
}

/* A file below the layout's folder; links may not lead out of it. */
static int open_beneath(int dir, const char *name)
{
    struct open_how how = {
        .flags = O_RDONLY | O_CLOEXEC | O_NONBLOCK,
        .resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS,
    };

    return (int)syscall(SYS_openat2, dir, name, &how, sizeof(how));
}

int bundle_member(struct bundle *b, const char *name, int *ret, struct err *e)
{
    CLEANUP(mem) char *plain = normal(NULL, name);
    CLEANUP(fd) int fd = -1;
    char file[32];
    struct stat st;

    if (!plain)
        return err_set(e, -EBADMSG, "the path '%.200s' climbs with '..' or is too long", name);
    if (b->dir >= 0) {
        fd = open_beneath(b->dir, plain);
    } else {
        const struct member *m = find(b, plain);

        for (unsigned i = 0; m && m->link && i < BUNDLE_LINKS_MAX; i++)
            m = find(b, m->link);
        if (!m || m->link)
            return err_set(e, -ENOENT, "incomplete: '%.200s' is not in it", name);
        spool_name(m->number, file);
        fd = openat(b->work, file, O_RDONLY | O_CLOEXEC);
    }
    if (fd < 0 || fstat(fd, &st) < 0)
        return errno == ENOENT ? err_set(e, -ENOENT, "incomplete: '%.200s' is not in it", name)
                               : err_errno(e, -errno, "'%.200s'", name);
    if (!S_ISREG(st.st_mode))
        return err_set(e, -EBADMSG, "'%.200s' is not a file", name);
    *ret = take_fd(&fd);
    return 0;
}

int bundle_document(struct bundle *b, const char *name, void **p, size_t *n, struct err *e)
{
    CLEANUP(fd) int fd = -1;
    CLEANUP(mem) char *buf = NULL;
    struct stat st;
    size_t got = 0;
    int r = bundle_member(b, name, &fd, e);

    if (r < 0)
        return r;
    if (fstat(fd, &st) < 0 || st.st_size > OCI_DOC_MAX)
        return err_set(e, -EBADMSG, "'%.200s' is larger than %d MiB", name, OCI_DOC_MAX >> 20);
    buf = malloc((size_t)st.st_size + 1);
    if (!buf)
        return err_set(e, -ENOMEM, "out of memory");
    while (got < (size_t)st.st_size) {
        ssize_t k = read(fd, buf + got, (size_t)st.st_size - got);

        if (k < 0 && errno != EINTR)
            return err_errno(e, -errno, "'%.200s'", name);
        if (k == 0)
            break;
        got += k > 0 ? (size_t)k : 0;
    }
    buf[got] = '\0';
    *p = take_ptr(&buf);
    *n = got;
    return 0;
}

int bundle_rootfs(struct bundle *b, int *fd, struct err *e)
{
    BUG_ON(b->kind != BUNDLE_ROOTFS);
    *fd = dup(b->tar);
    return *fd < 0 ? err_errno(e, -errno, "dup") : 0;
}
