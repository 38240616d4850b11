/* The creator's side: everything is opened and checked first, then one child is made and listened
 * to until it waits for its start. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "process/process_priv.h"

enum { REMOVE_MS = 2000 };

void process_child_done(struct process_child *c)
{
    shut(&c->pidfd);
    shut(&c->terminal);
    shut(&c->start);
    *c = PROCESS_CHILD_NONE;
}

void process_child_reap(struct process_child *c)
{
    while (c->server > 0 && waitpid(c->server, NULL, 0) < 0 && errno == EINTR)
        ;
    c->server = 0;
}

/* ---- the configuration */

static int check_sizes(const struct process_conf *c, struct err *e)
{
    const struct {
        size_t n, max;
        const char *what;
    } v[] = {
        {c->n_mounts, PROCESS_MOUNTS_MAX, "mounts"},
        {c->n_devices, PROCESS_DEVICES_MAX, "devices"},
        {c->n_sysctls, PROCESS_SYSCTLS_MAX, "sysctls"},
        {c->process.user.n_groups, PROCESS_GROUPS_MAX, "additional groups"},
        {c->process.n_pass_fds, PROCESS_PASS_FDS_MAX, "descriptors to pass on"},
    };

    for (unsigned i = 0; i < ARRAY_LEN(v); i++)
        if (v[i].n > v[i].max)
            return err_set(e, -E2BIG, "%zu %s: %zu are the most", v[i].n, v[i].what, v[i].max);
    for (size_t i = 0; i < c->n_mounts; i++)
        if (!c->mounts[i].target || c->mounts[i].target[0] != '/')
            return err_set(e, -EINVAL, "mount target '%s' is not an absolute path",
                           c->mounts[i].target ? c->mounts[i].target : "");
    return 0;
}

static int check(const struct process_conf *c, struct err *e)
{
    const struct process_root *root = &c->root;

    if (!c->id || !c->dir || c->dir[0] != '/' || strlen(c->dir) >= PROCESS_TARGET_MAX)
        return err_set(e, -EINVAL, "a container needs an id, and a folder with an absolute path");
    if (!c->process.args || !c->process.args[0])
        return err_set(e, -EINVAL, "no command to run");
    if (c->ns[PROCESS_NS_MNT].how != PROCESS_NS_NEW)
        return err_set(e, -EOPNOTSUPP, "a container needs a mount namespace of its own");
    if (!root->path == !root->image || (root->image && !root->fstype))
        return err_set(e, -EINVAL,
                       "a container needs one root: a folder, or an image and its type");
    if (c->hostname && c->ns[PROCESS_NS_UTS].how == PROCESS_NS_HOST)
        return err_set(e, -EINVAL, "a hostname needs a UTS namespace");
    for (unsigned i = 0; i < PROCESS_NS_KINDS; i++)
        if (c->ns[i].how == PROCESS_NS_PATH && !c->ns[i].path)
            return err_set(e, -EINVAL, "a namespace to join has no path");
    if (c->start_now && !c->own_start)
        return err_set(e, -EINVAL, "start_now without own_start");
    return check_sizes(c, e);
}

/* ---- what the child will need */

/* Bound and listening before the child exists, so that the folder is that of this namespace. */
static int open_listener(const char *dir, struct err *e)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    CLEANUP(fd) int folder = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);

    if (folder < 0)
        return err_errno(e, -errno, "container's folder %s", dir);
    CLEANUP(fd) int s = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (s < 0)
        return err_errno(e, -errno, "socket");
    (void)unlinkat(folder, "start", 0);
    snprintf(a.sun_path, sizeof(a.sun_path), "/proc/self/fd/%d/start", folder);
    if (bind(s, (struct sockaddr *)&a, sizeof(a)) < 0 || listen(s, 1) < 0)
        return err_errno(e, -errno, "socket %s/start", dir);
    return take_fd(&s);
}

static int open_sources(struct plan *p, struct err *e)
{
    /* As the host's root here, so that a user namespace takes nothing away; without it the child
     * can do what we can, and we cannot clone mounts. */
    if (p->conf->root.image && !p->rootless) {
        p->image = rootimage_mount(p->conf->root.image, p->conf->root.fstype, e);
        if (p->image < 0)
            return p->image;
    }
    for (size_t i = 0; i < p->conf->n_mounts && !p->rootless; i++) {
        if (!mounts_is_bind(&p->conf->mounts[i]))
            continue;
        p->source[i] = mounts_source(&p->conf->mounts[i], e);
        if (p->source[i] < 0)
            return p->source[i];
    }
    return 0;
}

