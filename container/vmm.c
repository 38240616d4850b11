#include "container/vmm.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "container/conlog.h"
#include "container/control.h"
#include "container/machine.h"
#include "container/wire.h"
#include "os/fds.h"
#include "vm/seed.h"
#include "vm/snapshot.h"

enum {
    COUNTERS_MS = 5000,
    END_MS = 2000,        /* a session broke: that the machine ended is known soon, or it did not */
    REST_US = 50000,      /* the guest's last threads go to sleep: less to do for who goes on */
    SNAPSHOT_MS = 600000, /* a slow disk */
    FIXED_FDS = 7,        /* that a machine's process keeps, whatever it has */
};

/* What the parent writes to alive_fd. */
enum { ASK_COUNTERS = 's', ASK_SNAPSHOT = 't', ASK_CODE = 'c' };

struct report {  /* one write to a pipe, so it is whole */
    int32_t end; /* enum vm_end; VM_RUNNING: only counters, as asked */
    struct err err;
    struct vm_report counters;
};
_Static_assert(sizeof(struct report) <= PIPE_BUF, "written at once");

/* ---- in the machine's process */

/* Without it all is translated anew. */
static void load_code(const struct vmm_conf *c, struct vm *vm)
{
    CLEANUP(fd) int fd = c->code ? open(c->code, O_RDONLY | O_CLOEXEC) : -1;

    if (fd >= 0 && vm_code_load(vm, fd, NULL) == -EBADMSG)
        (void)unlink(c->code);
}

/* Whole or not at all: it gets its name when it is written. */
static void keep_code(const struct vmm_conf *c, struct vm *vm)
{
    char temp[PATH_MAX];

    if (!c->code || vm_pause(vm, NULL) < 0 ||
        snprintf(temp, sizeof(temp), "%s.%d", c->code, (int)getpid()) >= (int)sizeof(temp))
        return;
    CLEANUP(fd) int fd = open(temp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0)
        return;
    if (vm_code_save(vm, fd, NULL) < 0 || rename(temp, c->code) < 0)
        (void)unlink(temp);
}

/* One like others that go on from the same state: the guest is told so before it runs. */
static int grow_machine(const struct vmm_conf *c, const struct vm_conf *vc, struct vm **vm,
                        struct err *e)
{
    struct seed *s = NULL;
    int r = seed_open(c->seed, &s, e);

    if (r == 0 && strcmp(seed_note(s), c->note) != 0)
        r = err_set(e, -ESTALE, "'%s' is the template of another machine", c->seed);
    if (r == 0)
        r = seed_grow(s, vc, vm, e);
    if (r == 0)
        r = vm_renew(*vm, e);
    if (r == 0)
        load_code(c, *vm);
    seed_free(s);
    return r;
}

static int run_machine(const struct vmm_conf *conf, struct vm_conf *c, struct vm **vm,
                       struct err *e)
{
    int r = conlog_start(conf->dir->dir, &c->console_out, e);

    if (r < 0)
        return r;
    c->console_in = -1;
    r = conf->seed ? grow_machine(conf, c, vm, e) : vm_new(c, vm, e);
    trace_set(conf->trace, TRACE_MADE);
    if (r == 0)
        r = vm_start(*vm, e);
    trace_set(conf->trace, TRACE_ENTERED);
    return r;
}

static void report_counters(struct vm *vm, int report_fd)
{
    struct report rep = {.end = VM_RUNNING};

    if (vm_pause(vm, &rep.err) < 0)
        rep.err = (struct err){0}; /* then they are not exact */
    vm_report(vm, &rep.counters);
    (void)!write(report_fd, &rep, sizeof(rep));
}

static void save_machine(struct vm *vm, const struct vmm_conf *c, int report_fd)
{
    struct snap_opts o = {.dir = c->snapshot, .note = c->note, .stop = true};
    struct report rep = {.end = VM_STOPPED};

    usleep(REST_US);
    if (snapshot_create(vm, &o, NULL, &rep.err) < 0)
        rep.end = VM_FAILED;
    (void)!write(report_fd, &rep, sizeof(rep));
    _exit(0); /* forked child */
}

