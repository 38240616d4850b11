#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/statfs.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "fs/fusereq.h"

enum { MODE_KEPT = 01777 }; /* no set-user-ID, no set-group-ID */
enum { OPEN_KEPT = O_ACCMODE | O_TRUNC | O_SYNC | O_DSYNC };

/* The arguments' fixed part; -EINVAL when the guest sent less. */
#define TAKE(r, in)                          \
    do {                                     \
        if ((r)->arg_len < sizeof(in))       \
            return -EINVAL;                  \
        memcpy(&(in), (r)->arg, sizeof(in)); \
    } while (0)

static void reply(struct fusereq *r, const void *p, size_t len)
{
    memcpy(r->reply, p, len);
    r->reply_len = len;
}

static int result(int r)
{
    return r < 0 ? -errno : 0;
}

/* /proc/self/fd/N of an O_PATH descriptor, for calls that do not take one. */
struct self {
    char name[16];
};

static struct self self_of(int fd)
{
    struct self s;

    snprintf(s.name, sizeof(s.name), "%d", fd);
    return s;
}

static int op_init(struct fusereq *r)
{
    struct {
        uint32_t major, minor, max_readahead, flags;
    } in;
    TAKE(r, in);
    struct fuse_init_out out = {.major = FUSE_KERNEL_VERSION,
                                .minor = 31,
                                .max_readahead = in.max_readahead,
                                .flags = in.flags &
                                         (FUSE_ASYNC_READ | FUSE_ATOMIC_O_TRUNC | FUSE_BIG_WRITES |
                                          FUSE_DO_READDIRPLUS | FUSE_READDIRPLUS_AUTO |
                                          FUSE_PARALLEL_DIROPS | FUSE_MAX_PAGES),
                                .max_background = 64,
                                .congestion_threshold = 48,
                                .max_write = FUSEFS_IO_MAX,
                                .time_gran = 1,
                                .max_pages = FUSEFS_IO_MAX / 4096};

    if (in.major < FUSE_KERNEL_VERSION || (in.major == FUSE_KERNEL_VERSION && in.minor < 28))
        return -EPROTO; /* FUSE_MAX_PAGES came with 28 */
    fusefs_reset(r->f);
    reply(r, &out, sizeof(out));
    return 0;
}

static int op_destroy(struct fusereq *r)
{
    fusefs_reset(r->f);
    return 0;
}

static int reply_entry(struct fusereq *r, int dir, const char *name)
{
    struct fuse_entry_out e;
    int n = fusereq_entry(r->f, dir, r->node, name, &e);

    if (n == 0)
        reply(r, &e, sizeof(e));
    return n;
}

static int op_lookup(struct fusereq *r)
{
    const char *name = fusereq_name(r, 0, 0);
    if (!name)
        return -EINVAL;
    CLEANUP(fd) int dir = fusereq_walk(r->f, r->node);

    return dir < 0 ? dir : reply_entry(r, dir, name);
}

static int op_forget(struct fusereq *r)
{
    struct fuse_forget_in in;

    if (r->arg_len < sizeof(in))
        return FUSEREQ_SILENT;
    memcpy(&in, r->arg, sizeof(in));
    fnode_forget(&r->f->nodes, r->h.nodeid, in.nlookup);
    return FUSEREQ_SILENT;
}

static int op_batch_forget(struct fusereq *r)
{
    struct fuse_batch_forget_in in;
    struct fuse_forget_one one;

    if (r->arg_len < sizeof(in))
        return FUSEREQ_SILENT;
    memcpy(&in, r->arg, sizeof(in));
    for (size_t at = sizeof(in); in.count > 0 && r->arg_len - at >= sizeof(one); in.count--) {
        memcpy(&one, r->arg + at, sizeof(one));
        fnode_forget(&r->f->nodes, one.nodeid, one.nlookup);
        at += sizeof(one);
    }
    return FUSEREQ_SILENT;
}

static int reply_attr(struct fusereq *r, int fd)
{
    struct fuse_attr_out out = {.attr_valid = 1};
    struct stat st;

    if (fstat(fd, &st) < 0)
        return -errno;
    fusereq_attr(&st, &out.attr);
    reply(r, &out, sizeof(out));
    return 0;
}

