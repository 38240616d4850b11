/* A container in namespaces and cgroups of this host's kernel: a process, pipes or a terminal. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "container/procconf.h"
#include "container/task.h"
#include "image/store_priv.h"

enum {
    PIPE_BYTES = 256 * 1024,
    READ_BYTES = 64 * 1024,
    READS_MAX = 16, /* of one stream in one round of the loop */
    KILL_MS = 10000,
    EOT = 4, /* what ends input on a terminal */
};

struct stream {
    struct loop_fd h; /* h.fd: ours, owned; -1 = closed */
    struct box *box;
    enum task_stream which;
};

struct box {
    struct task task; /* first: what the keeper has */
    const struct task_conf *c;
    struct process_state st;
    struct process_child child;
    bool made;          /* there is something to delete */
    struct loop_fd end; /* the pidfd */
    struct loop_fd in;  /* h.fd: owned, -1 = none */
    struct stream out[2];
    bool held, exited, told, hungry, in_watched;
    int status;
    struct unpacked unpacked; /* its image's files */
    char *buf;                /* owned, READ_BYTES */
};

static struct box *of(struct task *t)
{
    return (struct box *)t;
}

/* ---- the end */

/* All of it is told once: the process is gone, and everything it wrote was read. */
static void tell_end(struct box *b)
{
    struct cgroup_usage u = {0};

    if (!b->exited || b->told || b->out[0].h.fd >= 0 || b->out[1].h.fd >= 0)
        return;
    b->told = true;
    (void)!cgroup_usage(&b->st.cgroup, &u, NULL);
    trace_set(b->c->trace, TRACE_EXITED);
    b->c->events.ended(b->c->events.ctx, b->status, u.oom_kills > 0, NULL);
}

static void close_stream(struct box *b, struct stream *s)
{
    loop_del(b->c->loop, &s->h);
    cleanup_fd(&s->h.fd);
    s->h.fd = -1;
}

static void close_input(struct box *b)
{
    loop_del(b->c->loop, &b->in);
    cleanup_fd(&b->in.fd);
    b->in.fd = -1;
}

static void on_end(void *ctx, uint32_t events)
{
    struct box *b = ctx;

    loop_del(b->c->loop, &b->end);
    if (waitpid(b->child.pid, &b->status, 0) < 0)
        b->status = 0;
    b->exited = true;
    /* Without a PID namespace others may live on, and hold the output. */
    if (!b->st.pid_ns)
        (void)!cgroup_kill(&b->st.cgroup, KILL_MS, NULL);
    tell_end(b);
}

/* ---- streams */

static void on_output(void *ctx, uint32_t events)
{
    struct stream *s = ctx;
    struct box *b = s->box;

    for (int i = 0; i < READS_MAX && s->h.fd >= 0 && !b->held; i++) {
        ssize_t n = read(s->h.fd, b->buf, READ_BYTES);

        if (n > 0) {
            b->c->events.output(b->c->events.ctx, s->which, b->buf, (size_t)n);
            continue;
        }
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN)
            return;
        close_stream(b, s); /* a terminal that nobody has open says EIO */
        tell_end(b);
    }
}

static void on_input(void *ctx, uint32_t events)
{
    struct box *b = ctx;

    loop_del(b->c->loop, &b->in);
    b->in_watched = false;
    if (events & (EPOLLERR | EPOLLHUP))
        close_input(b);
    if (b->hungry) {
        b->hungry = false;
        b->c->events.input_ready(b->c->events.ctx);
    }
}

static size_t box_input(struct task *t, const void *bytes, size_t len)
{
    struct box *b = of(t);
    ssize_t n = -1;

    if (b->in.fd < 0)
        return len; /* nobody reads it: as /dev/null would */
    do
        n = write(b->in.fd, bytes, len);
    while (n < 0 && errno == EINTR);
    if (n < 0 && errno != EAGAIN) {
        close_input(b);
        return len;
    }
    if ((n < 0 || (size_t)n < len) && !b->in_watched) {
        b->hungry = true;
        b->in_watched = loop_add(b->c->loop, &b->in, EPOLLOUT, NULL) == 0;
    }
    return n < 0 ? 0 : (size_t)n;
}

