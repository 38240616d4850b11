/* What is done to a group that runs: freezing, killing, its processes. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "jail/cgroup_priv.h"

enum {
    POLL_MS = 2,
    DEPTH_MAX = 32,
    PIDS_MAX = 1 << 20, /* that are killed in one go */
};

static int64_t now_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* ---- freezing */

/* v1: FREEZING until all have stopped; writing again helps a process that forked meanwhile
 * (freezer-subsystem.rst). */
static int freeze_v1(const char *dir, int timeout_ms)
{
    char state[32];
    int64_t end = now_ms() + timeout_ms;

    for (;;) {
        int r = cgroup_file_put(dir, "freezer.state", "FROZEN");

        if (r == 0)
            r = cgroup_file_get(dir, "freezer.state", state, sizeof(state));
        if (r < 0)
            return r;
        if (strncmp(state, "FROZEN", 6) == 0)
            return 0;
        if (now_ms() >= end)
            return -ETIMEDOUT;
        poll(NULL, 0, POLL_MS);
    }
}

/* v2: cgroup.events tells when it changed. */
static int freeze_v2(const char *dir, int timeout_ms)
{
    char path[CGROUP_FILE_MAX];
    int64_t end = now_ms() + timeout_ms;
    uint64_t frozen = 0;

    snprintf(path, sizeof(path), "%s/cgroup.events", dir);
    CLEANUP(fd) int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    int r = cgroup_file_put(dir, "cgroup.freeze", "1");
    while (r == 0) {
        r = cgroup_file_key(dir, "cgroup.events", "frozen", &frozen);
        if (r < 0 || frozen)
            break;
        int64_t left = end - now_ms();
        if (left <= 0)
            return -ETIMEDOUT;
        struct pollfd p = {.fd = fd, .events = POLLPRI};
        (void)poll(&p, 1, left > POLL_MS ? POLL_MS : (int)left);
    }
    return r;
}

static int thaw(const struct cgroup *c)
{
    return c->path[CGROUP_FREEZER][0]
               ? cgroup_file_put(c->path[CGROUP_FREEZER], "freezer.state", "THAWED")
               : cgroup_file_put(c->path[CGROUP_UNIFIED], "cgroup.freeze", "0");
}

static bool can_freeze(const struct cgroup *c)
{
    return c->path[CGROUP_FREEZER][0] || c->path[CGROUP_UNIFIED][0];
}

int cgroup_freeze(const struct cgroup *c, bool frozen, int timeout_ms, struct err *e)
{
    int r;

    if (!can_freeze(c))
        return err_set(e, -EOPNOTSUPP,
                       "pausing needs a control group, and this host or user has none");
    if (!frozen)
        r = thaw(c);
    else if (c->path[CGROUP_FREEZER][0])
        r = freeze_v1(c->path[CGROUP_FREEZER], timeout_ms);
    else
        r = freeze_v2(c->path[CGROUP_UNIFIED], timeout_ms);
    if (r == -ETIMEDOUT)
        (void)!thaw(c);
    return r < 0 ? err_errno(e, r, frozen ? "pause" : "unpause") : 0;
}

int cgroup_frozen(const struct cgroup *c, struct err *e)
{
    char state[32];
    uint64_t v = 0;
    int r = 0;

    if (c->path[CGROUP_FREEZER][0]) {
        r = cgroup_file_get(c->path[CGROUP_FREEZER], "freezer.state", state, sizeof(state));
        v = r >= 0 && strncmp(state, "THAWED", 6) != 0;
    } else if (c->path[CGROUP_UNIFIED][0]) {
        r = cgroup_file_key(c->path[CGROUP_UNIFIED], "cgroup.events", "frozen", &v);
    }
    return r < 0 ? err_errno(e, r, "state of the control group") : v != 0;
}

/* ---- processes */

struct pids {
    pid_t *v; /* owned */
    size_t n, cap, max;
};

static int pids_add(struct pids *p, pid_t pid)
{
    for (size_t i = 0; i < p->n; i++)
        if (p->v[i] == pid)
            return 0;
    if (p->n == p->max)
        return -E2BIG;
    if (p->n == p->cap) {
        size_t cap = p->cap ? 2 * p->cap : 64;
        pid_t *v = realloc(p->v, cap * sizeof(*v));

        if (!v)
            return -ENOMEM;
        p->v = v;
        p->cap = cap;
    }
    p->v[p->n++] = pid;
    return 0;
}

