#include "container/vmmproc.h"

#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "container/conlog.h"
#include "container/control.h"
#include "container/machine.h"
#include "container/warden.h"
#include "jail/cgroup.h"
#include "jail/jail.h"
#include "os/fds.h"
#include "vm/seed.h"

_Static_assert((int)JAIL_SHARES_MAX >= (int)VM_SHARES_MAX, "all can be fenced in");
enum { REST_US = 50000 /* the guest's last threads go to sleep: less to do for who goes on */ };

struct proc {
    const struct vmm_conf *c;
    const struct vmm_ends *ends;
    struct vm_conf vc;
    struct vm *vm;
    struct conlog_files console;
    struct conlog *log; /* NULL = the console is the caller's */
    int control_fd;
    struct control *control;
    struct warden_link link;
    struct thread_hook hook;
    uid_t owner; /* as whom it was started */
};

/* ---- making the machine, while files can be opened */

/* Without it all is translated anew. */
static void load_code(const struct vmm_conf *c, struct vm *vm)
{
    CLEANUP(fd) int fd = c->code ? open(c->code, O_RDONLY | O_CLOEXEC) : -1;

    if (fd >= 0 && vm_code_load(vm, fd, NULL) == -EBADMSG)
        (void)unlink(c->code);
}

/* One like others that go on from the same state: the guest is told so before it runs. */
static int grow(struct proc *p, struct seed *s, struct err *e)
{
    int r = seed_grow(s, &p->vc, &p->vm, e);

    if (r == 0)
        r = vm_renew(p->vm, e);
    if (r == 0)
        load_code(p->c, p->vm);
    return r;
}

static int make_machine(struct proc *p, struct err *e)
{
    const struct vmm_conf *c = p->c;
    struct seed *s = NULL;

    if (c->from)
        return grow(p, c->from, e);
    if (!c->seed)
        return vm_new(&p->vc, &p->vm, e);
    int r = seed_open(c->seed, &s, e);
    if (r == 0 && strcmp(seed_note(s), c->note) != 0)
        r = err_set(e, -ESTALE, "'%s' is the template of another machine", c->seed);
    if (r == 0)
        r = grow(p, s, e);
    seed_free(s);
    return r;
}

static int open_console(struct proc *p, struct err *e)
{
    if (p->c->console || p->c->dir->dir < 0)
        return 0;
    int r = conlog_open(p->c->dir->dir, &p->console, e);
    if (r == 0)
        r = conlog_new(&p->console, &p->log, &p->vc.console_out, e);
    p->vc.console_in = -1;
    return r;
}

static int open_sockets(struct proc *p, struct err *e)
{
    const struct vmm_conf *c = p->c;

    /* A machine that cannot be reached still runs. */
    if (!c->snapshot && c->dir->dir >= 0)
        p->control_fd = control_listen(c->dir->path, NULL);
    if (!p->vc.vsock_path)
        return 0;
    p->vc.vsock_dial = &p->link.dial;
    int fd = vsockd_listen(p->vc.vsock_path, e);
    if (fd < 0)
        return err_wrap(e, fd, "vsock '%s'", p->vc.vsock_path);
    p->vc.vsock_listen = fd;
    return 0;
}

/* The machine has descriptors of its own now. */
static void close_lent(struct proc *p)
{
    int fd[VM_CONF_FDS_MAX];

    p->vc.vsock_client = p->vc.vsock_listen = 0; /* those it took */
    unsigned n = vm_conf_fds(&p->vc, fd);
    for (unsigned i = 0; i < n; i++)
        cleanup_fd(&fd[i]);
    cleanup_fd(&p->c->dir->dir);
}

/* Everything it needs is open: give the rest up. */
static int enter_jail(struct proc *p, struct err *e)
{
    struct jail_conf j = {.off = p->c->no_jail, .why_fd = p->ends->why};
    struct vm_fence f[VM_SHARES_MAX];

    vm_alone(p->vm);
    j.n_shares = vm_fences(p->vm, f);
    for (unsigned i = 0; i < j.n_shares; i++)
        j.share[i] = (struct jail_share){
            .fd = f[i].fd, .proc_fd = f[i].proc_fd, .path = f[i].path, .read_only = f[i].read_only};
    return jail_enter(&j, &p->hook, e);
}

