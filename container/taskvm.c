/* A container in a machine of its own: the machine's process, and a session with its agent. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "container/agentio.h"
#include "container/control.h"
#include "container/session.h"
#include "container/task.h"
#include "container/template.h"
#include "container/upper.h"
#include "container/vmconf.h"
#include "container/vmgroup.h"
#include "container/vmm.h"
#include "image/initrd.h"
#include "os/hexid.h"

enum {
    WARM_MS = 10000,     /* for the agent to run its own program once */
    BOOT_MS = 600000,    /* an interpreted Debian kernel on a busy host takes a minute or two */
    CONSOLE_LEN = 16384, /* bytes of it searched for the reason */
    CONSOLE_TAIL = 2048, /* and shown */
};

struct machine {
    struct task task; /* first: what the keeper has */
    const struct task_conf *c;
    struct vmconf conf;
    struct cgroup group; /* CGROUP_NONE: nothing is limited by one */
    struct vmm vmm;
    struct session *s; /* until its process runs */
    struct agentio *io;
    struct loop_fd report;
    struct session_watch watch;
    int initrd, ready_fd;
    char machine_id[33];
    char vsock[RUNDIR_PATH_MAX + 16];
    char engine[16];
    bool ahead;               /* all that could be was said to the agent at once */
    bool start_ahead;         /* the start of the command, too */
    bool bad_command;         /* one that could not even be sent */
    bool keep_code;           /* the template has none yet */
    struct template template; /* where it is to start from one */
};

static struct machine *of(struct task *t)
{
    return (struct machine *)t;
}

/* ---- set-up */

/* 1: there is a template to start from, made now if need be; 0: there is none, which is no failure:
 * somebody else is making it, or it cannot be kept. */
static int get_template(struct machine *m, struct err *e)
{
    const struct guest_conf *g = &m->conf.guest;
    struct err why = {0};
    int rc = g->store ? template_find(g, &m->template, &why) : -ENOENT;

    if (rc == 0) {
        rc = template_make(g, &m->template, &m->watch, false, &why);
        if (rc == -EINTR || rc == -ETIMEDOUT)
            return err_set(e, rc, "%s", why.msg);
        rc = rc == 0 || rc == -EEXIST;
    }
    if (rc == 1)
        template_used(&m->template);
    return rc == 1;
}

/* The machine's processes, in their group from the start. */
static int start_vmm(struct machine *m, struct vmm_conf *c, struct err *e)
{
    c->cgroup = m->group.layout != CGROUP_NONE ? &m->group : NULL;
    c->no_jail = m->c->rec->spec.no_jail;
    return vmm_start(c, &m->vmm, e);
}

static int boot(struct machine *m, struct err *e)
{
    const struct guest_conf *g = &m->conf.guest;
    struct vm_conf vc;

    guestconf_fill(g, m->vsock, false, &vc);
    int rc = initrd_build(g->kernel_dir, guestconf_modules(&vc), &m->initrd, e);
    vc.initrd_fd = m->initrd;
    if (rc == 0)
        rc = session_listen(m->vsock, &m->ready_fd, e);
    trace_set(m->c->trace, TRACE_READY);
    struct vmm_conf vmm = {.vm = &vc, .dir = m->c->dir, .trace = m->c->trace};
    if (rc == 0)
        rc = start_vmm(m, &vmm, e);
    trace_set(m->c->trace, TRACE_FORKED);
    m->watch.machine_fd = m->vmm.report_fd;
    if (rc == 0)
        rc = session_open(m->vsock, m->ready_fd, &m->watch, BOOT_MS, &m->s, e);
    return rc;
}

static int set_up(struct machine *m, struct err *e)
{
    const struct guest_conf *g = &m->conf.guest;
    const struct spec *s = &m->c->rec->spec;
    struct session_setup su = {
        .hostname = s->hostname ? s->hostname : m->c->dir->id,
        .machine_id = m->machine_id,
        .root_dev = "/dev/vda",
        .root_fstype = g->fstype,
        .root_ro = s->read_only,
        .overlay_dev = g->upper ? GUESTCONF_UPPER : NULL,
        .overlay_bytes = upper_limit(s),
        .mounts = (const char *const *)m->conf.mount,
        .mount_len = m->conf.mount_len,
        .hosts = g->hosts,
        .resolv = g->resolv,
        .net = g->net_set,
        .n_nets = g->n_nets,
    };
    return session_setup(m->s, &su, e);
}

