#include "network/netns.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/nsfs.h>
#include <sched.h>
#include <stdio.h>
#include <sys/ioctl.h>

#include "base/cleanup.h"
#include "network/rtnl.h"

static int own(struct err *e)
{
    int fd = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);

    return fd < 0 ? err_errno(e, -errno, "/proc/thread-self/ns/net") : fd;
}

void netns_leave(int *back)
{
    if (*back < 0)
        return;
    /* Going on in a container's network as if it were the host's would be worse than ending. */
    BUG_ON(setns(*back, CLONE_NEWNET) < 0);
    cleanup_fd(back);
    *back = -1;
}

static int loopback_up(struct err *e)
{
    CLEANUP(rtnl) struct rtnl n = RTNL_NONE;
    int r = rtnl_open(&n, e);

    return r < 0 ? r : rtnl_up(&n, 1, e); /* loopback is the first of each namespace */
}

int netns_new(struct err *e)
{
    __attribute__((cleanup(netns_leave))) int back = own(e);

    if (back < 0)
        return back;
    if (unshare(CLONE_NEWNET) < 0)
        return err_errno(e, -errno, "make a network namespace");
    CLEANUP(fd) int fd = own(e);
    int r = fd < 0 ? fd : loopback_up(e);
    return r < 0 ? r : take_fd(&fd);
}

int netns_open(const char *path, struct err *e)
{
    CLEANUP(fd) int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);

    if (fd < 0)
        return err_errno(e, -errno, "network namespace %s", path);
    if (ioctl(fd, NS_GET_NSTYPE) != CLONE_NEWNET)
        return err_set(e, -EINVAL, "%s is not a network namespace", path);
    return take_fd(&fd);
}

int netns_of(pid_t pid, struct err *e)
{
    char path[40];

    snprintf(path, sizeof(path), "/proc/%d/ns/net", (int)pid);
    return netns_open(path, e);
}

int netns_enter(int fd, int *back, struct err *e)
{
    int old = own(e);

    if (old < 0)
        return old;
    if (setns(fd, CLONE_NEWNET) < 0) {
        int r = err_errno(e, -errno, "enter a network namespace");

        close(old);
        return r;
    }
    *back = old;
    return 0;
}