static int open_groups(struct plan *p, struct err *e)
{
    const struct process_conf *c = p->conf;
    int r;

    if (c->no_cgroup)
        return 0;
    r = cgroup_host_find(c->cgroup_root ? c->cgroup_root : "", &p->host, e);
    if (r < 0)
        return r;
    r = c->cgroup_path ? cgroup_make_at(&p->host, c->cgroup_path, &c->resources, &p->cgroup, e)
                       : cgroup_make(&p->host, c->id, &c->resources, &p->cgroup, e);
    /* In a user namespace the child could not write there: the parent puts it in. */
    if (r == 0 && !p->user_ns)
        r = cgroup_open_enter(&p->cgroup, p->enter, &p->n_enter, e);
    return r;
}

static void plan_done(struct plan *p)
{
    shut(&p->sync);
    shut(&p->listener);
    shut(&p->go);
    shut(&p->last);
    shut(&p->image);
    for (unsigned i = 0; i < PROCESS_MOUNTS_MAX; i++)
        shut(&p->source[i]);
    for (unsigned i = 0; i < p->n_enter; i++)
        shut(&p->enter[i]);
    p->n_enter = 0;
}

static int plan_make(struct plan *p, struct err *e)
{
    int r = open_groups(p, e);

    if (r == 0)
        r = open_sources(p, e);
    if (r == 0 && !p->conf->own_start)
        r = p->listener = open_listener(p->conf->dir, e);
    if (r >= 0)
        r = p->last = last_open(e);
    return r < 0 ? r : 0;
}

/* ---- the child */

struct joining {
    const struct process_conf *conf;
    int fd[PROCESS_NS_KINDS]; /* owned; -1 = not to be joined */
};

static int open_joined(struct joining *j, struct err *e)
{
    int n = 0;

    for (unsigned i = 0; i < PROCESS_NS_KINDS; i++) {
        if (j->conf->ns[i].how != PROCESS_NS_PATH)
            continue;
        j->fd[i] = open(j->conf->ns[i].path, O_RDONLY | O_CLOEXEC);
        if (j->fd[i] < 0)
            return err_errno(e, -errno, "namespace %s", j->conf->ns[i].path);
        n++;
    }
    return n;
}

/* The user namespace first: the powers in the others come from there. */
static int join(void *ctx, struct err *e)
{
    const struct joining *j = ctx;

    for (unsigned i = 0; i < PROCESS_NS_KINDS; i++)
        if (j->fd[i] >= 0 && setns(j->fd[i], (int)fork_flag(i)) < 0)
            return err_errno(e, -errno, "join namespace %s", j->conf->ns[i].path);
    return 0;
}

static uint64_t new_flags(const struct process_conf *c)
{
    uint64_t flags = 0;

    for (unsigned i = 0; i < PROCESS_NS_KINDS; i++)
        if (c->ns[i].how == PROCESS_NS_NEW && i != PROCESS_NS_CGROUP)
            flags |= fork_flag(i);
    return flags;
}

static pid_t make_child(struct plan *p, const int sock[2], struct err *e)
{
    struct joining j = {.conf = p->conf};

    for (unsigned i = 0; i < PROCESS_NS_KINDS; i++)
        j.fd[i] = -1;
    int n = open_joined(&j, e);
    uint64_t flags = new_flags(p->conf);
    p->staged = n > 0;
    pid_t pid = n < 0 ? n : n == 0 ? fork_new(flags, e) : fork_staged(flags, join, &j, sock, e);
    for (unsigned i = 0; i < PROCESS_NS_KINDS; i++)
        shut(&j.fd[i]);
    if (pid == 0)
        init_main(p);
    return pid;
}

static int prepare_child(struct plan *p, pid_t pid, int sock, struct err *e)
{
    struct note n = {.kind = NOTE_MAPPED};
    int r = 0;

    if (p->user_ns)
        r = idmap_write(pid, p->conf, e);
    if (r == 0 && p->user_ns)
        r = cgroup_enter(&p->cgroup, pid, e);
    if (r < 0 || (!p->user_ns && !p->staged))
        return r;
    r = note_send(sock, &n, -1);
    return r < 0 && r != -EPIPE ? err_errno(e, r, "the container's init") : 0;
}

