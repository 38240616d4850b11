#include "network/minder.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "network/bridge.h"
#include "network/nameserver.h"
#include "network/netlock.h"
#include "network/netprog.h"
#include "os/fds.h"

enum { LOOK_MS = 5000 }; /* between looks at what inotify does not tell */

struct minder {
    char store[4096];
    struct netconf c;
    int folder, lock, watch;
    struct nameserver names;
    bool serves;
    pid_t server;
    struct stat resolv;
};

/* "1 PID START" with a name server, "0 PID START" without. */
static bool read_note(int folder, bool *names, pid_t *pid, uint64_t *start)
{
    CLEANUP(mem) char *text = NULL;
    size_t len;
    int yes = 0, n = 0;
    unsigned long long at = 0;

    if (netlock_read(folder, "minder", 64, &text, &len, NULL) < 0 ||
        sscanf(text, "%d %d %llu", &yes, &n, &at) != 3)
        return false;
    *names = yes;
    *pid = n;
    *start = at;
    return true;
}

/* The lock, -EWOULDBLOCK: it runs. */
static int take_lock(int folder)
{
    CLEANUP(fd) int fd = openat(folder, "minder", O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);

    if (fd < 0 || flock(fd, LOCK_EX | LOCK_NB) < 0)
        return -errno;
    return take_fd(&fd);
}

bool minder_runs(int folder)
{
    CLEANUP(fd) int fd = openat(folder, "minder", O_RDWR | O_CLOEXEC | O_NOFOLLOW);

    return fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) < 0 && errno == EWOULDBLOCK;
}

/* --- in its own process */

static void stop_server(struct minder *m)
{
    if (m->server <= 0)
        return;
    (void)kill(m->server, SIGKILL);
    while (waitpid(m->server, NULL, 0) < 0 && errno == EINTR)
        ;
    m->server = 0;
}

static void mind_server(struct minder *m)
{
    struct stat st = {0};

    if (!m->serves)
        return;
    if (m->server > 0 && waitpid(m->server, NULL, WNOHANG) == m->server)
        m->server = 0;
    if (stat("/etc/resolv.conf", &st) == 0 &&
        (st.st_ino != m->resolv.st_ino || st.st_mtim.tv_sec != m->resolv.st_mtim.tv_sec ||
         st.st_mtim.tv_nsec != m->resolv.st_mtim.tv_nsec))
        stop_server(m);
    m->resolv = st;
    if (m->server <= 0)
        m->server = nameserver_fork(&m->c, m->folder, &m->names);
}

static bool in_use(const struct minder *m)
{
    return faccessat(m->folder, "leases", F_OK, 0) == 0;
}

/* With the lock nobody comes between the last look and the end. A store that was removed as a whole
 * is not made again for its lock. */
static bool end_if_idle(struct minder *m)
{
    CLEANUP(netlock) struct netlock l = NETLOCK_NONE;
    struct stat st;
    bool removed = fstat(m->folder, &st) < 0 || st.st_nlink == 0;

    if (netlock_take(removed ? NULL : m->store, &l, NULL) < 0 || in_use(m))
        return false;
    stop_server(m);
    nameserver_close(&m->names);
    bridge_down(&m->c);
    cleanup_fd(&m->lock);
    return true;
}

/* Did something change in the folder? */
static bool wait_for_news(const struct minder *m, int timeout_ms)
{
    struct pollfd p = {m->watch, POLLIN, 0};
    char events[4096];

    return poll(&p, 1, timeout_ms) > 0 && read(m->watch, events, sizeof(events)) > 0;
}

static _Noreturn void mind(struct minder *m)
{
    for (;;) {
        mind_server(m);
        if (in_use(m))
            (void)wait_for_news(m, LOOK_MS);
        else if (!wait_for_news(m, MINDER_LINGER_MS) && end_if_idle(m))
            _exit(0); /* forked child */
    }
}

static void forget_caller(struct minder *m)
{
    int keep[] = {m->folder,       m->lock,         m->watch,       m->names.udp[0],
                  m->names.udp[1], m->names.tcp[0], m->names.tcp[1]};
    int null = open("/dev/null", O_RDWR);
    sigset_t none;

    (void)setsid();
    (void)prctl(PR_SET_NAME, "kiln-network");
    for (int fd = 0; null >= 0 && fd < 3; fd++)
        (void)dup2(null, fd);
    fds_close_but(keep, ARRAY_LEN(keep));
    for (int s = 1; s < SIGRTMIN; s++)
        (void)signal(s, SIG_DFL);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    (void)!chdir("/");
}

/* --- starting and ending it */

static int note(const struct minder *m, pid_t pid)
{
    char text[64];
    int n = snprintf(text, sizeof(text), "%d %d %llu\n", m->serves, (int)pid,
                     (unsigned long long)netprog_start_time(pid));

    return ftruncate(m->lock, 0) == 0 && pwrite(m->lock, text, (size_t)n, 0) == n ? 0 : -EIO;
}

/* Twice, so that it is nobody's child who might wait for all of his. */
static int run(struct minder *m, struct err *e)
{
    int status;
    pid_t pid = fork();

    if (pid == 0) {
        forget_caller(m);
        pid_t own = fork();
        if (own == 0)
            mind(m);
        _exit(own < 0 || note(m, own) < 0); /* forked child */
    }
    if (pid < 0)
        return err_errno(e, -errno, "fork");
    while (waitpid(pid, &status, 0) < 0)
        if (errno != EINTR)
            return 0; /* the caller ignores SIGCHLD: it was reaped for him */
    return status == 0 ? 0 : err_set(e, -EAGAIN, "network %s: its minder did not start", m->c.name);
}

static void done(struct minder *m)
{
    cleanup_fd(&m->lock);
    cleanup_fd(&m->watch);
    nameserver_close(&m->names);
}

int minder_start(const char *store, const struct netconf *c, int folder, bool *names, struct err *e)
{
    struct minder m = {.c = *c, .folder = folder, .names = NAMESERVER_NONE, .watch = -1};
    pid_t pid;
    uint64_t start;
    int r;

    m.lock = take_lock(folder);
    if (m.lock == -EWOULDBLOCK) {
        if (!read_note(folder, names, &pid, &start))
            *names = false;
        return 0;
    }
    if (m.lock < 0 || !realpath(store, m.store)) {
        r = err_errno(e, m.lock < 0 ? m.lock : -errno, "network %s", c->name);
        done(&m);
        return r;
    }
    r = nameserver_open(c, &m.names, NULL);
    m.serves = r == 0;
    m.watch = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
    char path[64];
    snprintf(path, sizeof(path), "/proc/self/fd/%d", folder);
    if (m.watch < 0 || inotify_add_watch(m.watch, path, IN_MOVED_TO | IN_DELETE) < 0)
        r = err_errno(e, -errno, "network %s: inotify", c->name);
    else
        r = run(&m, e);
    *names = m.serves;
    done(&m);
    return r;
}

void minder_stop(const struct netconf *c, int folder)
{
    bool names;
    pid_t pid;
    uint64_t start;

    if (minder_runs(folder) && read_note(folder, &names, &pid, &start))
        netprog_end(pid, start);
    /* The server ends with it, by the kernel's hand. */
    bridge_down(c);
    (void)unlinkat(folder, "minder", 0);
}