static int run_machine(struct proc *p, struct err *e)
{
    struct trace *t = p->c->trace;
    int r = open_console(p, e);

    p->vc.hook = &p->hook;
    p->vc.no_sockets = !p->c->no_jail;
    p->vc.vhost_dial = p->c->no_jail ? NULL : &p->link.back;
    if (r == 0)
        r = open_sockets(p, e);
    if (r == 0)
        r = make_machine(p, e);
    trace_set(t, TRACE_MADE);
    close_lent(p);
    if (r == 0)
        r = enter_jail(p, e);
    if (r == 0 && p->log)
        r = conlog_start(p->log, &p->hook, e);
    if (r == 0)
        r = vm_start(p->vm, e);
    trace_set(t, TRACE_ENTERED);
    return r;
}

/* ---- while it runs */

static void tell(const struct proc *p, const struct vmm_told *t)
{
    (void)!write(p->ends->report, t, sizeof(*t));
}

static void tell_counters(const struct proc *p)
{
    struct vmm_told t = {.end = VM_RUNNING};

    if (vm_pause(p->vm, &t.err) < 0)
        t.err = (struct err){0}; /* then they are not exact */
    vm_report(p->vm, &t.counters);
    tell(p, &t);
}

static _Noreturn void save_machine(const struct proc *p)
{
    struct snap_opts o = {.dir = p->c->snapshot, .note = p->c->note, .stop = true};
    struct vmm_told t = {.end = VM_STOPPED};

    usleep(REST_US);
    if (snapshot_fill(p->vm, &o, &p->ends->files, NULL, &t.err) < 0)
        t.end = VM_FAILED;
    tell(p, &t);
    _exit(0); /* forked child */
}

/* The owner wrote a byte to alive_fd. */
static void do_asked(struct proc *p)
{
    char asked = 0;

    (void)!read(p->ends->alive, &asked, 1);
    if (asked == ASK_END) {
        vm_stop(p->vm);
        return;
    }
    control_free(p->control);
    p->control = NULL;
    if (asked == ASK_COUNTERS)
        tell_counters(p);
    if (asked == ASK_SNAPSHOT)
        save_machine(p);
}

static void serve(struct proc *p)
{
    struct control_conf cc = {.vm = p->vm,
                              .listen_fd = p->control_fd,
                              .owner = p->owner,
                              .dir = p->c->dir,
                              .vsock = p->vc.vsock_path,
                              .note = p->c->what ? p->c->what : MACHINE_HAS_AGENT,
                              .hook = &p->hook,
                              .code_fd = p->ends->code,
                              .link = &p->link};
    struct pollfd f[] = {{.fd = vm_end_fd(p->vm), .events = POLLIN},
                         {.fd = p->ends->alive, .events = POLLIN}};

    if (p->control_fd >= 0)
        (void)!control_serve(&cc, &p->control, NULL);
    if (p->c->detach) {
        struct vmm_told t = {.end = VM_RUNNING};

        tell(p, &t);
        f[1].fd = -1; /* its owner goes */
    }
    thread_enter(&p->hook, THREAD_MAIN);
    while ((poll(f, 2, -1) < 0 && errno == EINTR) || (f[1].revents & POLLIN)) {
        if (f[1].revents & POLLIN)
            do_asked(p);
        f[1].revents = 0;
    }
    if (f[1].revents) /* the owner is gone; the warden cleans up */
        _exit(1);     /* forked child */
}

