/* The container's root file system.
 *
 *   BASE/image  the image's disk, read-only      BASE/rw  the writable layer (tmpfs or a disk)
 *   BASE/root   overlay of both; moved over "/" and entered
 *
 * An initramfs cannot be left by pivot_root(2) (Linux
 * Documentation/filesystems/ramfs-rootfs-initramfs.rst), hence MS_MOVE and chroot. All that follows
 * paths of the image happens after that, so that its symbolic links cannot lead out. A read-only
 * container gets the overlay too, made read-only at the end: the mount points it needs may be
 * missing in the image. */
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <time.h>

#include "agent/pid1.h"
#include "base/cleanup.h"

enum { PATH_LEN = 256, DEV_WAIT_MS = 10000, DEV_POLL_MS = 2 };

/* There, and with a medium: a template's drive is filled when the machine goes on from it. */
static bool dev_ready(const char *path)
{
    CLEANUP(fd) int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct stat st;
    uint64_t bytes = 0;

    if (fd < 0 || fstat(fd, &st) < 0)
        return false;
    return !S_ISBLK(st.st_mode) || (ioctl(fd, BLKGETSIZE64, &bytes) == 0 && bytes > 0);
}

/* Drivers probe on their own time: the node may come after the module was loaded. */
static int wait_dev(const char *path, struct err *e)
{
    struct timespec t = {.tv_nsec = 1000};

    if (strncmp(path, "/dev/", 5) != 0)
        return 0;
    for (uint64_t waited = 0; !dev_ready(path); waited += (uint64_t)t.tv_nsec) {
        if (waited >= DEV_WAIT_MS * 1000000ull)
            return err_set(e, -ENODEV, "disk %s did not appear", path);
        nanosleep(&t, NULL);
        if (t.tv_nsec < DEV_POLL_MS * 1000000L)
            t.tv_nsec *= 2;
    }
    return 0;
}

static int mount_image(const struct setup_req *r, const char *dir, struct err *e)
{
    int rc = wait_dev(r->root_dev, e);

    if (rc < 0)
        return rc;
    /* "bind": the image is a folder that is there already. */
    bool bind = strcmp(r->root_fstype, "bind") == 0;
    if (mount(r->root_dev, dir, bind ? NULL : r->root_fstype, bind ? MS_BIND : MS_RDONLY, NULL) < 0)
        return err_errno(e, -errno, "mount image %s as %s", r->root_dev, r->root_fstype);
    return 0;
}

static int mount_rw(const struct setup_req *r, const char *dir, struct err *e)
{
    if (!r->overlay_dev) {
        char opt[64] = "mode=0755";

        if (r->overlay_bytes)
            snprintf(opt, sizeof(opt), "mode=0755,size=%llu", (unsigned long long)r->overlay_bytes);
        if (mount("kiln", dir, "tmpfs", 0, opt) < 0)
            return err_errno(e, -errno, "tmpfs for the writable layer");
        return 0;
    }
    int rc = wait_dev(r->overlay_dev, e);
    if (rc < 0)
        return rc;
    /* Not to write zeroes over the host's sparse file in the background; and what is deleted is
     * given back to it. */
    if (mount(r->overlay_dev, dir, "ext4", MS_NOATIME, "noinit_itable,discard") < 0)
        return err_errno(e, -errno, "mount writable layer %s", r->overlay_dev);
    return 0;
}

static int mount_overlay(const char *base, const char *root, struct err *e)
{
    char image[PATH_LEN], upper[PATH_LEN], work[PATH_LEN], opt[4 * PATH_LEN];
    struct stat st;

    snprintf(image, sizeof(image), "%s/image", base);
    snprintf(upper, sizeof(upper), "%s/rw/upper", base);
    snprintf(work, sizeof(work), "%s/rw/work", base);
    if (stat(image, &st) < 0)
        return err_errno(e, -errno, "%s", image);
    if ((mkdir(upper, 0755) < 0 && errno != EEXIST) || (mkdir(work, 0755) < 0 && errno != EEXIST))
        return err_errno(e, -errno, "writable layer");
    /* The upper directory's own attributes are those of "/" in the container. */
    if (chown(upper, st.st_uid, st.st_gid) < 0 || chmod(upper, st.st_mode & 07777) < 0)
        return err_errno(e, -errno, "writable layer");
    int n = snprintf(opt, sizeof(opt), "lowerdir=%s,upperdir=%s,workdir=%s,redirect_dir=on", image,
                     upper, work);
    if (mount("overlay", root, "overlay", 0, opt) == 0)
        return 0;
    opt[n - (int)strlen(",redirect_dir=on")] = '\0'; /* a kernel without it renames by copying */
    if (mount("overlay", root, "overlay", 0, opt) < 0)
        return err_errno(e, -errno, "overlay");
    return 0;
}

static int enter(const char *root, struct err *e)
{
    if (chdir(root) < 0 || mount(".", "/", NULL, MS_MOVE, NULL) < 0 || chroot(".") < 0 ||
        chdir("/") < 0)
        return err_errno(e, -errno, "enter the container's root");
    return 0;
}

static int mount_at(const char *what, const char *dir, const char *type, unsigned long flags,
                    const char *opt, struct err *e)
{
    int r = launch_mkdirs(dir, 0755);

    if (r < 0)
        return err_errno(e, r, "%s", dir);
    if (mount(what, dir, type, flags, opt) < 0)
        return err_errno(e, -errno, "mount %s", dir);
    return 0;
}

/* What is useful but may be missing in a kernel. */
static void try_mount(const char *what, const char *dir, const char *type, unsigned long flags,
                      const char *opt)
{
    (void)mount_at(what, dir, type, flags, opt, NULL);
}

