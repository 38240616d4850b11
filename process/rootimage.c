/* An image's file system: from a loop device for root, through squashfuse(1) for others. */
#include <errno.h>
#include <fcntl.h>
#include <linux/loop.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "os/fds.h"
#include "process/process_priv.h"

enum {
    LOOP_TRIES = 64, /* somebody else took the device we were given */
    LOOP_BLOCK = 4096,
};

static int open_loop(unsigned n, char path[32])
{
    snprintf(path, 32, "/dev/loop%u", n);
    return open(path, O_RDONLY | O_CLOEXEC);
}

static int configure(int loop, int file, const char *image)
{
    struct loop_config c = {.fd = (uint32_t)file, .block_size = LOOP_BLOCK};

    c.info.lo_flags = LO_FLAGS_READ_ONLY | LO_FLAGS_AUTOCLEAR;
    snprintf((char *)c.info.lo_file_name, sizeof(c.info.lo_file_name), "%s", image);
    return ioctl(loop, LOOP_CONFIGURE, &c) < 0 ? -errno : 0;
}

/* A device for the file, which frees itself when nobody has it open. Owned. */
static int new_loop(int file, const char *image, char path[32], struct err *e)
{
    CLEANUP(fd) int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
    int r = -EBUSY;

    if (control < 0)
        return err_errno(e, -errno, "/dev/loop-control");
    for (int i = 0; i < LOOP_TRIES && r == -EBUSY; i++) {
        int n = ioctl(control, LOOP_CTL_GET_FREE);

        if (n < 0)
            return err_errno(e, -errno, "no loop device for %s", image);
        CLEANUP(fd) int loop = open_loop((unsigned)n, path);
        if (loop < 0)
            return err_errno(e, -errno, "%s", path);
        r = configure(loop, file, image);
        if (r == 0)
            return take_fd(&loop);
    }
    return err_errno(e, r, "loop device for %s", image);
}

int rootimage_mount(const char *image, const char *fstype, struct err *e)
{
    char path[32];
    CLEANUP(fd) int file = open(image, O_RDONLY | O_CLOEXEC);

    if (file < 0)
        return err_errno(e, -errno, "image %s", image);
    CLEANUP(fd) int loop = new_loop(file, image, path, e);
    if (loop < 0)
        return loop;
    /* Opened until it is mounted, else it would be free again. */
    return fsmount_new(fstype, path, "ro", fsmount_attrs(MS_RDONLY), e);
}

/* It ends when the container's mount does. */
static _Noreturn void server(const char *image, int fuse)
{
    char target[32];
    int keep[] = {fuse};
    int null = open("/dev/null", O_RDWR);

    fds_close_but(keep, 1);
    (void)fcntl(fuse, F_SETFD, 0);
    for (int i = 0; i < 3; i++)
        (void)dup2(null, i);
    (void)setsid();
    snprintf(target, sizeof(target), "/dev/fd/%d", fuse);
    (void)execlp("squashfuse_ll", "squashfuse_ll", "-f", image, target, (char *)NULL);
    (void)execlp("squashfuse", "squashfuse", "-f", image, target, (char *)NULL);
    _exit(127); /* forked child */
}

static bool in_path(const char *name)
{
    const char *path = getenv("PATH");
    char full[4096];

    for (const char *p = path ? path : "/usr/bin:/bin"; *p;) {
        size_t n = strcspn(p, ":");

        if (snprintf(full, sizeof(full), "%.*s/%s", (int)n, p, name) < (int)sizeof(full) &&
            access(full, X_OK) == 0)
            return true;
        p += n + (p[n] == ':');
    }
    return false;
}

int rootimage_serve(const char *image, int fuse, pid_t *pid, struct err *e)
{
    if (!in_path("squashfuse_ll") && !in_path("squashfuse"))
        return err_set(e, -ENOENT,
                       "without root an image is served by squashfuse, which is not installed "
                       "(package squashfuse)");
    *pid = fork();
    if (*pid == 0)
        server(image, fuse);
    return *pid < 0 ? err_errno(e, -errno, "start the server of the image") : 0;
}