static int start_process(struct machine *m, struct err *e)
{
    const struct spec *s = &m->c->rec->spec;
    struct session_process p = {
        .argv = (const char *const *)s->argv.v,
        .env = (const char *const *)s->env.v,
        .cwd = s->cwd,
        .user = s->user,
        .tty = s->tty,
        .with_stdin = m->c->with_stdin,
        .rows = m->c->rows ? m->c->rows : 24,
        .cols = m->c->cols ? m->c->cols : 80,
    };
    return session_start(m->s, &p, e);
}

/* ---- from a template, or by booting */

/* Everything is said before the machine runs; what remains is to hear the answers. */
static int say_all(struct machine *m, int ours, struct err *e)
{
    int rc = session_call(ours, &m->watch, &m->s, e);

    m->ahead = true;
    if (rc == 0)
        rc = set_up(m, e);
    m->start_ahead = !m->c->idle && !m->keep_code;
    if (rc == 0 && m->start_ahead) {
        rc = start_process(m, e);
        m->bad_command = rc < 0;
    }
    return rc == 0 ? session_await(m->s, BOOT_MS, e) : rc;
}

static int go_on(struct machine *m, struct err *e)
{
    CLEANUP(fd) int theirs = -1;
    CLEANUP(fd) int ours = -1;
    struct vm_conf vc;
    int rc = session_pair(&theirs, &ours, e);

    guestconf_fill(&m->conf.guest, m->vsock, true, &vc);
    vc.vsock_client = theirs;
    trace_set(m->c->trace, TRACE_READY);
    m->keep_code = access(m->template.code, F_OK) < 0;
    struct vmm_conf vmm = {.vm = &vc,
                           .dir = m->c->dir,
                           .trace = m->c->trace,
                           .seed = m->template.dir,
                           .code = m->template.code,
                           .keep_code = m->keep_code,
                           .note = m->template.note};
    if (rc == 0)
        rc = start_vmm(m, &vmm, e);
    trace_set(m->c->trace, TRACE_FORKED);
    cleanup_fd(&theirs); /* so that its end is seen */
    theirs = -1;
    m->watch.machine_fd = m->vmm.report_fd;
    if (rc == 0)
        rc = say_all(m, take_fd(&ours), e);
    return rc;
}

/* A template that cannot be used any more is dropped, and the machine boots. */
static int start_machine(struct machine *m, struct err *e)
{
    int rc = hexid(m->machine_id, sizeof(m->machine_id) - 1, e); /* machine-id(5) */

    if (rc == 0)
        rc = get_template(m, e);
    if (rc <= 0)
        return rc < 0 ? rc : boot(m, e);
    rc = go_on(m, e);
    if (rc != -ECONNRESET || m->vmm.pid <= 0)
        return rc;
    rc = vmm_why(&m->vmm, e);
    if (rc != -EBADMSG && rc != -ESTALE && rc != -ENOENT && rc != -EPROTONOSUPPORT &&
        rc != -ENOTSUP)
        return rc;
    vmm_stop(&m->vmm);
    session_close(m->s);
    m->s = NULL;
    m->ahead = m->start_ahead = m->bad_command = false;
    m->watch.machine_fd = -1;
    template_discard(&m->template);
    return boot(m, e);
}

/* ---- failures */

