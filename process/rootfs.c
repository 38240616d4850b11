/* The container's root, in its own mount namespace, over the container's folder: nothing of it is
 * seen outside, and it goes with the namespace.
 *
 *   image alone          its mount
 *   image or folder with a writable layer
 *     on disk            the image there, an overlay of it and UPPER/upper over that
 *     in memory          a tmpfs there with lower/, upper/ and work/, the overlay over it
 *   a folder             a bind of it */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "process/process_priv.h"

enum { OPTIONS_MAX = 512 };

static int attach_at(int tree, int dir, const char *path, struct err *e)
{
    if (move_mount(tree, "", dir, path, MOVE_MOUNT_F_EMPTY_PATH) < 0)
        return err_errno(e, -errno, "attach the root at %s", path);
    return 0;
}

/* Without root: the kernel mounts FUSE only, and the parent finds a server for it. */
static int served_image(struct plan *p, struct err *e)
{
    char data[128];
    struct note n = {.kind = NOTE_SERVE};

    CLEANUP(fd) int fuse = open("/dev/fuse", O_RDWR | O_CLOEXEC);
    if (fuse < 0)
        return err_errno(e, -errno, "/dev/fuse, which an image needs without root");
    snprintf(data, sizeof(data), "fd=%d,rootmode=40000,user_id=0,group_id=0,allow_other", fuse);
    CLEANUP(fd) int tree = fsmount_new("fuse", "image", data, fsmount_attrs(MS_RDONLY), e);
    if (tree < 0)
        return tree;
    int r = note_send(p->sync, &n, fuse);
    if (r == 0)
        r = note_receive(p->sync, &n, NULL);
    if (r < 0)
        return err_errno(e, r, "serve the image");
    return n.err.code < 0 ? err_set(e, n.err.code, "%s", n.err.msg) : take_fd(&tree);
}

static int lower_tree(struct plan *p, struct err *e)
{
    const struct process_root *root = &p->conf->root;

    if (root->image)
        return p->image >= 0 ? take_fd(&p->image) : served_image(p, e);
    int tree = open_tree(AT_FDCWD, root->path, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_RECURSIVE);
    return tree < 0 ? err_errno(e, -errno, "root %s", root->path) : tree;
}

static int make_dir(int dir, const char *name, struct err *e)
{
    if (mkdirat(dir, name, 0755) < 0 && errno != EEXIST)
        return err_errno(e, -errno, "writable layer: %s", name);
    return 0;
}

/* The upper folder's own attributes are those of "/" in the container. */
static int like_lower(int lower, int upper, struct err *e)
{
    struct stat st, now;

    if (fstat(lower, &st) < 0 || fstat(upper, &now) < 0)
        return err_errno(e, -errno, "writable layer");
    if ((now.st_uid != st.st_uid || now.st_gid != st.st_gid) &&
        fchown(upper, st.st_uid, st.st_gid) < 0 && errno != EINVAL && errno != EPERM)
        return err_errno(e, -errno, "writable layer");
    if ((now.st_mode & 07777) != (st.st_mode & 07777) && fchmod(upper, st.st_mode & 07777) < 0)
        return err_errno(e, -errno, "writable layer");
    return 0;
}

/* An overlay of `lower` and the upper and work folders in `layer` over the container's folder.
 * Descriptors as paths: names of folders may hold what separates options. */