static int op_getattr(struct fusereq *r)
{
    struct fuse_getattr_in in;
    TAKE(r, in);
    struct fusefs_handle *h =
        in.getattr_flags & FUSE_GETATTR_FH ? fusereq_handle(r->f, in.fh) : NULL;
    if (h)
        return reply_attr(r, h->fd);
    CLEANUP(fd) int fd = fusereq_walk(r->f, r->node);
    return fd < 0 ? fd : reply_attr(r, fd);
}

static int set_size(struct fusereq *r, int fd, const struct fusefs_handle *h, uint64_t size)
{
    uint64_t fh;

    if (h)
        return result(ftruncate(h->fd, (off_t)size));
    int n = fusereq_open(r->f, r->node, fd, O_WRONLY, false, &fh);
    if (n < 0)
        return n;
    n = result(ftruncate(fusereq_handle(r->f, fh)->fd, (off_t)size));
    fusereq_close(r->f, fh);
    return n;
}

static struct timespec new_time(uint32_t valid, uint32_t set, uint32_t now, uint64_t s, uint32_t ns)
{
    if (!(valid & set))
        return (struct timespec){.tv_nsec = UTIME_OMIT};
    if (valid & now)
        return (struct timespec){.tv_nsec = UTIME_NOW};
    return (struct timespec){.tv_sec = (time_t)s, .tv_nsec = ns};
}

static int set_attr(struct fusereq *r, int fd, const struct fuse_setattr_in *in)
{
    const struct fusefs_handle *h = in->valid & FATTR_FH ? fusereq_handle(r->f, in->fh) : NULL;
    int n = 0;

    if (in->valid & FATTR_MODE)
        n = result(fchmodat(r->f->procfd, self_of(fd).name, in->mode & MODE_KEPT, 0));
    if (n == 0 && (in->valid & (FATTR_UID | FATTR_GID)))
        n = result(fchownat(fd, "", in->valid & FATTR_UID ? in->uid : (uid_t)-1,
                            in->valid & FATTR_GID ? in->gid : (gid_t)-1,
                            AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW));
    if (n == 0 && (in->valid & FATTR_SIZE))
        n = set_size(r, fd, h, in->size);
    if (n == 0 && (in->valid & (FATTR_ATIME | FATTR_MTIME))) {
        struct timespec t[2] = {
            new_time(in->valid, FATTR_ATIME, FATTR_ATIME_NOW, in->atime, in->atimensec),
            new_time(in->valid, FATTR_MTIME, FATTR_MTIME_NOW, in->mtime, in->mtimensec)};

        n = result(utimensat(fd, "", t, AT_EMPTY_PATH));
    }
    return n;
}

static int op_setattr(struct fusereq *r)
{
    struct fuse_setattr_in in;
    TAKE(r, in);
    struct fusefs_handle *h = in.valid & FATTR_FH ? fusereq_handle(r->f, in.fh) : NULL;
    CLEANUP(fd) int path = h ? -1 : fusereq_walk(r->f, r->node);

    if (!h && path < 0)
        return path;
    int fd = h ? h->fd : path;
    int n = set_attr(r, fd, &in);
    return n < 0 ? n : reply_attr(r, fd);
}

static int op_readlink(struct fusereq *r)
{
    CLEANUP(fd) int fd = fusereq_walk(r->f, r->node);

    if (fd < 0)
        return fd;
    ssize_t n = readlinkat(fd, "", (char *)r->reply, FNODE_PATH_MAX);
    if (n < 0)
        return errno == ENOENT ? -EINVAL : -errno; /* what readlinkat(2) says of no link */
    r->reply_len = (size_t)n;
    return 0;
}

/* A new name belongs to who asked for it, with just the mode asked for, whatever our umask. */
static int dress(struct fusereq *r, int dir, const char *name, bool set_mode, uint32_t mode)
{
    CLEANUP(fd) int fd = openat(dir, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);

    if (fd < 0)
        return -errno;
    if (r->f->chown &&
        fchownat(fd, "", r->h.uid, r->h.gid, AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW) < 0)
        return -errno;
    if (set_mode && fchmodat(r->f->procfd, self_of(fd).name, mode & MODE_KEPT, 0) < 0)
        return -errno;
    return reply_entry(r, dir, name);
}

static int op_symlink(struct fusereq *r)
{
    const char *name = fusereq_name(r, 0, 0);
    if (!name)
        return -EINVAL;
    const char *target = name + strlen(name) + 1;
    if ((size_t)(target - (const char *)r->arg) >= r->arg_len)
        return -EINVAL;
    CLEANUP(fd) int dir = fusereq_walk(r->f, r->node);
    if (dir < 0)
        return dir;
    if (symlinkat(target, dir, name) < 0)
        return -errno;
    return dress(r, dir, name, false, 0);
}

