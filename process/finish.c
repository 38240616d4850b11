/* The last steps, the same for create and exec. Order: what needs powers first, then they go; a
 * filter without no_new_privs needs CAP_SYS_ADMIN and comes before, so it must let the rest pass
 * (docker's and everybody's does, as runtimes have the same order). */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/close_range.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "os/launch.h"
#include "process/process_priv.h"

extern const uint8_t last_image[];
extern const uint64_t last_image_len;

enum { NOT_FOUND = 127, CANNOT_RUN = 126, FIRST_FD = 3, AWAY_FD = 64 };

int finish_status(int code)
{
    return code == -ENOENT ? NOT_FOUND : CANNOT_RUN;
}

int last_open(struct err *e)
{
    const int seals = F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE;
    CLEANUP(fd) int fd = memfd_create("kiln-last", MFD_CLOEXEC | MFD_ALLOW_SEALING);

    if (fd < 0)
        return err_errno(e, -errno, "memfd_create");
    if (write(fd, last_image, last_image_len) != (ssize_t)last_image_len || fchmod(fd, 0555) < 0 ||
        fcntl(fd, F_ADD_SEALS, seals) < 0)
        return err_errno(e, -errno, "the last program in memory");
    return take_fd(&fd);
}

int finish_early(const struct process_proc *proc, bool rootless, struct err *e)
{
    char text[16];

    if (!proc->has_oom_score_adj)
        return 0;
    int n = snprintf(text, sizeof(text), "%d", proc->oom_score_adj);
    CLEANUP(fd) int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
    if (fd >= 0 && write(fd, text, (size_t)n) == n)
        return 0;
    /* Lowering it takes CAP_SYS_RESOURCE of the host. */
    if (rootless && (errno == EACCES || errno == EPERM))
        return 0;
    return err_errno(e, -errno, "oom_score_adj %d", proc->oom_score_adj);
}

/* ---- finish_place */

static int place_streams(struct finish *f, struct err *e)
{
    int away[3];

    /* Out of the way first, so that no dup2 overwrites one that is still to come. */
    for (int i = 0; i < 3; i++) {
        away[i] = fcntl(f->io[i], F_DUPFD_CLOEXEC, AWAY_FD);
        if (away[i] < 0)
            return err_errno(e, -errno, "stream %d", i);
    }
    for (int i = 0; i < 3; i++) {
        if (dup2(away[i], i) < 0)
            return err_errno(e, -errno, "stream %d", i);
        close(away[i]);
        f->io[i] = i;
    }
    if (f->tty >= 0 && ioctl(0, TIOCSCTTY, 0) < 0)
        return err_errno(e, -errno, "controlling terminal");
    return 0;
}

static int fill_env(struct finish *f, struct err *e)
{
    for (const char *const *v = f->proc->env; v && *v; v++)
        if (strv_add(&f->env, *v) < 0)
            return err_errno(e, -ENOMEM, "environment");
    if (!f->env.v && (f->env.v = calloc(1, sizeof(*f->env.v))) == NULL)
        return err_errno(e, -ENOMEM, "environment");
    if (f->proc->fill_env && launch_env(&f->env, &f->user, f->proc->terminal) < 0)
        return err_errno(e, -ENOMEM, "environment");
    return 0;
}

static int find_user(struct finish *f, struct err *e)
{
    const struct process_user *u = &f->proc->user;

    if (u->name) {
        int r = user_find(u->name, "/etc/passwd", "/etc/group", &f->user, e);

        if (r < 0)
            return r;
    } else {
        f->user = (struct user){.uid = u->uid, .gid = u->gid, .home = "/"};
    }
    if (u->n_groups > USER_GROUPS_MAX - f->user.n_groups)
        return err_set(e, -E2BIG, "more than %d additional groups", USER_GROUPS_MAX);
    for (size_t i = 0; i < u->n_groups; i++)
        f->user.groups[f->user.n_groups++] = u->groups[i];
    for (const char *const *v = u->more_groups; v && *v; v++) {
        if (f->user.n_groups == USER_GROUPS_MAX)
            return err_set(e, -E2BIG, "more than %d additional groups", USER_GROUPS_MAX);
        int r = user_find_group(*v, "/etc/group", &f->user.groups[f->user.n_groups++], e);

        if (r < 0)
            return r;
    }
    return 0;
}