static int overlay(struct plan *p, int lower, int layer, bool fresh, struct err *e)
{
    char options[OPTIONS_MAX];
    int r = make_dir(layer, "upper", e);

    if (r == 0)
        r = make_dir(layer, "work", e);
    if (r < 0)
        return r;
    CLEANUP(fd) int upper = openat(layer, "upper", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    CLEANUP(fd) int work = openat(layer, "work", O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (upper < 0 || work < 0)
        return err_errno(e, -errno, "writable layer");
    /* What an overlay that was not flushed leaves, so that nobody takes it for sound. */
    (void)unlinkat(work, "work/incompat/volatile", AT_REMOVEDIR);
    if (fresh)
        r = like_lower(lower, upper, e);
    if (r < 0)
        return r;
    snprintf(options, sizeof(options),
             "lowerdir=/proc/self/fd/%d,upperdir=/proc/self/fd/%d,workdir=/proc/self/fd/%d%s%s",
             lower, upper, work, p->user_ns ? ",userxattr" : "",
             p->conf->root.volatile_upper ? ",volatile" : "");
    if (mount("overlay", p->conf->dir, "overlay", 0, options) < 0)
        return err_errno(e, -errno, "overlay of the image and its writable layer");
    return 0;
}

static int open_path(int dir, const char *path, struct err *e)
{
    int fd = openat(dir, path, O_PATH | O_DIRECTORY | O_CLOEXEC);

    return fd < 0 ? err_errno(e, -errno, "%s", path) : fd;
}

static int layer_on_disk(struct plan *p, int tree, struct err *e)
{
    const char *path = p->conf->root.upper;
    bool fresh = mkdir(path, 0700) == 0;

    if (!fresh && errno != EEXIST)
        return err_errno(e, -errno, "writable layer %s", path);
    /* Opened before the image lies over the container's folder: it may be in there. */
    CLEANUP(fd) int layer = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (layer < 0)
        return err_errno(e, -errno, "writable layer %s", path);
    if (faccessat(layer, "upper", F_OK, 0) < 0)
        fresh = true;
    int r = attach_at(tree, AT_FDCWD, p->conf->dir, e);
    if (r < 0)
        return r;
    CLEANUP(fd) int lower = open_path(AT_FDCWD, p->conf->dir, e);
    return lower < 0 ? lower : overlay(p, lower, layer, fresh, e);
}

static int layer_in_memory(struct plan *p, int tree, struct err *e)
{
    char data[64] = "mode=0755";

    if (p->conf->root.tmpfs_bytes)
        snprintf(data, sizeof(data), "mode=0755,size=%" PRIu64, p->conf->root.tmpfs_bytes);
    CLEANUP(fd) int memory = fsmount_new("tmpfs", "layer", data, 0, e);
    if (memory < 0)
        return memory;
    int r = attach_at(memory, AT_FDCWD, p->conf->dir, e);
    if (r == 0)
        r = make_dir(memory, "lower", e);
    if (r == 0)
        r = attach_at(tree, memory, "lower", e);
    if (r < 0)
        return r;
    CLEANUP(fd) int lower = open_path(memory, "lower", e);
    return lower < 0 ? lower : overlay(p, lower, memory, true, e);
}

int rootfs_make(struct plan *p, int *root, struct err *e)
{
    const struct process_root *c = &p->conf->root;
    int r;

    CLEANUP(fd) int tree = lower_tree(p, e);
    if (tree < 0)
        return tree;
    if (c->upper)
        r = layer_on_disk(p, tree, e);
    else if (c->tmpfs)
        r = layer_in_memory(p, tree, e);
    else
        r = attach_at(tree, AT_FDCWD, p->conf->dir, e);
    if (r < 0)
        return r;
    int fd = open_path(AT_FDCWD, p->conf->dir, e);
    if (fd < 0)
        return fd;
    *root = fd;
    return 0;
}

int rootfs_finish(struct plan *p, int root, struct err *e)
{
    unsigned long propagation = p->conf->root.propagation;

    if (fchdir(root) < 0)
        return err_errno(e, -errno, "enter the root");
    /* The old root lands on top of the new one and is taken away: no folder for it is needed. */
    if (syscall(SYS_pivot_root, ".", ".") < 0)
        return err_errno(e, -errno, "pivot_root");
    if (umount2(".", MNT_DETACH) < 0 || chdir("/") < 0)
        return err_errno(e, -errno, "leave the host's root");
    unsigned long flags =
        (p->conf->root.readonly ? MS_RDONLY : 0) | (plan_devices_open(p) ? MS_NODEV : 0);
    int r = fsmount_change(root, flags, 0, 0, false);
    if (r == 0)
        r = fsmount_change(root, 0, 0, propagation ? propagation : MS_PRIVATE | MS_REC,
                           !propagation || (propagation & MS_REC));
    return r < 0 ? err_errno(e, r, "flags of the root") : 0;
}