static int op_mknod(struct fusereq *r)
{
    struct fuse_mknod_in in;
    TAKE(r, in);
    const char *name = fusereq_name(r, sizeof(in), 0);

    if (!name)
        return -EINVAL;
    if (!S_ISREG(in.mode) && !S_ISFIFO(in.mode) && !S_ISSOCK(in.mode))
        return -EPERM; /* a device of the host */
    CLEANUP(fd) int dir = fusereq_walk(r->f, r->node);
    if (dir < 0)
        return dir;
    if (mknodat(dir, name, (in.mode & S_IFMT) | 0600, 0) < 0)
        return -errno;
    return dress(r, dir, name, true, in.mode);
}

static int op_mkdir(struct fusereq *r)
{
    struct fuse_mkdir_in in;
    TAKE(r, in);
    const char *name = fusereq_name(r, sizeof(in), 0);

    if (!name)
        return -EINVAL;
    CLEANUP(fd) int dir = fusereq_walk(r->f, r->node);
    if (dir < 0)
        return dir;
    if (mkdirat(dir, name, 0700) < 0)
        return -errno;
    return dress(r, dir, name, true, in.mode);
}

static int op_remove(struct fusereq *r)
{
    const char *name = fusereq_name(r, 0, 0);
    if (!name)
        return -EINVAL;
    CLEANUP(fd) int dir = fusereq_walk(r->f, r->node);
    if (dir < 0)
        return dir;
    if (unlinkat(dir, name, r->h.opcode == FUSE_RMDIR ? AT_REMOVEDIR : 0) < 0)
        return -errno;
    fnode_detach(&r->f->nodes, r->node, name);
    return 0;
}

static int move(struct fusereq *r, uint64_t newdir, size_t names, uint32_t flags)
{
    const char *old = fusereq_name(r, names, 0), *new = fusereq_name(r, names, 1);
    struct fnode *to = fnode_get(&r->f->nodes, newdir);

    if (!old || !new || (flags & ~(uint32_t)(RENAME_NOREPLACE | RENAME_EXCHANGE)))
        return -EINVAL;
    if (!to)
        return -ESTALE;
    CLEANUP(fd) int a = fusereq_walk(r->f, r->node);
    if (a < 0)
        return a;
    CLEANUP(fd) int b = fusereq_walk(r->f, to);
    if (b < 0)
        return b;
    if (renameat2(a, old, b, new, flags) < 0)
        return -errno;
    fnode_move(&r->f->nodes, r->node, old, to, new, flags & RENAME_EXCHANGE);
    return 0;
}

static int op_rename(struct fusereq *r)
{
    struct fuse_rename_in in;
    TAKE(r, in);

    return move(r, in.newdir, sizeof(in), 0);
}

static int op_rename2(struct fusereq *r)
{
    struct fuse_rename2_in in;
    TAKE(r, in);

    return move(r, in.newdir, sizeof(in), in.flags);
}

static int op_link(struct fusereq *r)
{
    struct fuse_link_in in;
    TAKE(r, in);
    const char *name = fusereq_name(r, sizeof(in), 0);
    struct fnode *old = fnode_get(&r->f->nodes, in.oldnodeid);

    if (!name || !old)
        return name ? -ESTALE : -EINVAL;
    CLEANUP(fd) int fd = fusereq_walk(r->f, old);
    if (fd < 0)
        return fd;
    CLEANUP(fd) int dir = fusereq_walk(r->f, r->node);
    if (dir < 0)
        return dir;
    if (linkat(r->f->procfd, self_of(fd).name, dir, name, AT_SYMLINK_FOLLOW) < 0)
        return -errno;
    return reply_entry(r, dir, name);
}

static int open_flags(const struct fusereq *r, uint32_t asked)
{
    int flags = (int)asked & OPEN_KEPT;

    if (r->f->read_only && ((flags & O_ACCMODE) != O_RDONLY || (flags & O_TRUNC)))
        return -EROFS;
    return flags;
}

