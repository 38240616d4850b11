#include "proto/packread.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <linux/openat2.h>

#include "base/cleanup.h"

struct folder { /* that entries may still come into */
    int fd;
    size_t len; /* of its path in the stream */
    uint32_t mode, uid, gid;
    struct timespec mtime;
    bool known; /* its facts were told */
};

struct reader {
    const struct packread_conf *c;
    struct pack_in *in;
    struct pack_record rec;
    int base;
    struct folder open[PACKREAD_OPEN_MAX];
    unsigned n_open;
    char at[PACK_PATH_MAX + 1]; /* path of open[n_open - 1] */
    char full[2 * PACK_PATH_MAX + 300];
};

/* Beneath `dir`; relative to the container's root where links are followed. */
static int open_beneath(int dir, const char *path, int flags, uint64_t resolve)
{
    struct open_how how = {.flags = (uint64_t)flags | O_CLOEXEC, .resolve = resolve};
    long fd;

    for (unsigned tries = 0; tries < 100; tries++) {
        fd = syscall(SYS_openat2, dir, path[0] ? path : ".", &how, sizeof(how));
        if (fd >= 0 || errno != EAGAIN)
            break;
    }
    return fd < 0 ? -errno : (int)fd;
}

static const char *shown(const struct pack_entry *en, const struct packread_conf *c)
{
    return en->path[0] ? en->path : c->name ? c->name : c->base;
}

/* ---- folders */

static struct timespec mtime_of(const struct pack_entry *en)
{
    return (struct timespec){.tv_sec = (time_t)en->mtime_s, .tv_nsec = en->mtime_ns};
}

static void set_times(int fd, struct timespec mtime)
{
    const struct timespec t[2] = {mtime, mtime};

    (void)futimens(fd, t);
}

static mode_t mode_of(const struct packread_conf *c, uint32_t mode)
{
    return (mode_t)(c->keep ? mode & 07777 : mode & 01777);
}

/* Last, because what is put into a folder changes its time, and may need its permission. */
static void close_top(struct reader *r)
{
    struct folder *f = &r->open[--r->n_open];

    if (f->known) {
        (void)!fchmod(f->fd, mode_of(r->c, f->mode));
        set_times(f->fd, f->mtime);
    }
    close(f->fd);
    r->at[r->n_open > 0 ? r->open[r->n_open - 1].len : 0] = '\0';
}

static bool is_inside(const char *path, const char *folder, size_t len)
{
    return len == 0 || (strncmp(path, folder, len) == 0 && path[len] == '/');
}

/* What the stream calls `path`, from where lookups begin. */
static const char *full_path(struct reader *r, const char *path)
{
    const struct packread_conf *c = r->c;
    const char *base = c->follow ? c->base : "", *name = c->name ? c->name : "";
    bool s1 = base[0] && (name[0] || path[0]), s2 = name[0] && path[0];

    snprintf(r->full, sizeof(r->full), "%s%s%s%s%s", base, s1 ? "/" : "", name, s2 ? "/" : "",
             path);
    return r->full;
}

static int open_folder(struct reader *r, const char *path);

/* Folders that no entry told of: an archive may leave them out. */
static int make_folders(struct reader *r, const char *path)
{
    char up[PACK_PATH_MAX + 1];
    const char *slash = strrchr(path, '/');
    size_t len = slash ? (size_t)(slash - path) : 0;

    memcpy(up, path, len);
    up[len] = '\0';
    CLEANUP(fd) int dir = open_folder(r, up);
    if (dir == -ENOENT && len > 0) {
        int rc = make_folders(r, up);
        if (rc < 0)
            return rc;
        dir = open_folder(r, up);
    }
    if (dir < 0)
        return dir;
    return mkdirat(dir, slash ? slash + 1 : path, 0755) < 0 && errno != EEXIST ? -errno : 0;
}

static int open_folder(struct reader *r, const char *path)
{
    /* From the base where no link may be on the way, and from the root where they mean that. */
    return open_beneath(r->c->follow ? r->c->root : r->base, full_path(r, path),
                        O_RDONLY | O_DIRECTORY,
                        r->c->follow ? RESOLVE_IN_ROOT : RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS);
}

/* The folder that `path` is in: owned by the reader while *own < 0, else *own by the caller. The
 * last component is *leaf. */
