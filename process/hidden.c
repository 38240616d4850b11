/* Masked and read-only paths: runtime-spec 1.1, config-linux.md. A file is hidden by /dev/null, a
 * directory by an empty file system. What the kernel does not have needs no hiding. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "process/process_priv.h"

/* *empty: a descriptor of the first one made, of which others are clones; owned by the caller. */
static int empty_tree(int *empty, struct err *e)
{
    if (*empty >= 0)
        return open_tree(*empty, "", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH);
    return fsmount_new("tmpfs", "tmpfs", "size=0k,mode=555",
                       fsmount_attrs(MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC), e);
}

static int mask(int root, const char *path, int *empty, struct err *e)
{
    struct stat st;

    CLEANUP(fd) int target = inroot_open(root, path, false);
    if (target < 0)
        return target == -ENOENT || target == -ENOTDIR ? 0 : err_errno(e, target, "hide %s", path);
    if (fstat(target, &st) < 0)
        return err_errno(e, -errno, "hide %s", path);
    bool directory = S_ISDIR(st.st_mode);
    CLEANUP(fd)
    int tree = directory ? empty_tree(empty, e)
                         : open_tree(AT_FDCWD, "/dev/null", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
    if (tree < 0)
        return err_errno(e, -errno, "hide %s", path);
    int r = mounts_attach(tree, target);
    if (r < 0)
        return err_errno(e, r, "hide %s", path);
    if (directory && *empty < 0)
        *empty = take_fd(&tree);
    return 0;
}

static int make_readonly(int root, const char *path, struct err *e)
{
    CLEANUP(fd) int target = inroot_open(root, path, false);

    if (target < 0)
        return target == -ENOENT || target == -ENOTDIR
                   ? 0
                   : err_errno(e, target, "make %s read-only", path);
    CLEANUP(fd)
    int tree =
        open_tree(target, "", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH | AT_RECURSIVE);
    if (tree < 0)
        return err_errno(e, -errno, "make %s read-only", path);
    int r = fsmount_change(tree, MS_RDONLY, 0, 0, true);
    if (r == 0)
        r = mounts_attach(tree, target);
    return r < 0 ? err_errno(e, r, "make %s read-only", path) : 0;
}

int hidden_paths(const struct plan *p, int root, struct err *e)
{
    const char *const *masked = p->conf->masked_paths, *const *ro = p->conf->readonly_paths;
    CLEANUP(fd) int empty = -1;
    int r = 0;

    for (; r == 0 && ro && *ro; ro++)
        r = make_readonly(root, *ro, e);
    for (; r == 0 && masked && *masked; masked++)
        r = mask(root, *masked, &empty, e);
    return r;
}
