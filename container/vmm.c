#include "container/vmm.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "container/control.h"
#include "container/vmmproc.h"
#include "container/warden.h"
#include "container/wire.h"
#include "jail/jail.h"
#include "vm/snapout.h"

enum {
    COUNTERS_MS = 5000,
    END_MS = 2000,        /* a session broke: that the machine ended is known soon, or it did not */
    SNAPSHOT_MS = 600000, /* a slow disk */
};

/* What the machine's process writes to is no file that others see. */
static void open_code(struct vmm *v, const struct vmm_conf *c)
{
    if (c->code && c->keep_code && (v->code = strdup(c->code)))
        v->code_fd = memfd_create("kiln-code", MFD_CLOEXEC);
}

static void close_code(struct vmm *v)
{
    cleanup_fd(&v->code_fd);
    v->code_fd = -1;
    free(take_ptr(&v->code));
}

static int open_files(struct vmm *v, const struct vmm_conf *c, struct vmm_ends *ends, struct err *e)
{
    struct snap_opts o = {.dir = c->snapshot};

    open_code(v, c);
    ends->code = v->code_fd;
    ends->files = SNAP_FILES_NONE;
    if (!c->snapshot)
        return 0;
    int r = snapout_new(&o, 0, &v->out, e);
    if (r == 0)
        ends->files = snapout_files(v->out);
    return r;
}

static int make_pipe(int *reads, int *writes, struct err *e)
{
    int v[2];

    if (pipe2(v, O_CLOEXEC) < 0)
        return err_errno(e, -errno, "pipe");
    *reads = v[0];
    *writes = v[1];
    return 0;
}

static int open_ends(struct vmm *v, struct vmm_ends *ends, struct err *e)
{
    int r = make_pipe(&v->report_fd, &ends->report, e);

    if (r == 0)
        r = make_pipe(&ends->alive, &v->alive_fd, e);
    if (r == 0)
        r = make_pipe(&v->why_fd, &ends->why, e);
    if (r == 0)
        r = warden_pair(&v->ward_fd, &ends->own, e);
    if (r == 0 && fcntl(v->why_fd, F_SETFL, O_NONBLOCK) < 0)
        r = err_errno(e, -errno, "fcntl");
    return r;
}

static void close_ends(struct vmm_ends *ends)
{
    cleanup_fd(&ends->report);
    cleanup_fd(&ends->alive);
    cleanup_fd(&ends->why);
    cleanup_fd(&ends->own);
}

/* A machine for itself says that it runs. */
static int await_start(struct vmm *v, struct err *e)
{
    struct vmm_told told;

    if (read(v->report_fd, &told, sizeof(told)) != sizeof(told))
        return jail_why(v->why_fd, e) < 0
                   ? -EPERM
                   : err_set(e, -ECONNRESET, "the machine's process was killed");
    told.err.msg[sizeof(told.err.msg) - 1] = '\0';
    return told.end == VM_RUNNING
               ? 0
               : err_set(e, told.err.code < 0 ? told.err.code : -EIO, "%s", told.err.msg);
}

int vmm_start(const struct vmm_conf *c, struct vmm *v, struct err *e)
{
    struct vmm_ends ends = {.report = -1, .alive = -1, .why = -1, .own = -1, .code = -1};

    *v = VMM_NONE;
    int r = open_ends(v, &ends, e);
    if (r == 0)
        r = open_files(v, c, &ends, e);
    if (r == 0) {
        v->warden = jail_fork(c->no_jail, e);
        if (v->warden == 0)
            vmmproc_main(c, &ends);
        r = v->warden < 0 ? v->warden : 0;
    }
    close_ends(&ends);
    if (r == 0) {
        v->pidfd = warden_await(v->ward_fd, &v->pid, e);
        r = v->pidfd < 0 ? v->pidfd : 0;
        if (v->pid <= 0) /* it has ended already; there was one */
            v->pid = v->warden;
    }
    if (r == -ECONNRESET) /* it has told why */
        r = vmm_why(v, e);
    if (r == 0 && c->detach)
        r = await_start(v, e);
    if (r < 0)
        vmm_stop(v);
    return r;
}

/* False: the process was killed, with *e. */
static bool last_words(struct vmm *v, struct vmm_told *told, struct err *e)
{
    do {
        if (read(v->report_fd, told, sizeof(*told)) != sizeof(*told)) {
            if (jail_why(v->why_fd, e) == 0)
                err_set(e, -ECONNRESET, "the machine's process was killed");
            return false;
        }
    } while (told->end == VM_RUNNING);
    told->err.msg[sizeof(told->err.msg) - 1] = '\0';
    return true;
}

int vmm_why(struct vmm *v, struct err *e)
{
    struct pollfd p = {.fd = v->report_fd, .events = POLLIN};
    struct vmm_told told;

    if (poll(&p, 1, END_MS) == 0)
        return err_set(e, -ECONNRESET, "the agent hung up");
    if (!last_words(v, &told, e))
        return e ? e->code : -ECONNRESET;
    switch (told.end) {
    case VM_FAILED:
        return err_set(e, told.err.code < 0 ? told.err.code : -EIO, "%s", told.err.msg);
    case VM_RESET:
    case VM_SHUTDOWN:
        return err_set(e, -ECONNRESET, "the guest kernel stopped");
    case VM_POWEROFF:
        return err_set(e, -ECONNRESET, "the machine was switched off from inside");
    default:
        return err_set(e, -ECONNRESET, "the machine ended");
    }
}

