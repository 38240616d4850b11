#include "image/unpacked.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "image/helper.h"
#include "image/store_priv.h"

void unpacked_done(struct unpacked *u)
{
    if (u->lock > 0)
        close(u->lock);
    *u = (struct unpacked){.lock = 0};
}

/* Lock what is there. -ENOENT: nothing is, or it was just removed. */
static int take(struct unpacked *u)
{
    struct stat locked, now;
    CLEANUP(fd) int fd = open(u->path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

    if (fd < 0)
        return -errno;
    if (flock(fd, LOCK_SH) < 0 || fstat(fd, &locked) < 0)
        return -errno;
    if (stat(u->path, &now) < 0 || now.st_ino != locked.st_ino)
        return -ENOENT;
    u->lock = fcntl(fd, F_DUPFD_CLOEXEC, 3);
    return u->lock < 0 ? -errno : 0;
}

static int unsquash(struct store *s, const struct work *w, const char *rootfs, struct err *e)
{
    char to[PATH_MAX];
    struct helper h;
    int n = snprintf(to, sizeof(to), "%s/tmp/%s/root", store_root(s), w->name);
    const char *argv[] = {"unsquashfs", "-n", "-q", "-f", "-d", to, rootfs, NULL};

    if (n < 0 || (size_t)n >= sizeof(to))
        return err_errno(e, -ENAMETOOLONG, "%s", store_root(s));
    int r = helper_start(&h, argv, NULL, "squashfs-tools", false, false, e);
    return r < 0 ? r : helper_end(&h, e);
}

static int make(struct store *s, const char *rootfs, const char *hex, struct err *e)
{
    struct work w;
    char name[DIGEST_MAX + 16];

    if (mkdirat(s->dir, "unpacked", 0700) < 0 && errno != EEXIST)
        return err_errno(e, -errno, "image store '%s'", store_root(s));
    int r = store_work_begin(s, &w, e);
    if (r < 0)
        return r;
    snprintf(name, sizeof(name), "unpacked/%s", hex);
    r = unsquash(s, &w, rootfs, e);
    /* The name is not to outlive a crash that the files did not. */
    if (r == 0 && syncfs(w.dir) < 0)
        r = err_errno(e, -errno, "unpack the image");
    if (r == 0 && renameat(w.dir, "root", s->dir, name) < 0 && errno != EEXIST &&
        errno != ENOTEMPTY)
        r = err_errno(e, -errno, "unpack the image");
    store_work_end(s, &w);
    return r;
}

int unpacked_open(const char *root, const char *rootfs, struct unpacked *u, struct err *e)
{
    const char *base = strrchr(rootfs, '/');
    char hex[DIGEST_HEX + 1];
    struct store *s;

    *u = (struct unpacked){.lock = 0};
    base = base ? base + 1 : rootfs;
    if (strcspn(base, ".") != DIGEST_HEX)
        return err_set(e, -EINVAL, "'%s' is no image of the store", rootfs);
    snprintf(hex, sizeof(hex), "%.*s", DIGEST_HEX, base);
    int n = snprintf(u->path, sizeof(u->path), "%s/unpacked/%s", root, hex);
    if (n < 0 || (size_t)n >= sizeof(u->path))
        return err_errno(e, -ENAMETOOLONG, "%s", root);
    if (take(u) == 0)
        return 0;
    int r = store_open(root, &s, e);
    if (r < 0)
        return r;
    r = make(s, rootfs, hex, e);
    store_close(s);
    if (r < 0)
        return r;
    r = take(u);
    return r < 0 ? err_errno(e, r, "%s", u->path) : 0;
}

uint64_t store_remove_unpacked(int dir, const char *name)
{
    CLEANUP(fd) int fd = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

    /* In use: the next prune takes it. */
    return fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) == 0 ? store_remove_tree(dir, name) : 0;
}