int finish_place(struct finish *f, struct err *e)
{
    char cwd[16];
    int r = find_user(f, e);

    if (r == 0)
        r = fill_env(f, e);
    if (r == 0)
        r = place_streams(f, e);
    if (r < 0)
        return r;
    launch_own_streams(f->user.uid);
    r = launch_cwd(f->proc->cwd, &f->user, e);
    if (r < 0)
        return r;
    /* A directory outside of the root (a descriptor's, by /proc/self/fd) has no path from here:
     * CVE-2024-21626. */
    errno = 0;
    if ((!getcwd(cwd, sizeof(cwd)) && errno != ERANGE) || (errno == 0 && cwd[0] != '/'))
        return err_set(e, -EINVAL, "working directory '%s' is outside of the container",
                       f->proc->cwd ? f->proc->cwd : "/");
    return 0;
}

/* ---- finish_exec */

static void reset_signals(void)
{
    sigset_t none;

    for (int i = 1; i < _NSIG; i++)
        (void)signal(i, SIG_DFL);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
}

static int set_limits(const struct process_proc *p, struct err *e)
{
    for (size_t i = 0; i < p->n_rlimits; i++)
        if (setrlimit((__rlimit_resource_t)p->rlimits[i].resource, &p->rlimits[i].limit) < 0)
            return err_errno(e, -errno, "resource limit %d to %llu:%llu", p->rlimits[i].resource,
                             (unsigned long long)p->rlimits[i].limit.rlim_cur,
                             (unsigned long long)p->rlimits[i].limit.rlim_max);
    return 0;
}

static int set_filter(const struct process_filter *f, struct err *e)
{
    const struct sock_fprog prog = {.len = (unsigned short)f->n,
                                    .filter = (struct sock_filter *)f->insns};

    if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, f->flags, &prog) < 0)
        return err_errno(e, -errno, "seccomp filter");
    return 0;
}

static int drop_bounding(uint64_t keep, struct err *e)
{
    for (unsigned i = 0; i < 64; i++) {
        if (keep & (1ull << i))
            continue;
        if (prctl(PR_CAPBSET_DROP, i, 0, 0, 0) < 0) {
            if (errno == EINVAL) /* this kernel's last one was before */
                return 0;
            return err_errno(e, -errno, "drop capability %u", i);
        }
    }
    return 0;
}

static int become(const struct finish *f, struct err *e)
{
    const struct user *u = &f->user;

    /* A user namespace with a single id forbids setgroups(2): then there are none to be had. */
    if (setgroups(u->n_groups, u->groups) < 0 && !(f->user_ns && errno == EPERM))
        return err_errno(e, -errno, "additional groups");
    if (prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) < 0 || setresgid(u->gid, u->gid, u->gid) < 0 ||
        setresuid(u->uid, u->uid, u->uid) < 0)
        return err_errno(e, errno == EINVAL && f->user_ns ? -EINVAL : -errno,
                         "become user %u, group %u", (unsigned)u->uid, (unsigned)u->gid);
    return 0;
}

static int set_caps(const struct process_caps *want, struct err *e)
{
    struct __user_cap_header_struct h = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct d[2];

    if (syscall(SYS_capget, &h, d) < 0)
        return err_errno(e, -errno, "capabilities");
    /* What this host does not give its root, nobody gets. */
    uint64_t have = d[0].permitted | (uint64_t)d[1].permitted << 32;
    uint64_t permitted = want->permitted & have;
    uint64_t effective = want->effective & permitted;
    uint64_t inheritable = want->inheritable & have;
    uint64_t ambient = want->ambient & permitted & inheritable;

    for (unsigned i = 0; i < 2; i++)
        d[i] = (struct __user_cap_data_struct){.effective = (uint32_t)(effective >> (32 * i)),
                                               .permitted = (uint32_t)(permitted >> (32 * i)),
                                               .inheritable = (uint32_t)(inheritable >> (32 * i))};
    if (syscall(SYS_capset, &h, d) < 0)
        return err_errno(e, -errno, "capabilities");
    if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) < 0)
        return err_errno(e, -errno, "ambient capabilities");
    for (unsigned i = 0; i < 64; i++)
        if ((ambient & (1ull << i)) && prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, i, 0, 0) < 0)
            return err_errno(e, -errno, "ambient capability %u", i);
    return 0;
}

