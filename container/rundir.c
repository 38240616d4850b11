#include "container/rundir.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "os/hexid.h"

/* A folder that is ours alone: in /tmp somebody else may have been there first. */
static int private_dir(const char *path, struct err *e)
{
    struct stat st;

    if (mkdir(path, 0700) < 0 && errno != EEXIST)
        return err_errno(e, -errno, "state folder %s", path);
    if (lstat(path, &st) < 0)
        return err_errno(e, -errno, "state folder %s", path);
    if (!S_ISDIR(st.st_mode) || st.st_uid != geteuid() || (st.st_mode & 077) != 0)
        return err_set(e, -EPERM, "state folder %s: not a folder that is yours alone (mode 0700)",
                       path);
    if (access(path, W_OK | X_OK) < 0)
        return err_errno(e, -errno, "state folder %s", path);
    return 0;
}

int rundir_base(char *buf, size_t len, struct err *e)
{
    const char *xdg = getenv("XDG_RUNTIME_DIR");

    if (xdg && xdg[0] == '/' && access(xdg, W_OK | X_OK) == 0 &&
        (size_t)snprintf(buf, len, "%s/kiln", xdg) < len)
        return private_dir(buf, e);
    if (snprintf(buf, len, "/run/kiln") > 0 && private_dir(buf, NULL) == 0)
        return 0;
    if ((size_t)snprintf(buf, len, "/tmp/kiln-%u", (unsigned)geteuid()) >= len)
        return err_errno(e, -ENAMETOOLONG, "state folder");
    return private_dir(buf, e);
}

static bool is_id(const char *s)
{
    return strlen(s) == RUNDIR_ID_LEN && strspn(s, "0123456789abcdef") == RUNDIR_ID_LEN;
}

