#include "container/files.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "container/exec_priv.h"
#include "container/files_priv.h"
#include "image/initrd.h"
#include "image/store.h"
#include "os/fds.h"
#include "proto/proctable.h"

enum { ANSWER_MS = 120000 };

/* ---- where they are */

static int find_image(const char *root, struct files_at *at, struct err *e)
{
    const struct spec *s = &at->r->spec;
    struct store *store = NULL;
    struct image im = {0};
    int r = store_open(root, &store, e);

    if (r < 0)
        return r;
    at->store = strdup(store_root(store));
    r = store_find(store, s->image_digest ? s->image_digest : s->image, &im, e);
    if (r == -ENOENT)
        err_set(e, r, "container %s: its image '%s' is gone", at->r->name, s->image);
    if (r == 0) {
        at->rootfs = take_ptr(&im.rootfs);
        snprintf(at->fstype, sizeof(at->fstype), "%s", im.fstype);
    }
    image_done(&im);
    if (r == 0 && s->isolation == SPEC_VM && !at->running)
        r = kernel_find(at->store, s->kernel, &at->kernel, &at->kernel_dir, e);
    store_close(store);
    return r == 0 && !at->store ? err_errno(e, -ENOMEM, "image") : r;
}

int files_enter(const char *root, const struct record *r, struct files_at **ret, struct err *e)
{
    if (r->state.status == RECORD_PAUSED)
        return err_set(e, -EAGAIN, "container %s is paused: unpause it before", r->name);
    struct files_at *at = calloc(1, sizeof(*at));
    if (!at)
        return err_errno(e, -ENOMEM, "files");
    at->r = r;
    at->state = r->state;
    at->running = r->state.status == RECORD_RUNNING;
    at->dir = RUNDIR_NONE;
    at->child = PROCESS_CHILD_NONE;
    int rc = find_image(root, at, e);
    if (rc == 0 && !at->running)
        rc = filesoff_begin(at, e);
    if (rc < 0) {
        files_leave(at);
        return rc;
    }
    *ret = at;
    return 0;
}

void files_leave(struct files_at *at)
{
    if (!at)
        return;
    if (!at->running)
        filesoff_end(at);
    free(at->store);
    free(at->rootfs);
    free(at->kernel);
    free(at->kernel_dir);
    free(at);
}

/* ---- one work */

struct ends {
    int in[2], out[2]; /* pipes; [0] reads */
};

static void ends_done(struct ends *x)
{
    for (unsigned i = 0; i < 2; i++) {
        cleanup_fd(&x->in[i]);
        cleanup_fd(&x->out[i]);
    }
}

/* A machine's: the helper carries the session's streams. */
static int begin_vm(struct files_at *at, enum filework_kind kind, unsigned flags, const char *path,
                    const char *name, struct session **s, struct err *e)
{
    static const struct session_watch none = {.machine_fd = -1, .signal_fd = -1};
    struct record *r = &at->idle;

    *r = *at->r;
    r->state = at->state;
    int rc = exec_vm_call(r, &none, s, e);
    if (rc == 0)
        rc = session_work(*s, kind, flags, path, name, e);
    if (rc == 0)
        rc = session_await(*s, ANSWER_MS, e);
    return rc == 0 ? session_await(*s, ANSWER_MS, e) : rc;
}

static _Noreturn void carry(struct session *s, const struct ends *x)
{
    const struct session_streams io = {.in = x->in[0], .out = x->out[1], .err = -1, .tty = -1};
    int status = 0;

    int r = session_pump(s, &io, -1, &status, NULL);
    _exit(r < 0 || status != 0); /* forked child */
}

/* What could not even be begun is told where the answer is expected. */
static int tell(int out, const struct err *e)
{
    struct pack_out *o = malloc(sizeof(*o));

    if (!o)
        return -ENOMEM;
    pack_out_init(o, out);
    int r = pack_put_fail(o, e->code, e->msg);
    free(o);
    return r;
}

/* The container's root, as its owner sees it. */
static int open_root(pid_t pid, struct err *e)
{
    char path[64];
    struct stat ours, theirs;

    snprintf(path, sizeof(path), "/proc/%d/root", (int)pid);
    int root = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (root < 0)
        return err_errno(e, -errno, "the container's root");
    snprintf(path, sizeof(path), "/proc/%d/ns/user", (int)pid);
    CLEANUP(fd) int user = open(path, O_RDONLY | O_CLOEXEC);
    if (user >= 0 && fstat(user, &theirs) == 0 && stat("/proc/self/ns/user", &ours) == 0 &&
        ours.st_ino != theirs.st_ino &&
        (setns(user, CLONE_NEWUSER) < 0 || setgid(0) < 0 || setuid(0) < 0)) {
        close(root);
        return err_errno(e, -errno, "the container's user namespace");
    }
    return root;
}

