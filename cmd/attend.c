#include "cmd/attend.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/signalfd.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "cmd/verb.h"
#include "container/machine.h"

enum { EXIT_TIMEOUT = 124, ESCAPE = 1 /* Ctrl-A */ };

/* A terminal hands every key to the guest; undone at the end. */
static bool raw_terminal(struct termios *saved)
{
    struct termios t;

    if (!isatty(0) || tcgetattr(0, saved) < 0)
        return false;
    t = *saved;
    cfmakeraw(&t);
    t.c_oflag |= OPOST | ONLCR;
    return tcsetattr(0, TCSANOW, &t) == 0;
}

/* stdin to the console's pipe; Ctrl-A x asks to stop, Ctrl-A Ctrl-A sends one. */
struct keys {
    int to;
    bool escaped;
};

static bool pass_keys(struct keys *k)
{
    uint8_t in[512], out[512];
    ssize_t n = read(0, in, sizeof(in));
    size_t m = 0;

    if (n <= 0) {
        close(k->to);
        k->to = -1;
        return true;
    }
    for (ssize_t i = 0; i < n; i++) {
        if (k->escaped && in[i] == 'x')
            return false;
        bool escape = !k->escaped && in[i] == ESCAPE && isatty(0);
        k->escaped = escape;
        if (!escape)
            out[m++] = in[i];
    }
    return m == 0 || write(k->to, out, m) >= 0;
}

static uint64_t now_ns(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000000ull + (uint64_t)ts.tv_nsec;
}

/* Wait for the machine, the time limit, a signal or the escape. True: the time was up. */
static bool watch(struct vmm *vmm, struct keys *k, int sig, uint64_t timeout_ns)
{
    uint64_t end_at = timeout_ns ? now_ns() + timeout_ns : UINT64_MAX;
    bool timed_out = false;

    for (;;) {
        struct pollfd p[3] = {{.fd = sig, .events = POLLIN},
                              {.fd = k->to >= 0 ? 0 : -1, .events = POLLIN},
                              {.fd = vmm->report_fd, .events = POLLIN}};
        uint64_t now = now_ns();
        int wait_ms = -1;

        if (end_at != UINT64_MAX)
            wait_ms = now >= end_at ? 0 : (int)((end_at - now) / 1000000 + 1);
        int n = poll(p, 3, wait_ms);
        if (n == 0 && now_ns() >= end_at) {
            timed_out = true;
            end_at = UINT64_MAX;
            vmm_end(vmm);
        }
        if (n > 0 && p[0].revents) {
            sig = -1;
            vmm_end(vmm);
        }
        if (n > 0 && p[1].revents && !pass_keys(k))
            vmm_end(vmm);
        if (n > 0 && p[2].revents)
            return timed_out;
    }
}

static int status_of(const struct vmm_end *end, bool timed_out)
{
    switch (end->end) {
    case VM_EXIT_PORT:
        return (int)(end->value & 0xff);
    case VM_SHUTDOWN:
        say("the guest's CPU shut down (triple fault)");
        return EXIT_KILN;
    case VM_STOPPED:
        return timed_out ? EXIT_TIMEOUT : 128 + SIGINT;
    default:
        return 0;
    }
}

int attend_open(struct attend *a, struct vm_conf *c, struct err *e)
{
    char base[RUNDIR_PATH_MAX];
    sigset_t set;
    int p[2], r = 0;

    a->sig = a->keys_to = a->keys_from = -1;
    a->dir = RUNDIR_NONE;
    a->vmm = VMM_NONE;
    if (a->console) {
        if (pipe2(p, O_CLOEXEC) < 0)
            return err_errno(e, -errno, "make a pipe");
        c->console_in = a->keys_from = p[0];
        c->console_out = 1;
        a->keys_to = p[1];
    }
    /* Blocked before any thread exists, so that all inherit it. */
    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGHUP);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    a->sig = signalfd(-1, &set, SFD_CLOEXEC);
    if (a->name || a->folder)
        r = rundir_base(base, sizeof(base), e);
    if (r == 0 && (a->name || a->folder))
        r = rundir_new(base, a->name, &a->dir, e);
    return r;
}

void attend_close(struct attend *a)
{
    vmm_stop(&a->vmm);
    cleanup_fd(&a->sig);
    cleanup_fd(&a->keys_to);
    cleanup_fd(&a->keys_from);
    rundir_remove(&a->dir);
}

void attend_leave(struct attend *a)
{
    vmm_leave(&a->vmm);
    cleanup_fd(&a->sig);
    cleanup_fd(&a->dir.base);
    cleanup_fd(&a->dir.dir);
    cleanup_fd(&a->dir.lock);
}

int attend_start(struct attend *a, struct vmm_conf *c, struct err *e)
{
    c->dir = &a->dir;
    c->what = a->note;
    c->console = !c->detach;
    c->no_jail = a->no_jail;
    int r = vmm_start(c, &a->vmm, e);
    cleanup_fd(&a->keys_from);
    a->keys_from = -1;
    if (r == 0 && a->has_agent)
        r = machine_introduce(a->agent, a->vmm.report_fd, a->name ? a->name : a->dir.id, e);
    return r;
}

int attend(struct attend *a)
{
    struct keys k = {.to = a->keys_to};
    struct termios saved;
    struct vmm_end end;
    struct err e = {0};
    bool raw = a->console && raw_terminal(&saved);
    bool timed_out = watch(&a->vmm, &k, a->sig, a->timeout_ns);
    int r = vmm_ended(&a->vmm, &end, &e);

    a->keys_to = k.to;
    if (raw)
        tcsetattr(0, TCSANOW, &saved);
    if (r == 0 && a->stats)
        print_stats(&end.counters);
    return r < 0 ? say_err(&e, EXIT_KILN) : status_of(&end, timed_out);
}