static int op_open(struct fusereq *r)
{
    struct fuse_open_in in;
    TAKE(r, in);
    bool dir = r->h.opcode == FUSE_OPENDIR;
    struct fuse_open_out out = {0};
    int flags = dir ? O_RDONLY | O_DIRECTORY : open_flags(r, in.flags);

    if (flags < 0)
        return flags;
    CLEANUP(fd) int fd = fusereq_walk(r->f, r->node);
    if (fd < 0)
        return fd;
    int n = fusereq_open(r->f, r->node, fd, flags, dir, &out.fh);
    if (n == 0)
        reply(r, &out, sizeof(out));
    return n;
}

/* Open the new or old file first: its mode may not let us later. */
static int create(struct fusereq *r, int dir, const char *name, const struct fuse_create_in *in,
                  bool made, uint64_t *fh)
{
    struct fuse_entry_out e;
    CLEANUP(fd) int fd = openat(dir, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);

    if (fd < 0)
        return -errno;
    int n = fusereq_entry(r->f, dir, r->node, name, &e);
    if (n < 0)
        return n;
    n = fusereq_open(r->f, fnode_get(&r->f->nodes, e.nodeid), fd, (int)in->flags & OPEN_KEPT, false,
                     fh);
    if (n == 0) {
        n = made ? dress(r, dir, name, true, in->mode) : reply_entry(r, dir, name);
        if (n < 0)
            fusereq_close(r->f, *fh);
    }
    fnode_forget(&r->f->nodes, e.nodeid, 1); /* the reply's entry counts, if there is one */
    return n;
}

static int op_create(struct fusereq *r)
{
    struct fuse_create_in in;
    TAKE(r, in);
    struct fuse_open_out out = {0};
    const char *name = fusereq_name(r, sizeof(in), 0);

    if (!name)
        return -EINVAL;
    CLEANUP(fd) int dir = fusereq_walk(r->f, r->node);
    if (dir < 0)
        return dir;
    CLEANUP(fd) int made = openat(dir, name, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0600);
    if (made < 0 && (errno != EEXIST || (in.flags & O_EXCL)))
        return -errno;
    int n = create(r, dir, name, &in, made >= 0, &out.fh);
    if (n < 0)
        return n;
    memcpy(r->reply + r->reply_len, &out, sizeof(out));
    r->reply_len += sizeof(out);
    return 0;
}

static int op_release(struct fusereq *r)
{
    struct fuse_release_in in;
    TAKE(r, in);

    fusereq_close(r->f, in.fh);
    return 0;
}

static int op_read(struct fusereq *r)
{
    struct fuse_read_in in;
    TAKE(r, in);
    struct iovec iov[FUSEREQ_IOV_MAX];
    struct fusefs_handle *h = fusereq_handle(r->f, in.fh);
    size_t len = in.size < r->out_room ? in.size : r->out_room;

    if (!h || h->dir)
        return -EBADF;
    unsigned n = fusereq_slice(r->out, r->n_out, sizeof(struct fuse_out_header),
                               len < FUSEFS_IO_MAX ? len : FUSEFS_IO_MAX, iov, FUSEREQ_IOV_MAX);
    ssize_t got = preadv(h->fd, iov, (int)n, (off_t)in.offset);
    if (got < 0)
        return -errno;
    r->direct = (size_t)got;
    return 0;
}

static int op_write(struct fusereq *r)
{
    struct fuse_write_in in;
    TAKE(r, in);
    struct iovec iov[FUSEREQ_IOV_MAX];
    struct fusefs_handle *h = fusereq_handle(r->f, in.fh);
    size_t at = sizeof(r->h) + sizeof(in);
    struct fuse_write_out out = {0};

    if (!h || h->dir)
        return -EBADF;
    if (in.size > FUSEFS_IO_MAX || in.size > r->in_len - at)
        return -EINVAL;
    unsigned n = fusereq_slice(r->in, r->n_in, at, in.size, iov, FUSEREQ_IOV_MAX);
    ssize_t put = pwritev(h->fd, iov, (int)n, (off_t)in.offset);
    if (put < 0)
        return -errno;
    out.size = (uint32_t)put;
    reply(r, &out, sizeof(out));
    return 0;
}

static int op_fsync(struct fusereq *r)
{
    struct fuse_fsync_in in;
    TAKE(r, in);
    struct fusefs_handle *h = fusereq_handle(r->f, in.fh);

    if (!h)
        return -EBADF;
    return result(in.fsync_flags & FUSE_FSYNC_FDATASYNC ? fdatasync(h->fd) : fsync(h->fd));
}