static int parent_of(struct reader *r, const char *path, const char **leaf, int *own)
{
    char dir[PACK_PATH_MAX + 1];
    const char *slash = strrchr(path, '/');
    size_t len = slash ? (size_t)(slash - path) : 0;

    *own = -1;
    *leaf = slash ? slash + 1 : path;
    if (!path[0]) { /* the tree's root, by its name */
        *leaf = r->c->name;
        return r->base;
    }
    if (r->n_open > 0 && r->open[r->n_open - 1].len == len && memcmp(r->at, path, len) == 0)
        return r->open[r->n_open - 1].fd;
    memcpy(dir, path, len);
    dir[len] = '\0';
    *own = open_folder(r, dir);
    if (*own == -ENOENT && len > 0 && make_folders(r, dir) == 0)
        *own = open_folder(r, dir);
    return *own;
}

static void push(struct reader *r, int fd, const struct pack_entry *en, bool known)
{
    if (r->n_open == PACKREAD_OPEN_MAX || !is_inside(en->path, r->at, strlen(r->at))) {
        close(fd);
        return;
    }
    size_t len = strlen(en->path);
    r->open[r->n_open++] = (struct folder){
        .fd = fd, .len = len, .mode = en->mode, .mtime = mtime_of(en), .known = known};
    memcpy(r->at, en->path, len + 1);
}

static int set_owner(struct reader *r, int fd, const struct pack_entry *en)
{
    const struct packread_conf *c = r->c;
    uid_t uid = c->keep ? en->uid : c->uid;
    gid_t gid = c->keep ? en->gid : c->gid;

    if (uid == (uid_t)-1 && gid == (gid_t)-1)
        return 0;
    return fchownat(fd, "", uid, gid, AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW) < 0 ? -errno : 0;
}

static void set_xattrs(struct reader *r, int fd, const struct pack_entry *en)
{
    for (unsigned i = 0; r->c->keep && i < en->n_xattrs; i++)
        (void)fsetxattr(fd, en->xattr[i].name, en->xattr[i].value, en->xattr[i].len, 0);
}

static int make_folder(struct reader *r, int dir, const char *leaf, const struct pack_entry *en,
                       struct err *e)
{
    if (mkdirat(dir, leaf, 0700) < 0 && errno != EEXIST)
        return err_errno(e, -errno, "%s", shown(en, r->c));
    int fd = openat(dir, leaf, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0 && r->c->follow && (errno == ENOTDIR || errno == ELOOP))
        fd = open_folder(r, en->path); /* a link to a folder, where that is the way */
    if (fd < 0)
        return err_set(e, -ENOTDIR, "cannot overwrite non-directory '%s' with directory",
                       shown(en, r->c));
    int rc = set_owner(r, fd, en);
    set_xattrs(r, fd, en);
    if (rc < 0) {
        close(fd);
        return err_errno(e, rc, "%s", shown(en, r->c));
    }
    push(r, fd, en, true);
    return 0;
}

/* ---- all else */

/* Make room for something that is no folder. */
static int clear(int dir, const char *leaf, const struct pack_entry *en, struct reader *r,
                 struct err *e)
{
    if (unlinkat(dir, leaf, 0) == 0 || errno == ENOENT)
        return 0;
    if (errno == EISDIR)
        return err_set(e, -EISDIR, "cannot overwrite directory '%s' with non-directory",
                       shown(en, r->c));
    return errno == EBUSY ? 1 : err_errno(e, -errno, "%s", shown(en, r->c));
}

/* Its content, up to the next entry: which is then in r->rec. */
static int fill_file(struct reader *r, int fd, const char *name, struct err *e)
{
    off_t at = 0;
    bool hole = false;

    for (;;) {
        int rc = pack_next(r->in, &r->rec, e);

        if (rc < 0)
            return rc;
        if (r->rec.kind == PACK_HOLE) {
            if (__builtin_add_overflow(at, (off_t)r->rec.len, &at))
                return err_set(e, -EFBIG, "%s", name);
            hole = true;
            continue;
        }
        if (r->rec.kind != PACK_DATA)
            break;
        for (size_t done = 0; done < r->rec.len;) {
            ssize_t n = pwrite(fd, r->rec.data + done, r->rec.len - done, at);

            if (n < 0 && errno == EINTR)
                continue;
            if (n <= 0)
                return err_errno(e, n < 0 ? -errno : -EIO, "%s", name);
            done += (size_t)n;
            at += n;
        }
        hole = false;
    }
    return hole && ftruncate(fd, at) < 0 ? err_errno(e, -errno, "%s", name) : 0;
}

