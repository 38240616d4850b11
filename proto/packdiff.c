#include "proto/packdiff.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "proto/packwrite.h"

struct diff {
    const struct packdiff_conf *c;
    struct pack_out *o;
    unsigned depth;
    size_t len; /* of path */
    char path[PACK_PATH_MAX + 1];
    char link[PACK_PATH_MAX + 1];
    struct pack_entry entry, etc;
    bool etc_waits;
};

static bool has_xattr(int fd, const char *name, char want)
{
    static const char *const space[] = {"trusted", "user"}; /* user: a mount without privilege */
    char full[64], value[2];

    for (unsigned i = 0; i < ARRAY_LEN(space); i++) {
        snprintf(full, sizeof(full), "%s.overlay.%s", space[i], name);
        ssize_t n = fgetxattr(fd, full, value, want ? sizeof(value) : 0);
        if (n > 0 && (!want || value[0] == want))
            return true;
    }
    return false;
}

/* What is made at each start: mount points, and files that tell a container who it is. */
bool packdiff_is_ours(const char *path)
{
    static const char *const ours[] = {"dev",          "proc",          "sys",
                                       "etc/hostname", "etc/hosts",     "etc/resolv.conf",
                                       "etc/mtab",     "etc/machine-id"};

    for (unsigned i = 0; i < ARRAY_LEN(ours); i++)
        if (strcmp(path, ours[i]) == 0)
            return true;
    return false;
}

static bool is_whiteout(const struct stat *st)
{
    return S_ISCHR(st->st_mode) && st->st_rdev == makedev(0, 0);
}

/* /etc, if all that changed in it is ours, did not change: it is told with what is in it. */
static int put_etc(struct diff *d, struct err *e)
{
    int r = d->etc_waits ? pack_put_entry(d->o, &d->etc) : 0;

    d->etc_waits = false;
    return r < 0 ? err_errno(e, r, "/etc") : 0;
}

static int put_entry(struct diff *d, bool hidden, struct err *e)
{
    int rc = put_etc(d, e);

    if (rc < 0)
        return rc;
    d->entry.path = d->path;
    d->entry.flags = d->c->in_image(d->c->ctx, d->path) ? 0 : PACK_NEW;
    if (hidden && !(d->entry.flags & PACK_NEW))
        d->entry.flags |= PACK_OPAQUE;
    if (d->entry.flags == 0 && d->entry.type == PACK_DIR && strcmp(d->path, "etc") == 0) {
        d->etc = d->entry;
        d->etc.path = "etc";
        d->etc_waits = true;
        return 0;
    }
    int r = pack_put_entry(d->o, &d->entry);
    return r < 0 ? err_errno(e, r, "/%s", d->path) : 0;
}

static int put_absent(struct diff *d, struct err *e)
{
    int rc = put_etc(d, e);

    if (rc < 0)
        return rc;
    d->entry = (struct pack_entry){.type = PACK_ABSENT, .path = d->path, .link = ""};
    int r = pack_put_entry(d->o, &d->entry);
    return r < 0 ? err_errno(e, r, "/%s", d->path) : 0;
}

static int diff_one(struct diff *d, int dir, const char *name, struct err *e);

static int diff_entries(struct diff *d, int fd, struct err *e)
{
    int copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    CLEANUP(dir) DIR *open = copy < 0 ? NULL : fdopendir(copy);
    const struct dirent *de;
    size_t len = d->len;
    int r = 0;

    if (!open) {
        r = err_errno(e, -errno, "/%s", d->path);
        cleanup_fd(&copy);
        return r;
    }
    if (++d->depth > PACKWRITE_DEPTH_MAX)
        return err_set(e, -ELOOP, "/%s: more than %d folders in folders", d->path,
                       PACKWRITE_DEPTH_MAX);
    rewinddir(open);
    while (r == 0 && (errno = 0, de = readdir(open))) {
        if (strcmp(de->d_name, ".") == 0 || strcmp(de->d_name, "..") == 0)
            continue;
        int n = snprintf(d->path + len, sizeof(d->path) - len, "%s%s", len ? "/" : "", de->d_name);
        if (n < 0 || (size_t)n >= sizeof(d->path) - len) {
            d->path[len] = '\0';
            return err_errno(e, -ENAMETOOLONG, "in /%s", d->path);
        }
        d->len = len + (size_t)n;
        r = diff_one(d, dirfd(open), de->d_name, e);
        d->len = len;
        d->path[len] = '\0';
    }
    d->depth--;
    return r;
}

static int diff_dir(struct diff *d, int fd, struct err *e)
{
    bool moved = has_xattr(fd, "redirect", 0), opaque = has_xattr(fd, "opaque", 'y');

    int r = put_entry(d, moved || opaque, e);
    if (r == 0 && !moved) {
        r = diff_entries(d, fd, e);
        d->etc_waits &= strcmp(d->path, "etc") != 0;
    }
    if (r < 0 || !moved)
        return r;
    /* What is here came from elsewhere in the image: only the overlay itself knows all of it. */
    if (d->c->merged < 0)
        return err_set(e, -EXDEV, "/%s: the folder was renamed in a layer that is not mounted",
                       d->path);
    CLEANUP(fd)
    int all = packwrite_open(d->c->merged, d->path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
    return all < 0 ? err_errno(e, all, "/%s", d->path) : diff_entries(d, all, e);
}

static int diff_one(struct diff *d, int dir, const char *name, struct err *e)
{
    struct stat st;

    if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return errno == ENOENT ? 0 : err_errno(e, -errno, "/%s", d->path);
    if (packdiff_is_ours(d->path))
        return 0;
    if (is_whiteout(&st))
        return put_absent(d, e);
    if (!packwrite_entry(&st, "", &d->entry))
        return 0; /* a socket */
    if (S_ISDIR(st.st_mode)) {
        CLEANUP(fd)
        int fd = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        return fd < 0 ? err_errno(e, -errno, "/%s", d->path) : diff_dir(d, fd, e);
    }
    if (S_ISLNK(st.st_mode)) {
        ssize_t n = readlinkat(dir, name, d->link, sizeof(d->link));
        if (n <= 0 || n == sizeof(d->link))
            return n < 0 && errno == ENOENT ? 0 : err_errno(e, -errno, "/%s", d->path);
        d->link[n] = '\0';
        d->entry.link = d->link;
    }
    return put_entry(d, false, e);
}

int packdiff(const struct packdiff_conf *c, struct pack_out *o, struct err *e)
{
    struct diff *d = calloc(1, sizeof(*d));

    if (!d)
        return err_errno(e, -ENOMEM, "difference");
    d->c = c;
    d->o = o;
    int r = diff_entries(d, c->upper, e);
    free(d);
    return r;
}
