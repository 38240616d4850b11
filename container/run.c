#include "container/run.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/random.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "container/guestconf.h"
#include "container/rundir.h"
#include "container/session.h"
#include "container/template.h"
#include "container/vmm.h"
#include "image/initrd.h"

enum {
    BOOT_MS = 600000,    /* an interpreted Debian kernel on a busy host takes a minute or two */
    CONSOLE_LEN = 16384, /* bytes of it searched for the reason */
    CONSOLE_TAIL = 2048, /* and shown */
    MOUNT_LEN = VOLUME_PATH_MAX + 64,
};

struct run {
    const struct run_conf *c;
    struct rundir dir;
    struct vmm vmm;
    struct session *s;
    struct session_watch watch;
    int initrd, ready_fd;
    char machine_id[33];
    int signal; /* the last that came */
    char vsock[RUNDIR_PATH_MAX + 16];
    bool ahead;               /* everything was said to the agent at once */
    bool bad_command;         /* one that could not even be sent */
    bool keep_code;           /* the template has none yet */
    struct template template; /* where it is to start from one */
    sigset_t old_mask;
};

static uint64_t now_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

/* What is left of the caller's limit; -1 = there is none. */
static int left_ms(const struct run *r)
{
    if (r->watch.deadline_ms == 0)
        return -1;
    uint64_t now = now_ms(), left = r->watch.deadline_ms > now ? r->watch.deadline_ms - now : 0;
    return left > INT_MAX ? INT_MAX : (int)left;
}

/* ---- set-up */

/* machine-id(5): 128 random bits. */
static int make_machine_id(struct run *r, struct err *e)
{
    uint8_t random[16];

    if (getrandom(random, sizeof(random), 0) != sizeof(random))
        return err_errno(e, -errno, "getrandom");
    for (unsigned i = 0; i < sizeof(random); i++)
        snprintf(r->machine_id + 2 * i, 3, "%02x", random[i]);
    return 0;
}

static int take_signals(struct run *r, struct err *e)
{
    static const int wanted[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2, SIGWINCH};
    sigset_t set;

    sigemptyset(&set);
    for (unsigned i = 0; i < ARRAY_LEN(wanted); i++)
        sigaddset(&set, wanted[i]);
    sigprocmask(SIG_BLOCK, &set, &r->old_mask);
    signal(SIGPIPE, SIG_IGN);
    r->watch.signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    return r->watch.signal_fd < 0 ? err_errno(e, -errno, "signalfd") : 0;
}

static int make_folder(struct run *r, struct err *e)
{
    char base[RUNDIR_PATH_MAX];
    int rc = rundir_base(base, sizeof(base), e);

    if (rc == 0)
        rc = rundir_new(base, r->c->name, &r->dir, e);
    if (rc == 0)
        snprintf(r->vsock, sizeof(r->vsock), "%s/vsock", r->dir.path);
    return rc;
}

/* 1: there is a template to start from, made now if need be; 0: there is none, which is no failure:
 * somebody else is making it, or it cannot be kept. */
static int get_template(struct run *r, struct err *e)
{
    struct err why = {0};
    int rc = r->c->store ? template_find(r->c, &r->template, &why) : -ENOENT;

    if (rc == 0) {
        rc = template_make(r->c, &r->template, &r->watch, false, &why);
        if (rc == -EINTR || rc == -ETIMEDOUT)
            return err_set(e, rc, "%s", why.msg);
        rc = rc == 0 || rc == -EEXIST;
    }
    if (rc == 1)
        template_used(&r->template);
    return rc == 1;
}

static int boot(struct run *r, struct err *e)
{
    const struct run_conf *c = r->c;
    struct vm_conf vc;

    guestconf_fill(c, r->vsock, false, &vc);
    int rc = initrd_build(c->kernel_dir, guestconf_modules(&vc), &r->initrd, e);
    vc.initrd_fd = r->initrd;
    if (rc == 0)
        rc = session_listen(r->vsock, &r->ready_fd, e);
    trace_set(c->trace, TRACE_READY);
    struct vmm_conf vmm = {.vm = &vc, .dir = &r->dir, .trace = c->trace};
    if (rc == 0)
        rc = vmm_start(&vmm, &r->vmm, e);
    trace_set(c->trace, TRACE_FORKED);
    r->watch.machine_fd = r->vmm.report_fd;
    if (rc == 0)
        rc = session_open(r->vsock, r->ready_fd, &r->watch, BOOT_MS, &r->s, e);
    return rc;
}

