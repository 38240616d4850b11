#include "proto/packwrite.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <linux/magic.h>
#include <linux/openat2.h>

#include "base/cleanup.h"

enum { CHUNK = 65536, LINK_BUCKETS = 4096 };

struct hardlink {
    struct hardlink *next;
    dev_t dev;
    ino_t ino;
    char path[];
};

struct room { /* where attributes are kept */
    char names[4096];
    uint8_t values[PACK_XATTR_BYTES_MAX];
};

struct walk {
    const struct packwrite_conf *c;
    struct pack_out *o;
    unsigned depth, n_links;
    struct hardlink *bucket[LINK_BUCKETS];
    size_t len; /* of path */
    char path[PACK_PATH_MAX + 1];
    char link[PACK_PATH_MAX + 1];
    struct pack_entry entry;
    struct room room;
};

int packwrite_open(int root, const char *path, int flags)
{
    struct open_how how = {.flags = (uint64_t)flags | O_CLOEXEC, .resolve = RESOLVE_IN_ROOT};
    long fd;

    /* Somebody renames folders meanwhile: the kernel asks to try again. */
    for (unsigned tries = 0; tries < 100; tries++) {
        fd = syscall(SYS_openat2, root, path[0] ? path : ".", &how, sizeof(how));
        if (fd >= 0 || errno != EAGAIN)
            break;
    }
    return fd < 0 ? -errno : (int)fd;
}

bool packwrite_entry(const struct stat *st, const char *link, struct pack_entry *en)
{
    static const struct {
        mode_t format;
        enum pack_type type;
    } types[] = {
        {S_IFREG, PACK_FILE}, {S_IFDIR, PACK_DIR},   {S_IFLNK, PACK_SYMLINK},
        {S_IFCHR, PACK_CHAR}, {S_IFBLK, PACK_BLOCK}, {S_IFIFO, PACK_FIFO},
    };
    enum pack_type type = 0;

    for (unsigned i = 0; i < ARRAY_LEN(types); i++)
        if ((st->st_mode & S_IFMT) == types[i].format)
            type = types[i].type;
    bool device = type == PACK_CHAR || type == PACK_BLOCK;
    *en = (struct pack_entry){
        .type = type,
        .mode = st->st_mode & 07777,
        .uid = st->st_uid,
        .gid = st->st_gid,
        .mtime_s = st->st_mtim.tv_sec,
        .mtime_ns = (uint32_t)st->st_mtim.tv_nsec,
        .size = type == PACK_FILE ? (uint64_t)st->st_size : 0,
        .major = device ? major(st->st_rdev) : 0,
        .minor = device ? minor(st->st_rdev) : 0,
        .link = link,
    };
    return type != 0;
}

/* ---- what is in a file */

static int copy_range(int fd, off_t at, off_t end, struct pack_out *o, const char *name,
                      struct err *e)
{
    uint8_t buf[CHUNK];

    while (at < end) {
        size_t want = end - at < CHUNK ? (size_t)(end - at) : CHUNK;
        ssize_t n = pread(fd, buf, want, at);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return err_errno(e, -errno, "%s", name);
        if (n == 0)
            return 0; /* cut meanwhile */
        int r = pack_put_data(o, buf, (size_t)n);
        if (r < 0)
            return err_errno(e, r, "write");
        at += n;
    }
    return 0;
}

static int copy_content(int fd, struct pack_out *o, const char *name, struct err *e)
{
    struct stat st;
    int r = 0;

    if (fstat(fd, &st) < 0)
        return err_errno(e, -errno, "%s", name);
    for (off_t at = 0; r == 0 && at < st.st_size;) {
        off_t data = lseek(fd, at, SEEK_DATA);

        if (data < 0)
            data = errno == ENXIO ? st.st_size : at;
        if (data > st.st_size)
            data = st.st_size;
        if (data > at) {
            r = pack_put_hole(o, (uint64_t)(data - at));
            at = data;
            if (r < 0)
                return err_errno(e, r, "write");
            continue;
        }
        off_t hole = lseek(fd, at, SEEK_HOLE);
        if (hole <= at || hole > st.st_size)
            hole = st.st_size;
        r = copy_range(fd, at, hole, o, name, e);
        at = hole;
    }
    return r;
}

static bool overlay_own(const char *name)
{
    return strncmp(name, "trusted.overlay.", 16) == 0 || strncmp(name, "user.overlay.", 13) == 0;
}