static int work_inside(const struct files_at *at, struct filework *w)
{
    int keep[2] = {w->in < w->out ? w->in : w->out, w->in < w->out ? w->out : w->in};
    struct err e = {0};

    fds_close_but(keep, 2);
    umask(0);
    w->root = open_root(at->state.pid, &e);
    return w->root < 0 ? tell(w->out, &e) : filework_run(w);
}

static int write_top(const struct files_at *at, int out);

static _Noreturn void help(struct files_at *at, const struct filework *work)
{
    struct filework w = *work;
    int r;

    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    (void)prctl(PR_SET_DUMPABLE, 0);
    if (w.kind == FILEWORK_TOP)
        r = write_top(at, w.out);
    else if (w.kind == FILEWORK_DIFF)
        r = fileslayer_write(at, w.out);
    else
        r = work_inside(at, &w);
    _exit(r < 0); /* forked child */
}

/* Processes are those of the control group; their names are the container's. */
static int put_rows(const pid_t *list, size_t n, int root, struct pack_out *o)
{
    CLEANUP(fd) int proc = open("/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    struct proctable_row row;
    char line[PROCTABLE_LINE_MAX];
    int r = proc < 0 ? -errno : 0;

    for (size_t i = 0; r == 0 && i < n; i++) {
        if (proctable_read(proc, list[i], &row) < 0)
            continue;
        proctable_user(root, row.uid, row.user, sizeof(row.user));
        int len = proctable_format(&row, line);
        if (len > 0 && len < (int)sizeof(line))
            r = pack_put_data(o, line, (size_t)len);
    }
    return r;
}

static int write_top(const struct files_at *at, int out)
{
    const struct pack_entry en = {.type = PACK_FILE, .path = "top", .link = ""};
    struct pack_out *o = malloc(sizeof(*o));
    CLEANUP(mem) pid_t *list = NULL;
    struct process_state st;
    struct err e = {0};
    size_t n = 0;

    if (!o)
        return -ENOMEM;
    pack_out_init(o, out);
    int r = procconf_state(at->r, &st, &e);
    if (r == 0)
        r = process_pids(&st, &list, &n, &e);
    CLEANUP(fd) int root = r == 0 ? open_root(at->state.pid, &e) : -1;
    if (r == 0)
        r = pack_put_entry(o, &en);
    if (r == 0)
        r = put_rows(list, n, root, o);
    r = r < 0 ? pack_put_fail(o, r, e.msg[0] ? e.msg : strerror(-r)) : pack_put_end(o);
    free(o);
    return r;
}

int files_begin(struct files_at *at, enum filework_kind kind, unsigned flags, const char *path,
                const char *name, struct files *f, struct err *e)
{
    bool vm = at->r->spec.isolation == SPEC_VM, put = kind == FILEWORK_PUT;

    if (put && !at->running)
        flags |= FILEWORK_SYNC;
    struct ends x = {{-1, -1}, {-1, -1}};
    struct session *s = NULL;
    int r = vm ? begin_vm(at, kind, flags, path, name, &s, e) : 0;

    *f = (struct files){.in = -1, .out = -1};
    if (r == 0 && (pipe2(x.out, O_CLOEXEC) < 0 || (put && pipe2(x.in, O_CLOEXEC) < 0)))
        r = err_errno(e, -errno, "pipe");
    fflush(NULL);
    f->helper = r == 0 ? fork() : 0;
    if (r == 0 && f->helper == 0) {
        const struct filework w = {.kind = kind,
                                   .flags = flags,
                                   .path = path,
                                   .name = name,
                                   .upper = -1,
                                   .image = -1,
                                   .in = x.in[0],
                                   .out = x.out[1]};
        cleanup_fd(&x.in[1]);
        cleanup_fd(&x.out[0]);
        if (vm)
            carry(s, &x);
        help(at, &w);
    }
    if (f->helper < 0)
        r = err_errno(e, -errno, "fork");
    session_close(s);
    if (r == 0) {
        f->in = take_fd(&x.in[1]);
        f->out = take_fd(&x.out[0]);
    }
    ends_done(&x);
    return r;
}

void files_end(struct files *f)
{
    cleanup_fd(&f->in);
    cleanup_fd(&f->out);
    f->in = f->out = -1;
    if (f->helper > 0)
        while (waitpid(f->helper, NULL, 0) < 0 && errno == EINTR) {
        }
    f->helper = 0;
}
