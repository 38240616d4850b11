/* A further process in a container that runs. */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "os/fds.h"
#include "process/process_priv.h"

struct entry {
    const struct process_state *st;
    const struct process_proc *proc;
    int init; /* pidfd; owned */
    int enter[CGROUP_CONTROLLERS + 1];
    unsigned n_enter; /* owned */
    int last;         /* owned */
    int null;         /* the host's: the container's may be anything; owned */
    int sock[2];      /* the caller's and the child's end; owned */
};

static void entry_done(struct entry *x)
{
    shut(&x->init);
    for (unsigned i = 0; i < x->n_enter; i++)
        shut(&x->enter[i]);
    shut(&x->last);
    shut(&x->null);
    shut(&x->sock[0]);
    shut(&x->sock[1]);
}

/* ---- in the stage and the child */

static void close_others(const struct entry *x)
{
    const struct process_proc *proc = x->proc;
    int keep[CGROUP_CONTROLLERS + 1 + PROCESS_PASS_FDS_MAX + 8];
    unsigned n = 0;

    keep[n++] = x->init;
    keep[n++] = x->last;
    keep[n++] = x->null;
    keep[n++] = x->sock[1];
    for (unsigned i = 0; i < x->n_enter; i++)
        keep[n++] = x->enter[i];
    for (unsigned i = 0; i < 3 && !proc->terminal; i++)
        keep[n++] = proc->io[i];
    for (unsigned i = 0; i < proc->n_pass_fds; i++)
        keep[n++] = proc->pass_fds[i];
    fds_close_but(keep, n);
}

/* setns(2) by pidfd enters all of them at once, so that none is left that gives a way back. */
static int enter(void *ctx, struct err *e)
{
    const struct entry *x = ctx;
    int flags = CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS |
                CLONE_NEWCGROUP | (x->st->user_ns ? CLONE_NEWUSER : 0);

    close_others(x);
    int r = finish_early(x->proc, geteuid() != 0, e);
    if (r < 0)
        return r;
    /* Nothing in the container may look into us from here on. */
    (void)prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
    r = cgroup_enter_fds(x->enter, x->n_enter);
    if (r < 0)
        return err_errno(e, r, "enter the control groups");
    if (setns(x->init, flags) < 0)
        return err_errno(e, errno == EINVAL ? -ESRCH : -errno, "enter the container");
    return 0;
}

static int child_make(struct entry *x, struct finish *f, int *master, struct err *e)
{
    CLEANUP(fd) int root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
    int slave = -1;
    struct note go;
    int r = note_receive(x->sock[1], &go, NULL);
    if (r < 0)
        return err_errno(e, r, "the caller is gone");
    if (root < 0 || setsid() < 0)
        return err_errno(e, -errno, "enter the container");
    if (x->st->user_ns && (setresgid(0, 0, 0) < 0 || setresuid(0, 0, 0) < 0))
        return err_errno(e, -errno, "become root of the user namespace");
    if (x->proc->terminal)
        r = console_open(root, x->proc, master, &slave, e);
    if (r < 0)
        return r;
    f->tty = slave;
    for (int i = 0; i < 3; i++) {
        f->io[i] = slave >= 0 ? slave : x->proc->io[i];
        if (f->io[i] < 0)
            f->io[i] = x->null;
    }
    return finish_place(f, e);
}

static _Noreturn void child_main(struct entry *x)
{
    struct finish f = {.proc = x->proc,
                       .user_ns = x->st->user_ns,
                       .no_mknod = !x->st->user_ns && x->st->cgroup.layout == CGROUP_NONE,
                       .last = x->last};
    struct note n = {.kind = NOTE_READY};
    CLEANUP(fd) int master = -1;
    struct err e = {0};
    int r = child_make(x, &f, &master, &e);

    if (r < 0) {
        n = (struct note){.kind = NOTE_FAILED, .err = e};
        (void)!note_send(x->sock[1], &n, -1);
        _exit(finish_status(r)); /* forked child */
    }
    if (note_send(x->sock[1], &n, master) < 0)
        _exit(1); /* forked child */
    shut(&master);
    /* The same socket, now for a struct err of finish_exec(). */
    _exit(finish_status(finish_exec(&f, x->sock[1], &e))); /* forked child */
}

/* ---- in the caller */

static int prepare(struct entry *x, struct err *e)
{
    int r = x->init = process_pidfd(x->st, e);

    if (r < 0)
        return r;
    if (cgroup_frozen(&x->st->cgroup, NULL) == 1)
        return err_set(e, -EAGAIN, "the container is paused");
    if (!x->proc->args || !x->proc->args[0])
        return err_set(e, -EINVAL, "no command to run");
    if (x->proc->n_pass_fds > PROCESS_PASS_FDS_MAX || x->proc->user.n_groups > PROCESS_GROUPS_MAX)
        return err_set(e, -E2BIG, "too many descriptors or groups");
    r = cgroup_open_enter(&x->st->cgroup, x->enter, &x->n_enter, e);
    if (r < 0)
        return r;
    r = x->last = last_open(e);
    if (r < 0)
        return r;
    x->null = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (x->null < 0)
        return err_errno(e, -errno, "/dev/null");
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, x->sock) < 0)
        return err_errno(e, -errno, "socketpair");
    return 0;
}

static int listen_to(struct entry *x, struct process_child *child, struct err *e)
{
    struct note n = {.kind = NOTE_MAPPED};
    int r = note_send(x->sock[0], &n, -1);

    if (r == 0)
        r = note_receive(x->sock[0], &n, &child->terminal);
    if (r < 0)
        return err_set(e, -EIO, "the process ended while it entered the container");
    if (n.kind == NOTE_FAILED)
        return err_set(e, n.err.code < 0 ? n.err.code : -EIO, "%s", n.err.msg);
    return report_wait(x->sock[0], e);
}

int process_exec(const struct process_state *st, const struct process_proc *p,
                 struct process_child *child, struct err *e)
{
    struct entry x = {.st = st, .proc = p, .init = -1, .last = -1, .null = -1, .sock = {-1, -1}};
    struct process_child made = PROCESS_CHILD_NONE;
    int r = prepare(&x, e);

    if (r == 0) {
        made.pid = fork_staged(0, enter, &x, x.sock, e);
        if (made.pid == 0)
            child_main(&x);
        r = made.pid < 0 ? made.pid : 0;
        shut(&x.sock[1]);
    }
    if (r == 0) {
        made.pidfd = (int)syscall(SYS_pidfd_open, made.pid, 0);
        r = made.pidfd < 0 ? err_errno(e, -errno, "pidfd_open") : listen_to(&x, &made, e);
        if (r < 0) {
            (void)kill(made.pid, SIGKILL);
            while (waitpid(made.pid, NULL, 0) < 0 && errno == EINTR)
                ;
        }
    }
    entry_done(&x);
    if (r < 0) {
        process_child_done(&made);
        return r;
    }
    *child = made;
    return 0;
}
