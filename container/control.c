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
#include "container/warden.h"
#include "mem/mem.h"
#include "os/role.h"
#include "vm/seed.h"
#include "vm/snapshot.h"
#include "vm/workset.h"

enum {
    BACKLOG = 8,
    REQUEST_MS = 5000, /* for a client to say its line */
    ANSWER_MS = 5000,  /* and to take the answer */
    WORKSET_MS = 1000, /* what a machine touches until then is its working set */
    FORK_MS = 60000,   /* for a forking client and its machine to hear of each other */
};

struct control {
    struct control_conf c;
    char *vsock, *note; /* owned */
    int quit_fd;
    pthread_t thread;
    bool started, paused;   /* paused: by a request */
    bool saved;             /* ...that saved it for good: it ends, or goes on when the asker does */
    int asker;              /* who asks now; borrowed */
    struct ctlwire_fds fds; /* that came with the request */
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
    const struct vm *vm = c->c.vm;
    json_t *disks = json_array(), *all = json_array();

    (void)req;
    (void)e;
    for (unsigned i = 0; i < VM_DISKS_MAX; i++)
        if (vm_own_disks(vm) >> i & 1) {
            json_array_append_new(disks, json_integer(i));
            json_array_append_new(all, json_string(vm_disk_path(vm, i)));
        }
    json_object_set_new(out, "id", json_string(c->c.dir->id));
    json_object_set_new(out, "name", json_string(c->c.dir->name));
    json_object_set_new(out, "engine", json_string(vm_engine(vm)));
    json_object_set_new(out, "ram_bytes", json_integer((json_int_t)mem_size(vm_mem(c->c.vm))));
    json_object_set_new(out, "vsock", json_string(c->vsock));
    json_object_set_new(out, "note", json_string(c->note));
    json_object_set_new(out, "paused", json_boolean(c->paused));
    json_object_set_new(out, "own_disks", disks);
    json_object_set_new(out, "own_paths", all);
    return 0;
}

/* The files in the order of control.h. */
static int take_files(struct control *c, struct snap_files *f, struct err *e)
{
    uint32_t own = vm_own_disks(c->c.vm);
    unsigned n = 2;

    *f = SNAP_FILES_NONE;
    if (c->fds.n != 2 + (unsigned)__builtin_popcount(own))
        return err_set(e, -EINVAL, "a snapshot needs its files");
    f->state = c->fds.fd[0];
    f->memory = c->fds.fd[1];
    for (unsigned i = 0; i < VM_DISKS_MAX; i++)
        if (own >> i & 1)
            f->disk[i] = c->fds.fd[n++];
    return 0;
}

