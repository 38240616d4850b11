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

#define DEFAULT_PATH "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
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

static const char *env_get(const struct strv *env, const char *name)
{
    size_t n = strlen(name);

    for (size_t i = env->n; i-- > 0;) /* the last one given counts */
        if (strncmp(env->v[i], name, n) == 0 && env->v[i][n] == '=')
            return env->v[i] + n + 1;
    return NULL;
}

static int env_default(struct strv *env, const char *name, const char *value)
{
    char *s;

    if (env_get(env, name))
        return 0;
    if (asprintf(&s, "%s=%s", name, value) < 0)
        return -ENOMEM;
    return strv_take(env, s);
}

/* What docker sets when the image and the user did not. */
static int env_fill(struct strv *env, const struct user *u, bool tty)
{
    char host[65] = "";
    int r = env_default(env, "PATH", DEFAULT_PATH);

    (void)gethostname(host, sizeof(host) - 1);
    if (r == 0)
        r = env_default(env, "HOSTNAME", host);
    if (r == 0 && tty)
        r = env_default(env, "TERM", "xterm");
    if (r == 0)
        r = env_default(env, "HOME", u->home[0] ? u->home : "/");
    return r;
}

static int enter_cwd(const char *cwd, const struct user *u, struct err *e)
{
    struct stat st;

    if (!cwd || !cwd[0])
        cwd = "/";
    if (cwd[0] != '/')
        return err_set(e, -EINVAL, "the working directory '%s' is not an absolute path", cwd);
    if (stat(cwd, &st) < 0) {
        int r = root_mkdirs(cwd, 0755);

        if (r < 0)
            return err_errno(e, r == -ENOENT ? -EINVAL : r, "working directory '%s'", cwd);
        (void)!chown(cwd, u->uid, u->gid);
    }
    if (chdir(cwd) < 0) {
        int r = errno == ENOENT ? -EINVAL : -errno; /* -ENOENT is the command's */
        return err_errno(e, r, "working directory '%s'", cwd);
    }
    return 0;
}

static int become(const struct user *u, struct err *e)
{
    if (setgroups(u->n_groups, u->groups) < 0 || setgid(u->gid) < 0 || setuid(u->uid) < 0)
        return err_errno(e, -errno, "become user %u, group %u", (unsigned)u->uid, (unsigned)u->gid);
    return 0;
}

/* execve(2) says EACCES for a directory, too; both are "cannot be run". */
static int exec_path(const char *path, const struct start_req *r)
{
    struct stat st;

    execve(path, r->argv.v, r->env.v);
    if (errno == ENOENT && stat(path, &st) == 0)
        return -ELIBBAD; /* it is there: its interpreter or loader is not */
    return -errno;
}

/* As execvp(3) and the shells: go on over what is not there, remember what may not be run. */
static int exec_search(const struct start_req *r, struct err *e)
{
    const char *name = r->argv.v[0], *path = env_get(&r->env, "PATH");
    int found = -ENOENT;

    if (!name[0])
        return err_set(e, -ENOENT, "the command is an empty string");
    if (strchr(name, '/')) {
        found = exec_path(name, r);
    } else {
        CLEANUP(mem) char *dirs = strdup(path ? path : "");
        char *p = dirs, *dir;

        while (dirs && (dir = strsep(&p, ":"))) {
            char full[PATH_MAX];
            int n = snprintf(full, sizeof(full), "%s/%s", dir[0] ? dir : ".", name);

            if (n < 0 || (size_t)n >= sizeof(full))
                continue;
            int rc = exec_path(full, r);
            if (rc == -ENOENT || rc == -ENOTDIR)
                continue;
            found = rc;
            if (rc != -EACCES)
                break;
        }
    }
    if (found == -ENOENT || found == -ENOTDIR)
        return err_set(e, -ENOENT, "%s: %s", name,
                       strchr(name, '/') ? "no such file"
                                         : "command not found in the image's PATH");
    if (found == -ELIBBAD)
        return err_set(e, -ENOENT, "%s: its interpreter or program loader is not in the image",
                       name);
    if (found == -ENOEXEC)
        return err_set(e, found, "%s: not a program for this machine (exec format error)", name);
    return err_errno(e, found, "%s", name);
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

/* So that it can open /dev/stdout anew after it is no longer root. Never /dev/null: that is
 * everybody's. */
static void own_streams(const struct user *u)
{
    struct stat st;

    for (int fd = 0; fd < 3; fd++)
        if (fstat(fd, &st) == 0 && (S_ISFIFO(st.st_mode) || isatty(fd)))
            (void)!fchown(fd, u->uid, (gid_t)-1);
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
    own_streams(&u);
    umask(022);
    rc = enter_cwd(r->cwd, &u, e);
    if (rc < 0)
        return rc;
    rc = env_fill(&r->env, &u, r->tty);
    if (rc < 0)
        return err_errno(e, rc, "environment");
    set_limits();
    reset_signals();
    rc = become(&u, e);
    return rc < 0 ? rc : exec_search(r, e);
}

static _Noreturn void child(const struct sandbox *s, const struct start_req *r, struct ends *c)
{
    struct err e = {0};
    struct spawn_failure f = {0};
    struct start_req mine = *r;

    reset_oom();
    int rc = place_fds(c);
    if (rc == 0)
        rc = child_run(s, &mine, &e);
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
        p->pid = group_fork(s->group);
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