static int set_up(struct run *r, struct err *e)
{
    const struct run_conf *c = r->c;
    char mount[VOLUME_MAX][MOUNT_LEN];
    const char *mounts[VOLUME_MAX + 1] = {NULL};
    size_t len[VOLUME_MAX];

    for (size_t i = 0; i < c->n_volumes; i++) {
        /* %c of 0: the fields of PF_MOUNT are ended by NULs */
        len[i] = (size_t)snprintf(mount[i], sizeof(mount[i]), "virtiofs%c%s%c%s%c%s", 0,
                                  guestconf_tag((unsigned)i), 0, c->volume[i].guest, 0,
                                  c->volume[i].read_only ? "ro" : "");
        mounts[i] = mount[i];
    }
    struct session_setup su = {
        .hostname = c->hostname ? c->hostname : r->dir.id,
        .machine_id = r->machine_id,
        .root_dev = "/dev/vda",
        .root_fstype = c->fstype,
        .root_ro = c->read_only,
        .mounts = mounts,
        .mount_len = len,
        .hosts = c->hosts,
        .resolv = c->resolv,
        .net = c->net_set,
        .n_nets = c->n_nets,
    };
    return session_setup(r->s, &su, e);
}

/* ---- the terminal */

static int terminal(const struct run_conf *c)
{
    for (int fd = 0; c->tty && fd < 3; fd++)
        if (isatty(fd))
            return fd;
    return -1;
}

/* Every key is the container's. */
static bool raw_mode(struct termios *saved)
{
    struct termios t;

    if (tcgetattr(0, saved) < 0)
        return false;
    t = *saved;
    cfmakeraw(&t);
    return tcsetattr(0, TCSADRAIN, &t) == 0;
}

static int start_process(struct run *r, int tty, struct err *e)
{
    const struct run_conf *c = r->c;
    struct winsize ws = {.ws_row = 24, .ws_col = 80};

    if (tty >= 0)
        (void)ioctl(tty, TIOCGWINSZ, &ws);
    struct session_process p = {
        .argv = c->argv,
        .env = c->env,
        .cwd = c->cwd,
        .user = c->user,
        .tty = c->tty,
        .with_stdin = c->interactive,
        .rows = ws.ws_row,
        .cols = ws.ws_col,
    };
    return session_start(r->s, &p, e);
}

/* ---- from a template, or by booting */

/* Everything is said before the machine runs; what remains is to hear the answers. */
static int say_all(struct run *r, int ours, int tty, struct err *e)
{
    int rc = session_call(ours, &r->watch, &r->s, e);

    r->ahead = true;
    if (rc == 0)
        rc = set_up(r, e);
    if (rc == 0) {
        rc = start_process(r, tty, e);
        r->bad_command = rc < 0;
    }
    return rc == 0 ? session_await(r->s, BOOT_MS, e) : rc;
}

static int go_on(struct run *r, int tty, struct err *e)
{
    const struct run_conf *c = r->c;
    CLEANUP(fd) int theirs = -1;
    CLEANUP(fd) int ours = -1;
    struct vm_conf vc;
    int rc = session_pair(&theirs, &ours, e);

    guestconf_fill(c, r->vsock, true, &vc);
    vc.vsock_client = theirs;
    trace_set(c->trace, TRACE_READY);
    r->keep_code = access(r->template.code, F_OK) < 0;
    struct vmm_conf vmm = {.vm = &vc,
                           .dir = &r->dir,
                           .trace = c->trace,
                           .seed = r->template.dir,
                           .code = r->template.code,
                           .note = r->template.note};
    if (rc == 0)
        rc = vmm_start(&vmm, &r->vmm, e);
    trace_set(c->trace, TRACE_FORKED);
    cleanup_fd(&theirs); /* so that its end is seen */
    theirs = -1;
    r->watch.machine_fd = r->vmm.report_fd;
    if (rc == 0)
        rc = say_all(r, take_fd(&ours), tty, e);
    return rc;
}

/* A template that cannot be used any more is dropped, and the machine boots. */
static int start_machine(struct run *r, int tty, struct err *e)
{
    int rc = make_machine_id(r, e);

    if (rc == 0)
        rc = make_folder(r, e);
    if (rc == 0)
        rc = get_template(r, e);
    if (rc <= 0)
        return rc < 0 ? rc : boot(r, e);
    rc = go_on(r, tty, e);
    if (rc != -ECONNRESET || r->vmm.pid <= 0)
        return rc;
    rc = vmm_why(&r->vmm, e);
    if (rc != -EBADMSG && rc != -ESTALE && rc != -ENOENT && rc != -EPROTONOSUPPORT &&
        rc != -ENOTSUP)
        return rc;
    vmm_stop(&r->vmm);
    session_close(r->s);
    r->s = NULL;
    r->ahead = r->bad_command = false;
    r->watch.machine_fd = -1;
    template_discard(&r->template);
    return boot(r, e);
}

static int pump(struct run *r, int tty, int *status, struct err *e)
{
    struct session_streams io = {.in = r->c->interactive ? 0 : -1, .out = 1, .err = 2, .tty = tty};
    struct termios saved;
    bool raw = io.in == 0 && tty == 0 && raw_mode(&saved);
    int rc = session_pump(r->s, &io, left_ms(r), status, e);

    if (raw)
        tcsetattr(0, TCSADRAIN, &saved);
    return rc;
}