static int pids_read(int dir, struct pids *p)
{
    int fd = openat(dir, "cgroup.procs", O_RDONLY | O_CLOEXEC);
    char line[32];
    int r = 0;

    if (fd < 0)
        return errno == ENOENT || errno == ENODEV ? 0 : -errno;
    CLEANUP(file) FILE *f = fdopen(fd, "r");
    if (!f) {
        close(fd);
        return -ENOMEM;
    }
    while (r == 0 && fgets(line, sizeof(line), f)) {
        long pid = strtol(line, NULL, 10);

        if (pid > 0) /* 0: of another PID namespace */
            r = pids_add(p, (pid_t)pid);
    }
    return r;
}

/* `dir` is owned. */
static int pids_tree(int dir, struct pids *p, unsigned depth)
{
    struct dirent *de;
    int r = pids_read(dir, p);

    CLEANUP(dir) DIR *d = fdopendir(dir);
    if (!d) {
        close(dir);
        return -ENOMEM;
    }
    while (r == 0 && depth < DEPTH_MAX && (de = readdir(d))) {
        if (de->d_type != DT_DIR || de->d_name[0] == '.')
            continue;
        int sub = openat(dir, de->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

        if (sub >= 0)
            r = pids_tree(sub, p, depth + 1);
    }
    return r;
}

/* One hierarchy has all of them, but a container's own groups may differ: the one that kill and
 * freeze use. */
static const char *pids_folder(const struct cgroup *c)
{
    if (c->path[CGROUP_FREEZER][0])
        return c->path[CGROUP_FREEZER];
    if (c->path[CGROUP_UNIFIED][0])
        return c->path[CGROUP_UNIFIED];
    for (unsigned i = 0; i < CGROUP_CONTROLLERS; i++)
        if (c->path[i][0])
            return c->path[i];
    return NULL;
}

int cgroup_pids(const struct cgroup *c, size_t max, pid_t **list, size_t *n, struct err *e)
{
    const char *dir = pids_folder(c);
    struct pids p = {.max = max};
    int r = 0;

    if (dir) {
        int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

        if (fd >= 0)
            r = pids_tree(fd, &p, 0);
        else if (errno != ENOENT)
            r = -errno;
    }
    if (r < 0) {
        free(p.v);
        return err_errno(e, r, "processes of control group %s", dir);
    }
    *list = p.v;
    *n = p.n;
    return 0;
}

/* Whoever is in the list still when it is read again was meant by its descriptor, too: a pid is not
 * given anew while a pidfd's process is not reaped... and one reaped in between gets no signal. */
static void kill_unfrozen(const struct cgroup *c, const struct pids *p)
{
    for (size_t i = 0; i < p->n; i++) {
        CLEANUP(fd) int fd = (int)syscall(SYS_pidfd_open, p->v[i], 0);
        CLEANUP(mem) pid_t *again = NULL;
        size_t n = 0;

        if (fd < 0 || cgroup_pids(c, PIDS_MAX, &again, &n, NULL) < 0)
            continue;
        for (size_t k = 0; k < n; k++)
            if (again[k] == p->v[i])
                (void)syscall(SYS_pidfd_send_signal, fd, SIGKILL, NULL, 0);
    }
}

/* One round: all that are in it now. Returns how many there were. */
static int kill_round(const struct cgroup *c, int left_ms)
{
    struct pids p = {.max = PIDS_MAX};
    bool stopped = false;
    int r;

    if (c->path[CGROUP_UNIFIED][0] && pids_folder(c) == c->path[CGROUP_UNIFIED]) {
        r = cgroup_file_put(c->path[CGROUP_UNIFIED], "cgroup.kill", "1");
        if (r != 0 && r != -ENOENT && r != -ENODEV)
            return r;
    }
    /* A frozen process keeps its pid until it is thawed. */
    if (c->path[CGROUP_FREEZER][0])
        stopped = freeze_v1(c->path[CGROUP_FREEZER], left_ms) == 0;
    r = cgroup_pids(c, PIDS_MAX, &p.v, &p.n, NULL);
    if (r == 0 && stopped) {
        for (size_t i = 0; i < p.n; i++)
            (void)kill(p.v[i], SIGKILL);
    } else if (r == 0) {
        kill_unfrozen(c, &p);
    }
    if (can_freeze(c))
        (void)!thaw(c);
    free(p.v);
    return r < 0 ? r : (int)p.n;
}

int cgroup_kill(const struct cgroup *c, int timeout_ms, struct err *e)
{
    int64_t end = now_ms() + timeout_ms;

    if (!pids_folder(c))
        return 0;
    for (;;) {
        int64_t left = end - now_ms();
        int n = kill_round(c, left > 0 ? (int)left : 0);

        if (n == 0 || n == -ENOENT)
            return 0;
        if (n < 0)
            return err_errno(e, n, "kill all of a control group");
        if (left <= 0)
            return err_set(e, -ETIMEDOUT, "%d processes do not end after SIGKILL", n);
        poll(NULL, 0, POLL_MS);
    }
}