static void box_input_end(struct task *t)
{
    struct box *b = of(t);
    const char eot = EOT;

    if (b->in.fd >= 0 && b->c->rec->spec.tty)
        (void)!write(b->in.fd, &eot, 1);
    close_input(b);
}

static void box_hold(struct task *t, bool yes)
{
    struct box *b = of(t);

    if (b->held == yes)
        return;
    b->held = yes;
    for (unsigned i = 0; i < ARRAY_LEN(b->out); i++) {
        if (b->out[i].h.fd < 0)
            continue;
        if (yes)
            loop_del(b->c->loop, &b->out[i].h);
        else
            (void)!loop_add(b->c->loop, &b->out[i].h, EPOLLIN, NULL);
    }
}

static void box_unread(struct task *t, enum task_stream stream)
{
    struct box *b = of(t);

    close_stream(b, &b->out[stream]);
    tell_end(b);
}

static void box_resize(struct task *t, uint16_t rows, uint16_t cols)
{
    struct winsize ws = {.ws_row = rows, .ws_col = cols};
    struct box *b = of(t);

    if (b->c->rec->spec.tty && b->out[0].h.fd >= 0)
        (void)ioctl(b->out[0].h.fd, TIOCSWINSZ, &ws);
}

/* ---- start */

struct ends { /* the container's, until it has them */
    int fd[3];
};

static int make_pipe(int *ours, int *theirs, bool we_read, struct err *e)
{
    int v[2];

    if (pipe2(v, O_CLOEXEC) < 0)
        return err_errno(e, -errno, "pipe");
    *ours = v[we_read ? 0 : 1];
    *theirs = v[we_read ? 1 : 0];
    (void)fcntl(*ours, F_SETPIPE_SZ, PIPE_BYTES);
    return fcntl(*ours, F_SETFL, O_NONBLOCK) < 0 ? err_errno(e, -errno, "pipe") : 0;
}

static int make_pipes(struct box *b, struct ends *ends, struct err *e)
{
    int r = 0;

    if (b->c->with_stdin)
        r = make_pipe(&b->in.fd, &ends->fd[0], false, e);
    if (r == 0)
        r = make_pipe(&b->out[0].h.fd, &ends->fd[1], true, e);
    if (r == 0)
        r = make_pipe(&b->out[1].h.fd, &ends->fd[2], true, e);
    return r;
}

/* One descriptor for each way, so that either can be closed. */
static int take_terminal(struct box *b, struct err *e)
{
    b->out[0].h.fd = b->child.terminal;
    b->child.terminal = -1;
    if (fcntl(b->out[0].h.fd, F_SETFL, O_RDWR | O_NONBLOCK) < 0)
        return err_errno(e, -errno, "terminal");
    if (b->c->with_stdin)
        b->in.fd = fcntl(b->out[0].h.fd, F_DUPFD_CLOEXEC, 0);
    return b->c->with_stdin && b->in.fd < 0 ? err_errno(e, -errno, "terminal") : 0;
}

static int watch(struct box *b, struct err *e)
{
    int r = loop_add(b->c->loop, &b->end, EPOLLIN, e);

    for (unsigned i = 0; r == 0 && i < ARRAY_LEN(b->out); i++)
        if (b->out[i].h.fd >= 0)
            r = loop_add(b->c->loop, &b->out[i].h, EPOLLIN, e);
    return r;
}

/* What kiln could not do has no number of a command's. */
static int recode(struct err *e, int code, bool starting)
{
    if (starting)
        code = code == -ENOENT || code == -EACCES || code == -EINVAL ? code : -ENOEXEC;
    else if (code == -ENOENT || code == -EACCES || code == -ENOEXEC)
        code = -EIO;
    if (e)
        e->code = code;
    return code;
}