static int do_snapshot(struct control *c, const json_t *req, json_t *out, struct err *e)
{
    struct snap_opts o = {.note = c->note,
                          .compress = json_is_true(json_object_get(req, "compress")),
                          .stop = json_is_true(json_object_get(req, "stop"))};
    const char *id = text_of(req, "parent_id");
    struct snap_report rep;
    struct snap_files f;
    int r = take_files(c, &f, e);

    f.parent = text_of(req, "parent");
    if (r == 0 && f.parent && (!id || strlen(id) != SNAP_ID_LEN))
        r = err_set(e, -EINVAL, "which parent?");
    if (r == 0 && f.parent)
        memcpy(f.parent_id, id, sizeof(f.parent_id));
    if (r == 0)
        r = snapshot_fill(c->c.vm, &o, &f, &rep, e);
    if (r < 0)
        return r;
    c->saved = o.stop;
    set_ns(out, "pause_ns", rep.pause_ns);
    set_ns(out, "total_ns", rep.total_ns);
    json_object_set_new(out, "pages", json_integer((json_int_t)rep.pages));
    json_object_set_new(out, "stored_bytes", json_integer((json_int_t)rep.stored_bytes));
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

/* Others will execute it: it is asked for before anything of the container has run, and the owner
 * of the descriptor takes a copy. */
static int do_code(struct control *c, const json_t *req, json_t *out, struct err *e)
{
    if (c->c.code_fd < 0)
        return err_set(e, -ENOTSUP, "no code of this machine is kept");
    int r = vm_pause(c->c.vm, e);
    if (r < 0)
        return r;
    r = vm_code_save(c->c.vm, c->c.code_fd, e);
    int again = c->paused ? 0 : vm_resume(c->c.vm, e);
    return r < 0 ? r : again;
}

static int do_stop(struct control *c, const json_t *req, json_t *out, struct err *e)
{
    c->saved = false;
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

struct fork_job {
    unsigned n;
    struct control *c;
    int report[2], go[2]; /* owned */
};

/* One machine's folder is ready: be it. Only in a forked child. */
static _Noreturn void be_machine(const struct fork_job *j, struct seed *seed, const json_t *req,
                                 struct ctlwire_fds *fds)
{
    const struct control *c = j->c;
    struct machine_conf mc = {.seed = seed,
                              .id = text_of(req, "id"),
                              .name = text_of(req, "name"),
                              .vsock = text_of(req, "vsock"),
                              .engine = vm_engine(c->c.vm),
                              .note = c->note,
                              .hook = c->c.hook,
                              .owner = c->c.owner,
                              .report_fd = j->report[1],
                              .go_fd = j->go[0]};

    machine_fork_main(&mc, fds);
}

/* The child of seed_fork(): all machines are forked from here, while the parent goes on. The client
 * says one after the other what each is to have. */
static _Noreturn void breed(const struct fork_job *j, struct seed *seed)
{
    struct machine_report failed = {.err = {.code = -EAGAIN, .msg = "fork"}};
    json_t *ready = json_pack("{s:b}", "ready", 1);
    int to = j->c->asker;

    close(j->go[1]); /* the parent's end alone must keep it open */
    for (unsigned i = 0; i < j->n; i++) {
        struct ctlwire_fds fds = {.n = 0};

        if (ctlwire_write_fds(to, ready, NULL, FORK_MS, NULL) < 0)
            break;
        char *line = ctlwire_read_fds(to, FORK_MS, -1, &fds, NULL);
        json_t *req = line ? json_loads(line, JSON_REJECT_DUPLICATES, NULL) : NULL;
        pid_t pid = req ? fork() : -1;
        if (pid == 0)
            be_machine(j, seed, req, &fds);
        if (pid < 0) {
            err_errno(&failed.err, req ? -errno : -ECONNRESET, "fork");
            (void)!write(j->report[1], &failed, sizeof(failed));
            break;
        }
        ctlwire_close(&fds);
        json_decref(req);
        free(line);
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
        json_array_append_new(machines, json_string(rep.id));
    }
    return 0;
}

static int fork_all(struct control *c, struct fork_job *j, json_t *out, struct err *e)
{
    json_t *machines = json_array();
    struct seed *seed = NULL;
    uint64_t pause = 0, began = now_ns();
    pid_t pid = seed_fork(c->c.vm, c->fds.fd, &seed, &pause, e);

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
    struct fork_job j = {.c = c, .report = {-1, -1}, .go = {-1, -1}};

    if (n < 1 || n > CONTROL_FORKS_MAX)
        return err_set(e, -EINVAL, "%lld copies: from 1 to %d can be had", (long long)n,
                       CONTROL_FORKS_MAX);
    if (c->fds.n != (unsigned)__builtin_popcount(vm_own_disks(c->c.vm)))
        return err_set(e, -EINVAL, "a fork needs a file for each disk");
    j.n = (unsigned)n;
    int r = pipe2(j.report, O_CLOEXEC) < 0 || pipe2(j.go, O_CLOEXEC) < 0
                ? err_errno(e, -errno, "pipe")
                : fork_all(c, &j, out, e);
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
    {"info", do_info},     {"snapshot", do_snapshot}, {"fork", do_fork}, {"pause", do_pause},
    {"resume", do_resume}, {"stop", do_stop},         {"code", do_code},
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
static bool may_ask(const struct control *c, int fd)
{
    struct ucred u;
    socklen_t len = sizeof(u);

    return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &u, &len) == 0 &&
           (u.uid == c->c.owner || u.uid == 0);
}

/* One request after the other, until the asker has no more. */
static void serve_one(struct control *c, int fd)
{
    bool more = may_ask(c, fd);

    c->asker = fd;
    while (more) {
        char *line = ctlwire_read_fds(fd, REQUEST_MS, c->quit_fd, &c->fds, NULL);
        json_t *out = line ? answer(c, line) : NULL;

        more = out && ctlwire_write_fds(fd, out, NULL, ANSWER_MS, NULL) == 0;
        json_decref(out);
        free(line);
        ctlwire_close(&c->fds);
    }
    if (c->saved && vm_resume(c->c.vm, NULL) == 0) /* what was saved got no name */
        c->saved = false;
}

static void record_workset(struct control *c)
{
    CLEANUP(mem) uint8_t *bytes = NULL;
    size_t len = workset_take(c->c.vm, &bytes);

    if (len > 0)
        warden_workset(c->c.link, bytes, len);
}

static void *control_main(void *arg)
{
    struct control *c = arg;
    struct pollfd p[] = {{.fd = c->c.listen_fd, .events = POLLIN},
                         {.fd = c->quit_fd, .events = POLLIN}};

    thread_enter(c->c.hook, THREAD_CONTROL);
    for (bool recorded = false;;) {
        int n = poll(p, ARRAY_LEN(p), recorded ? -1 : WORKSET_MS);

        if (n < 0)
            continue;
        if (!recorded && (n == 0 || p[1].revents)) {
            record_workset(c);
            recorded = true;
        }
        if (p[1].revents)
            return NULL;
        if (n == 0)
            continue;
        CLEANUP(fd) int fd = accept4(c->c.listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (fd >= 0)
            serve_one(c, fd);
    }
}

int control_listen(const char *dir, struct err *e)
{
    struct sockaddr_un a;

    json_object_seed(0); /* it opens /dev/urandom, which a jailed machine cannot */
    int r = ctlwire_address(dir, "control", &a, e);

    if (r < 0)
        return r;
    CLEANUP(fd) int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    /* The mode before bind() is the mode of the file. */
    if (fd < 0 || fchmod(fd, 0600) < 0 || bind(fd, (const struct sockaddr *)&a, sizeof(a)) < 0 ||
        listen(fd, BACKLOG) < 0)
        return err_errno(e, -errno, "%s", a.sun_path);
    return take_fd(&fd);
}

int control_serve(const struct control_conf *conf, struct control **ret, struct err *e)
{
    struct control *c = calloc(1, sizeof(*c));

    if (!c)
        return err_set(e, -ENOMEM, "out of memory");
    c->c = *conf;
    c->quit_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    c->vsock = strdup(conf->vsock ? conf->vsock : "");
    c->note = strdup(conf->note ? conf->note : "");
    int r = c->vsock && c->note && c->quit_fd >= 0 ? 0 : err_set(e, -ENOMEM, "out of memory");
    if (r == 0 && listen(c->c.listen_fd, BACKLOG) < 0) /* who listens is the peer of who connects */
        r = err_errno(e, -errno, "listen");
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
    cleanup_fd(&c->c.listen_fd);
    cleanup_fd(&c->quit_fd);
    free(c->vsock);
    free(c->note);
    free(c);
}
