#include "container/machine.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "container/conlog.h"
#include "container/control.h"
#include "container/session.h"
#include "container/warden.h"
#include "jail/jail.h"
#include "os/fds.h"
#include "os/hexid.h"

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
    char id[32 + 1]; /* machine-id(5) */
    int r = hexid(id, sizeof(id) - 1, e);

    if (r < 0) {
        close(ours);
        return r;
    }
    struct session_setup who = {.hostname = hostname, .machine_id = id};
    r = session_open_pair(ours, &w, AGENT_MS, &s, e);
    if (r == 0)
        r = session_identity(s, &who, e);
    session_close(s);
    return r;
}

struct forked {
    const struct machine_conf *c;
    struct ctlwire_fds *fds;
    struct conlog_files console;
    struct conlog *log;
    struct warden_link link;
    struct rundir dir; /* its names alone */
    int agent;
    struct vm *vm;
    struct control *control;
};

static void close_others(const struct forked *f)
{
    int keep[CTLWIRE_FDS_MAX + SEED_FDS_MAX + 2];
    unsigned n = seed_fds(f->c->seed, keep);

    for (unsigned i = 0; i < f->fds->n; i++)
        keep[n++] = f->fds->fd[i];
    keep[n++] = f->c->report_fd;
    keep[n++] = f->c->go_fd;
    fds_close_but(keep, n);
    jail_forked(f->c->hook);
}

/* Which descriptors came, and are they all there? */
static int take_fds(struct forked *f, struct vm_conf *vc, struct err *e)
{
    const struct shape *shape = seed_shape(f->c->seed);
    const int *fd = f->fds->fd;
    unsigned n = shape->vsock ? MACHINE_FD_VSOCK + 1 : MACHINE_FD_VSOCK;

    if (f->fds->n < n || !f->c->id || strlen(f->c->id) != RUNDIR_ID_LEN)
        return err_set(e, -EINVAL, "a machine needs its folder");
    f->console = (struct conlog_files){fd[MACHINE_FD_LOG], fd[MACHINE_FD_LOG_OLD]};
    warden_link_init(&f->link, fd[MACHINE_FD_LINK], NULL);
    if (shape->vsock) {
        vc->vsock_path = f->c->vsock;
        vc->vsock_listen = fd[MACHINE_FD_VSOCK];
        vc->vsock_dial = &f->link.dial;
    }
    return seed_copies(f->c->seed, fd + n, f->fds->n - n, e);
}

/* The machine, not running. */
static int make(struct forked *f, struct err *e)
{
    const struct machine_conf *c = f->c;
    struct vm_conf vc;

    shape_conf(seed_shape(c->seed), &vc);
    vc.engine = c->engine;
    vc.vsock_cid = machine_cid();
    vc.hook = c->hook;
    int r = take_fds(f, &vc, e);
    if (r == 0)
        r = conlog_new(&f->console, &f->log, &vc.console_out, e);
    if (r == 0)
        r = conlog_start(f->log, c->hook, e);
    if (r == 0 && vc.vsock_path && strcmp(c->note, MACHINE_HAS_AGENT) == 0)
        r = session_pair(&vc.vsock_client, &f->agent, e);
    if (r == 0)
        r = seed_grow(c->seed, &vc, &f->vm, e);
    if (r == 0)
        r = vm_renew(f->vm, e);
    snprintf(f->dir.id, sizeof(f->dir.id), "%s", c->id ? c->id : "");
    snprintf(f->dir.name, sizeof(f->dir.name), "%s", c->name ? c->name : "");
    struct control_conf cc = {.vm = f->vm,
                              .code_fd = -1,
                              .listen_fd = f->fds->fd[MACHINE_FD_CONTROL],
                              .owner = c->owner,
                              .dir = &f->dir,
                              .vsock = vc.vsock_path,
                              .note = c->note,
                              .hook = c->hook,
                              .link = &f->link};
    return r == 0 ? control_serve(&cc, &f->control, e) : r;
}

static bool may_go(int go_fd)
{
    char c;
    ssize_t n;

    do
        n = read(go_fd, &c, 1);
    while (n < 0 && errno == EINTR);
    return n == 1;
}

void machine_fork_main(const struct machine_conf *c, struct ctlwire_fds *fds)
{
    struct forked f = {.c = c, .fds = fds, .dir = RUNDIR_NONE, .agent = -1};
    struct machine_report rep = {.err = {0}};

    close_others(&f);
    int r = make(&f, &rep.err);
    if (r == 0)
        rep.err = (struct err){0}; /* of what was done in another way */
    else if (rep.err.code == 0)
        rep.err.code = r;
    memcpy(rep.id, f.dir.id, sizeof(rep.id));
    bool told = write(c->report_fd, &rep, sizeof(rep)) == sizeof(rep);
    close(c->report_fd);
    if (r == 0 && told && may_go(c->go_fd) && vm_start(f.vm, &rep.err) == 0) {
        const char *name = f.dir.name[0] ? f.dir.name : f.dir.id;

        /* One that cannot be told apart from its parent does not live. */
        if (f.agent < 0 || machine_introduce(f.agent, vm_end_fd(f.vm), name, &rep.err) == 0)
            (void)vm_wait(f.vm, -1, NULL, NULL);
    }
    control_free(f.control); /* it answers to the end */
    _exit(0);                /* forked child; the warden sees it */
}
