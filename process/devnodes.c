/* Device nodes and the links every /dev has: runtime-spec 1.1, config-linux.md, "Default Devices".
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "process/process_priv.h"

static mode_t type_of(char type)
{
    switch (type) {
    case 'c':
    case 'u':
        return S_IFCHR;
    case 'b':
        return S_IFBLK;
    case 'p':
        return S_IFIFO;
    default:
        return 0;
    }
}

/* A user namespace may make none: the host's is shown. */
static int bind_node(int root, const struct process_device *d, struct err *e)
{
    CLEANUP(fd) int tree = open_tree(AT_FDCWD, d->path, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);

    if (tree < 0)
        return err_errno(e, -errno, "device %s of the host", d->path);
    CLEANUP(fd) int target = inroot_make(root, d->path, false, false);
    if (target < 0)
        return err_errno(e, target, "device %s", d->path);
    int r = mounts_attach(tree, target);
    return r < 0 ? err_errno(e, r, "device %s", d->path) : 0;
}

static int make_node(int root, const struct process_device *d, struct err *e)
{
    const char *name;
    struct stat st;
    mode_t type = type_of(d->type), mode = d->mode ? d->mode : 0666;
    dev_t dev = type == S_IFIFO ? 0 : makedev(d->major, d->minor);

    if (!type)
        return err_set(e, -EINVAL, "device %s: of type '%c'", d->path, d->type);
    CLEANUP(fd) int dir = inroot_parent(root, d->path, &name);
    if (dir < 0)
        return err_errno(e, dir, "device %s", d->path);
    if (mknodat(dir, name, type | mode, dev) < 0 && errno != EEXIST)
        return err_errno(e, -errno, "device %s", d->path);
    if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0 || (st.st_mode & S_IFMT) != type ||
        st.st_rdev != dev)
        return err_set(e, -EEXIST, "device %s: in the image that is something else", d->path);
    if (fchmodat(dir, name, mode & 07777, 0) < 0 ||
        fchownat(dir, name, d->uid, d->gid, AT_SYMLINK_NOFOLLOW) < 0)
        return err_errno(e, -errno, "device %s", d->path);
    return 0;
}

static const struct {
    const char *name, *target;
} link_to[] = {
    {"fd", "/proc/self/fd"},       {"stdin", "/proc/self/fd/0"}, {"stdout", "/proc/self/fd/1"},
    {"stderr", "/proc/self/fd/2"}, {"core", "/proc/kcore"},      {"ptmx", "pts/ptmx"},
};

int devnodes_make(const struct plan *p, int root, struct err *e)
{
    for (size_t i = 0; i < p->conf->n_devices; i++) {
        const struct process_device *d = &p->conf->devices[i];
        int r = p->user_ns ? bind_node(root, d, e) : make_node(root, d, e);

        if (r < 0)
            return r;
    }
    CLEANUP(fd) int dev = inroot_open(root, "dev", false);
    if (dev < 0)
        return 0; /* an image without /dev, and nobody mounts one */
    for (unsigned i = 0; i < ARRAY_LEN(link_to); i++)
        if (symlinkat(link_to[i].target, dev, link_to[i].name) < 0 && errno != EEXIST &&
            errno != EROFS)
            return err_errno(e, -errno, "/dev/%s", link_to[i].name);
    return 0;
}