/* The entry's facts are copied: its successor overwrites r->rec. */
static int make_file(struct reader *r, int dir, const char *leaf, bool busy, struct err *e)
{
    struct pack_entry en = r->rec.entry;
    char name[256];

    snprintf(name, sizeof(name), "%s", shown(&en, r->c));
    /* One that is mounted on cannot be replaced, only written. */
    CLEANUP(fd)
    int fd = openat(dir, leaf,
                    O_WRONLY | O_NOFOLLOW | O_CLOEXEC | O_NOCTTY |
                        (busy ? O_TRUNC | O_NONBLOCK : O_CREAT | O_EXCL),
                    0600);
    if (fd < 0)
        return err_errno(e, -errno, "%s", name);
    int rc = busy ? 0 : set_owner(r, fd, &en);
    if (rc < 0)
        return err_errno(e, rc, "%s", name);
    set_xattrs(r, fd, &en);
    rc = fill_file(r, fd, name, e);
    if (rc < 0)
        return rc;
    if (!busy && fchmod(fd, mode_of(r->c, en.mode)) < 0)
        return err_errno(e, -errno, "%s", name);
    set_times(fd, mtime_of(&en));
    return 0;
}

static int make_hardlink(struct reader *r, int dir, const char *leaf, const struct pack_entry *en)
{
    const char *from;
    CLEANUP(fd) int own = -1;
    int parent = parent_of(r, en->link, &from, &own);

    if (parent < 0)
        return parent;
    return linkat(parent, from, dir, leaf, 0) < 0 ? -errno : 0;
}

static int make_node(struct reader *r, int dir, const char *leaf, const struct pack_entry *en)
{
    static const mode_t format[] = {
        [PACK_CHAR] = S_IFCHR, [PACK_BLOCK] = S_IFBLK, [PACK_FIFO] = S_IFIFO};

    if (en->type != PACK_FIFO && !r->c->devices)
        return -EPERM;
    return mknodat(dir, leaf, format[en->type] | 0600, makedev(en->major, en->minor)) < 0 ? -errno
                                                                                          : 0;
}

/* Links and nodes: no content, and no descriptor to write through. */
static int make_other(struct reader *r, int dir, const char *leaf, const struct pack_entry *en,
                      struct err *e)
{
    const struct timespec t[2] = {mtime_of(en), mtime_of(en)};
    int rc;

    if (en->type == PACK_HARDLINK)
        rc = make_hardlink(r, dir, leaf, en);
    else if (en->type == PACK_SYMLINK)
        rc = symlinkat(en->link, dir, leaf) < 0 ? -errno : 0;
    else
        rc = make_node(r, dir, leaf, en);
    if (rc < 0)
        return err_errno(e, rc, "%s", shown(en, r->c));
    if (en->type == PACK_HARDLINK)
        return 0;
    CLEANUP(fd) int fd = openat(dir, leaf, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    rc = fd < 0 ? -errno : set_owner(r, fd, en);
    if (rc == 0 && en->type != PACK_SYMLINK && fchmodat(dir, leaf, mode_of(r->c, en->mode), 0) < 0)
        rc = -errno;
    (void)utimensat(dir, leaf, t, AT_SYMLINK_NOFOLLOW);
    return rc < 0 ? err_errno(e, rc, "%s", shown(en, r->c)) : 0;
}

/* r->rec is an entry; afterwards, of a file, what follows it. */
static int take(struct reader *r, bool *ahead, struct err *e)
{
    const struct pack_entry *en = &r->rec.entry;
    const char *leaf;
    CLEANUP(fd) int own = -1;

    *ahead = false;
    while (r->n_open > 0 && !is_inside(en->path, r->at, strlen(r->at)))
        close_top(r);
    if (!en->path[0] && !r->c->name) { /* what is there already */
        if (en->type != PACK_DIR)
            return err_set(e, -ENOTDIR, "not a folder's content");
        int fd = open_folder(r, "");
        if (fd < 0)
            return err_errno(e, fd, "%s", r->c->base);
        push(r, fd, en, false);
        return 0;
    }
    int dir = parent_of(r, en->path, &leaf, &own);
    if (dir < 0)
        return err_errno(e, dir, "%s", shown(en, r->c));
    if (en->type == PACK_DIR)
        return make_folder(r, dir, leaf, en, e);
    if (en->type == PACK_ABSENT)
        return err_set(e, -EBADMSG, "a stream of files is damaged: it has differences");
    int rc = clear(dir, leaf, en, r, e);
    if (rc < 0)
        return rc;
    if (en->type != PACK_FILE)
        return rc == 1 ? err_errno(e, -EBUSY, "%s", shown(en, r->c))
                       : make_other(r, dir, leaf, en, e);
    *ahead = true;
    return make_file(r, dir, leaf, rc == 1, e);
}

int packread(struct pack_in *in, const struct packread_conf *c, struct err *e)
{
    struct reader *r = calloc(1, sizeof(*r));
    bool ahead = false;

    if (!r)
        return err_errno(e, -ENOMEM, "%s", c->base);
    r->c = c;
    r->in = in;
    r->base = open_beneath(c->root, c->base, O_RDONLY | O_DIRECTORY, RESOLVE_IN_ROOT);
    int rc = r->base < 0 ? err_errno(e, r->base, "%s", c->base) : 0;
    if (rc == 0 && c->first) {
        r->rec = *c->first;
        ahead = true;
    }
    while (rc == 0) {
        rc = ahead ? 0 : pack_next(in, &r->rec, e);
        if (rc == 0 && r->rec.kind == PACK_END)
            break;
        ahead = false;
        if (rc == 0 && r->rec.kind == PACK_ENTRY)
            rc = take(r, &ahead, e); /* content without a file does not come: pack_next() */
    }
    while (r->n_open > 0)
        close_top(r);
    cleanup_fd(&r->base);
    free(r);
    return rc;
}

/* ---- where to */

/* "a/b/c/" -> "a/b" and "c". */
static void split(const char *path, char *dir, size_t dir_len, char *leaf, size_t leaf_len)
{
    size_t n = strlen(path);

    while (n > 1 && path[n - 1] == '/')
        n--;
    size_t cut = n;
    while (cut > 0 && path[cut - 1] != '/')
        cut--;
    snprintf(leaf, leaf_len, "%.*s", (int)(n - cut), path + cut);
    while (cut > 1 && path[cut - 1] == '/')
        cut--;
    snprintf(dir, dir_len, "%.*s", (int)cut, path);
}

static bool name_of(int fd, char *out, size_t len)
{
    char link[64];

    snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, out, len - 1);
    if (n <= 0 || out[0] != '/')
        return false;
    out[n] = '\0';
    return true;
}

