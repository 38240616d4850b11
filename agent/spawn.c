/* Start a process in the sandbox. The child does all that touches the image (looking up names,
 * making the working directory, finding the command): should any of it block or crash, the agent
 * does not. What went wrong comes back through a close-on-exec pipe. */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "agent/pid1.h"
#include "base/cleanup.h"

enum {
    PIPE_BYTES = 256 * 1024,
    NOFILE_SOFT =
        1024, /* select(2) is still used; whoever knows better raises it to the hard limit */
    NOFILE_HARD = 524288,
};

struct ends { /* the child's */
    int in, out, err, report;
};

static void ends_done(struct ends *c)
{
    cleanup_fd(&c->in);
    cleanup_fd(&c->out);
    cleanup_fd(&c->err);
    cleanup_fd(&c->report);
}

static void process_done(struct process *p)
{
    cleanup_fd(&p->report);
    cleanup_fd(&p->in);
    cleanup_fd(&p->out);
    cleanup_fd(&p->err);
}

/* ---- the child */

static int become(const struct user *u, struct err *e)
{
    if (setgroups(u->n_groups, u->groups) < 0 || setgid(u->gid) < 0 || setuid(u->uid) < 0)
        return err_errno(e, -errno, "become user %u, group %u", (unsigned)u->uid, (unsigned)u->gid);
    return 0;
}

static void reset_signals(void)
{
    sigset_t none;

    for (int i = 1; i < _NSIG; i++)
        (void)signal(i, SIG_DFL);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
}

static void set_limits(void)
{
    const struct rlimit nofile = {NOFILE_SOFT, NOFILE_HARD};
    const struct rlimit none = {RLIM_INFINITY, RLIM_INFINITY};
    const struct rlimit core = {0, RLIM_INFINITY};

    (void)setrlimit(RLIMIT_NOFILE, &nofile);
    (void)setrlimit(RLIMIT_NPROC, &none);
    (void)setrlimit(RLIMIT_CORE, &core);
}

/* The agent's own score keeps it from the OOM killer; the container is what is to be killed.
 * Written through the agent's /proc: the container's may be anything. */
static void reset_oom(void)
{
    CLEANUP(fd) int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);

    if (fd >= 0)
        (void)!write(fd, "0", 1);
}

/* Standard streams to 0, 1, 2; the report to 3; nothing else is open behind that. */
static int place_fds(struct ends *c)
{
    int v[] = {c->in, c->out, c->err, c->report};

    /* Out of the way first, so that no dup2 overwrites one that is still to come. */
    for (unsigned i = 0; i < ARRAY_LEN(v); i++) {
        v[i] = fcntl(v[i], F_DUPFD, 16);
        if (v[i] < 0)
            return -errno;
    }
    for (unsigned i = 0; i < ARRAY_LEN(v); i++)
        if (dup2(v[i], (int)i) < 0)
            return -errno;
    if (fcntl(3, F_SETFD, FD_CLOEXEC) < 0)
        return -errno;
    return 0;
}

static int child_run(const struct sandbox *s, struct start_req *r, struct err *e)
{
    static struct user u;

    if (setns(s->mnt, CLONE_NEWNS) < 0)
        return err_errno(e, -errno, "enter the container");
    if (syscall(SYS_close_range, 4, ~0U, 0) < 0)
        return err_errno(e, -errno, "close_range");
    if (setsid() < 0 || (r->tty && !r->detach && ioctl(0, TIOCSCTTY, 0) < 0))
        return err_errno(e, -errno, "terminal");
    int rc = user_find(r->user ? r->user : "", "/etc/passwd", "/etc/group", &u, e);
    if (rc < 0)
        return rc;
    launch_own_streams(u.uid);
    umask(022);
    rc = launch_cwd(r->cwd, &u, e);
    if (rc < 0)
        return rc;
    rc = launch_env(&r->env, &u, r->tty);
    if (rc < 0)
        return err_errno(e, rc, "environment");
    set_limits();
    reset_signals();
    rc = become(&u, e);
    return rc < 0 ? rc : launch_exec(r->argv.v, r->env.v, e);
}

