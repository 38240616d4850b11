#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "fs/fusereq.h"

static int reply_entry(struct fusereq *r, int dir, const char *name)
{
    struct fuse_entry_out e;
    int n = fusereq_entry(r->f, dir, r->node, name, &e);

    if (n == 0)
        fusereq_reply(r, &e, sizeof(e));
    return n;
}

int fusename_lookup(struct fusereq *r)
{
    const char *name = fusereq_name(r, 0, 0);
    if (!name)
        return -EINVAL;
    CLEANUP(fd) int dir = fusereq_walk(r->f, r->node);

    return dir < 0 ? dir : reply_entry(r, dir, name);
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
    if (set_mode && fchmodat(r->f->procfd, fusereq_self(fd).name, mode & FUSEREQ_MODE_KEPT, 0) < 0)
        return -errno;
    return reply_entry(r, dir, name);
}

int fusename_symlink(struct fusereq *r)
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

int fusename_mknod(struct fusereq *r)
{
    struct fuse_mknod_in in;
    FUSEREQ_TAKE(r, in);
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

int fusename_mkdir(struct fusereq *r)
{
    struct fuse_mkdir_in in;
    FUSEREQ_TAKE(r, in);
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

int fusename_remove(struct fusereq *r)
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

int fusename_rename(struct fusereq *r)
{
    struct fuse_rename_in in;
    FUSEREQ_TAKE(r, in);

    return move(r, in.newdir, sizeof(in), 0);
}

int fusename_rename2(struct fusereq *r)
{
    struct fuse_rename2_in in;
    FUSEREQ_TAKE(r, in);

    return move(r, in.newdir, sizeof(in), in.flags);
}

int fusename_link(struct fusereq *r)
{
    struct fuse_link_in in;
    FUSEREQ_TAKE(r, in);
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
    if (linkat(r->f->procfd, fusereq_self(fd).name, dir, name, AT_SYMLINK_FOLLOW) < 0)
        return -errno;
    return reply_entry(r, dir, name);
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
    n = fusereq_open(r->f, fnode_get(&r->f->nodes, e.nodeid), fd,
                     (int)in->flags & FUSEREQ_OPEN_KEPT, false, fh);
    if (n == 0) {
        n = made ? dress(r, dir, name, true, in->mode) : reply_entry(r, dir, name);
        if (n < 0)
            fusereq_close(r->f, *fh);
    }
    fnode_forget(&r->f->nodes, e.nodeid, 1); /* the reply's entry counts, if there is one */
    return n;
}

int fusename_create(struct fusereq *r)
{
    struct fuse_create_in in;
    FUSEREQ_TAKE(r, in);
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
