#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "process/process_priv.h"

enum { DATA_MAX = 4096 };

static const struct {
    unsigned long ms;
    uint64_t attr;
} attr_of[] = {
    {MS_RDONLY, MOUNT_ATTR_RDONLY},
    {MS_NOSUID, MOUNT_ATTR_NOSUID},
    {MS_NODEV, MOUNT_ATTR_NODEV},
    {MS_NOEXEC, MOUNT_ATTR_NOEXEC},
    {MS_NODIRATIME, MOUNT_ATTR_NODIRATIME},
    {MS_NOATIME, MOUNT_ATTR_NOATIME},
    {MS_STRICTATIME, MOUNT_ATTR_STRICTATIME},
    {MS_NOSYMFOLLOW, MOUNT_ATTR_NOSYMFOLLOW},
};

uint64_t fsmount_attrs(unsigned long ms)
{
    uint64_t attrs = 0;

    for (unsigned i = 0; i < ARRAY_LEN(attr_of); i++)
        if (ms & attr_of[i].ms)
            attrs |= attr_of[i].attr;
    return attrs;
}

int fsmount_change(int tree, unsigned long set, unsigned long clear, unsigned long propagation,
                   bool recursive)
{
    const unsigned long atime = MS_NOATIME | MS_RELATIME | MS_STRICTATIME;
    struct mount_attr a = {
        .attr_set = fsmount_attrs(set),
        .attr_clr = fsmount_attrs(clear & ~atime),
        .propagation = propagation & ~(unsigned long)MS_REC,
    };

    if ((set | clear) & atime) /* a field of its own, not a bit */
        a.attr_clr |= MOUNT_ATTR__ATIME;
    if (!a.attr_set && !a.attr_clr && !a.propagation)
        return 0;
    return mount_setattr(tree, "", AT_EMPTY_PATH | (recursive ? AT_RECURSIVE : 0), &a, sizeof(a)) <
                   0
               ? -errno
               : 0;
}

/* What the kernel said of it: lines "e text". */
static int failed(int fs, int code, const char *type, const char *what, struct err *e)
{
    char text[200];
    ssize_t n = read(fs, text, sizeof(text) - 1);

    if (n <= 2)
        return err_errno(e, code, "mount %s: %s", type, what);
    text[n] = '\0';
    text[strcspn(text, "\n")] = '\0';
    return err_errno(e, code, "mount %s: %s: %s", type, what, text + 2);
}

/* "size=64m,mode=1777,nr_inodes=5,inode64" */
static int set_data(int fs, const char *type, const char *data, struct err *e)
{
    char buf[DATA_MAX], *p = buf;

    if (!data || !data[0])
        return 0;
    if (strlen(data) >= sizeof(buf))
        return err_set(e, -EINVAL, "mount %s: its options are too long", type);
    memcpy(buf, data, strlen(data) + 1);
    for (char *word; (word = strsep(&p, ","));) {
        char *value = strchr(word, '=');

        if (!word[0])
            continue;
        if (value)
            *value++ = '\0';
        if (fsconfig(fs, value ? FSCONFIG_SET_STRING : FSCONFIG_SET_FLAG, word, value, 0) < 0)
            return failed(fs, -errno, type, word, e);
    }
    return 0;
}

int fsmount_new(const char *type, const char *source, const char *data, uint64_t attrs,
                struct err *e)
{
    CLEANUP(fd) int fs = fsopen(type, FSOPEN_CLOEXEC);

    if (fs < 0)
        return err_errno(e, -errno, "mount %s", type);
    if (source && fsconfig(fs, FSCONFIG_SET_STRING, "source", source, 0) < 0)
        return failed(fs, -errno, type, source, e);
    int r = set_data(fs, type, data, e);
    if (r < 0)
        return r;
    if (fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
        return failed(fs, -errno, type, source ? source : "create", e);
    int tree = fsmount(fs, FSMOUNT_CLOEXEC, (unsigned)attrs);
    return tree < 0 ? failed(fs, -errno, type, "fsmount", e) : tree;
}
