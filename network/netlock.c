#include "network/netlock.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>

#include "base/cleanup.h"

int netlock_folder(const char *store, struct err *e)
{
    char path[PATH_MAX];

    BUG_ON(!store); /* this layer knows no default */
    if ((size_t)snprintf(path, sizeof(path), "%s/networks", store) >= sizeof(path))
        return err_errno(e, -ENAMETOOLONG, "%s", store);
    if (mkdir(store, 0700) < 0 && errno != EEXIST)
        return err_errno(e, -errno, "%s", store);
    if (mkdir(path, 0755) < 0 && errno != EEXIST)
        return err_errno(e, -errno, "%s", path);
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return fd < 0 ? err_errno(e, -errno, "%s", path) : fd;
}

static int take(int dir, const char *path, struct err *e)
{
    CLEANUP(fd) int fd = openat(dir, path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);

    if (fd < 0)
        return err_errno(e, -errno, "lock of the networks, %s", path);
    while (flock(fd, LOCK_EX) < 0)
        if (errno != EINTR)
            return err_errno(e, -errno, "lock of the networks, %s", path);
    return take_fd(&fd);
}

int netlock_take(const char *store, struct netlock *l, struct err *e)
{
    CLEANUP(netlock) struct netlock new = NETLOCK_NONE;

    if (store) {
        new.dir = netlock_folder(store, e);
        if (new.dir < 0)
            return new.dir;
        new.fd = take(new.dir, "lock", e);
        if (new.fd < 0)
            return new.fd;
    }
    if (geteuid() == 0) {
        new.host = take(AT_FDCWD, "/run/kiln-network.lock", e);
        if (new.host < 0)
            return new.host;
    }
    *l = new;
    new = NETLOCK_NONE;
    return 0;
}

void netlock_give(struct netlock *l)
{
    cleanup_fd(&l->host);
    cleanup_fd(&l->fd);
    cleanup_fd(&l->dir);
    *l = NETLOCK_NONE;
}

static int put(int fd, const char *text, size_t len)
{
    while (len > 0) {
        ssize_t n = write(fd, text, len);

        if (n < 0 && errno != EINTR)
            return -errno;
        if (n > 0) {
            text += n;
            len -= (size_t)n;
        }
    }
    return 0;
}

int netlock_write(int dir, const char *name, const char *text, size_t len, struct err *e)
{
    CLEANUP(fd)
    int fd = openat(dir, ".new", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0644);

    if (fd < 0)
        return err_errno(e, -errno, "%s", name);
    int r = put(fd, text, len);
    /* The name server, which runs as nobody, reads it whatever the umask was. */
    if (r == 0 && (fchmod(fd, 0644) < 0 || renameat(dir, ".new", dir, name) < 0))
        r = -errno;
    if (r < 0) {
        (void)unlinkat(dir, ".new", 0);
        return err_errno(e, r, "%s", name);
    }
    return 0;
}

int netlock_read(int dir, const char *name, size_t max, char **text, size_t *len, struct err *e)
{
    CLEANUP(fd) int fd = openat(dir, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    CLEANUP(mem) char *buf = NULL;
    struct stat st;
    size_t done = 0;

    if (fd < 0 || fstat(fd, &st) < 0)
        return err_errno(e, -errno, "%s", name);
    if (!S_ISREG(st.st_mode) || st.st_size < 0 || (size_t)st.st_size > max)
        return err_errno(e, -EFBIG, "%s", name);
    buf = malloc((size_t)st.st_size + 1);
    if (!buf)
        return err_errno(e, -ENOMEM, "%s", name);
    while (done < (size_t)st.st_size) {
        ssize_t n = read(fd, buf + done, (size_t)st.st_size - done);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return err_errno(e, -errno, "%s", name);
        if (n == 0)
            break;
        done += (size_t)n;
    }
    buf[done] = '\0';
    *text = take_ptr(&buf);
    *len = done;
    return 0;
}