/* The end of the guest's console, as text that is safe on a terminal. */
static void read_console(const struct machine *m, char *text, size_t len)
{
    CLEANUP(fd) int fd = openat(m->c->dir->dir, "console.log", O_RDONLY | O_CLOEXEC);
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
static int machine_failed(struct machine *m, struct err *e)
{
    static const char panic[] = "Kernel panic - not syncing: ";
    char text[CONSOLE_LEN];
    int rc = vmm_why(&m->vmm, e);

    read_console(m, text, sizeof(text));
    const char *why = strstr(text, panic);
    if (why) {
        why += sizeof(panic) - 1;
        err_set(e, rc, "the guest kernel stopped: %.*s", (int)strcspn(why, "\n"), why);
    }
    size_t n = strlen(text);
    if (n > 0 && m->c->console)
        m->c->console(m->c->ctx, n > CONSOLE_TAIL ? text + n - CONSOLE_TAIL : text);
    return rc;
}

/* Another number for what e says. */
static int recode(struct err *e, int code)
{
    if (e)
        e->code = code;
    return code;
}

/* Only what is about the command itself has the numbers of a command that cannot be run. */
static int failed(struct machine *m, int rc, bool starting, struct err *e)
{
    if (rc == -ECONNRESET && m->vmm.pid > 0)
        rc = machine_failed(m, e);
    if (rc == -EINTR || rc == -ETIMEDOUT || rc == -ECONNRESET || rc == -EPROTO)
        return rc;
    if (!starting)
        return recode(e, -EIO);
    /* -EINVAL: no such user, a working directory that cannot be */
    return rc == -ENOENT || rc == -EACCES || rc == -EINVAL ? rc : recode(e, -ENOEXEC);
}

/* ---- while it runs */

static void on_output(void *ctx, enum task_stream stream, const void *bytes, size_t len)
{
    struct machine *m = ctx;

    m->c->events.output(m->c->events.ctx, stream, bytes, len);
}

static void on_input_ready(void *ctx)
{
    struct machine *m = ctx;

    m->c->events.input_ready(m->c->events.ctx);
}

static void on_exited(void *ctx, int status)
{
    struct machine *m = ctx;

    trace_set(m->c->trace, TRACE_EXITED);
    loop_del(m->c->loop, &m->report);
    m->c->events.ended(m->c->events.ctx, status, false, NULL);
}

static void on_broken(void *ctx, const struct err *why)
{
    struct machine *m = ctx;
    struct err e = *why;

    loop_del(m->c->loop, &m->report);
    if (e.code == -ECONNRESET)
        (void)machine_failed(m, &e);
    m->c->events.ended(m->c->events.ctx, 0, vmgroup_oom(&m->group), &e);
}

static void on_report(void *ctx, uint32_t events)
{
    struct machine *m = ctx;

    loop_del(m->c->loop, &m->report);
    agentio_last_words(m->io);
}

static int watch_streams(struct machine *m, struct err *e)
{
    struct agentio_events ev = {.output = on_output,
                                .input_ready = on_input_ready,
                                .exited = on_exited,
                                .broken = on_broken,
                                .ctx = m};
    struct session *s = take_ptr(&m->s);
    int rc = agentio_new(s, m->c->loop, &ev, &m->io, e);

    m->report = (struct loop_fd){.fd = m->vmm.report_fd, .ready = on_report, .ctx = m};
    return rc == 0 ? loop_add(m->c->loop, &m->report, EPOLLIN, e) : rc;
}

static void vm_task_free(struct task *t)
{
    struct machine *m = of(t);

    if (!m)
        return;
    if (m->c->loop)
        loop_del(m->c->loop, &m->report);
    agentio_free(m->io);
    session_close(m->s);
    vmm_stop(&m->vmm);
    vmgroup_remove(&m->group);
    vmconf_done(&m->conf);
    cleanup_fd(&m->ready_fd);
    cleanup_fd(&m->initrd);
    trace_set(m->c->trace, TRACE_GONE);
    free(m);
}

/* Translated code for those that come from this template, before anything of the image runs here:
 * they will execute it. What a start needs is there once a process has come and gone, so the
 * agent's own program does. */
static void keep_code(struct machine *m)
{
    static const char *const argv[] = {"/proc/1/exe", NULL};
    const struct session_process p = {.argv = argv, .user = "0:0", .beside = true};
    const struct session_streams none = {.in = -1, .out = -1, .err = -1, .tty = -1};
    struct session *s = NULL;
    int status = -1, rc = session_open(m->vsock, -1, &m->watch, WARM_MS, &s, NULL);

    if (rc == 0)
        rc = session_start(s, &p, NULL);
    if (rc == 0)
        rc = session_pump(s, &none, WARM_MS, &status, NULL);
    session_close(s);
    if (rc == 0 && status == 0)
        vmm_keep_code(&m->vmm, m->c->dir->id);
}

static int run(struct machine *m, struct err *e)
{
    const struct task_conf *c = m->c;

    if (c->booting)
        c->booting(c->ctx, true);
    int rc = start_machine(m, e);
    trace_set(c->trace, TRACE_AGENT);
    if (rc == 0)
        rc = m->ahead ? session_await(m->s, BOOT_MS, e) : set_up(m, e);
    trace_set(c->trace, TRACE_MOUNTED);
    if (c->booting)
        c->booting(c->ctx, false);
    if (rc < 0)
        return failed(m, rc, m->bad_command, e);
    if (c->idle)
        return 0;
    if (m->keep_code)
        keep_code(m);
    rc = m->start_ahead ? session_await(m->s, BOOT_MS, e) : start_process(m, e);
    trace_set(c->trace, TRACE_STARTED);
    if (rc == 0)
        rc = watch_streams(m, e);
    return rc < 0 ? failed(m, rc, true, e) : 0;
}

static int vm_task_start(const struct task_conf *c, struct task **ret, struct err *e)
{
    struct machine *m = calloc(1, sizeof(*m));

    if (!m)
        return err_set(e, -ENOMEM, "out of memory");
    m->task.ops = &task_vm;
    m->c = c;
    m->vmm = VMM_NONE;
    m->initrd = m->ready_fd = -1;
    m->watch = (struct session_watch){
        .machine_fd = -1, .signal_fd = c->cancel_fd, .deadline_ms = c->deadline_ms};
    snprintf(m->vsock, sizeof(m->vsock), "%s/vsock", c->dir->path);
    int rc = vmconf_fill(c, &m->conf, e);
    if (rc == 0)
        rc = vmgroup_make(&c->rec->spec, c->dir->id, m->conf.guest.ram_bytes, &m->group, e);
    if (rc == 0)
        rc = run(m, e);
    if (rc < 0) {
        vm_task_free(&m->task);
        return rc;
    }
    *ret = &m->task;
    return 0;
}

/* ---- what the keeper asks for */

static size_t vm_task_input(struct task *t, const void *bytes, size_t len)
{
    return agentio_input(of(t)->io, bytes, len);
}

static size_t vm_task_in_flight(const struct task *t)
{
    return agentio_in_flight(((const struct machine *)t)->io);
}

static void vm_task_input_end(struct task *t)
{
    agentio_input_end(of(t)->io);
}

static void vm_task_hold(struct task *t, bool yes)
{
    agentio_hold(of(t)->io, yes);
}

static void vm_task_unread(struct task *t, enum task_stream stream)
{
    agentio_unread(of(t)->io, stream);
}

static void vm_task_resize(struct task *t, uint16_t rows, uint16_t cols)
{
    agentio_resize(of(t)->io, rows, cols);
}

static int vm_task_kill(struct task *t, int sig, struct err *e)
{
    agentio_signal(of(t)->io, sig);
    return 0;
}

/* Ask the machine's own control socket. */
static int ask(struct machine *m, const char *op, json_t **answer, struct err *e)
{
    json_t *req = json_pack("{s:s}", "op", op), *out = NULL;
    int rc = control_ask(m->c->dir->id, req, &out, e);

    json_decref(req);
    if (rc == 0 && answer)
        *answer = out;
    else
        json_decref(out);
    return rc;
}

static int vm_task_pause(struct task *t, bool yes, struct err *e)
{
    return ask(of(t), yes ? "pause" : "resume", NULL, e);
}

static int vm_task_counters(struct task *t, struct vm_report *r, struct err *e)
{
    return vmm_counters(&of(t)->vmm, r, e);
}

static pid_t vm_task_pid(const struct task *t)
{
    return ((const struct machine *)t)->vmm.pid;
}

/* Told by the machine itself, when somebody wants to know. */
static const char *vm_task_engine(struct task *t)
{
    struct machine *m = of(t);
    json_t *info = NULL;

    if (!m->engine[0] && ask(m, "info", &info, NULL) == 0) {
        const char *text = json_string_value(json_object_get(info, "engine"));

        snprintf(m->engine, sizeof(m->engine), "%s", text ? text : "");
    }
    json_decref(info);
    return m->engine;
}

static void vm_task_recover(const struct record *r)
{
    char id[RUNDIR_ID_LEN + 1];

    snprintf(id, sizeof(id), "%.*s", RUNDIR_ID_LEN, r->id);
    vmgroup_recover(id);
}

const struct task_ops task_vm = {
    .start = vm_task_start,
    .input = vm_task_input,
    .input_end = vm_task_input_end,
    .in_flight = vm_task_in_flight,
    .hold = vm_task_hold,
    .unread = vm_task_unread,
    .resize = vm_task_resize,
    .kill = vm_task_kill,
    .pause = vm_task_pause,
    .counters = vm_task_counters,
    .pid = vm_task_pid,
    .engine = vm_task_engine,
    .free = vm_task_free,
    .recover = vm_task_recover,
};
