#include "container/copyup.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "image/helper.h"
#include "image/store_priv.h"
#include "proto/packwrite.h"

#define TEMP_NAME ".copy-up"

/* 1 = nothing is in it, 0 = something. */
static int is_empty(int dir)
{
    int copy = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    CLEANUP(dir) DIR *d = copy < 0 ? NULL : fdopendir(copy);
    const struct dirent *de;

    if (!d) {
        cleanup_fd(&copy);
        return -errno;
    }
    while ((de = readdir(d)))
        if (strcmp(de->d_name, ".") != 0 && strcmp(de->d_name, "..") != 0)
            return 0;
    return 1;
}

static int unpack(const char *to, const char *rootfs, const char *target, struct err *e)
{
    const char *argv[] = {"unsquashfs", "-n", "-q", "-f", "-d", to, rootfs, target + 1, NULL};
    struct helper h;
    int r = helper_start(&h, argv, NULL, "squashfs-tools", false, false, e);

    return r < 0 ? r : helper_end(&h, e);
}

/* Everything in `from` goes into `to`. */
static int move_all(int from, int to, struct err *e)
{
    int copy = openat(from, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    CLEANUP(dir) DIR *d = copy < 0 ? NULL : fdopendir(copy);
    const struct dirent *de;

    if (!d) {
        cleanup_fd(&copy);
        return err_errno(e, -errno, "copy the image's files");
    }
    while ((de = readdir(d)))
        if (strcmp(de->d_name, ".") != 0 && strcmp(de->d_name, "..") != 0 &&
            renameat(from, de->d_name, to, de->d_name) < 0)
            return err_errno(e, -errno, "copy the image's '%s'", de->d_name);
    return 0;
}

static int fill(int data, int temp, const char *target, struct err *e)
{
    struct stat st;
    CLEANUP(fd) int from = packwrite_open(temp, target, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);

    if (from < 0)
        return 0; /* the image has no such folder */
    if (fstat(from, &st) < 0)
        return err_errno(e, -errno, "copy the image's files");
    int r = move_all(from, data, e);
    if (r < 0)
        return r;
    if ((geteuid() == 0 && fchown(data, st.st_uid, st.st_gid) < 0) ||
        fchmod(data, st.st_mode & 07777) < 0)
        return err_errno(e, -errno, "copy the image's files");
    return 0;
}

int copyup(const struct volstore *v, const char *rootfs, const char *fstype, const char *target,
           struct err *e)
{
    char folder[PATH_MAX], temp[PATH_MAX + 16];
    CLEANUP(fd) int data = open(v->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    snprintf(folder, sizeof(folder), "%.*s", (int)(strlen(v->path) - strlen("/_data")), v->path);
    CLEANUP(fd) int dir = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (data < 0 || dir < 0)
        return err_errno(e, -errno, "volume %s", v->name);
    if (!rootfs || strcmp(fstype, "squashfs") != 0 || is_empty(data) != 1)
        return 0;
    /* Two containers may start with it at once: the second finds it filled. */
    while (flock(dir, LOCK_EX) < 0)
        if (errno != EINTR)
            return err_errno(e, -errno, "volume %s", v->name);
    if (is_empty(data) != 1)
        return 0;
    (void)store_remove_tree(dir, TEMP_NAME);
    snprintf(temp, sizeof(temp), "%s/" TEMP_NAME, folder);
    int r = unpack(temp, rootfs, target, e);
    CLEANUP(fd) int from = open(temp, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (r == 0 && from >= 0)
        r = fill(data, from, target, e);
    (void)store_remove_tree(dir, TEMP_NAME);
    return r < 0 ? err_wrap(e, r, "volume %s", v->name) : 0;
}
