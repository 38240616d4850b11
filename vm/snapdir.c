#include "vm/snapdir.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "vm/snapshot.h"

static const char suffix[] = ".snap";

/* The folder above and the last name of `path`. */
static int split(const char *path, int *above, char name[NAME_MAX + 1], struct err *e)
{
    CLEANUP(mem) char *copy = strdup(path);
    size_t len = copy ? strlen(copy) : 0;

    if (!copy)
        return err_set(e, -ENOMEM, "out of memory");
    while (len > 1 && copy[len - 1] == '/')
        copy[--len] = '\0';
    char *slash = strrchr(copy, '/');
    const char *base = slash ? slash + 1 : copy;
    if (!base[0] || base[0] == '.' || strlen(base) > NAME_MAX - 32)
        return err_set(e, -EINVAL, "'%s' cannot be the folder of a snapshot", path);
    snprintf(name, NAME_MAX + 1, "%s", base);
    if (slash)
        slash[slash == copy ? 1 : 0] = '\0';
    *above = open(slash ? copy : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return *above < 0 ? err_errno(e, -errno, "%s", slash ? copy : ".") : 0;
}

static int temp_name(const char *name, char temp[NAME_MAX + 1], struct err *e)
{
    uint64_t random;

    if (getrandom(&random, sizeof(random), 0) != sizeof(random))
        return err_errno(e, -errno, "getrandom");
    snprintf(temp, NAME_MAX + 1, ".%.200s.%016llx%s", name, (unsigned long long)random, suffix);
    return 0;
}

static bool is_temp(const char *name)
{
    size_t len = strlen(name), tail = sizeof(suffix) - 1;

    return name[0] == '.' && len > 18 + tail && strcmp(name + len - tail, suffix) == 0 &&
           strspn(name + len - tail - 16, "0123456789abcdef") == 16;
}

static bool is_part(const char *name)
{
    return strncmp(name, "working-set", 11) == 0 || strcmp(name, "state") == 0 ||
           strcmp(name, "memory") == 0 || strcmp(name, "memory.zst") == 0 ||
           (strncmp(name, "disk", 4) == 0 && name[4] &&
            strspn(name + 4, "0123456789") == strlen(name + 4));
}

/* Each file of the folder `fd`: -EINVAL with its name at the first that is not a snapshot's; with
 * `unlink`, removed. */
static int each_file(int fd, bool unlink, struct err *e)
{
    int copy = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    CLEANUP(dir) DIR *d = copy < 0 ? NULL : fdopendir(copy);
    struct dirent *de;

    if (!d)
        return err_errno(e, -errno, "read the folder");
    while ((de = readdir(d))) {
        if (strcmp(de->d_name, ".") == 0 || strcmp(de->d_name, "..") == 0)
            continue;
        if (!is_part(de->d_name))
            return err_set(e, -EINVAL, "not a snapshot: the folder holds '%s'", de->d_name);
        if (unlink && unlinkat(fd, de->d_name, 0) < 0)
            return err_errno(e, -errno, "remove '%s'", de->d_name);
    }
    return 0;
}

/* A temporary folder goes away, if nobody is filling it. */
static void drop(int above, const char *temp)
{
    CLEANUP(fd) int fd = openat(above, temp, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

    if (fd < 0 || flock(fd, LOCK_EX | LOCK_NB) < 0)
        return;
    if (each_file(fd, true, NULL) == 0)
        (void)unlinkat(above, temp, AT_REMOVEDIR);
}

int snapdir_new(const char *path, struct snapdir *d, struct err *e)
{
    struct stat st;

    *d = SNAPDIR_NONE;
    int r = split(path, &d->above, d->name, e);
    if (r == 0 && fstatat(d->above, d->name, &st, AT_SYMLINK_NOFOLLOW) == 0)
        r = err_set(e, -EEXIST, "'%s' exists already", path);
    if (r == 0)
        r = temp_name(d->name, d->temp, e);
    if (r == 0 && mkdirat(d->above, d->temp, 0700) < 0)
        r = err_errno(e, -errno, "make a folder beside '%s'", path);
    if (r < 0) {
        d->temp[0] = '\0';
        snapdir_abandon(d);
        return r;
    }
    d->fd = openat(d->above, d->temp, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (d->fd < 0 || flock(d->fd, LOCK_EX | LOCK_NB) < 0) {
        r = err_errno(e, -errno, "make a folder beside '%s'", path);
        snapdir_abandon(d);
    }
    return r;
}

int snapdir_create(const struct snapdir *d, const char *name, struct err *e)
{
    int fd = openat(d->fd, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);

    return fd < 0 ? err_errno(e, -errno, "make '%s'", name) : fd;
}

int snapdir_finish(struct snapdir *d, struct err *e)
{
    int r = fsync(d->fd) < 0 ? err_errno(e, -errno, "sync the folder") : 0;

    if (r == 0 && renameat2(d->above, d->temp, d->above, d->name, RENAME_NOREPLACE) < 0) {
        /* A file system without that flag: rename(2) replaces an empty folder at most. */
        if (errno != EINVAL || renameat(d->above, d->temp, d->above, d->name) < 0)
            r = err_errno(e, -errno, "give the folder its name");
    }
    if (r < 0) {
        snapdir_abandon(d);
        return r;
    }
    (void)fsync(d->above); /* the snapshot is there; whether its name outlives a power cut is all
                            * that this can change */
    cleanup_fd(&d->fd);
    cleanup_fd(&d->above);
    *d = SNAPDIR_NONE;
    return 0;
}

void snapdir_abandon(struct snapdir *d)
{
    cleanup_fd(&d->fd); /* the lock goes */
    if (d->above >= 0 && d->temp[0])
        drop(d->above, d->temp);
    cleanup_fd(&d->above);
    *d = SNAPDIR_NONE;
}

int snapshot_remove(const char *dir, struct err *e)
{
    CLEANUP(fd) int above = -1;
    char name[NAME_MAX + 1], temp[NAME_MAX + 1];
    int r = split(dir, &above, name, e);

    if (r < 0)
        return r;
    CLEANUP(fd) int fd = openat(above, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return err_errno(e, -errno, "snapshot '%s'", dir);
    r = each_file(fd, false, e);
    if (r == 0)
        r = temp_name(name, temp, e);
    if (r < 0)
        return err_wrap(e, r, "'%s'", dir);
    /* From here on it is a killed call's leftover, should we be killed. */
    if (renameat(above, name, above, temp) < 0)
        return err_errno(e, -errno, "remove '%s'", dir);
    drop(above, temp);
    return 0;
}

void snapshot_sweep(const char *parent_dir)
{
    CLEANUP(dir) DIR *d = opendir(parent_dir);
    struct dirent *de;

    while (d && (de = readdir(d)))
        if (is_temp(de->d_name))
            drop(dirfd(d), de->d_name);
}
