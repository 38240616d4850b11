#include "container/control.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "container/machine.h"
#include "container/ctlwire.h"
#include "mem/mem.h"
#include "vm/seed.h"
#include "vm/snapshot.h"
#include "vm/workset.h"

enum {
    BACKLOG = 8,
    REQUEST_MS = 5000, /* for a client to say its line */
    ANSWER_MS = 5000,  /* and to take the answer */
    WORKSET_MS = 1000, /* what a machine touches until then is its working set */
    FORK_MIB = 8,      /* memory that has to be there for each fork */
};

struct control {
    struct control_conf c;
    char *vsock, *note; /* owned */
    int listen_fd, quit_fd;
    struct sockaddr_un addr;
    pthread_t thread;
    bool started, paused; /* paused: by a request */
};

/* --- operations: fill `out` or *e ----------------------------------------------- */

static const char *text_of(const json_t *req, const char *key)
{
    return json_string_value(json_object_get(req, key));
}

static void set_ns(json_t *out, const char *key, uint64_t ns)
{
    json_object_set_new(out, key, json_integer((json_int_t)ns));
}

static int do_info(struct control *c, const json_t *req, json_t *out, struct err *e)
{
    (void)req;
    (void)e;
    json_object_set_new(out, "id", json_string(c->c.dir->id));
    json_object_set_new(out, "name", json_string(c->c.dir->name));
    json_object_set_new(out, "pid", json_integer(getpid()));
    json_object_set_new(out, "engine", json_string(vm_engine(c->c.vm)));
    json_object_set_new(out, "ram_bytes", json_integer((json_int_t)mem_size(vm_mem(c->c.vm))));
    json_object_set_new(out, "vsock", json_string(c->vsock));
    json_object_set_new(out, "note", json_string(c->note));
    json_object_set_new(out, "paused", json_boolean(c->paused));
    return 0;
}

static int do_snapshot(struct control *c, const json_t *req, json_t *out, struct err *e)
{
    struct snap_opts o = {.dir = text_of(req, "dir"),
                          .parent = text_of(req, "parent"),
                          .note = c->note,
                          .compress = json_is_true(json_object_get(req, "compress")),
                          .stop = json_is_true(json_object_get(req, "stop"))};
    struct snap_report rep;

    if (!o.dir || o.dir[0] != '/')
        return err_set(e, -EINVAL, "a snapshot needs the absolute path of its folder");
    int r = snapshot_create(c->c.vm, &o, &rep, e);
    if (r < 0)
        return r;
    set_ns(out, "pause_ns", rep.pause_ns);
    set_ns(out, "total_ns", rep.total_ns);
    json_object_set_new(out, "pages", json_integer((json_int_t)rep.pages));
    json_object_set_new(out, "stored_bytes", json_integer((json_int_t)rep.stored_bytes));
    if (o.stop)
        vm_stop(c->c.vm);
    return 0;
}

static int do_pause(struct control *c, const json_t *req, json_t *out, struct err *e)
{
    int r = vm_pause(c->c.vm, e);

    c->paused |= r == 0;
    return r;
}

static int do_resume(struct control *c, const json_t *req, json_t *out, struct err *e)
{
    int r = vm_resume(c->c.vm, e);

    c->paused &= r != 0;
    return r;
}

static int do_stop(struct control *c, const json_t *req, json_t *out, struct err *e)
{
    vm_stop(c->c.vm);
    return 0;
}

/* --- fork ------------------------------------------------------------------------- */

static uint64_t now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* Memory this host can still give, MiB; 0 = it does not say. */
static uint64_t available_mib(void)
{
    CLEANUP(file) FILE *f = fopen("/proc/meminfo", "re");
    char line[128];
    unsigned long long kib = 0;

    while (f && fgets(line, sizeof(line), f))
        if (sscanf(line, "MemAvailable: %llu kB", &kib) == 1)
            break;
    return kib >> 10;
}

static int check_room(unsigned n, struct err *e)
{
    uint64_t have = available_mib(), want = (uint64_t)n * FORK_MIB;

    if (have && have < want)
        return err_set(
            e, -ENOMEM,
            "%u copies want %llu MiB of memory at the least; this host has %llu MiB left", n,
            (unsigned long long)want, (unsigned long long)have);
    return 0;
}

struct fork_job {
    unsigned n;
    const char *prefix; /* NULL = no names */
    const char *engine, *note;
    int report[2], go[2]; /* owned */
};

