#include "jail/emptyroot.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/mount.h>
#include <sched.h>
#include <stdbool.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "jail/landlock.h"

/* From linux/mount.h; sys/mount.h of the C library does not go together with that. */
enum { DETACH = 2 /* MNT_DETACH */, PRIVATE = 1 << 18, REC = 1 << 14 };
enum { RDONLY = 1, NOSUID = 2, NODEV = 4, NOEXEC = 8 };
int mount(const char *source, const char *target, const char *type, unsigned long flags,
          const void *data);
int umount2(const char *target, int flags);

/* Of a single file the folder it is in is served. */
static void folder_of(const char *share, char path[PATH_MAX])
{
    struct stat st;

    snprintf(path, PATH_MAX, "%s", share);
    if (stat(path, &st) < 0 || !S_ISREG(st.st_mode))
        return;
    char *slash = strrchr(path, '/');
    if (slash)
        slash[1] = '\0';
    else
        snprintf(path, PATH_MAX, ".");
}

/* A mount that begins at the folder: ".." leads nowhere. */
static int fence(const struct jail_share *s, struct err *e)
{
    struct mount_attr a = {.attr_set = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC |
                                       (s->read_only ? MOUNT_ATTR_RDONLY : 0u)};
    struct stat want, got;
    char path[PATH_MAX];

    folder_of(s->path, path);
    CLEANUP(fd)
    int tree = (int)syscall(SYS_open_tree, AT_FDCWD, path,
                            OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_RECURSIVE);

    if (tree < 0 ||
        syscall(SYS_mount_setattr, tree, "", AT_EMPTY_PATH | AT_RECURSIVE, &a, sizeof(a)) < 0)
        return err_errno(e, -errno, "share '%s': a mount of its own", s->path);
    if (fstat(s->fd, &want) < 0 || fstat(tree, &got) < 0 || want.st_dev != got.st_dev ||
        want.st_ino != got.st_ino)
        return err_set(e, -ESTALE, "share '%s': it was moved just now", s->path);
    return dup3(tree, s->fd, O_CLOEXEC) < 0 ? err_errno(e, -errno, "share '%s'", s->path) : 0;
}

/* A /proc of this PID namespace alone, and of it only what this process might trace: itself. */
static int own_proc(void)
{
    CLEANUP(fd) int fs = (int)syscall(SYS_fsopen, "proc", FSOPEN_CLOEXEC);

    if (fs < 0 || syscall(SYS_fsconfig, fs, FSCONFIG_SET_STRING, "hidepid", "ptraceable", 0) < 0 ||
        syscall(SYS_fsconfig, fs, FSCONFIG_SET_STRING, "subset", "pid", 0) < 0 ||
        syscall(SYS_fsconfig, fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
        return -errno;
    int fd = (int)syscall(SYS_fsmount, fs, FSMOUNT_CLOEXEC,
                          MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC);
    return fd < 0 ? -errno : fd;
}

/* Hosts that hide parts of /proc make no new one without root. Then landlock alone keeps the rest
 * of it away. */
static int fence_proc(int proc_fd, struct err *e)
{
    CLEANUP(fd) int fd = own_proc();

    if (fd < 0 && landlock_abi() > 0)
        return 0;
    if (fd < 0 || dup3(fd, proc_fd, O_CLOEXEC) < 0)
        return err_errno(e, fd < 0 ? fd : -errno,
                         "a share needs a /proc of its own, which this host does not give");
    return 0;
}

/* An empty folder in memory that cannot be written. pivot_root(".", "."), pivot_root(2). */
static int empty_root(struct err *e)
{
    static const char at[] = "/proc"; /* any folder that is there */

    if (mount("none", at, "tmpfs", RDONLY | NOSUID | NODEV | NOEXEC,
              "size=4k,nr_inodes=2,mode=555") < 0)
        return err_errno(e, -errno, "mount an empty root");
    if (chdir(at) < 0 || syscall(SYS_pivot_root, ".", ".") < 0 || umount2(".", DETACH) < 0 ||
        chdir("/") < 0)
        return err_errno(e, -errno, "enter the empty root");
    return 0;
}

int emptyroot_enter(const struct jail_conf *c, struct err *e)
{
    static const int others[] = {CLONE_NEWIPC, CLONE_NEWUTS, CLONE_NEWCGROUP, CLONE_NEWNET};
    bool mounts = unshare(CLONE_NEWNS) == 0;
    int r = 0;

    for (unsigned i = 0; i < ARRAY_LEN(others); i++)
        (void)!unshare(others[i]);
    if (!mounts)
        return c->n_shares > 0 && landlock_abi() == 0
                   ? err_set(e, -EPERM, "a share needs a mount namespace or landlock")
                   : 0;
    if (mount(NULL, "/", NULL, REC | PRIVATE, NULL) < 0)
        return err_errno(e, -errno, "keep mounts to itself");
    for (unsigned i = 0; r == 0 && i < c->n_shares; i++)
        if ((r = fence(&c->share[i], e)) == 0)
            r = fence_proc(c->share[i].proc_fd, e);
    return r == 0 ? empty_root(e) : r;
}