static void read_xattrs(int fd, struct pack_entry *en, struct room *room)
{
    ssize_t n = flistxattr(fd, room->names, sizeof(room->names));
    size_t used = 0;

    for (const char *name = room->names; n > 0 && name < room->names + n;
         name += strlen(name) + 1) {
        if (en->n_xattrs == PACK_XATTRS_MAX)
            return;
        if (overlay_own(name) || strcmp(name, "security.selinux") == 0 ||
            strlen(name) > PACK_XATTR_NAME_MAX)
            continue;
        ssize_t len = fgetxattr(fd, name, room->values + used, sizeof(room->values) - used);
        if (len < 0)
            continue;
        en->xattr[en->n_xattrs++] = (struct pack_xattr){name, room->values + used, (uint32_t)len};
        used += (size_t)len;
    }
}

/* ---- the walk */

/* The path under which a file of several names was told before; else it is remembered. */
static const char *known_link(struct walk *w, const struct stat *st)
{
    struct hardlink **b = &w->bucket[(st->st_ino ^ st->st_dev) % LINK_BUCKETS];

    if (st->st_nlink < 2 || !S_ISREG(st->st_mode))
        return NULL;
    for (const struct hardlink *h = *b; h; h = h->next)
        if (h->dev == st->st_dev && h->ino == st->st_ino)
            return h->path;
    struct hardlink *h = w->n_links < PACKWRITE_LINKS_MAX ? malloc(sizeof(*h) + w->len + 1) : NULL;
    if (h) {
        w->n_links++;
        h->dev = st->st_dev;
        h->ino = st->st_ino;
        memcpy(h->path, w->path, w->len + 1);
        h->next = *b;
        *b = h;
    }
    return NULL;
}

static void links_done(struct walk *w)
{
    for (unsigned i = 0; i < LINK_BUCKETS; i++)
        for (struct hardlink *h = w->bucket[i], *next; h; h = next) {
            next = h->next;
            free(h);
        }
}

static const char *shown(const struct walk *w)
{
    return w->len ? w->path : w->c->path;
}

/* File systems that show the kernel, not files. */
static bool kernels_own(int fd)
{
    static const long magic[] = {PROC_SUPER_MAGIC,    SYSFS_MAGIC,   CGROUP_SUPER_MAGIC,
                                 CGROUP2_SUPER_MAGIC, DEBUGFS_MAGIC, TRACEFS_MAGIC,
                                 SECURITYFS_MAGIC,    BPF_FS_MAGIC,  DEVPTS_SUPER_MAGIC};
    struct statfs s;

    for (unsigned i = 0; fstatfs(fd, &s) == 0 && i < ARRAY_LEN(magic); i++)
        if ((long)s.f_type == magic[i])
            return true;
    return false;
}

static int put_entry(struct walk *w, struct err *e)
{
    w->entry.path = w->path;
    int r = pack_put_entry(w->o, &w->entry);
    return r < 0 ? err_errno(e, r, "%s", shown(w)) : 0;
}

static int walk_one(struct walk *w, int dir, const char *name, dev_t parent_dev, struct err *e);

static int walk_dir(struct walk *w, int fd, const struct stat *st, dev_t parent_dev, struct err *e)
{
    int copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    CLEANUP(dir) DIR *d = copy < 0 ? NULL : fdopendir(copy);
    const struct dirent *de;
    size_t len = w->len;
    int r = 0;

    if (!d) {
        r = err_errno(e, -errno, "%s", shown(w));
        cleanup_fd(&copy);
        return r;
    }
    if (w->c->xattrs)
        read_xattrs(fd, &w->entry, &w->room);
    r = put_entry(w, e);
    if (r < 0 || (st->st_dev != parent_dev && (w->c->one_fs || kernels_own(fd))))
        return r;
    if (++w->depth > PACKWRITE_DEPTH_MAX)
        return err_set(e, -ELOOP, "%s: more than %d folders in folders", shown(w),
                       PACKWRITE_DEPTH_MAX);
    while (r == 0 && (errno = 0, de = readdir(d))) {
        if (strcmp(de->d_name, ".") == 0 || strcmp(de->d_name, "..") == 0)
            continue;
        int n = snprintf(w->path + len, sizeof(w->path) - len, "%s%s", len ? "/" : "", de->d_name);
        if (n < 0 || (size_t)n >= sizeof(w->path) - len) {
            w->path[len] = '\0';
            return err_errno(e, -ENAMETOOLONG, "in %s", shown(w));
        }
        w->len = len + (size_t)n;
        r = walk_one(w, dirfd(d), de->d_name, st->st_dev, e);
        w->len = len;
        w->path[len] = '\0';
    }
    w->depth--;
    return r;
}