int vmm_ended(struct vmm *v, struct vmm_end *out, struct err *e)
{
    struct vmm_told told;

    if (!last_words(v, &told, e))
        return e ? e->code : -ECONNRESET;
    *out = (struct vmm_end){
        .end = (enum vm_end)told.end, .value = told.value, .counters = told.counters};
    return told.end == VM_FAILED
               ? err_set(e, told.err.code < 0 ? told.err.code : -EIO, "%s", told.err.msg)
               : 0;
}

void vmm_end(struct vmm *v)
{
    const char ask = ASK_END;

    (void)!write(v->alive_fd, &ask, 1);
}

/* Ask, and get a report that is no end. */
static bool ask_for(struct vmm *v, char what, int timeout_ms, struct vmm_told *told)
{
    struct pollfd p = {.fd = v->report_fd, .events = POLLIN};

    if (write(v->alive_fd, &what, 1) != 1)
        return false;
    while (poll(&p, 1, timeout_ms) < 0 && errno == EINTR) {
    }
    return p.revents && read(v->report_fd, told, sizeof(*told)) == sizeof(*told) &&
           told->end == VM_RUNNING;
}

static int copy_all(int from, int to)
{
    off_t at = 0, end = lseek(from, 0, SEEK_END);

    while (at < end) {
        ssize_t n = sendfile(to, from, &at, (size_t)(end - at));

        if (n <= 0 && errno != EINTR)
            return n == 0 ? -EIO : -errno;
    }
    return end < 0 ? -errno : 0;
}

/* Whole or not there at all: it gets its name when it is written. */
static void keep(const struct vmm *v)
{
    CLEANUP(mem) char *temp = NULL;

    if (asprintf(&temp, "%s.%d", v->code, (int)getpid()) < 0) {
        temp = NULL;
        return;
    }
    CLEANUP(fd) int fd = open(temp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd >= 0 && (copy_all(v->code_fd, fd) < 0 || rename(temp, v->code) < 0))
        (void)unlink(temp);
}

void vmm_keep_code(struct vmm *v, const char *id)
{
    json_t *req = json_pack("{s:s}", "op", "code"), *out = NULL;

    if (v->code_fd >= 0 && control_ask(id, req, &out, NULL) == 0)
        keep(v);
    json_decref(out);
    json_decref(req);
    close_code(v);
}

int vmm_counters(struct vmm *v, struct vm_report *out, struct err *e)
{
    struct vmm_told told = {.end = -1};

    if (!ask_for(v, ASK_COUNTERS, COUNTERS_MS, &told))
        return err_set(e, -ECONNRESET, "the machine's process does not tell its counters");
    *out = told.counters;
    return 0;
}

int vmm_snapshot(struct vmm *v, const struct session_watch *w, struct err *e)
{
    const char ask = ASK_SNAPSHOT;
    struct session_watch watch = *w;
    struct vmm_told told;

    watch.machine_fd = -1; /* its report is what we wait for */
    if (write(v->alive_fd, &ask, 1) != 1)
        return err_errno(e, -errno, "ask the machine's process for a snapshot");
    int r = wire_wait(v->report_fd, POLLIN, &watch, wire_now_ms() + SNAPSHOT_MS, e);
    if (r < 0)
        return r;
    if (read(v->report_fd, &told, sizeof(told)) != sizeof(told))
        return jail_why(v->why_fd, e) < 0 ? -EPERM
                                          : err_set(e, -EIO, "the machine's process was killed");
    if (told.end == VM_STOPPED)
        return snapout_finish(v->out, e);
    told.err.msg[sizeof(told.err.msg) - 1] = '\0';
    return told.err.code < 0 ? err_set(e, told.err.code, "%s", told.err.msg)
                             : err_set(e, -EIO, "the machine ended while it was saved");
}

/* The warden ends with its last child: a byte says that copies of the machine live on. */
static void stop_warden(struct vmm *v)
{
    char c;
    ssize_t n;

    if (v->pidfd < 0)
        kill(v->warden, SIGKILL);
    do
        n = recv(v->ward_fd, &c, 1, 0);
    while (n < 0 && errno == EINTR);
    while (n <= 0 && waitpid(v->warden, NULL, 0) < 0 && errno == EINTR) {
    }
}

static void close_all(struct vmm *v)
{
    cleanup_fd(&v->report_fd);
    cleanup_fd(&v->alive_fd);
    cleanup_fd(&v->why_fd);
    cleanup_fd(&v->ward_fd);
    cleanup_fd(&v->pidfd);
    close_code(v);
    snapout_free(v->out);
    *v = VMM_NONE;
}

void vmm_leave(struct vmm *v)
{
    close_all(v);
}

void vmm_stop(struct vmm *v)
{
    if (v->pidfd >= 0)
        (void)syscall(SYS_pidfd_send_signal, v->pidfd, SIGKILL, NULL, 0);
    if (v->warden > 0)
        stop_warden(v);
    close_all(v);
}