/* The child of seed_fork(): all machines are forked from here, while the parent goes on. */
static _Noreturn void breed(const struct fork_job *j, struct seed *seed)
{
    struct machine_report failed = {.err = {.code = -EAGAIN, .msg = "fork"}};

    close(j->go[1]); /* the parent's end alone must keep it open */
    for (unsigned i = 0; i < j->n; i++) {
        char name[RUNDIR_NAME_MAX + 16];
        struct machine_conf mc = {.seed = seed,
                                  .name = j->prefix ? name : NULL,
                                  .engine = j->engine,
                                  .note = j->note,
                                  .report_fd = j->report[1],
                                  .go_fd = j->go[0]};

        if (j->prefix)
            snprintf(name, sizeof(name), "%s-%u", j->prefix, i + 1);
        pid_t pid = fork();
        if (pid == 0)
            machine_main(&mc);
        if (pid < 0) {
            err_errno(&failed.err, -errno, "fork");
            (void)!write(j->report[1], &failed, sizeof(failed));
            break;
        }
    }
    _exit(0); /* forked child */
}

/* Until each has told, or all that could are gone. */
static int await_reports(struct fork_job *j, json_t *machines, struct err *e)
{
    struct machine_report rep;

    for (unsigned i = 0; i < j->n; i++) {
        ssize_t n;

        do
            n = read(j->report[0], &rep, sizeof(rep));
        while (n < 0 && errno == EINTR);
        if (n != sizeof(rep))
            return err_set(e, -EIO, "copy %u of %u died while it was made", i + 1, j->n);
        if (rep.err.code < 0) {
            rep.err.msg[sizeof(rep.err.msg) - 1] = '\0';
            return err_set(e, rep.err.code, "copy of the machine: %s", rep.err.msg);
        }
        json_array_append_new(machines,
                              json_pack("{s:s, s:s, s:i, s:s}", "id", rep.id, "name", rep.name,
                                        "pid", (int)rep.pid, "vsock", rep.vsock));
    }
    return 0;
}

static int fork_all(struct control *c, struct fork_job *j, json_t *out, struct err *e)
{
    json_t *machines = json_array();
    struct seed *seed = NULL;
    uint64_t pause = 0, began = now_ns();
    pid_t pid = seed_fork(c->c.vm, &seed, &pause, e);

    if (pid == 0 && seed)
        breed(j, seed);
    if (pid < 0) {
        json_decref(machines);
        return pid;
    }
    close(j->report[1]);
    j->report[1] = -1;
    close(j->go[0]);
    j->go[0] = -1;
    int r = await_reports(j, machines, e);
    while (waitpid(pid, NULL, 0) < 0 && errno == EINTR) {
    }
    for (unsigned i = 0; r == 0 && i < j->n; i++)
        (void)!write(j->go[1], "g", 1);
    if (r < 0) {
        json_decref(machines);
        return r;
    }
    set_ns(out, "pause_ns", pause);
    set_ns(out, "total_ns", now_ns() - began);
    json_object_set_new(out, "machines", machines);
    return 0;
}

static int do_fork(struct control *c, const json_t *req, json_t *out, struct err *e)
{
    json_int_t n = json_integer_value(json_object_get(req, "n"));
    struct fork_job j = {.prefix = text_of(req, "prefix"),
                         .engine = vm_engine(c->c.vm),
                         .note = c->note,
                         .report = {-1, -1},
                         .go = {-1, -1}};

    if (n < 1 || n > CONTROL_FORKS_MAX)
        return err_set(e, -EINVAL, "%lld copies: from 1 to %d can be had", (long long)n,
                       CONTROL_FORKS_MAX);
    if (j.prefix && strlen(j.prefix) > RUNDIR_NAME_MAX - 6)
        return err_set(e, -EINVAL, "a name's beginning has at most %d bytes", RUNDIR_NAME_MAX - 6);
    j.n = (unsigned)n;
    int r = check_room(j.n, e);
    if (r == 0 && (pipe2(j.report, O_CLOEXEC) < 0 || pipe2(j.go, O_CLOEXEC) < 0))
        r = err_errno(e, -errno, "pipe");
    if (r == 0)
        r = fork_all(c, &j, out, e);
    for (unsigned i = 0; i < 2; i++) {
        cleanup_fd(&j.report[i]);
        cleanup_fd(&j.go[i]);
    }
    return r;
}

/* --- serving ------------------------------------------------------------------------- */