static int walk_file(struct walk *w, int fd, const struct stat *st, struct err *e)
{
    const char *first = known_link(w, st);

    if (first) {
        w->entry.type = PACK_HARDLINK;
        w->entry.size = 0;
        w->entry.link = first;
        return put_entry(w, e);
    }
    if (w->c->xattrs)
        read_xattrs(fd, &w->entry, &w->room);
    int r = put_entry(w, e);
    return r < 0 ? r : copy_content(fd, w->o, shown(w), e);
}

/* An O_PATH descriptor of something of this kind, opened for reading; what it is may have changed
 * in between, so its facts are taken anew. */
static int open_again(int at, const char *name, bool folder, struct stat *st)
{
    int fd = openat(at, name,
                    O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC |
                        (folder ? O_DIRECTORY : 0));

    if (fd < 0)
        return -errno;
    if (fstat(fd, st) < 0 || (!folder && !S_ISREG(st->st_mode))) {
        close(fd);
        return -ENOENT;
    }
    return fd;
}

/* `name` "" : `dir` is it itself. */
static int walk_opened(struct walk *w, int fd, struct stat *st, dev_t parent_dev, struct err *e)
{
    if (!packwrite_entry(st, "", &w->entry))
        return 0;
    if (S_ISDIR(st->st_mode))
        return walk_dir(w, fd, st, parent_dev, e);
    return walk_file(w, fd, st, e);
}

static int walk_link(struct walk *w, int dir, const char *name, struct err *e)
{
    ssize_t n = readlinkat(dir, name, w->link, sizeof(w->link));

    if (n <= 0 || n == sizeof(w->link))
        return n < 0 && errno != ENOENT && errno != EINVAL ? err_errno(e, -errno, "%s", shown(w))
                                                           : 0;
    w->link[n] = '\0';
    w->entry.link = w->link;
    return put_entry(w, e);
}

static int walk_one(struct walk *w, int dir, const char *name, dev_t parent_dev, struct err *e)
{
    struct stat st;

    if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW | (name[0] ? 0 : AT_EMPTY_PATH)) < 0)
        return errno == ENOENT ? 0 : err_errno(e, -errno, "%s", shown(w));
    if (S_ISLNK(st.st_mode)) {
        (void)packwrite_entry(&st, "", &w->entry);
        return walk_link(w, dir, name, e);
    }
    if (!S_ISDIR(st.st_mode) && !S_ISREG(st.st_mode)) {
        if (!packwrite_entry(&st, "", &w->entry))
            return 0; /* a socket */
        return put_entry(w, e);
    }
    CLEANUP(fd) int fd = open_again(dir, name, S_ISDIR(st.st_mode), &st);
    if (fd < 0)
        return fd == -ENOENT || fd == -ENOTDIR || fd == -ELOOP ? 0
                                                               : err_errno(e, fd, "%s", shown(w));
    return walk_opened(w, fd, &st, parent_dev, e);
}

/* The tree's root, which is found by a path. */
static int walk_root(struct walk *w, struct err *e)
{
    const struct packwrite_conf *c = w->c;
    CLEANUP(fd) int fd = packwrite_open(c->root, c->path, O_PATH | (c->follow ? 0 : O_NOFOLLOW));
    struct stat st;

    if (fd < 0)
        return err_errno(e, fd, "%s", c->path);
    if (fstat(fd, &st) < 0)
        return err_errno(e, -errno, "%s", c->path);
    if (S_ISDIR(st.st_mode) || S_ISREG(st.st_mode)) {
        CLEANUP(fd)
        int again = packwrite_open(c->root, c->path,
                                   O_RDONLY | O_NONBLOCK | O_NOCTTY | (c->follow ? 0 : O_NOFOLLOW));
        if (again < 0)
            return err_errno(e, again, "%s", c->path);
        if (fstat(again, &st) < 0 || (!S_ISDIR(st.st_mode) && !S_ISREG(st.st_mode)))
            return err_errno(e, -EAGAIN, "%s", c->path);
        return walk_opened(w, again, &st, st.st_dev, e);
    }
    if (!packwrite_entry(&st, "", &w->entry))
        return err_set(e, -EINVAL, "%s: a socket cannot be copied", c->path);
    return S_ISLNK(st.st_mode) ? walk_link(w, fd, "", e) : put_entry(w, e);
}

int packwrite(const struct packwrite_conf *c, struct pack_out *o, struct err *e)
{
    struct walk *w = calloc(1, sizeof(*w));

    if (!w)
        return err_errno(e, -ENOMEM, "%s", c->path);
    w->c = c;
    w->o = o;
    int r = walk_root(w, e);
    links_done(w);
    free(w);
    return r;
}