static int op_flush(struct fusereq *r)
{
    return 0; /* nothing is kept back */
}

static int op_statfs(struct fusereq *r)
{
    struct statfs s;
    struct fuse_statfs_out out = {0};

    if (fstatfs(r->f->root, &s) < 0)
        return -errno;
    out.st = (struct fuse_kstatfs){.blocks = s.f_blocks,
                                   .bfree = s.f_bfree,
                                   .bavail = s.f_bavail,
                                   .files = s.f_files,
                                   .ffree = s.f_ffree,
                                   .bsize = (uint32_t)s.f_bsize,
                                   .namelen = FNODE_NAME_MAX,
                                   .frsize = (uint32_t)s.f_frsize};
    reply(r, &out, sizeof(out));
    return 0;
}

static int op_readdir(struct fusereq *r)
{
    return fusedir_read(r, r->h.opcode == FUSE_READDIRPLUS);
}

static int op_fallocate(struct fusereq *r)
{
    struct fuse_fallocate_in in;
    TAKE(r, in);
    struct fusefs_handle *h = fusereq_handle(r->f, in.fh);

    if (!h)
        return -EBADF;
    return result(fallocate(h->fd, (int)in.mode, (off_t)in.offset, (off_t)in.length));
}

static int op_lseek(struct fusereq *r)
{
    struct fuse_lseek_in in;
    TAKE(r, in);
    struct fusefs_handle *h = fusereq_handle(r->f, in.fh);
    struct fuse_lseek_out out = {0};

    if (!h || h->dir)
        return -EBADF;
    off_t at = lseek(h->fd, (off_t)in.offset, (int)in.whence);
    if (at < 0)
        return -errno;
    out.offset = (uint64_t)at;
    reply(r, &out, sizeof(out));
    return 0;
}

struct op {
    int (*run)(struct fusereq *r);
    bool needs_node, writes;
};

static const struct op ops[] = {
    [FUSE_LOOKUP] = {op_lookup, true, false},
    [FUSE_FORGET] = {op_forget, false, false},
    [FUSE_GETATTR] = {op_getattr, true, false},
    [FUSE_SETATTR] = {op_setattr, true, true},
    [FUSE_READLINK] = {op_readlink, true, false},
    [FUSE_SYMLINK] = {op_symlink, true, true},
    [FUSE_MKNOD] = {op_mknod, true, true},
    [FUSE_MKDIR] = {op_mkdir, true, true},
    [FUSE_UNLINK] = {op_remove, true, true},
    [FUSE_RMDIR] = {op_remove, true, true},
    [FUSE_RENAME] = {op_rename, true, true},
    [FUSE_LINK] = {op_link, true, true},
    [FUSE_OPEN] = {op_open, true, false},
    [FUSE_READ] = {op_read, false, false},
    [FUSE_WRITE] = {op_write, false, true},
    [FUSE_STATFS] = {op_statfs, false, false},
    [FUSE_RELEASE] = {op_release, false, false},
    [FUSE_FSYNC] = {op_fsync, false, false},
    [FUSE_FLUSH] = {op_flush, false, false},
    [FUSE_INIT] = {op_init, false, false},
    [FUSE_OPENDIR] = {op_open, true, false},
    [FUSE_READDIR] = {op_readdir, true, false},
    [FUSE_RELEASEDIR] = {op_release, false, false},
    [FUSE_FSYNCDIR] = {op_fsync, false, false},
    [FUSE_CREATE] = {op_create, true, true},
    [FUSE_DESTROY] = {op_destroy, false, false},
    [FUSE_BATCH_FORGET] = {op_batch_forget, false, false},
    [FUSE_FALLOCATE] = {op_fallocate, false, true},
    [FUSE_READDIRPLUS] = {op_readdir, true, false},
    [FUSE_RENAME2] = {op_rename2, true, true},
    [FUSE_LSEEK] = {op_lseek, false, false},
};

int fuseop_run(struct fusereq *r)
{
    const struct op *op = r->h.opcode < ARRAY_LEN(ops) ? &ops[r->h.opcode] : NULL;

    if (!op || !op->run)
        return r->h.opcode == FUSE_INTERRUPT ? FUSEREQ_SILENT : -ENOSYS;
    if (op->needs_node && !r->node)
        return -ESTALE;
    if (op->writes && r->f->read_only)
        return -EROFS;
    return op->run(r);
}