static const struct {
    const char *name;
    int (*run)(struct control *c, const json_t *req, json_t *out, struct err *e);
} operations[] = {
    {"info", do_info},   {"snapshot", do_snapshot}, {"fork", do_fork},
    {"pause", do_pause}, {"resume", do_resume},     {"stop", do_stop},
};

static json_t *answer(struct control *c, const char *line)
{
    json_t *out = json_object(), *req = json_loads(line, JSON_REJECT_DUPLICATES, NULL);
    const char *op = text_of(req, "op");
    struct err e = {0};
    int r = err_set(&e, -EINVAL, "not a request");

    for (size_t i = 0; op && i < ARRAY_LEN(operations); i++)
        if (strcmp(operations[i].name, op) == 0)
            r = operations[i].run(c, req, out, &e);
    json_decref(req);
    json_object_set_new(out, "ok", json_boolean(r == 0));
    if (r < 0) {
        json_object_set_new(out, "code", json_integer(r));
        json_object_set_new(out, "error", json_string(e.msg));
    }
    return out;
}

/* The folder is its owner's alone, but a descriptor can be handed on. */
static bool may_ask(int fd)
{
    struct ucred u;
    socklen_t len = sizeof(u);

    return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &u, &len) == 0 &&
           (u.uid == geteuid() || u.uid == 0);
}

static void serve_one(struct control *c, int fd)
{
    char *line = may_ask(fd) ? ctlwire_read(fd, REQUEST_MS, c->quit_fd, NULL) : NULL;
    json_t *out = line ? answer(c, line) : NULL;

    if (out)
        (void)!ctlwire_write(fd, out, ANSWER_MS, NULL);
    json_decref(out);
    free(line);
}

static void *control_main(void *arg)
{
    struct control *c = arg;
    struct pollfd p[] = {{.fd = c->listen_fd, .events = POLLIN},
                         {.fd = c->quit_fd, .events = POLLIN}};

    for (bool recorded = false;;) {
        int n = poll(p, ARRAY_LEN(p), recorded ? -1 : WORKSET_MS);

        if (n < 0)
            continue;
        if (!recorded && (n == 0 || p[1].revents)) {
            workset_record(c->c.vm);
            recorded = true;
        }
        if (p[1].revents)
            return NULL;
        if (n == 0)
            continue;
        CLEANUP(fd) int fd = accept4(c->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (fd >= 0)
            serve_one(c, fd);
    }
}

static int listen_on(struct control *c, struct err *e)
{
    int r = ctlwire_address(c->c.dir->path, "control", &c->addr, e);

    if (r < 0)
        return r;
    c->listen_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    /* The mode before bind() is the mode of the file. */
    if (c->listen_fd < 0 || fchmod(c->listen_fd, 0600) < 0 ||
        bind(c->listen_fd, (const struct sockaddr *)&c->addr, sizeof(c->addr)) < 0 ||
        listen(c->listen_fd, BACKLOG) < 0)
        return err_errno(e, -errno, "%s", c->addr.sun_path);
    return 0;
}

int control_serve(const struct control_conf *conf, struct control **ret, struct err *e)
{
    struct control *c = calloc(1, sizeof(*c));

    if (!c)
        return err_set(e, -ENOMEM, "out of memory");
    c->c = *conf;
    c->listen_fd = -1;
    c->quit_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    c->vsock = strdup(conf->vsock ? conf->vsock : "");
    c->note = strdup(conf->note ? conf->note : "");
    int r = c->vsock && c->note && c->quit_fd >= 0 ? listen_on(c, e)
                                                   : err_set(e, -ENOMEM, "out of memory");
    if (r == 0) {
        r = -pthread_create(&c->thread, NULL, control_main, c);
        c->started = r == 0;
        if (r < 0)
            err_errno(e, r, "start the control thread");
    }
    if (r < 0) {
        control_free(c);
        return r;
    }
    *ret = c;
    return 0;
}

void control_free(struct control *c)
{
    uint64_t one = 1;

    if (!c)
        return;
    if (c->started) {
        (void)!write(c->quit_fd, &one, sizeof(one));
        pthread_join(c->thread, NULL);
    }
    if (c->listen_fd >= 0)
        (void)unlink(c->addr.sun_path);
    cleanup_fd(&c->listen_fd);
    cleanup_fd(&c->quit_fd);
    free(c->vsock);
    free(c->note);
    free(c);
}