static int drop_powers(const struct finish *f, struct err *e)
{
    const struct process_proc *p = f->proc;
    struct process_caps caps = p->caps;
    int r = 0;

    if (f->no_mknod) {
        const uint64_t mask = ~(1ull << CAP_MKNOD);

        caps = (struct process_caps){caps.bounding & mask, caps.effective & mask,
                                     caps.inheritable & mask, caps.permitted & mask,
                                     caps.ambient & mask};
    }
    if (p->filter && !p->no_new_privileges)
        r = set_filter(p->filter, e);
    if (r == 0)
        r = drop_bounding(caps.bounding, e);
    if (r == 0)
        r = become(f, e);
    if (r == 0)
        r = set_caps(&caps, e);
    if (r == 0 && p->no_new_privileges && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        r = err_errno(e, -errno, "no_new_privs");
    if (r == 0 && p->filter && p->no_new_privileges)
        r = set_filter(p->filter, e);
    return r;
}

/* Descriptors 3... as given; then `report` and the program; nothing else survives. */
static int place_fds(struct finish *f, int *report, struct err *e)
{
    unsigned n = f->proc->n_pass_fds;
    int base = FIRST_FD + (int)n;
    int high = fcntl(*report, F_DUPFD_CLOEXEC, AWAY_FD);
    int prog = fcntl(f->last, F_DUPFD_CLOEXEC, AWAY_FD);
    int moved[PROCESS_PASS_FDS_MAX];

    if (high < 0 || prog < 0)
        return err_errno(e, -errno, "descriptors");
    for (unsigned i = 0; i < n; i++) {
        moved[i] = fcntl(f->proc->pass_fds[i], F_DUPFD_CLOEXEC, AWAY_FD);
        if (moved[i] < 0)
            return err_errno(e, -errno, "descriptor %d", f->proc->pass_fds[i]);
    }
    for (unsigned i = 0; i < n; i++)
        if (dup2(moved[i], FIRST_FD + (int)i) < 0)
            return err_errno(e, -errno, "descriptors");
    if (dup2(high, base) < 0 || dup3(prog, base + 1, O_CLOEXEC) < 0)
        return err_errno(e, -errno, "descriptors");
    if (syscall(SYS_close_range, base + 2, ~0U, 0) < 0)
        return err_errno(e, -errno, "close_range");
    *report = base;
    f->last = base + 1;
    return 0;
}

static int exec_last(const struct finish *f, int report, struct err *e)
{
    char number[16];
    size_t n = 0;

    while (f->proc->args[n])
        n++;
    CLEANUP(mem) const char **argv = calloc(n + 3, sizeof(*argv));
    if (!argv)
        return err_errno(e, -ENOMEM, "arguments");
    snprintf(number, sizeof(number), "%d", report);
    argv[0] = "kiln";
    argv[1] = number;
    memcpy(argv + 2, f->proc->args, n * sizeof(*argv));
    syscall(SYS_execveat, f->last, "", argv, f->env.v, AT_EMPTY_PATH);
    int code = -errno;
    if (code == -E2BIG)
        return err_set(e, code, "%s: the argument list is too long", f->proc->args[0]);
    return err_errno(e, code, "the last program before %s", f->proc->args[0]);
}

int finish_exec(struct finish *f, int report, struct err *e)
{
    int r = place_fds(f, &report, e);

    if (r == 0)
        r = set_limits(f->proc, e);
    reset_signals();
    umask(f->proc->user.has_umask ? f->proc->user.umask : 022);
    if (r == 0)
        r = drop_powers(f, e);
    if (r == 0)
        r = exec_last(f, report, e);
    /* Here, as the caller's number for it is gone. */
    (void)!write(report, e, sizeof(*e));
    return r;
}