/* Until the child is ready, or says why not. */
static int converse(const struct plan *p, int sock, struct process_child *child, struct err *e)
{
    for (;;) {
        struct note n, answer = {.kind = NOTE_SERVED};
        CLEANUP(fd) int fd = -1;
        int r = note_receive(sock, &n, &fd);

        if (r == -ECONNRESET)
            return err_set(e, -EIO, "the container's init ended unexpectedly");
        if (r < 0)
            return err_errno(e, r, "the container's init");
        switch (n.kind) {
        case NOTE_READY:
            child->terminal = take_fd(&fd);
            return 0;
        case NOTE_FAILED:
            return err_set(e, n.err.code < 0 ? n.err.code : -EIO, "%s", n.err.msg);
        case NOTE_SERVE:
            if (child->server == 0)
                (void)!rootimage_serve(p->conf->root.image, fd, &child->server, &answer.err);
            (void)!note_send(sock, &answer, -1);
            break;
        default:
            return err_set(e, -EPROTO, "the container's init: message %u", n.kind);
        }
    }
}

static void end_child(pid_t pid)
{
    (void)kill(pid, SIGKILL);
    while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
        ;
}

static int remember(const struct plan *p, pid_t pid, struct process_state *st, struct err *e)
{
    *st = (struct process_state){.pid = pid,
                                 .user_ns = p->user_ns ||
                                            p->conf->ns[PROCESS_NS_USER].how == PROCESS_NS_PATH,
                                 .pid_ns = p->conf->ns[PROCESS_NS_PID].how == PROCESS_NS_NEW,
                                 .cgroup = p->cgroup};
    memcpy(st->dir, p->conf->dir, strlen(p->conf->dir) + 1);
    return state_identify(st, e);
}

static int run(struct plan *p, struct process_state *st, struct process_child *child, struct err *e)
{
    int sock[2];

    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sock) < 0)
        return err_errno(e, -errno, "socketpair");
    CLEANUP(fd) int ours = sock[0];
    p->sync = sock[1];
    if (p->conf->own_start) {
        int go[2];

        if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, go) < 0)
            return err_errno(e, -errno, "socketpair");
        child->start = go[0];
        p->go = go[1];
    }
    pid_t pid = make_child(p, sock, e);
    plan_done(p); /* the child's ends: its end is seen now */
    if (pid < 0) {
        process_child_done(child);
        return pid;
    }
    child->pid = pid;
    int r = prepare_child(p, pid, ours, e);
    if (r == 0)
        r = converse(p, ours, child, e);
    if (r == 0)
        r = remember(p, pid, st, e);
    if (r == 0) {
        child->pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
        if (child->pidfd < 0)
            r = err_errno(e, -errno, "pidfd_open");
    }
    if (r < 0) {
        end_child(pid);
        process_child_reap(child);
        process_child_done(child);
    }
    return r;
}

int process_create(const struct process_conf *c, struct process_state *st,
                   struct process_child *child, struct err *e)
{
    int r = check(c, e);

    if (r < 0)
        return r;
    CLEANUP(mem) struct plan *p = calloc(1, sizeof(*p));
    if (!p)
        return err_errno(e, -ENOMEM, "container");
    *p = (struct plan){.conf = c, .sync = -1, .listener = -1, .go = -1, .last = -1, .image = -1};
    p->user_ns = c->ns[PROCESS_NS_USER].how == PROCESS_NS_NEW;
    p->rootless = geteuid() != 0;
    for (unsigned i = 0; i < PROCESS_MOUNTS_MAX; i++)
        p->source[i] = -1;
    struct process_child made = PROCESS_CHILD_NONE;
    r = plan_make(p, e);
    if (r == 0)
        r = run(p, st, &made, e);
    plan_done(p);
    if (r < 0) {
        char path[PROCESS_TARGET_MAX + 8];

        snprintf(path, sizeof(path), "%s/start", c->dir);
        (void)unlink(path);
        (void)!cgroup_remove(&p->cgroup, REMOVE_MS, NULL);
        return r;
    }
    *child = made;
    return 0;
}
