/* What any process can do with a container whose state it has. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "process/process_priv.h"

enum {
    FREEZE_MS = 10000,
    END_MS = 10000, /* for processes to be gone after SIGKILL */
    PIDS_MAX = 1 << 20,
    STAT_START_TIME = 22, /* field of proc_pid_stat(5) */
};

/* ---- who it is */

static int read_file(const char *path, char *buf, size_t len)
{
    CLEANUP(fd) int fd = open(path, O_RDONLY | O_CLOEXEC);

    if (fd < 0)
        return -errno;
    ssize_t n = read(fd, buf, len - 1);
    if (n < 0)
        return -errno;
    buf[n] = '\0';
    return (int)n;
}

/* Its state letter and start time. The name, in brackets, may hold anything. */
static int read_stat(pid_t pid, char *letter, uint64_t *start)
{
    char path[32], buf[1024];

    snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
    int r = read_file(path, buf, sizeof(buf));
    if (r < 0)
        return r;
    char *p = strrchr(buf, ')');
    if (!p || !p[1])
        return -EBADMSG;
    p += 2;
    *letter = *p;
    for (int field = 3; field < STAT_START_TIME; field++) {
        p = strchr(p, ' ');
        if (!p)
            return -EBADMSG;
        p++;
    }
    *start = strtoull(p, NULL, 10);
    return 0;
}

static int read_boot(char out[37])
{
    char buf[64];
    int r = read_file("/proc/sys/kernel/random/boot_id", buf, sizeof(buf));

    if (r < 36)
        return r < 0 ? r : -EBADMSG;
    memcpy(out, buf, 36);
    out[36] = '\0';
    return 0;
}

int state_identify(struct process_state *st, struct err *e)
{
    char letter;
    int r = read_stat(st->pid, &letter, &st->start_time);

    if (r == 0)
        r = read_boot(st->boot_id);
    return r < 0 ? err_errno(e, r, "process %d", (int)st->pid) : 0;
}

/* Opened first and compared then: what the descriptor holds cannot become another process. */
static int open_init(const struct process_state *st)
{
    char letter, boot[37];
    uint64_t start;

    if (st->pid <= 0)
        return -ESRCH;
    CLEANUP(fd) int fd = (int)syscall(SYS_pidfd_open, st->pid, 0);
    if (fd < 0)
        return errno == EINVAL ? -ESRCH : -errno;
    if (read_stat(st->pid, &letter, &start) < 0 || start != st->start_time || letter == 'Z' ||
        letter == 'X')
        return -ESRCH;
    if (st->boot_id[0] && read_boot(boot) == 0 && strcmp(boot, st->boot_id) != 0)
        return -ESRCH;
    return take_fd(&fd);
}

int process_pidfd(const struct process_state *st, struct err *e)
{
    int fd = open_init(st);

    if (fd == -ESRCH)
        return err_set(e, fd, "the container has ended");
    return fd < 0 ? err_errno(e, fd, "process %d", (int)st->pid) : fd;
}

static void start_path(const struct process_state *st, char path[PROCESS_TARGET_MAX + 8])
{
    snprintf(path, PROCESS_TARGET_MAX + 8, "%s/start", st->dir);
}

enum process_status process_status(const struct process_state *st)
{
    char path[PROCESS_TARGET_MAX + 8];
    CLEANUP(fd) int fd = open_init(st);

    if (fd < 0)
        return PROCESS_GONE;
    if (cgroup_frozen(&st->cgroup, NULL) == 1)
        return PROCESS_PAUSED;
    start_path(st, path);
    return access(path, F_OK) == 0 ? PROCESS_CREATED : PROCESS_RUNNING;
}

/* ---- start */

static int connect_start(const struct process_state *st, struct err *e)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    CLEANUP(fd) int folder = open(st->dir, O_PATH | O_DIRECTORY | O_CLOEXEC);

    if (folder < 0)
        return err_errno(e, -errno, "container's folder %s", st->dir);
    CLEANUP(fd) int s = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (s < 0)
        return err_errno(e, -errno, "socket");
    snprintf(a.sun_path, sizeof(a.sun_path), "/proc/self/fd/%d/start", folder);
    if (connect(s, (struct sockaddr *)&a, sizeof(a)) < 0) {
        if (errno == ENOENT || errno == ECONNREFUSED)
            return err_set(e, -EALREADY, "the container was started before");
        return err_errno(e, -errno, "start");
    }
    (void)unlinkat(folder, "start", 0);
    return take_fd(&s);
}

int report_wait(int fd, struct err *e)
{
    struct err told;
    size_t have = 0;

    while (have < sizeof(told)) {
        ssize_t n = read(fd, (char *)&told + have, sizeof(told) - have);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            break;
        have += (size_t)n;
    }
    if (have < sizeof(told))
        return 0;
    told.msg[sizeof(told.msg) - 1] = '\0';
    return err_set(e, told.code < 0 ? told.code : -EIO, "%s", told.msg);
}

int process_start(const struct process_state *st, struct err *e)
{
    CLEANUP(fd) int init = process_pidfd(st, e);

    if (init < 0)
        return init;
    CLEANUP(fd) int s = connect_start(st, e);
    return s < 0 ? s : report_wait(s, e);
}

