/* What a user wants mounted in the container. The type is one of the kernel's file systems, or
 *   bind    the source, a path of the agent's
 *   device  the source, a block device, as a node at the target
 * Options are words of mount(8); "file=NAME": the target is that one file of the file system. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include "agent/pid1.h"
#include "base/cleanup.h"
#include "os/launch.h"

#define ASIDE "/dev/.kiln-share"

struct options {
    unsigned long flags;
    const char *file;
    char data[1024]; /* what the file system itself takes */
};

static const struct {
    const char *word;
    unsigned long set, clear;
} words[] = {
    {"ro", MS_RDONLY, 0},
    {"rw", 0, MS_RDONLY},
    {"nosuid", MS_NOSUID, 0},
    {"suid", 0, MS_NOSUID},
    {"nodev", MS_NODEV, 0},
    {"dev", 0, MS_NODEV},
    {"noexec", MS_NOEXEC, 0},
    {"exec", 0, MS_NOEXEC},
    {"noatime", MS_NOATIME, 0},
    {"relatime", MS_RELATIME, 0},
    {"nodiratime", MS_NODIRATIME, 0},
    {"sync", MS_SYNCHRONOUS, 0},
    {"async", 0, MS_SYNCHRONOUS},
    {"defaults", 0, 0},
};

static bool take_word(struct options *o, const char *word)
{
    for (unsigned i = 0; i < ARRAY_LEN(words); i++) {
        if (strcmp(word, words[i].word) == 0) {
            o->flags = (o->flags | words[i].set) & ~words[i].clear;
            return true;
        }
    }
    return false;
}

/* `text` is cut into words. */
static int take_options(char *text, struct options *o, struct err *e)
{
    size_t len = 0;
    char *word;

    *o = (struct options){0};
    while ((word = strsep(&text, ","))) {
        if (!word[0] || take_word(o, word))
            continue;
        if (strncmp(word, "file=", 5) == 0) {
            o->file = word + 5;
            continue;
        }
        int n = snprintf(o->data + len, sizeof(o->data) - len, "%s%s", len ? "," : "", word);
        if (n < 0 || (size_t)n >= sizeof(o->data) - len)
            return err_set(e, -E2BIG, "mount options are too long");
        len += (size_t)n;
    }
    if (o->file && (!o->file[0] || strchr(o->file, '/') || strcmp(o->file, "..") == 0))
        return err_set(e, -EINVAL, "'%s' is not a file's name", o->file);
    return 0;
}

/* The folders above a path, and at it an empty file if nothing is there. */
static int make_file(const char *path)
{
    char dir[4096];
    const char *slash = strrchr(path, '/');

    if (!slash || (size_t)(slash - path) >= sizeof(dir))
        return -ENAMETOOLONG;
    snprintf(dir, sizeof(dir), "%.*s", (int)(slash - path), path);
    int r = dir[0] ? launch_mkdirs(dir, 0755) : 0;
    if (r < 0)
        return r;
    CLEANUP(fd) int fd = open(path, O_RDONLY | O_CREAT | O_NONBLOCK | O_NOCTTY | O_CLOEXEC, 0644);
    return fd < 0 && errno != EACCES && errno != ENXIO ? -errno : 0;
}

static int bind_at(const char *from, const struct setup_mount *m, unsigned long flags,
                   struct err *e)
{
    if (mount(from, m->target, NULL, MS_BIND | MS_REC, NULL) < 0)
        return err_errno(e, -errno, "mount %s", m->target);
    if (flags && mount(NULL, m->target, NULL, MS_REMOUNT | MS_BIND | flags, NULL) < 0)
        return err_errno(e, -errno, "mount %s", m->target);
    return 0;
}

/* One file of a file system: that is mounted aside for as long as it takes. */
static int mount_file(const struct setup_mount *m, const struct options *o, struct err *e)
{
    char from[512];
    int r = make_file(m->target);

    if (r < 0)
        return err_errno(e, r, "mount point %s", m->target);
    if ((mkdir(ASIDE, 0700) < 0 && errno != EEXIST) ||
        mount(m->source, ASIDE, m->type, 0, o->data[0] ? o->data : NULL) < 0)
        return err_errno(e, -errno, "mount %s", m->target);
    snprintf(from, sizeof(from), ASIDE "/%s", o->file);
    r = bind_at(from, m, o->flags, e);
    (void)umount2(ASIDE, MNT_DETACH);
    (void)rmdir(ASIDE);
    return r;
}

static int make_device(const struct setup_mount *m, int fd, const struct options *o, struct err *e)
{
    struct stat st;

    if (fd < 0 || fstat(fd, &st) < 0 || !S_ISBLK(st.st_mode))
        return err_set(e, -ENODEV, "%s is not a disk", m->source);
    int r = make_file(m->target);
    if (r < 0 || (unlink(m->target) < 0 && errno != ENOENT))
        return err_errno(e, r < 0 ? r : -errno, "device %s", m->target);
    if (mknod(m->target, S_IFBLK | (o->flags & MS_RDONLY ? 0440 : 0660), st.st_rdev) < 0)
        return err_errno(e, -errno, "device %s", m->target);
    return 0;
}

int mounts_add(const struct setup_mount *m, int fd, struct err *e)
{
    bool bind = strcmp(m->type, "bind") == 0;
    struct options o;
    char held[32];
    int r = take_options(m->options, &o, e);

    if (r < 0)
        return r;
    if (strcmp(m->type, "device") == 0)
        return make_device(m, fd, &o, e);
    if (o.file && !bind)
        return mount_file(m, &o, e);
    r = launch_mkdirs(m->target, 0755);
    if (r < 0)
        return err_errno(e, r, "mount point %s", m->target);
    snprintf(held, sizeof(held), "/proc/self/fd/%d", fd);
    if (bind)
        return bind_at(fd >= 0 ? held : m->source, m, o.flags, e);
    if (mount(fd >= 0 ? held : m->source, m->target, m->type, o.flags, o.data[0] ? o.data : NULL) <
        0)
        return err_errno(e, -errno, "mount %s", m->target);
    return 0;
}
