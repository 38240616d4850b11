#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/statfs.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "fs/fusereq.h"

static int op_init(struct fusereq *r)
{
    struct {
        uint32_t major, minor, max_readahead, flags;
    } in;
    FUSEREQ_TAKE(r, in);
    struct fuse_init_out out = {.major = FUSE_KERNEL_VERSION,
                                .minor = 31,
                                .max_readahead = in.max_readahead,
                                .flags = in.flags & (FUSE_ASYNC_READ | FUSE_AUTO_INVAL_DATA |
                                                     FUSE_ATOMIC_O_TRUNC | FUSE_BIG_WRITES |
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
    fusereq_reply(r, &out, sizeof(out));
    return 0;
}

static int op_destroy(struct fusereq *r)
{
    fusefs_reset(r->f);
    return 0;
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
    fusereq_reply(r, &out, sizeof(out));
    return 0;
}

static int op_getattr(struct fusereq *r)
{
    struct fuse_getattr_in in;
    FUSEREQ_TAKE(r, in);
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
        return fusereq_result(ftruncate(h->fd, (off_t)size));
    int n = fusereq_open(r->f, r->node, fd, O_WRONLY, false, &fh);
    if (n < 0)
        return n;
    n = fusereq_result(ftruncate(fusereq_handle(r->f, fh)->fd, (off_t)size));
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
        n = fusereq_result(
            fchmodat(r->f->procfd, fusereq_self(fd).name, in->mode & FUSEREQ_MODE_KEPT, 0));
    if (n == 0 && (in->valid & (FATTR_UID | FATTR_GID)))
        n = fusereq_result(fchownat(fd, "", in->valid & FATTR_UID ? in->uid : (uid_t)-1,
                                    in->valid & FATTR_GID ? in->gid : (gid_t)-1,
                                    AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW));
    if (n == 0 && (in->valid & FATTR_SIZE))
        n = set_size(r, fd, h, in->size);
    if (n == 0 && (in->valid & (FATTR_ATIME | FATTR_MTIME))) {
        struct timespec t[2] = {
            new_time(in->valid, FATTR_ATIME, FATTR_ATIME_NOW, in->atime, in->atimensec),
            new_time(in->valid, FATTR_MTIME, FATTR_MTIME_NOW, in->mtime, in->mtimensec)};

        n = fusereq_result(utimensat(fd, "", t, AT_EMPTY_PATH));
    }
    return n;
}

static int op_setattr(struct fusereq *r)
{
    struct fuse_setattr_in in;
    FUSEREQ_TAKE(r, in);
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

static int open_flags(const struct fusereq *r, uint32_t asked)
{
    int flags = (int)asked & FUSEREQ_OPEN_KEPT;

    if (r->f->read_only && ((flags & O_ACCMODE) != O_RDONLY || (flags & O_TRUNC)))
        return -EROFS;
    return flags;
}

static int op_open(struct fusereq *r)
{
    struct fuse_open_in in;
    FUSEREQ_TAKE(r, in);
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
        fusereq_reply(r, &out, sizeof(out));
    return n;
}

static int op_release(struct fusereq *r)
{
    struct fuse_release_in in;
    FUSEREQ_TAKE(r, in);

    fusereq_close(r->f, in.fh);
    return 0;
}

static int op_read(struct fusereq *r)
{
    struct fuse_read_in in;
    FUSEREQ_TAKE(r, in);
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
    FUSEREQ_TAKE(r, in);
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
    fusereq_reply(r, &out, sizeof(out));
    return 0;
}

static int op_fsync(struct fusereq *r)
{
    struct fuse_fsync_in in;
    FUSEREQ_TAKE(r, in);
    struct fusefs_handle *h = fusereq_handle(r->f, in.fh);

    if (!h)
        return -EBADF;
    return fusereq_result(in.fsync_flags & FUSE_FSYNC_FDATASYNC ? fdatasync(h->fd) : fsync(h->fd));
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
    fusereq_reply(r, &out, sizeof(out));
    return 0;
}

static int op_readdir(struct fusereq *r)
{
    return fusedir_read(r, r->h.opcode == FUSE_READDIRPLUS);
}

static int op_fallocate(struct fusereq *r)
{
    struct fuse_fallocate_in in;
    FUSEREQ_TAKE(r, in);
    struct fusefs_handle *h = fusereq_handle(r->f, in.fh);

    if (!h)
        return -EBADF;
    return fusereq_result(fallocate(h->fd, (int)in.mode, (off_t)in.offset, (off_t)in.length));
}

static int op_lseek(struct fusereq *r)
{
    struct fuse_lseek_in in;
    FUSEREQ_TAKE(r, in);
    struct fusefs_handle *h = fusereq_handle(r->f, in.fh);
    struct fuse_lseek_out out = {0};

    if (!h || h->dir)
        return -EBADF;
    off_t at = lseek(h->fd, (off_t)in.offset, (int)in.whence);
    if (at < 0)
        return -errno;
    out.offset = (uint64_t)at;
    fusereq_reply(r, &out, sizeof(out));
    return 0;
}

struct op {
    int (*run)(struct fusereq *r);
    bool needs_node, writes;
};

static const struct op ops[] = {
    [FUSE_LOOKUP] = {fusename_lookup, true, false},
    [FUSE_FORGET] = {op_forget, false, false},
    [FUSE_GETATTR] = {op_getattr, true, false},
    [FUSE_SETATTR] = {op_setattr, true, true},
    [FUSE_READLINK] = {op_readlink, true, false},
    [FUSE_SYMLINK] = {fusename_symlink, true, true},
    [FUSE_MKNOD] = {fusename_mknod, true, true},
    [FUSE_MKDIR] = {fusename_mkdir, true, true},
    [FUSE_UNLINK] = {fusename_remove, true, true},
    [FUSE_RMDIR] = {fusename_remove, true, true},
    [FUSE_RENAME] = {fusename_rename, true, true},
    [FUSE_LINK] = {fusename_link, true, true},
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
    [FUSE_CREATE] = {fusename_create, true, true},
    [FUSE_DESTROY] = {op_destroy, false, false},
    [FUSE_BATCH_FORGET] = {op_batch_forget, false, false},
    [FUSE_FALLOCATE] = {op_fallocate, false, true},
    [FUSE_READDIRPLUS] = {op_readdir, true, false},
    [FUSE_RENAME2] = {fusename_rename2, true, true},
    [FUSE_LSEEK] = {op_lseek, false, false},
};

/* Of the folder that a single file is in, the guest sees that it is one, and the file. */
static int only_file(const struct fusereq *r)
{
    if (!r->f->only[0] || r->node->id != FNODE_ROOT || r->h.opcode == FUSE_GETATTR)
        return 0;
    if (r->h.opcode != FUSE_LOOKUP)
        return -EACCES;
    const char *name = fusereq_name(r, 0, 0);
    return name && strcmp(name, r->f->only) == 0 ? 0 : -ENOENT;
}

int fuseop_run(struct fusereq *r)
{
    const struct op *op = r->h.opcode < ARRAY_LEN(ops) ? &ops[r->h.opcode] : NULL;

    if (!op || !op->run)
        return r->h.opcode == FUSE_INTERRUPT ? FUSEREQ_SILENT : -ENOSYS;
    if (op->needs_node && !r->node)
        return -ESTALE;
    if (op->writes && r->f->read_only)
        return -EROFS;
    int rc = op->needs_node ? only_file(r) : 0;
    return rc < 0 ? rc : op->run(r);
}