/* The parent wrote a byte to alive_fd. */
static void do_asked(struct vm *vm, const struct vmm_conf *c, int alive_fd, int report_fd)
{
    char asked = 0;

    (void)!read(alive_fd, &asked, 1);
    if (asked == ASK_COUNTERS)
        report_counters(vm, report_fd);
    if (asked == ASK_CODE) {
        struct report rep = {.end = VM_RUNNING};

        keep_code(c, vm);
        (void)!write(report_fd, &rep, sizeof(rep));
    }
    if (asked == ASK_SNAPSHOT)
        save_machine(vm, c, report_fd);
}

static _Noreturn void vmm_main(const struct vmm_conf *conf, int report_fd, int alive_fd)
{
    const struct rundir *dir = conf->dir;
    struct vm_conf c = *conf->vm;
    struct report rep = {.end = VM_FAILED};
    struct control *control = NULL;
    struct vm *vm = NULL;
    int keep[FIXED_FDS + VM_NETS_MAX * NET_PAIRS_MAX + VM_DISKS_MAX] = {
        report_fd, alive_fd, dir->dir, dir->base, dir->lock, c.initrd_fd, c.vsock_client};
    unsigned n_keep = FIXED_FDS;

    machine_detach();
    /* Whatever the caller had open stays with it; a pipe that somebody waits on must not hang on
     * this process. */
    for (unsigned i = 0; i < c.n_nets; i++)
        for (unsigned k = 0;
             c.net[i].kind != VM_NET_NONE && k < (c.net[i].pairs ? c.net[i].pairs : 1); k++)
            keep[n_keep++] = c.net[i].fd[k];
    for (unsigned i = 0; i < c.n_disks; i++)
        if (c.disk[i].vhost && !c.disk[i].vhost_socket)
            keep[n_keep++] = c.disk[i].vhost_fd;
    fds_close_but(keep, n_keep);
    if (run_machine(conf, &c, &vm, &rep.err) == 0) {
        struct control_conf cc = {
            .vm = vm, .dir = dir, .vsock = c.vsock_path, .note = MACHINE_HAS_AGENT};
        struct pollfd p[] = {{.fd = vm_end_fd(vm), .events = POLLIN},
                             {.fd = alive_fd, .events = POLLIN}};

        /* A machine that cannot be reached still runs. */
        if (!conf->snapshot)
            (void)!control_serve(&cc, &control, NULL);
        while ((poll(p, 2, -1) < 0 && errno == EINTR) || (p[1].revents & POLLIN)) {
            if (p[1].revents & POLLIN) {
                control_free(control);
                control = NULL;
                do_asked(vm, conf, alive_fd, report_fd);
            }
            p[1].revents = 0;
        }
        if (p[1].revents) { /* the parent is gone and cannot clean up */
            rundir_wipe(dir->base, dir->id);
            _exit(1); /* forked child */
        }
        rep.end = (int32_t)vm_wait(vm, -1, NULL, &rep.err);
        control_free(control);
    }
    (void)!write(report_fd, &rep, sizeof(rep));
    /* The kernel frees it all at once, and faster. */
    _exit(0); /* forked child */
}

/* ---- in the parent */

int vmm_start(const struct vmm_conf *c, struct vmm *v, struct err *e)
{
    int report[2], alive[2];

    *v = VMM_NONE;
    if (pipe2(report, O_CLOEXEC) < 0)
        return err_errno(e, -errno, "pipe");
    v->report_fd = report[0];
    CLEANUP(fd) int report_w = report[1];
    if (pipe2(alive, O_CLOEXEC) < 0) {
        vmm_stop(v);
        return err_errno(e, -errno, "pipe");
    }
    v->alive_fd = alive[1];
    CLEANUP(fd) int alive_r = alive[0];
    v->pid = fork();
    if (v->pid == 0)
        vmm_main(c, report_w, alive_r);
    if (v->pid < 0) {
        int r = err_errno(e, -errno, "fork");

        v->pid = 0;
        vmm_stop(v);
        return r;
    }
    return 0;
}