static const struct {
    const char *name;
    unsigned major, minor; /* Linux Documentation/admin-guide/devices.txt */
} node[] = {
    {"/dev/null", 1, 3},    {"/dev/zero", 1, 5}, {"/dev/full", 1, 7},    {"/dev/random", 1, 8},
    {"/dev/urandom", 1, 9}, {"/dev/tty", 5, 0},  {"/dev/fuse", 10, 229}, {"/dev/net/tun", 10, 200},
};

static const struct {
    const char *name, *target;
} link_to[] = {
    {"/dev/fd", "/proc/self/fd"},       {"/dev/stdin", "/proc/self/fd/0"},
    {"/dev/stdout", "/proc/self/fd/1"}, {"/dev/stderr", "/proc/self/fd/2"},
    {"/dev/ptmx", "pts/ptmx"},          {"/dev/core", "/proc/kcore"},
};

static int make_dev(struct err *e)
{
    int r = mount_at("tmpfs", "/dev", "tmpfs", MS_NOSUID, "mode=0755", e);

    if (r < 0)
        return r;
    r = launch_mkdirs("/dev/net", 0755);
    if (r < 0)
        return err_errno(e, r, "/dev/net");
    for (unsigned i = 0; i < ARRAY_LEN(node); i++) {
        if (mknod(node[i].name, S_IFCHR | 0666, makedev(node[i].major, node[i].minor)) < 0)
            return err_errno(e, -errno, "%s", node[i].name);
        (void)!chmod(node[i].name, 0666);
    }
    for (unsigned i = 0; i < ARRAY_LEN(link_to); i++)
        if (symlink(link_to[i].target, link_to[i].name) < 0)
            return err_errno(e, -errno, "%s", link_to[i].name);
    r = mount_at("devpts", "/dev/pts", "devpts", MS_NOSUID | MS_NOEXEC,
                 "newinstance,ptmxmode=0666,mode=0620,gid=5", e);
    if (r < 0)
        return r;
    try_mount("shm", "/dev/shm", "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=1777");
    try_mount("mqueue", "/dev/mqueue", "mqueue", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL);
    return 0;
}

static int make_system(struct err *e)
{
    const unsigned long flags = MS_NOSUID | MS_NODEV | MS_NOEXEC;
    int r = mount_at("proc", "/proc", "proc", flags, NULL, e);

    if (r < 0)
        return r;
    r = mount_at("sysfs", "/sys", "sysfs", flags, NULL, e);
    if (r < 0)
        return r;
    try_mount("cgroup", "/sys/fs/cgroup", "cgroup2", flags, NULL);
    return make_dev(e);
}

/* Sources are names in the agent's world: held open before that world is out of sight. */
static int hold_sources(const struct setup_req *r, int *fd, struct err *e)
{
    for (unsigned i = 0; i < r->n_mounts; i++) {
        const char *src = r->mount[i].source;

        if (src[0] != '/')
            continue;
        int rc = wait_dev(src, e);
        if (rc < 0)
            return rc;
        fd[i] = open(src, O_PATH | O_CLOEXEC);
        if (fd[i] < 0)
            return err_errno(e, -errno, "mount source %s", src);
    }
    return 0;
}

static int fill(const struct setup_req *r, const int *source, struct err *e)
{
    CLEANUP(fd) int root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
    int rc = root < 0 ? err_errno(e, -errno, "/") : make_system(e);

    /* Before the user's mounts: those files are not ours to write. */
    if (rc == 0)
        rc = ident_files(root, r, e);
    for (unsigned i = 0; rc == 0 && i < r->n_mounts; i++)
        rc = mounts_add(&r->mount[i], source[i], e);
    if (rc == 0 && r->root_ro && mount(NULL, "/", NULL, MS_REMOUNT | MS_BIND | MS_RDONLY, NULL) < 0)
        rc = err_errno(e, -errno, "make the root read-only");
    return rc;
}

/* Held open before they are out of sight. */
static int hold_layers(const char *base, struct layers *l, struct err *e)
{
    char path[PATH_LEN];

    snprintf(path, sizeof(path), "%s/image", base);
    l->image = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    snprintf(path, sizeof(path), "%s/rw/upper", base);
    l->upper = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return l->image < 0 || l->upper < 0 ? err_errno(e, -errno, "the container's layers") : 0;
}

int root_enter(const struct setup_req *r, const char *base, struct layers *l, struct err *e)
{
    static const char *const sub[] = {"image", "rw", "root"};
    char dir[ARRAY_LEN(sub)][PATH_LEN];
    int source[AGENT_MOUNTS_MAX];

    for (unsigned i = 0; i < AGENT_MOUNTS_MAX; i++)
        source[i] = -1;
    for (unsigned i = 0; i < ARRAY_LEN(sub); i++) {
        snprintf(dir[i], sizeof(dir[i]), "%s/%s", base, sub[i]);
        int rc = launch_mkdirs(dir[i], 0755);
        if (rc < 0)
            return err_errno(e, rc, "%s", dir[i]);
    }
    umask(0);
    int rc = mount_image(r, dir[0], e);
    if (rc == 0)
        rc = mount_rw(r, dir[1], e);
    if (rc == 0)
        rc = mount_overlay(base, dir[2], e);
    if (rc == 0)
        rc = hold_layers(base, l, e);
    if (rc == 0)
        rc = hold_sources(r, source, e);
    if (rc == 0)
        rc = enter(dir[2], e);
    if (rc == 0)
        rc = fill(r, source, e);
    for (unsigned i = 0; i < AGENT_MOUNTS_MAX; i++)
        cleanup_fd(&source[i]);
    umask(022);
    return rc;
}