static int create(struct box *b, struct procconf *p, struct err *e)
{
    struct ends ends = {{-1, -1, -1}};
    bool tty = b->c->rec->spec.tty;
    int r = procconf_fill(b->c, p, e);

    trace_set(b->c->trace, TRACE_READY);
    if (r == 0 && !tty)
        r = make_pipes(b, &ends, e);
    if (r == 0) {
        memcpy(p->conf.process.io, ends.fd, sizeof(ends.fd));
        r = process_create(&p->conf, &b->st, &b->child, e);
    }
    for (unsigned i = 0; i < ARRAY_LEN(ends.fd); i++)
        cleanup_fd(&ends.fd[i]);
    if (r < 0)
        return r;
    b->made = true;
    trace_set(b->c->trace, TRACE_MADE);
    b->end.fd = b->child.pidfd;
    if (tty)
        r = take_terminal(b, e);
    if (r == 0 && b->c->plug)
        r = b->c->plug(b->c->ctx, b->st.pid, e);
    return r;
}

static void box_free(struct task *t)
{
    struct box *b = of(t);

    if (!b)
        return;
    loop_del(b->c->loop, &b->end);
    if (b->made) {
        (void)!process_kill(&b->st, SIGKILL, false, NULL);
        (void)!cgroup_freeze(&b->st.cgroup, false, 0, NULL);
        if (!b->exited)
            (void)waitpid(b->child.pid, NULL, 0);
        (void)!process_delete(&b->st, true, NULL);
        process_child_reap(&b->child);
    }
    process_child_done(&b->child);
    close_input(b);
    close_stream(b, &b->out[0]);
    close_stream(b, &b->out[1]);
    trace_set(b->c->trace, TRACE_GONE);
    unpacked_done(&b->unpacked);
    free(b->buf);
    free(b);
}

static int box_start(const struct task_conf *c, struct task **ret, struct err *e)
{
    struct box *b = calloc(1, sizeof(*b));
    CLEANUP(mem) struct procconf *p = calloc(1, sizeof(*p));

    if (!b || !p || !(b->buf = malloc(READ_BYTES))) {
        free(b);
        return err_set(e, -ENOMEM, "out of memory");
    }
    b->task.ops = &task_process;
    b->c = c;
    b->child = PROCESS_CHILD_NONE;
    b->end = (struct loop_fd){.fd = -1, .ready = on_end, .ctx = b};
    b->in = (struct loop_fd){.fd = -1, .ready = on_input, .ctx = b};
    for (unsigned i = 0; i < ARRAY_LEN(b->out); i++)
        b->out[i] = (struct stream){.h = {.fd = -1, .ready = on_output, .ctx = &b->out[i]},
                                    .box = b,
                                    .which = i ? TASK_STDERR : TASK_STDOUT};
    int r = create(b, p, e);
    bool starting = r == 0;
    if (r == 0)
        r = process_start_child(&b->child, e);
    trace_set(c->trace, TRACE_STARTED);
    b->unpacked = p->unpacked;
    p->unpacked.lock = 0;
    procconf_done(p);
    if (r < 0)
        r = recode(e, r, starting);
    else
        r = watch(b, e);
    if (r < 0) {
        box_free(&b->task);
        return r;
    }
    *ret = &b->task;
    return 0;
}

/* ---- what the keeper asks for */

static int box_kill(struct task *t, int sig, struct err *e)
{
    struct box *b = of(t);

    if (b->exited)
        return err_set(e, -ESRCH, "the container has ended");
    /* Its pid is its group's, and it is not reaped yet. */
    if (b->c->rec->spec.tty && kill(-b->st.pid, sig) == 0)
        return 0;
    return process_kill(&b->st, sig, false, e);
}

static int box_pause(struct task *t, bool yes, struct err *e)
{
    return process_freeze(&of(t)->st, yes, e);
}