int vmm_why(struct vmm *v, struct err *e)
{
    struct pollfd p = {.fd = v->report_fd, .events = POLLIN};
    struct report rep;

    if (poll(&p, 1, END_MS) == 0)
        return err_set(e, -ECONNRESET, "the agent hung up");
    do {
        if (read(v->report_fd, &rep, sizeof(rep)) != sizeof(rep))
            rep.end = -1;
    } while (rep.end == VM_RUNNING);
    if (rep.end < 0)
        return err_set(e, -ECONNRESET, "the machine's process was killed");
    switch (rep.end) {
    case VM_FAILED:
        rep.err.msg[sizeof(rep.err.msg) - 1] = '\0';
        return err_set(e, rep.err.code < 0 ? rep.err.code : -EIO, "%s", rep.err.msg);
    case VM_RESET:
    case VM_SHUTDOWN:
        return err_set(e, -ECONNRESET, "the guest kernel stopped");
    case VM_POWEROFF:
        return err_set(e, -ECONNRESET, "the machine was switched off from inside");
    default:
        return err_set(e, -ECONNRESET, "the machine ended");
    }
}

/* Ask, and get a report that is no end. */
static bool ask_for(struct vmm *v, char what, int timeout_ms, struct report *rep)
{
    struct pollfd p = {.fd = v->report_fd, .events = POLLIN};

    if (write(v->alive_fd, &what, 1) != 1)
        return false;
    while (poll(&p, 1, timeout_ms) < 0 && errno == EINTR) {
    }
    return p.revents && read(v->report_fd, rep, sizeof(*rep)) == sizeof(*rep) &&
           rep->end == VM_RUNNING;
}

void vmm_keep_code(struct vmm *v)
{
    struct report rep;

    (void)ask_for(v, ASK_CODE, SNAPSHOT_MS, &rep);
}

int vmm_counters(struct vmm *v, struct vm_report *out, struct err *e)
{
    struct report rep = {.end = -1};

    if (!ask_for(v, ASK_COUNTERS, COUNTERS_MS, &rep))
        return err_set(e, -ECONNRESET, "the machine's process does not tell its counters");
    *out = rep.counters;
    return 0;
}

int vmm_snapshot(struct vmm *v, const struct session_watch *w, struct err *e)
{
    const char ask = ASK_SNAPSHOT;
    struct session_watch watch = *w;
    struct report rep;

    watch.machine_fd = -1; /* its report is what we wait for */
    if (write(v->alive_fd, &ask, 1) != 1)
        return err_errno(e, -errno, "ask the machine's process for a snapshot");
    int r = wire_wait(v->report_fd, POLLIN, &watch, wire_now_ms() + SNAPSHOT_MS, e);
    if (r < 0)
        return r;
    if (read(v->report_fd, &rep, sizeof(rep)) != sizeof(rep))
        return err_set(e, -EIO, "the machine's process was killed");
    if (rep.end == VM_STOPPED)
        return 0;
    rep.err.msg[sizeof(rep.err.msg) - 1] = '\0';
    return rep.err.code < 0 ? err_set(e, rep.err.code, "%s", rep.err.msg)
                            : err_set(e, -EIO, "the machine ended while it was saved");
}

void vmm_stop(struct vmm *v)
{
    if (v->pid > 0) {
        kill(v->pid, SIGKILL);
        while (waitpid(v->pid, NULL, 0) < 0 && errno == EINTR) {
        }
    }
    cleanup_fd(&v->report_fd);
    cleanup_fd(&v->alive_fd);
    *v = VMM_NONE;
}