int process_start_child(struct process_child *c, struct err *e)
{
    const char go = 1;

    if (c->start < 0)
        return err_set(e, -EALREADY, "the container was started before");
    /* Should it not wait for this (start_now) or have ended, the report says how it went. */
    (void)!send(c->start, &go, 1, MSG_NOSIGNAL);
    int r = report_wait(c->start, e);
    shut(&c->start);
    return r;
}

/* ---- signals, processes */

static int ns_of(pid_t pid, struct stat *st)
{
    char path[40];

    snprintf(path, sizeof(path), "/proc/%d/ns/pid", (int)pid);
    return stat(path, st) < 0 ? -errno : 0;
}

/* Without a group: whoever is in the same PID namespace. */
static int pids_of_ns(const struct process_state *st, pid_t **list, size_t *n, struct err *e)
{
    struct stat want, have;
    struct dirent *de;
    size_t cap = 64, count = 0;

    if (!st->pid_ns)
        return err_set(e, -EOPNOTSUPP,
                       "without a control group or a PID namespace its processes are not known");
    if (ns_of(st->pid, &want) < 0)
        return err_set(e, -ESRCH, "the container has ended");
    CLEANUP(dir) DIR *d = opendir("/proc");
    CLEANUP(mem) pid_t *v = malloc(cap * sizeof(*v));
    while (d && v && count < PIDS_MAX && (de = readdir(d))) {
        pid_t pid = (pid_t)strtol(de->d_name, NULL, 10);

        if (pid <= 0 || ns_of(pid, &have) < 0 || have.st_ino != want.st_ino)
            continue;
        if (count == cap) {
            pid_t *w = realloc(v, 2 * cap * sizeof(*v));

            if (!w)
                return err_errno(e, -ENOMEM, "processes");
            v = w;
            cap *= 2;
        }
        v[count++] = pid;
    }
    if (!d || !v)
        return err_errno(e, -ENOMEM, "processes");
    *list = take_ptr(&v);
    *n = count;
    return 0;
}

int process_pids(const struct process_state *st, pid_t **list, size_t *n, struct err *e)
{
    if (st->cgroup.layout != CGROUP_NONE)
        return cgroup_pids(&st->cgroup, PIDS_MAX, list, n, e);
    return pids_of_ns(st, list, n, e);
}

static bool still_there(const struct process_state *st, pid_t pid)
{
    CLEANUP(mem) pid_t *list = NULL;
    size_t n = 0;

    if (process_pids(st, &list, &n, NULL) < 0)
        return false;
    for (size_t i = 0; i < n; i++)
        if (list[i] == pid)
            return true;
    return false;
}

static int kill_all(const struct process_state *st, int signal, struct err *e)
{
    CLEANUP(mem) pid_t *list = NULL;
    size_t n = 0;

    if (signal == SIGKILL && st->cgroup.layout != CGROUP_NONE)
        return cgroup_kill(&st->cgroup, END_MS, e);
    int r = process_pids(st, &list, &n, e);
    for (size_t i = 0; r == 0 && i < n; i++) {
        CLEANUP(fd) int fd = (int)syscall(SYS_pidfd_open, list[i], 0);

        /* Asked again with the descriptor open: it is that process, and not another of its pid. */
        if (fd >= 0 && still_there(st, list[i]))
            (void)syscall(SYS_pidfd_send_signal, fd, signal, NULL, 0);
    }
    return r;
}

int process_kill(const struct process_state *st, int signal, bool all, struct err *e)
{
    if (all)
        return kill_all(st, signal, e);
    CLEANUP(fd) int fd = process_pidfd(st, e);
    if (fd < 0)
        return fd;
    if (syscall(SYS_pidfd_send_signal, fd, signal, NULL, 0) < 0)
        return err_errno(e, -errno, "signal %d", signal);
    return 0;
}

int process_freeze(const struct process_state *st, bool frozen, struct err *e)
{
    CLEANUP(fd) int fd = process_pidfd(st, e);

    return fd < 0 ? fd : cgroup_freeze(&st->cgroup, frozen, FREEZE_MS, e);
}

/* ---- delete */

static int end_all(const struct process_state *st, int init, struct err *e)
{
    struct pollfd p = {.fd = init, .events = POLLIN};

    if (init >= 0)
        (void)syscall(SYS_pidfd_send_signal, init, SIGKILL, NULL, 0);
    int r = cgroup_kill(&st->cgroup, END_MS, e);
    if (r < 0 || init < 0)
        return r;
    if (poll(&p, 1, END_MS) == 0)
        return err_set(e, -ETIMEDOUT, "the container's init does not end after SIGKILL");
    return 0;
}

int process_delete(const struct process_state *st, bool force, struct err *e)
{
    char path[PROCESS_TARGET_MAX + 8];
    CLEANUP(fd) int init = open_init(st);

    if (init >= 0 && !force)
        return err_set(e, -EBUSY, "the container runs");
    /* Processes of exec may be left where the container has no PID namespace. */
    int r = init >= 0 || force || !st->pid_ns ? end_all(st, init, e) : 0;
    if (r == 0)
        r = cgroup_remove(&st->cgroup, END_MS, e);
    start_path(st, path);
    (void)unlink(path);
    return r;
}