static _Noreturn void child(const struct sandbox *s, const struct start_req *r, struct ends *c)
{
    struct err e = {0};
    struct spawn_failure f = {0};
    struct start_req mine = *r;

    reset_oom();
    int rc = place_fds(c);
    if (rc == 0)
        rc = r->work ? work_run(s, &mine, &e) : child_run(s, &mine, &e);
    else
        rc = err_errno(&e, rc, "descriptors");
    f.code = -rc;
    memcpy(f.text, e.msg, sizeof(f.text));
    (void)!write(3, &f, sizeof(f));
    _exit(127);
}

/* ---- the agent's side */

static int open_pty(const struct sandbox *s, const struct start_req *r, struct process *p,
                    struct ends *c)
{
    char path[32];
    int zero = 0;
    struct stat st;
    struct winsize ws = {.ws_row = r->rows, .ws_col = r->cols};

    snprintf(path, sizeof(path), "/proc/self/fd/%d", s->ptmx);
    p->out = open(path, O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
    if (p->out < 0)
        return -errno;
    if (fstat(p->out, &st) < 0 || !S_ISCHR(st.st_mode) || st.st_rdev != makedev(5, 2))
        return -ENOTTY;
    if (ioctl(p->out, TIOCSPTLCK, &zero) < 0 || ioctl(p->out, TIOCSWINSZ, &ws) < 0)
        return -errno;
    c->in = ioctl(p->out, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
    if (c->in < 0)
        return -errno;
    c->out = fcntl(c->in, F_DUPFD_CLOEXEC, 0);
    c->err = fcntl(c->in, F_DUPFD_CLOEXEC, 0);
    p->in = fcntl(p->out, F_DUPFD_CLOEXEC, 0);
    return c->out < 0 || c->err < 0 || p->in < 0 ? -EMFILE : 0;
}

/* One pipe; our end does not block. */
static int open_pipe(int *ours, int *theirs, bool we_read)
{
    int v[2];

    if (pipe2(v, O_CLOEXEC) < 0)
        return -errno;
    *ours = v[we_read ? 0 : 1];
    *theirs = v[we_read ? 1 : 0];
    (void)fcntl(*ours, F_SETPIPE_SZ, PIPE_BYTES);
    return fcntl(*ours, F_SETFL, O_NONBLOCK) < 0 ? -errno : 0;
}

/* Of a detached process, which nobody reads. */
static int open_null(struct ends *c)
{
    c->in = open("/dev/null", O_RDONLY | O_CLOEXEC);
    c->out = open("/dev/null", O_WRONLY | O_CLOEXEC);
    c->err = open("/dev/null", O_WRONLY | O_CLOEXEC);
    return c->in < 0 || c->out < 0 || c->err < 0 ? -errno : 0;
}

static int open_pipes(const struct start_req *r, struct process *p, struct ends *c)
{
    int rc;

    if (r->with_stdin) {
        rc = open_pipe(&p->in, &c->in, false);
    } else {
        c->in = open("/dev/null", O_RDONLY | O_CLOEXEC);
        rc = c->in < 0 ? -errno : 0;
    }
    if (rc == 0)
        rc = open_pipe(&p->out, &c->out, true);
    if (rc == 0)
        rc = open_pipe(&p->err, &c->err, true);
    return rc;
}

int spawn(const struct sandbox *s, const struct start_req *r, struct process *p, struct err *e)
{
    struct ends c = {-1, -1, -1, -1};

    *p = (struct process){.report = -1, .in = -1, .out = -1, .err = -1};
    int rc = r->detach ? open_null(&c) : r->tty ? open_pty(s, r, p, &c) : open_pipes(r, p, &c);
    if (rc == 0)
        rc = open_pipe(&p->report, &c.report, true);
    if (rc == 0) {
        p->pid = group_fork(r->work ? -1 : s->group);
        if (p->pid == 0)
            child(s, r, &c);
        if (p->pid < 0)
            rc = -errno;
    }
    ends_done(&c);
    if (rc < 0) {
        process_done(p);
        return err_errno(e, rc, "start the command");
    }
    return 0;
}
