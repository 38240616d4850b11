/* The container's control group (cgroup v2, in the guest): all its processes from the first on, so
 * that they can be made to stand still together. */
#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "agent/pid1.h"
#include "base/cleanup.h"

int group_open(const char *dir)
{
    char path[256];

    if (mkdir(dir, 0755) < 0 && errno != EEXIST)
        return -1;
    if (mount("cgroup2", dir, "cgroup2", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL) < 0)
        return -1;
    snprintf(path, sizeof(path), "%s/container", dir);
    if (mkdir(path, 0755) < 0 && errno != EEXIST)
        return -1;
    return open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

/* Born in the group: moving a process costs the guest a grace period of RCU. */
pid_t group_fork(int group)
{
    struct clone_args a = {.exit_signal = SIGCHLD, .flags = CLONE_INTO_CGROUP};

    if (group < 0)
        return fork();
    a.cgroup = (uint64_t)group;
    return (pid_t)syscall(SYS_clone3, &a, sizeof(a));
}

static int write_freeze(int group, bool yes, struct err *e)
{
    CLEANUP(fd) int fd = openat(group, "cgroup.freeze", O_WRONLY | O_CLOEXEC);

    if (fd < 0 || write(fd, yes ? "1" : "0", 1) != 1)
        return err_errno(e, -errno, "cgroup.freeze");
    return 0;
}

/* 1 = all stand still, 0 = not yet. */
static int is_frozen(int fd)
{
    char text[256];
    ssize_t n = pread(fd, text, sizeof(text) - 1, 0);

    if (n < 0)
        return -errno;
    text[n] = '\0';
    return strstr(text, "frozen 1") != NULL;
}

static int await_frozen(int group, struct err *e)
{
    CLEANUP(fd) int fd = openat(group, "cgroup.events", O_RDONLY | O_CLOEXEC);
    struct pollfd p = {.fd = fd, .events = POLLPRI}; /* it changed since it was read */
    int r = fd < 0 ? -errno : is_frozen(fd);

    while (r == 0) {
        int n = poll(&p, 1, AGENT_HOLD_MS);

        if (n == 0)
            return err_set(e, -EBUSY, "a process of the container does not come to rest");
        r = n < 0 && errno != EINTR ? -errno : is_frozen(fd);
    }
    return r < 0 ? err_errno(e, r, "cgroup.events") : 0;
}

int group_freeze(int group, struct err *e)
{
    if (group < 0)
        return err_set(e, -ENOTSUP, "the guest's kernel has no control groups");
    int r = write_freeze(group, true, e);
    if (r == 0)
        r = await_frozen(group, e);
    if (r < 0)
        group_thaw(group);
    return r;
}

void group_thaw(int group)
{
    if (group >= 0)
        (void)!write_freeze(group, false, NULL);
}