static int box_update(struct task *t, const struct task_limits *l, struct err *e)
{
    struct cgroup_limits out = {0};

    if (l->memory != SPEC_UNSET)
        out.memory_bytes = l->memory;
    if (l->memory_swap != SPEC_UNSET)
        out.memory_swap_bytes = l->memory_swap;
    if (l->nano_cpus != SPEC_UNSET) {
        out.cpu_period_us = CGROUP_CPU_PERIOD_US;
        out.cpu_quota_us = l->nano_cpus / 1000 * CGROUP_CPU_PERIOD_US / 1000000;
    }
    if (l->cpu_shares != SPEC_UNSET)
        out.cpu_shares = (uint64_t)l->cpu_shares;
    if (l->pids_limit != SPEC_UNSET)
        out.pids = l->pids_limit;
    return cgroup_update(&of(t)->st.cgroup, &out, e);
}

/* proc_pid_net(5), dev: all interfaces but loopback. */
static void net_bytes(pid_t pid, struct task_stats *s)
{
    char path[32], line[512];

    snprintf(path, sizeof(path), "/proc/%d/net/dev", (int)pid);
    CLEANUP(file) FILE *f = fopen(path, "re");
    while (f && fgets(line, sizeof(line), f)) {
        unsigned long long rx, tx;
        char *colon = strchr(line, ':');

        if (!colon || strstr(line, " lo:") || strncmp(line, "lo:", 3) == 0 ||
            sscanf(colon + 1, "%llu %*u %*u %*u %*u %*u %*u %*u %llu", &rx, &tx) != 2)
            continue;
        s->net_rx += rx;
        s->net_tx += tx;
    }
}

static int box_stats(struct task *t, struct task_stats *s, struct err *e)
{
    const struct box *b = of(t);
    struct cgroup_usage u;
    int r = cgroup_usage(&b->st.cgroup, &u, e);

    if (r < 0)
        return r;
    /* As docker counts: what can be dropped at once is not used. */
    uint64_t cache = u.memory_cache_bytes < u.memory_bytes ? u.memory_cache_bytes : 0;
    *s = (struct task_stats){.cpu_ns = u.cpu_ns,
                             .memory = u.memory_bytes - cache,
                             .memory_limit = u.memory_limit_bytes,
                             .memory_peak = u.memory_peak_bytes,
                             .disk_read = u.io_read_bytes,
                             .disk_write = u.io_written_bytes,
                             .pids = u.pids};
    net_bytes(b->st.pid, s);
    return 0;
}

static int box_counters(struct task *t, struct vm_report *r, struct err *e)
{
    return err_set(e, -ENOTSUP, "a container of the process class has no engine");
}

static pid_t box_pid(const struct task *t)
{
    return ((const struct box *)t)->st.pid;
}

static const char *box_engine(struct task *t)
{
    return NULL;
}

static void box_recover(const struct record *r)
{
    struct cgroup g;

    if (procconf_group(r, &g, NULL) < 0)
        return;
    (void)!cgroup_kill(&g, KILL_MS, NULL);
    (void)!cgroup_remove(&g, KILL_MS, NULL);
}

static int remove_layer(void *ctx)
{
    const struct record *r = ctx;

    (void)store_remove_tree(r->dir, "upper");
    (void)store_remove_tree(r->dir, "work");
    return 0;
}

/* Without root, but with subordinate ids: files of the container's other users are nobody's here.
 */
static void box_discard(const struct record *r)
{
    struct process_maps m;

    if (geteuid() != 0 && process_rootless_maps(&m, NULL) == 0 && m.n_uid > 1)
        (void)!process_rootless_call(&m, remove_layer, (void *)r, NULL);
}

const struct task_ops task_process = {
    .start = box_start,
    .input = box_input,
    .input_end = box_input_end,
    .hold = box_hold,
    .unread = box_unread,
    .resize = box_resize,
    .kill = box_kill,
    .pause = box_pause,
    .update = box_update,
    .stats = box_stats,
    .counters = box_counters,
    .pid = box_pid,
    .engine = box_engine,
    .free = box_free,
    .recover = box_recover,
    .discard = box_discard,
};
