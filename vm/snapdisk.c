#include "vm/snapdisk.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/cleanup.h"

enum { CHUNK = 1 << 20 };

/* [at, end) by the kernel, or through a buffer where it cannot. */
static int copy_range(int from, int to, uint64_t at, uint64_t end, uint8_t **buf, struct err *e)
{
    while (at < end) {
        loff_t in = (loff_t)at, out = (loff_t)at;
        ssize_t n = *buf ? -1 : copy_file_range(from, &in, to, &out, end - at, 0);

        if (n < 0 && !*buf && (errno == ENOSPC || errno == EDQUOT || errno == EIO))
            return err_errno(e, -errno, "copy");
        if (n <= 0) {
            if (!*buf && !(*buf = malloc(CHUNK)))
                return err_set(e, -ENOMEM, "out of memory");
            n = pread(from, *buf, end - at < CHUNK ? end - at : CHUNK, (off_t)at);
            if (n <= 0)
                return err_errno(e, n < 0 ? -errno : -EIO, "read");
            n = pwrite(to, *buf, (size_t)n, (off_t)at);
            if (n <= 0)
                return err_errno(e, n < 0 ? -errno : -EIO, "write");
        }
        at += (uint64_t)n;
    }
    return 0;
}

int snapdisk_copy(int from, int to, uint64_t size, struct err *e)
{
    CLEANUP(mem) uint8_t *buf = NULL;
    int r = 0;

    if (ioctl(to, FICLONE, from) == 0)
        return 0;
    if (ftruncate(to, (off_t)size) < 0)
        return err_errno(e, -errno, "make a file of %llu bytes", (unsigned long long)size);
    for (uint64_t at = 0; r == 0 && at < size;) {
        off_t data = lseek(from, (off_t)at, SEEK_DATA);
        off_t hole = data < 0 ? -1 : lseek(from, data, SEEK_HOLE);

        if (data < 0 && errno == ENXIO)
            break;                                       /* a hole up to the end */
        uint64_t begin = data < 0 ? at : (uint64_t)data; /* a block device knows no holes */
        uint64_t end = hole < 0 || (uint64_t)hole > size ? size : (uint64_t)hole;
        r = begin < end ? copy_range(from, to, begin, end, &buf, e) : 0;
        at = end > at ? end : size;
    }
    return r;
}

int snapdisk_new(const char *near, struct err *e)
{
    CLEANUP(mem) char *dir = strdup(near);
    char *slash = dir ? strrchr(dir, '/') : NULL;
    int flags = O_TMPFILE | O_RDWR | O_CLOEXEC;

    if (!dir)
        return err_set(e, -ENOMEM, "out of memory");
    if (slash)
        slash[slash == dir ? 1 : 0] = '\0';
    int fd = open(slash ? dir : ".", flags, 0600);
    if (fd < 0)
        fd = open("/var/tmp", flags, 0600);
    return fd < 0 ? err_errno(e, -errno, "make a file for a disk's copy") : fd;
}

int snapdisk_clone(int from, uint64_t size, const char *near, struct err *e)
{
    CLEANUP(fd) int fd = snapdisk_new(near, e);
    int r = fd < 0 ? fd : snapdisk_copy(from, fd, size, e);

    return r < 0 ? r : take_fd(&fd);
}