/* What an open file is called in `root`, links resolved; where /proc does not tell, the path
 * stands. */
static void real_name(int root, int fd, char *path, size_t len)
{
    char top[PACK_PATH_MAX + 1], real[PACK_PATH_MAX + 1];
    size_t n;

    if (!name_of(root, top, sizeof(top)) || !name_of(fd, real, sizeof(real)))
        return;
    n = strcmp(top, "/") == 0 ? 0 : strlen(top);
    if (strncmp(real, top, n) == 0 && real[n] == '/')
        snprintf(path, len, "%s", real + n);
}

int packread_find_dest(int root, bool in_root, const char *dest, bool folder, const char *name,
                       bool contents, struct packread_dest *out, struct err *e)
{
    char path[PACK_PATH_MAX + 1];
    size_t n = strlen(dest);
    bool slash = n > 0 && (dest[n - 1] == '/' || (n > 1 && strcmp(dest + n - 2, "/.") == 0));
    struct stat st;

    if (n == 0 || n > PACK_PATH_MAX || strlen(name) >= sizeof(out->name))
        return err_errno(e, n == 0 ? -ENOENT : -ENAMETOOLONG, "%s", dest);
    memcpy(path, dest, n + 1);
    out->name[0] = '\0';
    CLEANUP(fd) int fd = open_beneath(root, path, O_PATH, in_root ? RESOLVE_IN_ROOT : 0);
    if (fd < 0 && fd != -ENOENT)
        return err_errno(e, fd, "%s", dest);
    if (fd >= 0 && fstat(fd, &st) == 0 && S_ISDIR(st.st_mode)) {
        memcpy(out->base, path, n + 1);
        if (!(folder && contents))
            snprintf(out->name, sizeof(out->name), "%s", name);
        return 0;
    }
    if (fd >= 0 && folder)
        return err_set(e, -ENOTDIR, "cannot copy directory to '%s': it is not a directory", dest);
    if (fd >= 0 && slash)
        return err_set(e, -ENOTDIR, "'%s' is not a directory", dest);
    if (fd < 0 && slash && !folder)
        return err_set(e, -ENOENT, "no such directory: '%s'", dest);
    if (fd >= 0)
        real_name(root, fd, path, sizeof(path));
    split(path, out->base, sizeof(out->base), out->name, sizeof(out->name));
    CLEANUP(fd)
    int up = open_beneath(root, out->base, O_PATH | O_DIRECTORY, in_root ? RESOLVE_IN_ROOT : 0);
    if (up < 0)
        return err_set(e, -ENOENT, "no such directory: '%s'", out->base[0] ? out->base : "/");
    if (!out->name[0] || strcmp(out->name, ".") == 0 || strcmp(out->name, "..") == 0)
        return err_set(e, -ENOENT, "no such directory: '%s'", dest);
    return 0;
}