/* ---- from failures to exit statuses */

/* The end of the guest's console, as text that is safe on a terminal. */
static void read_console(const struct run *r, char *text, size_t len)
{
    CLEANUP(fd) int fd = openat(r->dir.dir, "console.log", O_RDONLY | O_CLOEXEC);
    off_t end = fd < 0 ? 0 : lseek(fd, 0, SEEK_END),
          from = end > (off_t)len - 1 ? end - ((off_t)len - 1) : 0;
    ssize_t n = fd < 0 ? 0 : pread(fd, text, len - 1, from);
    size_t kept = 0;

    for (ssize_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)text[i];

        if (c != '\r')
            text[kept++] = c >= ' ' || c == '\n' || c == '\t' ? (char)c : ' ';
    }
    text[kept] = '\0';
}

/* The session broke because the machine did: its own reason is the better one, and the kernel's
 * last words the best. */
static void machine_failed(struct run *r, struct err *e)
{
    static const char panic[] = "Kernel panic - not syncing: ";
    char text[CONSOLE_LEN];
    int rc = vmm_why(&r->vmm, e);

    read_console(r, text, sizeof(text));
    const char *why = strstr(text, panic);
    if (why) {
        why += sizeof(panic) - 1;
        err_set(e, rc, "the guest kernel stopped: %.*s", (int)strcspn(why, "\n"), why);
    }
    size_t n = strlen(text);
    if (n > 0 && r->c->console)
        r->c->console(r->c->ctx, n > CONSOLE_TAIL ? text + n - CONSOLE_TAIL : text);
}

static int failure_status(struct run *r, int rc, struct err *e)
{
    if (rc == -ETIMEDOUT && left_ms(r) == 0) {
        err_set(e, rc, "stopped: the time given with --timeout is over");
        return RUN_TIMEOUT;
    }
    if (rc == -EINTR || rc == -ECANCELED)
        return 128 + (r->signal ? r->signal : SIGINT);
    if (rc == -ECONNRESET && r->vmm.pid > 0)
        machine_failed(r, e);
    return RUN_KILN;
}

static int start_status(struct run *r, int rc, struct err *e)
{
    switch (rc) {
    case -ENOENT:
        return RUN_NOT_FOUND;
    case -EINVAL: /* no such user, a working directory that cannot be */
    case -ECONNRESET:
    case -ETIMEDOUT:
    case -EPROTO:
    case -EINTR:
        return failure_status(r, rc, e);
    default:
        return RUN_CANNOT;
    }
}

static int run(struct run *r, struct err *e)
{
    const struct run_conf *c = r->c;
    int tty = terminal(c), status = 0;
    int rc = take_signals(r, e);

    if (c->booting)
        c->booting(c->ctx, true);
    if (rc == 0)
        rc = start_machine(r, tty, e);
    trace_set(c->trace, TRACE_AGENT);
    if (rc == 0)
        rc = r->ahead ? session_await(r->s, BOOT_MS, e) : set_up(r, e);
    trace_set(c->trace, TRACE_MOUNTED);
    if (c->booting)
        c->booting(c->ctx, false);
    if (rc < 0)
        return r->bad_command ? start_status(r, rc, e) : failure_status(r, rc, e);
    rc = r->ahead ? session_await(r->s, BOOT_MS, e) : start_process(r, tty, e);
    trace_set(c->trace, TRACE_STARTED);
    if (rc < 0)
        return start_status(r, rc, e);
    rc = pump(r, tty, &status, e);
    trace_set(c->trace, TRACE_EXITED);
    if (rc < 0)
        return failure_status(r, rc, e);
    *e = (struct err){0};
    return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

int run_container(const struct run_conf *c, struct err *e)
{
    struct run r = {
        .c = c,
        .dir = RUNDIR_NONE,
        .vmm = VMM_NONE,
        .initrd = -1,
        .ready_fd = -1,
        .watch = {.machine_fd = -1, .signal_fd = -1},
    };

    r.watch.signal = &r.signal;
    if (c->timeout_ms >= 0)
        r.watch.deadline_ms = now_ms() + (uint64_t)c->timeout_ms;
    int status = run(&r, e);
    struct vm_report counters;
    struct err none;

    if (c->counters && r.vmm.pid > 0 && vmm_counters(&r.vmm, &counters, &none) == 0)
        c->counters(c->ctx, &counters);
    session_close(r.s);
    if (r.keep_code && r.vmm.pid > 0 && status == 0)
        vmm_keep_code(&r.vmm);
    vmm_stop(&r.vmm);
    cleanup_fd(&r.ready_fd);
    cleanup_fd(&r.initrd);
    rundir_remove(&r.dir);
    trace_set(c->trace, TRACE_GONE);
    cleanup_fd(&r.watch.signal_fd);
    sigprocmask(SIG_SETMASK, &r.old_mask, NULL);
    return status;
}
