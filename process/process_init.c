/* The container's init, from its birth to the command: everything here runs in the child. */
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <grp.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "os/fds.h"
#include "process/process_priv.h"

enum { SYSCTL_PATH_MAX = 256 };

/* Only what the child needs stays open: the caller's locks and sockets are not to live on in it. */
static void close_others(const struct plan *p)
{
    const struct process_proc *proc = &p->conf->process;
    int keep[CGROUP_CONTROLLERS + 1 + PROCESS_MOUNTS_MAX + PROCESS_PASS_FDS_MAX + 9];
    unsigned n = 0;

    keep[n++] = p->sync;
    keep[n++] = p->listener;
    keep[n++] = p->go;
    keep[n++] = p->last;
    keep[n++] = p->image;
    for (unsigned i = 0; i < p->n_enter; i++)
        keep[n++] = p->enter[i];
    for (unsigned i = 0; i < p->conf->n_mounts; i++)
        if (p->source[i] >= 0)
            keep[n++] = p->source[i];
    for (unsigned i = 0; i < 3 && !proc->terminal; i++)
        keep[n++] = proc->io[i];
    for (unsigned i = 0; i < proc->n_pass_fds; i++)
        keep[n++] = proc->pass_fds[i];
    fds_close_but(keep, n);
}

static int wait_mapped(struct plan *p, struct err *e)
{
    struct note n;

    if (!p->user_ns && !p->staged)
        return 0;
    int r = note_receive(p->sync, &n, NULL);
    if (r < 0)
        return err_errno(e, r, "the creator is gone");
    if (!p->user_ns)
        return 0;
    /* Root of the namespace, whatever id that is outside. */
    if ((setgroups(0, NULL) < 0 && errno != EPERM) || setresgid(0, 0, 0) < 0 ||
        setresuid(0, 0, 0) < 0)
        return err_errno(e, -errno, "become root of the user namespace: is 0 mapped?");
    return 0;
}

static int enter_groups(struct plan *p, struct err *e)
{
    int r = cgroup_enter_fds(p->enter, p->n_enter);

    if (r < 0)
        return err_errno(e, r, "enter the control groups");
    /* Not by clone3(2): it is to begin at the group that was just entered. */
    if (p->conf->ns[PROCESS_NS_CGROUP].how == PROCESS_NS_NEW && unshare(CLONE_NEWCGROUP) < 0)
        return err_errno(e, -errno, "cgroup namespace");
    return 0;
}

static void loopback_up(void)
{
    struct ifreq r = {.ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING};
    CLEANUP(fd) int s = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

    if (s >= 0)
        (void)ioctl(s, SIOCSIFFLAGS, &r);
}

/* Those that belong to a namespace; others would be the host's. Returns false for them. */
static bool sysctl_ours(const struct process_conf *c, const char *name)
{
    static const char *const ipc[] = {"kernel/msgmax", "kernel/msgmnb",         "kernel/msgmni",
                                      "kernel/sem",    "kernel/shmall",         "kernel/shmmax",
                                      "kernel/shmmni", "kernel/shm_rmid_forced"};

    if (strncmp(name, "net/", 4) == 0)
        return c->ns[PROCESS_NS_NET].how != PROCESS_NS_HOST;
    if (strcmp(name, "kernel/hostname") == 0 || strcmp(name, "kernel/domainname") == 0)
        return c->ns[PROCESS_NS_UTS].how != PROCESS_NS_HOST;
    bool known = strncmp(name, "fs/mqueue/", 10) == 0;
    for (unsigned i = 0; i < ARRAY_LEN(ipc); i++)
        known = known || strcmp(name, ipc[i]) == 0;
    return known && c->ns[PROCESS_NS_IPC].how != PROCESS_NS_HOST;
}

/* With the host's /proc, which shows the namespaces of who asks. */
static int set_sysctl(const struct process_conf *c, const struct process_sysctl *s, struct err *e)
{
    char path[SYSCTL_PATH_MAX] = "/proc/sys/";
    size_t base = strlen(path), n = strlen(s->name);

    if (base + n >= sizeof(path) || strstr(s->name, ".."))
        return err_set(e, -EINVAL, "sysctl '%.80s' is not a name", s->name);
    memcpy(path + base, s->name, n + 1);
    if (!strchr(s->name, '/'))
        for (char *p = path + base; (p = strchr(p, '.'));)
            *p = '/';
    if (!sysctl_ours(c, path + base))
        return err_set(e, -EINVAL,
                       "sysctl '%s' is not of a namespace that the container has for itself",
                       s->name);
    CLEANUP(fd) int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0 || write(fd, s->value, strlen(s->value)) < 0)
        return err_errno(e, -errno, "sysctl %s=%s", s->name, s->value);
    return 0;
}