void rundir_wipe(int base, const char *id)
{
    int fd = openat(base, id, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    CLEANUP(dir) DIR *d = fd < 0 ? NULL : fdopendir(fd);
    struct dirent *de;

    while (d && (de = readdir(d)))
        if (strcmp(de->d_name, ".") != 0 && strcmp(de->d_name, "..") != 0)
            (void)unlinkat(dirfd(d), de->d_name, 0);
    if (!d && fd >= 0)
        close(fd);
    (void)unlinkat(base, id, AT_REMOVEDIR);
}

/* Nobody holds its lock: its machine is gone. */
static bool stale(int base, const char *id)
{
    char path[RUNDIR_ID_LEN + 8];

    snprintf(path, sizeof(path), "%.*s/lock", RUNDIR_ID_LEN, id);
    CLEANUP(fd) int fd = openat(base, path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
    return fd < 0 || flock(fd, LOCK_EX | LOCK_NB) == 0;
}

/* "" = it has none. */
static void read_name(int base, const char *id, char text[RUNDIR_NAME_MAX + 1])
{
    char path[RUNDIR_ID_LEN + 8];

    memset(text, 0, RUNDIR_NAME_MAX + 1);
    snprintf(path, sizeof(path), "%.*s/name", RUNDIR_ID_LEN, id);
    CLEANUP(fd) int fd = openat(base, path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd >= 0 && read(fd, text, RUNDIR_NAME_MAX) < 0)
        text[0] = '\0';
}

static bool has_name(int base, const char *id, const char *name)
{
    char text[RUNDIR_NAME_MAX + 1];

    read_name(base, id, text);
    return text[0] && strcmp(text, name) == 0;
}

/* Under the base's lock. */
static int sweep(int base, const char *name, struct err *e)
{
    int copy = fcntl(base, F_DUPFD_CLOEXEC, 0);
    CLEANUP(dir) DIR *d = copy < 0 ? NULL : fdopendir(copy);
    struct dirent *de;

    if (!d)
        return err_errno(e, -errno, "state folder");
    rewinddir(d);
    while ((de = readdir(d))) {
        if (!is_id(de->d_name))
            continue;
        if (stale(base, de->d_name))
            rundir_wipe(base, de->d_name);
        else if (name && has_name(base, de->d_name, name))
            return err_set(e, -EEXIST, "the name '%s' is in use by a running container (%s)", name,
                           de->d_name);
    }
    return 0;
}

static int put_name(struct rundir *d, const char *name, struct err *e)
{
    CLEANUP(fd) int fd = openat(d->dir, "name", O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

    if (fd < 0 || write(fd, name, strlen(name)) != (ssize_t)strlen(name))
        return err_errno(e, -errno, "state folder %s", d->path);
    snprintf(d->name, sizeof(d->name), "%s", name);
    return 0;
}

static int make(struct rundir *d, const char *base, struct err *e)
{
    if ((size_t)snprintf(d->path, sizeof(d->path), "%s/%s", base, d->id) >= sizeof(d->path))
        return err_errno(e, -ENAMETOOLONG, "state folder %s", base);
    if (mkdirat(d->base, d->id, 0700) < 0)
        return err_errno(e, -errno, "state folder %s", d->path);
    d->dir = openat(d->base, d->id, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    d->lock = openat(d->dir, "lock", O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (d->dir < 0 || d->lock < 0 || flock(d->lock, LOCK_EX | LOCK_NB) < 0)
        return err_errno(e, -errno, "state folder %s", d->path);
    return 0;
}

static int check_name(const char *name, struct err *e)
{
    static const char set[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-";
    size_t n = strlen(name);

    if (n == 0 || n > RUNDIR_NAME_MAX || strspn(name, set) != n || strchr("_.-", name[0]))
        return err_set(e, -EINVAL, "'%s' is not a name: letters, digits, '_', '.', '-', at most %d",
                       name, RUNDIR_NAME_MAX);
    return 0;
}

int rundir_new(const char *base, const char *name, struct rundir *d, struct err *e)
{
    return rundir_make(base, NULL, name, d, e);
}

int rundir_make(const char *base, const char *id, const char *name, struct rundir *d, struct err *e)
{
    int r = name ? check_name(name, e) : 0;

    *d = RUNDIR_NONE;
    if (r == 0 && !id)
        r = hexid(d->id, RUNDIR_ID_LEN, e);
    else if (r == 0)
        snprintf(d->id, sizeof(d->id), "%.*s", RUNDIR_ID_LEN, id);
    if (r < 0)
        return r;
    d->base = open(base, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    CLEANUP(fd)
    int lock = d->base < 0 ? -1 : openat(d->base, "lock", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (lock < 0 || flock(lock, LOCK_EX) < 0)
        r = err_errno(e, -errno, "state folder %s", base);
    if (r == 0)
        r = sweep(d->base, name, e);
    if (r == 0)
        r = make(d, base, e);
    if (r == 0 && name)
        r = put_name(d, name, e);
    if (r < 0)
        rundir_remove(d);
    return r;
}

void rundir_rename(struct rundir *d, const char *name)
{
    (void)unlinkat(d->dir, "name", 0);
    if (put_name(d, name, NULL) < 0)
        d->name[0] = '\0'; /* it is still found by its id */
}

void rundir_remove(struct rundir *d)
{
    if (d->dir >= 0)
        rundir_wipe(d->base, d->id);
    cleanup_fd(&d->lock);
    cleanup_fd(&d->dir);
    cleanup_fd(&d->base);
    *d = RUNDIR_NONE;
}

int rundir_each(const char *base, void (*each)(void *ctx, const char *id, const char *name),
                void *ctx, struct err *e)
{
    CLEANUP(dir) DIR *d = opendir(base);
    struct dirent *de;

    if (!d)
        return err_errno(e, -errno, "state folder %s", base);
    /* stale() takes a lock for a moment, which a maker must not meet. */
    CLEANUP(fd) int lock = openat(dirfd(d), "lock", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (lock < 0 || flock(lock, LOCK_EX) < 0)
        return err_errno(e, -errno, "state folder %s", base);
    while ((de = readdir(d))) {
        char name[RUNDIR_NAME_MAX + 1];

        if (!is_id(de->d_name) || stale(dirfd(d), de->d_name))
            continue;
        read_name(dirfd(d), de->d_name, name);
        each(ctx, de->d_name, name);
    }
    return 0;
}

struct search {
    const char *text;
    char *id;
    unsigned found; /* by the beginning of the id */
    bool exact;
};

static void compare(void *ctx, const char *id, const char *name)
{
    struct search *s = ctx;
    bool exact = strcmp(id, s->text) == 0 || strcmp(name, s->text) == 0;

    if (s->exact || (!exact && strncmp(id, s->text, strlen(s->text)) != 0))
        return;
    s->exact = exact;
    s->found++;
    memcpy(s->id, id, RUNDIR_ID_LEN + 1);
}

int rundir_find(const char *base, const char *text, char id[RUNDIR_ID_LEN + 1], struct err *e)
{
    struct search s = {.text = text, .id = id};
    int r = text[0] ? rundir_each(base, compare, &s, e) : 0;

    if (r < 0)
        return r;
    if (s.found == 0)
        return err_set(e, -ENOENT, "no machine '%s' is running", text);
    if (s.found > 1 && !s.exact)
        return err_set(e, -EINVAL, "'%s' is the beginning of several machines' ids", text);
    return 0;
}