static _Noreturn void machine_process(const struct vmm_conf *c, const struct vmm_ends *ends,
                                      int link)
{
    struct proc p = {.c = c, .ends = ends, .vc = *c->vm, .console = CONLOG_NONE, .control_fd = -1};
    struct vmm_told t = {.end = VM_FAILED};

    p.owner = geteuid();
    prctl(PR_SET_NAME, "kiln-vmm");
    mallopt(M_ARENA_MAX, 1); /* to give memory of another back, the C library opens a file */
    warden_link_init(&p.link, link, c->vm);
    if (run_machine(&p, &t.err) == 0) {
        serve(&p);
        t.end = (int32_t)vm_wait(p.vm, -1, &t.value, &t.err);
        control_free(p.control);
        if (vm_pause(p.vm, &(struct err){0}) == 0)
            vm_report(p.vm, &t.counters);
    }
    tell(&p, &t);
    /* The kernel frees it all at once, and faster. */
    _exit(0); /* forked child */
}

/* ---- both processes */

enum { KEEP_MAX = 16 + VM_CONF_FDS_MAX + SEED_FDS_MAX };

/* Whatever the caller had open stays with it; a pipe that somebody waits on must not hang on this
 * process. */
static void close_machine(const struct vmm_conf *c, const struct vmm_ends *ends, int link)
{
    const struct vm_conf *vm = c->vm;
    int keep[KEEP_MAX];
    unsigned n = 0;

    keep[n++] = link;
    keep[n++] = ends->report;
    keep[n++] = ends->alive;
    keep[n++] = ends->why;
    keep[n++] = ends->code;
    keep[n++] = ends->files.state;
    keep[n++] = ends->files.memory;
    keep[n++] = c->dir->dir;
    if (c->console) {
        keep[n++] = vm->console_in;
        keep[n++] = vm->console_out;
    }
    n += vm_conf_fds(vm, keep + n);
    if (c->from)
        n += seed_fds(c->from, keep + n);
    fds_close_but(keep, n);
}

static _Noreturn void warden_process(const struct vmm_conf *c, const struct vmm_ends *ends,
                                     int link, pid_t pid)
{
    const struct rundir *d = c->dir;
    int keep[] = {link, ends->own, d->base, d->dir, d->lock, (int)syscall(SYS_pidfd_open, pid, 0)};
    struct ward w = {
        .link = link, .dir = *d, .vsock = c->vm->vsock_path, .vm = c->vm, .snapshot = c->seed};
    int pidfd = keep[5];

    fds_close_but(keep, ARRAY_LEN(keep));
    if (!warden_present(ends->own, pidfd))
        kill(pid, SIGKILL);
    if (pidfd >= 0)
        close(pidfd);
    if (c->detach)
        close(ends->own);
    warden_main(&w, 1, c->detach ? -1 : ends->own, pid);
}

void vmmproc_main(const struct vmm_conf *c, const struct vmm_ends *ends)
{
    struct vmm_told t = {.end = VM_FAILED};
    int ours, theirs, err = c->stderr_stays ? fcntl(2, F_DUPFD_CLOEXEC, 3) : -1;
    struct vm_conf vm = *c->vm;
    struct vmm_conf own = *c;

    own.vm = &vm;
    if (c->console && vm.console_out >= 0) /* the terminal: away from the streams' places */
        vm.console_out = fcntl(vm.console_out, F_DUPFD_CLOEXEC, 3);
    machine_detach();
    if (err >= 0)
        (void)dup2(err, 2);
    pid_t self = getpid(), pid = -1;
    int r = c->cgroup ? cgroup_enter(c->cgroup, 0, &t.err) : 0;
    if (r == 0)
        r = warden_pair(&ours, &theirs, &t.err);
    if (r == 0) {
        pid = fork();
        if (pid < 0)
            err_errno(&t.err, -errno, "fork");
    }
    if (pid < 0) {
        (void)!write(ends->report, &t, sizeof(t));
        _exit(1); /* forked child */
    }
    if (pid > 0)
        warden_process(c, ends, ours, pid);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != self)
        _exit(1); /* forked child */
    close_machine(&own, ends, theirs);
    machine_process(&own, ends, theirs);
}