static int set_names(const struct process_conf *c, struct err *e)
{
    if (c->ns[PROCESS_NS_NET].how == PROCESS_NS_NEW)
        loopback_up();
    if (c->hostname && sethostname(c->hostname, strlen(c->hostname)) < 0)
        return err_errno(e, -errno, "hostname '%s'", c->hostname);
    if (c->domainname && setdomainname(c->domainname, strlen(c->domainname)) < 0)
        return err_errno(e, -errno, "domain name '%s'", c->domainname);
    for (size_t i = 0; i < c->n_sysctls; i++) {
        int r = set_sysctl(c, &c->sysctls[i], e);

        if (r < 0)
            return r;
    }
    return 0;
}

struct console {
    int master, slave; /* owned; -1 = none */
};

/* Those the parent could not open; before the root lies over the container's folder, in which some
 * of them may be. */
static int open_sources(struct plan *p, struct err *e)
{
    for (size_t i = 0; i < p->conf->n_mounts; i++) {
        if (p->source[i] >= 0 || !mounts_is_bind(&p->conf->mounts[i]))
            continue;
        p->source[i] = mounts_source(&p->conf->mounts[i], e);
        if (p->source[i] < 0)
            return p->source[i];
    }
    return 0;
}

static int build_root(struct plan *p, struct console *tty, struct err *e)
{
    CLEANUP(fd) int root = -1;
    const struct process_proc *proc = &p->conf->process;

    /* What the container mounts is not to be seen outside; what the host mounts later may be. */
    if (mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL) < 0)
        return err_errno(e, -errno, "mount namespace");
    umask(0);
    int r = open_sources(p, e);
    if (r == 0)
        r = rootfs_make(p, &root, e);
    if (r == 0)
        r = mounts_make(p, root, e);
    if (r == 0)
        r = devnodes_make(p, root, e);
    if (r == 0 && proc->terminal) {
        r = console_open(root, proc, &tty->master, &tty->slave, e);
        if (r == 0)
            r = console_bind(root, tty->slave, e);
    }
    if (r == 0)
        r = hidden_paths(p, root, e);
    if (r == 0)
        r = rootfs_finish(p, root, e);
    return r;
}

static int take_streams(const struct plan *p, const struct console *tty, struct finish *f,
                        struct err *e)
{
    f->tty = tty->slave;
    for (int i = 0; i < 3; i++) {
        f->io[i] = tty->slave >= 0 ? tty->slave : p->conf->process.io[i];
        if (f->io[i] >= 0)
            continue;
        f->io[i] = open("/dev/null", O_RDWR | O_CLOEXEC);
        if (f->io[i] < 0)
            return err_errno(e, -errno, "/dev/null");
    }
    return 0;
}

static int make_all(struct plan *p, struct finish *f, struct console *tty, struct err *e)
{
    int r = wait_mapped(p, e);

    if (r == 0)
        r = finish_early(&p->conf->process, p->rootless, e);
    /* Whoever is in a PID namespace that was joined may not look into this process. */
    (void)prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
    if (setsid() < 0 && errno != EPERM) /* the first of a PID namespace leads a session already */
        return err_errno(e, -errno, "setsid");
    if (r == 0)
        r = enter_groups(p, e);
    if (r == 0)
        r = set_names(p->conf, e);
    if (r == 0 && !p->conf->process.terminal)
        r = take_streams(p, tty, f, e); /* while the host's /dev/null is there */
    if (r == 0)
        r = build_root(p, tty, e);
    if (r == 0 && p->conf->process.terminal)
        r = take_streams(p, tty, f, e);
    return r == 0 ? finish_place(f, e) : r;
}

static int tell_ready(struct plan *p, struct console *tty)
{
    struct note n = {.kind = NOTE_READY};
    int r = note_send(p->sync, &n, tty->master);

    shut(&tty->master);
    shut(&tty->slave);
    shut(&p->sync);
    return r;
}

/* process_start() connects, process_start_child() writes a byte; they hear of a failure by what is
 * written, of success by the end. */
static int wait_start(struct plan *p)
{
    int fd;
    char go;

    if (p->go >= 0)
        return p->conf->start_now || read(p->go, &go, 1) == 1 ? p->go : -1;
    do
        fd = accept4(p->listener, NULL, NULL, SOCK_CLOEXEC);
    while (fd < 0 && errno == EINTR);
    shut(&p->listener);
    return fd;
}

_Noreturn void init_main(struct plan *p)
{
    struct finish f = {
        .proc = &p->conf->process, .user_ns = p->user_ns, .no_mknod = plan_devices_open(p)};
    struct console tty = {-1, -1};
    struct err e = {0};

    f.last = p->last;
    close_others(p);
    (void)prctl(PR_SET_NAME, "kiln-init");
    int r = make_all(p, &f, &tty, &e);
    if (r < 0) {
        struct note n = {.kind = NOTE_FAILED, .err = e};

        (void)!note_send(p->sync, &n, -1);
        _exit(finish_status(r)); /* forked child */
    }
    if (tell_ready(p, &tty) < 0)
        _exit(1); /* forked child */
    int report = wait_start(p);
    if (report < 0)
        _exit(1); /* forked child */
    r = finish_exec(&f, report, &e);
    _exit(finish_status(r)); /* forked child */
}
