/* The container's mounts, made detached and attached to descriptors: no path is walked twice. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "process/process_priv.h"

bool mounts_is_bind(const struct process_mount *m)
{
    return (m->flags & MS_BIND) || (m->type && strcmp(m->type, "bind") == 0);
}

int mounts_source(const struct process_mount *m, struct err *e)
{
    /* MS_BIND alone shows one file system, MS_REC what is mounted below it, too. */
    bool deep = !(m->flags & MS_BIND) || (m->flags & MS_REC);

    if (!m->source || m->source[0] != '/')
        return err_set(e, -EINVAL, "mount %s: the source '%s' is not an absolute path", m->target,
                       m->source ? m->source : "");
    int fd = open_tree(AT_FDCWD, m->source,
                       OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | (deep ? AT_RECURSIVE : 0));
    return fd < 0 ? err_errno(e, -errno, "mount %s: source %s", m->target, m->source) : fd;
}

int mounts_attach(int tree, int target)
{
    return move_mount(tree, "", target, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH) < 0
               ? -errno
               : 0;
}

/* What must be the kernel's own and nothing a link or an image's file stands for: much is written
 * to and hidden in it later (CVE-2019-16884, CVE-2019-19921). */
static bool is_system(const struct process_mount *m)
{
    return m->type && (strcmp(m->type, "proc") == 0 || strcmp(m->type, "sysfs") == 0);
}

static bool is_directory(int fd)
{
    struct stat st;

    return fstat(fd, &st) == 0 && S_ISDIR(st.st_mode);
}

static int open_target(int root, const struct process_mount *m, bool directory, struct err *e)
{
    int fd = inroot_make(root, m->target, directory, is_system(m));

    if (fd == -ELOOP && is_system(m))
        return err_set(e, -EINVAL, "mount %s: in the image that is a symbolic link", m->target);
    if (fd < 0)
        return err_errno(e, fd, "mount point %s", m->target);
    if (is_directory(fd) != directory) {
        close(fd);
        return err_set(e, -ENOTDIR,
                       directory
                           ? "mount %s: in the image that is not a directory"
                           : "mount %s: in the image that is a directory, the source is a file",
                       m->target);
    }
    return fd;
}

/* Without a network namespace of its own, a user namespace may not mount sysfs anew, and without a
 * PID namespace no proc: the host's is shown, read-only. */
static int bind_instead(const struct process_mount *m, struct err *e)
{
    int fd = open_tree(AT_FDCWD, strcmp(m->type, "proc") == 0 ? "/proc" : "/sys",
                       OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_RECURSIVE);

    return fd < 0 ? err_errno(e, -errno, "mount %s: the host's %s", m->target, m->type) : fd;
}

static int make_tree(struct plan *p, unsigned i, struct err *e)
{
    const struct process_mount *m = &p->conf->mounts[i];
    struct err why = {0};

    if (mounts_is_bind(m))
        return take_fd(&p->source[i]);
    if (!m->type)
        return err_set(e, -EINVAL, "mount %s: no type", m->target);
    int tree = fsmount_new(m->type, m->source, m->data, fsmount_attrs(m->flags), &why);
    if (tree == -EPERM && p->user_ns && is_system(m))
        return bind_instead(m, e);
    return tree < 0 ? err_set(e, tree, "%s: %s", m->target, why.msg) : tree;
}

static int make_one(struct plan *p, int root, unsigned i, struct err *e)
{
    const struct process_mount *m = &p->conf->mounts[i];
    bool bind = mounts_is_bind(m);

    if (m->type && strcmp(m->type, "cgroup") == 0)
        return mountcg_make(p, root, m, e);
    CLEANUP(fd) int tree = make_tree(p, i, e);
    if (tree < 0)
        return tree;
    CLEANUP(fd) int target = open_target(root, m, is_directory(tree), e);
    if (target < 0)
        return target;
    int r = 0;
    if (bind || p->user_ns) /* a shown host file system keeps its flags else */
        r = fsmount_change(tree, m->flags, m->clear, 0, false);
    if (r == 0)
        r = fsmount_change(tree, m->rec_flags, m->rec_clear, 0, true);
    if (r == 0)
        r = mounts_attach(tree, target);
    /* An attached mount may have become shared with its parent's peers: the wish comes last. */
    unsigned long propagation = m->propagation ? m->propagation : MS_PRIVATE | MS_REC;
    if (r == 0)
        r = fsmount_change(tree, 0, 0, propagation, (propagation & MS_REC) != 0);
    return r < 0 ? err_errno(e, r, "mount %s", m->target) : 0;
}

int mounts_make(struct plan *p, int root, struct err *e)
{
    for (unsigned i = 0; i < p->conf->n_mounts; i++) {
        const struct process_mount *m = &p->conf->mounts[i];
        int r = make_one(p, root, i, e);

        if (r < 0 && !(m->optional && (r == -ENODEV || r == -EPERM || r == -EOPNOTSUPP)))
            return r;
    }
    return 0;
}
