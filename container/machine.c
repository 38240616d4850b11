#include "container/machine.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "container/conlog.h"
#include "container/control.h"
#include "container/session.h"
#include "os/fds.h"

enum { AGENT_MS = 60000 }; /* for the agent to answer; the host may be busy */

void machine_detach(void)
{
    sigset_t none;
    int null = open("/dev/null", O_RDWR);

    (void)setsid(); /* Ctrl-C on the terminal is the caller's to handle */
    prctl(PR_SET_NAME, "kiln-vmm");
    for (int i = 0; i < 3 && null >= 0; i++)
        (void)dup2(null, i);
    if (null > 2)
        close(null);
    signal(SIGPIPE, SIG_IGN);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
}

uint32_t machine_cid(void)
{
    uint32_t cid = 0;

    while (getrandom(&cid, sizeof(cid), 0) != sizeof(cid) || cid < 3 || cid > INT32_MAX) {
    }
    return cid;
}

int machine_introduce(int ours, int end_fd, const char *hostname, struct err *e)
{
    struct session_watch w = {.machine_fd = end_fd, .signal_fd = -1};
    struct session *s = NULL;
    uint8_t random[16];
    char id[2 * sizeof(random) + 1];

    if (getrandom(random, sizeof(random), 0) != sizeof(random)) {
        close(ours);
        return err_errno(e, -errno, "getrandom");
    }
    for (unsigned i = 0; i < sizeof(random); i++)
        snprintf(id + 2 * i, 3, "%02x", random[i]);
    struct session_setup who = {.hostname = hostname, .machine_id = id};
    int r = session_open_pair(ours, &w, AGENT_MS, &s, e);
    if (r == 0)
        r = session_identity(s, &who, e);
    session_close(s);
    return r;
}

static void close_others(const struct machine_conf *c)
{
    int keep[SEED_FDS_MAX + 2];
    unsigned n = seed_fds(c->seed, keep);

    keep[n++] = c->report_fd;
    keep[n++] = c->go_fd;
    fds_close_but(keep, n);
}

/* A state folder, and in it the machine, not running. */
static int make(const struct machine_conf *c, struct rundir *dir, struct machine_report *rep,
                int *agent, struct vm **vm, struct control **control)
{
    const struct shape *shape = seed_shape(c->seed);
    struct err *e = &rep->err;
    char base[RUNDIR_PATH_MAX];
    struct vm_conf vc;
    int r = rundir_base(base, sizeof(base), e);

    if (r == 0)
        r = rundir_new(base, c->name, dir, e);
    if (r < 0)
        return r;
    shape_conf(shape, &vc);
    vc.engine = c->engine;
    vc.vsock_cid = machine_cid();
    if (shape->vsock) {
        snprintf(rep->vsock, sizeof(rep->vsock), "%s/vsock", dir->path);
        vc.vsock_path = rep->vsock;
    }
    r = conlog_start(dir->dir, &vc.console_out, e);
    if (r == 0 && shape->vsock && strcmp(c->note, MACHINE_HAS_AGENT) == 0)
        r = session_pair(&vc.vsock_client, agent, e);
    if (r == 0)
        r = seed_grow(c->seed, &vc, vm, e);
    if (r == 0)
        r = vm_renew(*vm, e);
    struct control_conf cc = {.vm = *vm, .dir = dir, .vsock = vc.vsock_path, .note = c->note};
    if (r == 0)
        r = control_serve(&cc, control, e);
    rep->pid = getpid();
    memcpy(rep->id, dir->id, sizeof(rep->id));
    memcpy(rep->name, dir->name, sizeof(rep->name));
    return r;
}

static bool may_go(int go_fd)
{
    char c;
    ssize_t n;

    do
        n = go_fd < 0 ? 1 : read(go_fd, &c, 1);
    while (n < 0 && errno == EINTR);
    return n == 1;
}

/* Until the machine ends or somebody wants this process to. */
static void live(struct vm *vm, int sig)
{
    struct pollfd p[] = {{.fd = vm_end_fd(vm), .events = POLLIN}, {.fd = sig, .events = POLLIN}};

    while (poll(p, ARRAY_LEN(p), -1) < 0 && errno == EINTR) {
    }
}

void machine_main(const struct machine_conf *c)
{
    struct machine_report rep = {.err = {0}};
    struct rundir dir = RUNDIR_NONE;
    struct control *control = NULL;
    struct vm *vm = NULL;
    sigset_t set;

    machine_detach();
    close_others(c);
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGHUP);
    sigprocmask(SIG_BLOCK, &set, NULL); /* before any thread: all inherit it */
    int sig = signalfd(-1, &set, SFD_CLOEXEC), agent = -1;
    int r = make(c, &dir, &rep, &agent, &vm, &control);
    if (r < 0 && rep.err.code == 0)
        rep.err.code = r;
    bool told = write(c->report_fd, &rep, sizeof(rep)) == sizeof(rep);
    close(c->report_fd);
    if (r == 0 && told && may_go(c->go_fd) && vm_start(vm, &rep.err) == 0) {
        const char *name = dir.name[0] ? dir.name : dir.id;

        /* One that cannot be told apart from its parent does not live. */
        if (agent < 0 || machine_introduce(agent, vm_end_fd(vm), name, &rep.err) == 0)
            live(vm, sig);
    }
    control_free(control);
    rundir_remove(&dir);
    _exit(0); /* forked child; the kernel frees a machine faster than vm_free() */
}
