/* Paths of a hostile image: openat2(2) with RESOLVE_IN_ROOT, one component made at a time. */
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "process/process_priv.h"

enum {
    TRIES = 16,     /* EAGAIN: somebody renamed meanwhile */
    DEPTH_MAX = 64, /* of directories that are missing, and links that lead nowhere */
};

static int open_in(int root, const char *path, uint64_t flags, bool no_links)
{
    struct open_how how = {.flags = flags | O_CLOEXEC,
                           .resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS |
                                      (no_links ? RESOLVE_NO_SYMLINKS : 0)};
    long fd = -1;

    while (*path == '/')
        path++;
    if (!*path)
        path = ".";
    for (int i = 0; i < TRIES; i++) {
        fd = syscall(SYS_openat2, root, path, &how, sizeof(how));
        if (fd >= 0 || errno != EAGAIN)
            break;
    }
    return fd < 0 ? -errno : (int)fd;
}

int inroot_open(int root, const char *path, bool no_links)
{
    return open_in(root, path, O_PATH, no_links);
}

int inroot_open_flags(int root, const char *path, uint64_t flags)
{
    return open_in(root, path, flags, false);
}

/* The path without its last component in `dir`; returns that, or NULL with a path that has none. */
static const char *split(const char *path, char dir[PROCESS_TARGET_MAX])
{
    size_t n = strlen(path);

    if (n >= PROCESS_TARGET_MAX)
        return NULL;
    memcpy(dir, path, n + 1);
    while (n > 0 && dir[n - 1] == '/')
        dir[--n] = '\0';
    char *slash = strrchr(dir, '/');
    const char *name = path + (slash ? slash + 1 - dir : 0);
    if (slash)
        *slash = '\0';
    else
        dir[0] = '\0';
    return n == 0 || strcmp(name, "..") == 0 || strcmp(name, ".") == 0 ? NULL : name;
}

static int make(int root, const char *path, bool directory, bool no_links, int depth);

/* A link that leads nowhere: make what it names. */
static int make_target(int root, int parent, const char *dir, const char *name, bool directory,
                       int depth)
{
    char target[PROCESS_TARGET_MAX / 2], full[PROCESS_TARGET_MAX];
    ssize_t n = readlinkat(parent, name, target, sizeof(target) - 1);

    if (n < 0)
        return errno == EINVAL ? -EEXIST : -errno;
    target[n] = '\0';
    int len = target[0] == '/' ? snprintf(full, sizeof(full), "%s", target)
                               : snprintf(full, sizeof(full), "%s/%s", dir, target);
    if (len < 0 || (size_t)len >= sizeof(full))
        return -ENAMETOOLONG;
    return make(root, full, directory, false, depth + 1);
}

static int make(int root, const char *path, bool directory, bool no_links, int depth)
{
    char dir[PROCESS_TARGET_MAX], last[NAME_MAX + 1];
    int fd = open_in(root, path, O_PATH, no_links);

    if (fd != -ENOENT)
        return fd;
    if (depth > DEPTH_MAX)
        return -ELOOP;
    const char *name = split(path, dir);
    if (!name)
        return -EINVAL;
    size_t n = strcspn(name, "/");
    if (n >= sizeof(last))
        return -ENAMETOOLONG;
    memcpy(last, name, n);
    last[n] = '\0';
    CLEANUP(fd) int parent = make(root, dir, true, no_links, depth + 1);
    if (parent < 0)
        return parent;
    if (directory ? mkdirat(parent, last, 0755) == 0
                  : mknodat(parent, last, S_IFREG | 0644, 0) == 0)
        return open_in(root, path, O_PATH, no_links);
    if (errno != EEXIST || no_links)
        return -errno;
    fd = open_in(root, path, O_PATH, no_links); /* made by somebody else meanwhile? */
    return fd != -ENOENT ? fd : make_target(root, parent, dir, last, directory, depth);
}

int inroot_make(int root, const char *path, bool directory, bool no_links)
{
    return make(root, path, directory, no_links, 0);
}

int inroot_parent(int root, const char *path, const char **name)
{
    char dir[PROCESS_TARGET_MAX];

    *name = split(path, dir);
    if (!*name)
        return -EINVAL;
    return make(root, dir, true, false, 0);
}
