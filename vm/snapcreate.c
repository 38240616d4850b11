/* Making a snapshot. The guest stands while its state is saved, its disks are copied and this
 * process forks; the child has the memory as it was, copy-on-write, and writes it out while the
 * guest goes on. A machine that is to stop, or was never started, is written without a fork. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "os/fds.h"
#include "os/hexid.h"
#include "vm/snapdisk.h"
#include "vm/snapmem.h"
#include "vm/snapout.h"
#include "vm/vm_private.h"

struct job {
    struct vm *vm;
    const struct snap_opts *o;
    const struct snap_files *out;
    struct snapfile f;
    uint64_t *pages;   /* owned: bitmap of pages to store; NULL = found while writing */
    uint64_t *fetched; /* owned: what was taken from the dirty log; NULL = it did not run */
    struct snap_report report;
};

struct written { /* what the child tells; one write to a pipe, so it is whole */
    struct err err;
    uint64_t pages;
};

static uint64_t now_ns(clockid_t id)
{
    struct timespec t;

    clock_gettime(id, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static size_t bitmap_words(const struct vm *vm)
{
    return (size_t)((mem_pages(vm->mem) + 63) / 64);
}

static uint64_t *bitmap_new(const struct vm *vm, struct err *e)
{
    uint64_t *b = calloc(bitmap_words(vm), sizeof(*b));

    if (!b)
        err_set(e, -ENOMEM, "out of memory");
    return b;
}

static void merge(const struct vm *vm, uint64_t *to, const uint64_t *from)
{
    for (size_t i = 0; from && i < bitmap_words(vm); i++)
        to[i] |= from[i];
}

/* --- before the pause -------------------------------------------------------- */

static int take_parent(struct job *j, struct err *e)
{
    const struct track *t = &j->vm->track;
    const struct snap_files *out = j->out;

    if (t->how == TRACK_NONE || strcmp(t->id, out->parent_id) != 0)
        return err_set(e, -ESTALE, "what the machine changed since '%s' is not known: %s",
                       out->parent,
                       t->how == TRACK_NONE ? "no snapshot of it was taken before"
                                            : "it is known since another snapshot only");
    memcpy(j->f.parent_id, out->parent_id, sizeof(j->f.parent_id));
    j->f.parent = strdup(out->parent);
    return j->f.parent ? 0 : err_set(e, -ENOMEM, "out of memory");
}

static int prepare(struct job *j, struct err *e)
{
    const struct snap_opts *o = j->o;
    struct snapfile *f = &j->f;

    if (o->note && strlen(o->note) > SNAP_NOTE_MAX)
        return err_set(e, -E2BIG, "a note of more than %d bytes", SNAP_NOTE_MAX);
    f->note = strdup(o->note ? o->note : "");
    f->program = strdup("kiln " KILN_VERSION);
    f->engine = strdup(vm_engine(j->vm));
    f->compressed = o->compress;
    f->created_ns = (int64_t)now_ns(CLOCK_REALTIME);
    if (!f->note || !f->program || !f->engine)
        return err_set(e, -ENOMEM, "out of memory");
    int r = vm_check_whole(j->vm, e);
    if (r == 0)
        r = hexid(f->id, SNAP_ID_LEN, e);
    if (r == 0)
        r = shape_copy(&f->shape, &j->vm->shape, e);
    return r == 0 && j->out->parent ? take_parent(j, e) : r;
}

/* --- while the guest stands ------------------------------------------------- */

/* What a diff holds; and from now on the log begins anew. */
static int take_log(struct job *j, struct err *e)
{
    struct vm *vm = j->vm;
    int r = 0;

    if (vm->track.how == TRACK_LOG) {
        r = vm->engine->vm_dirty_sync(vm->cpus, e);
        if (r < 0)
            return r;
        j->fetched = bitmap_new(vm, e);
        if (!j->fetched)
            return -ENOMEM;
        mem_dirty_fetch(vm->mem, j->fetched);
        merge(vm, j->fetched, vm->track.more);
        if (j->out->parent) {
            j->pages = bitmap_new(vm, e);
            if (!j->pages)
                return -ENOMEM;
            merge(vm, j->pages, j->fetched);
        }
    } else if (!j->o->stop) {
        r = mem_dirty_start(vm->mem, e);
    }
    if (r == 0)
        vm->engine->vm_mem_changed(vm->cpus, true);
    return r;
}

static int copy_state(struct job *j, struct err *e)
{
    const struct shape *s = &j->vm->shape;
    int r = vm_save(j->vm, &j->f.machine, &j->f.machine_len, e);

    for (unsigned i = 0; r == 0 && i < s->n_disks; i++) {
        if (!shape_own_disk(&s->disk[i]))
            continue;
        r = j->out->disk[i] < 0
                ? err_set(e, -EINVAL, "no file for its copy")
                : snapdisk_copy(j->vm->disk_fd[i], j->out->disk[i], s->disk[i].size, e);
        if (r < 0)
            err_wrap(e, r, "disk '%s'", s->disk[i].path);
    }
    return r == 0 ? take_log(j, e) : r;
}

/* The kernel tells a process of its own pages only: before the fork. */
static int find_pages(struct job *j, struct err *e)
{
    const struct mem *m = j->vm->mem;

    if (j->pages)
        return 0;
    j->pages = bitmap_new(j->vm, e);
    if (!j->pages)
        return -ENOMEM;
    return j->out->parent ? mem_written(m, j->pages, e) : mem_used(m, j->pages, e);
}

/* --- writing ------------------------------------------------------------------ */

static int write_state(struct job *j, struct err *e)
{
    CLEANUP(mem) uint8_t *bytes = NULL;
    size_t len;
    int r = snapfile_format(&j->f, &bytes, &len, e);

    if (r < 0)
        return r;
    int fd = j->out->state;
    for (size_t done = 0; done < len;) {
        ssize_t n = write(fd, bytes + done, len - done);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return err_errno(e, n < 0 ? -errno : -EIO, "write 'state'");
        done += (size_t)n;
    }
    return fsync(fd) < 0 ? err_errno(e, -errno, "sync 'state'") : 0;
}

static int write_all(struct job *j, struct err *e)
{
    const struct snap_files *out = j->out;
    int r = snapmem_write(j->vm->mem, j->pages, out->parent != NULL, out->memory, &j->f, e);

    if (r == 0 && fsync(out->memory) < 0)
        r = err_errno(e, -errno, "sync the memory file");
    for (unsigned i = 0; r == 0 && i < VM_DISKS_MAX; i++)
        if (out->disk[i] >= 0 && fsync(out->disk[i]) < 0)
            r = err_errno(e, -errno, "sync a disk's copy");
    return r == 0 ? write_state(j, e) : r;
}

static _Noreturn void child_main(struct job *j, int out, pid_t parent)
{
    struct written w = {.err = {0}};
    int keep[VM_DISKS_MAX + 4];
    unsigned n = 0;

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent)
        _exit(1); /* forked child */
    thread_enter(j->vm->hook, THREAD_WRITER);
    keep[n++] = out;
    keep[n++] = j->out->state;
    keep[n++] = j->out->memory;
    for (unsigned i = 0; i < VM_DISKS_MAX; i++)
        keep[n++] = j->out->disk[i];
    fds_close_but(keep, n);
    int r = write_all(j, &w.err);
    if (r < 0 && !w.err.code)
        err_errno(&w.err, r, "write the snapshot");
    w.pages = snapfile_pages(&j->f);
    _exit(write(out, &w, sizeof(w)) == sizeof(w) ? 0 : 1); /* forked child */
}

/* The child of a fork(2) has RAM as it is now. *result: where its answer will come. */
static pid_t fork_writer(struct job *j, int *result, struct err *e)
{
    int p[2];
    pid_t self = getpid();

    if (pipe2(p, O_CLOEXEC) < 0)
        return err_errno(e, -errno, "pipe");
    pid_t pid = fork();
    if (pid == 0)
        child_main(j, p[1], self);
    int saved = errno;
    close(p[1]);
    if (pid < 0) {
        close(p[0]);
        return err_errno(e, -saved, "fork");
    }
    *result = p[0];
    return pid;
}

static int await_writer(struct job *j, pid_t pid, int result, struct err *e)
{
    struct written w;
    ssize_t n;

    do
        n = read(result, &w, sizeof(w));
    while (n < 0 && errno == EINTR);
    close(result);
    while (waitpid(pid, NULL, 0) < 0 && errno == EINTR) {
    }
    if (n != sizeof(w))
        return err_set(e, -EIO, "the process that wrote the snapshot was killed");
    if (w.err.code < 0) {
        w.err.msg[sizeof(w.err.msg) - 1] = '\0';
        return err_set(e, w.err.code, "%s", w.err.msg);
    }
    j->report.pages = w.pages;
    return 0;
}

/* --- the whole ---------------------------------------------------------------- */

static int stand_and_write(struct job *j, struct err *e)
{
    struct vm *vm = j->vm;
    bool was_paused = vm->paused;
    bool in_place = j->o->stop || was_paused || !vm->io_started;
    uint64_t began = now_ns(CLOCK_MONOTONIC);
    pid_t pid = 0;
    int result = -1;
    int r = vm_whole(vm, e);
    if (r == 0 && !was_paused)
        r = vm_pause(vm, e);

    if (r < 0)
        return r;
    r = copy_state(j, e);
    if (r == 0)
        r = find_pages(j, e);
    if (r == 0 && in_place) {
        r = write_all(j, e);
        j->report.pages = snapfile_pages(&j->f);
    } else if (r == 0) {
        pid = fork_writer(j, &result, e);
        r = pid < 0 ? pid : 0;
    }
    /* A machine that was to stop goes on when its snapshot failed. */
    if (!was_paused && (r < 0 || !j->o->stop)) {
        struct err ignored;
        int r2 = vm_resume(vm, &ignored);

        if (r == 0)
            r = r2;
    }
    j->report.pause_ns = now_ns(CLOCK_MONOTONIC) - began;
    return r == 0 && pid > 0 ? await_writer(j, pid, result, e) : r;
}

static uint64_t stored_bytes(const struct job *j)
{
    uint64_t n = 0;
    struct stat st;

    if (fstat(j->out->memory, &st) == 0)
        n += (uint64_t)st.st_blocks * 512;
    for (unsigned i = 0; i < VM_DISKS_MAX; i++)
        if (j->out->disk[i] >= 0 && fstat(j->out->disk[i], &st) == 0)
            n += (uint64_t)st.st_blocks * 512;
    return n;
}

/* The log goes on from here; or, when there is no new snapshot, the old one's goes on. */
static void retrack(struct job *j, bool made)
{
    struct track *t = &j->vm->track;

    if (made && !j->o->stop) {
        free(t->more);
        *t = (struct track){.how = TRACK_LOG};
        memcpy(t->id, j->f.id, sizeof(t->id));
    } else if (!made && j->fetched) {
        free(t->more);
        t->more = take_ptr(&j->fetched);
    }
}

int snapshot_fill(struct vm *vm, const struct snap_opts *o, const struct snap_files *f,
                  struct snap_report *rep, struct err *e)
{
    struct job j = {.vm = vm, .o = o, .out = f};
    uint64_t began = now_ns(CLOCK_MONOTONIC);
    int r = vm_wait(vm, 0, NULL, NULL) == VM_RUNNING ? prepare(&j, e)
                                                     : err_set(e, -ESRCH, "the machine has ended");

    if (r == 0)
        r = stand_and_write(&j, e);
    retrack(&j, r == 0);
    j.report.stored_bytes = stored_bytes(&j);
    j.report.total_ns = now_ns(CLOCK_MONOTONIC) - began;
    if (r == 0 && rep)
        *rep = j.report;
    snapfile_done(&j.f);
    free(j.pages);
    free(j.fetched);
    return r;
}

int snapshot_create(struct vm *vm, const struct snap_opts *o, struct snap_report *rep,
                    struct err *e)
{
    struct snapout *out = NULL;
    int r = snapout_new(o, vm_own_disks(vm), &out, e);

    if (r < 0)
        return r;
    struct snap_files f = snapout_files(out);
    r = snapshot_fill(vm, o, &f, rep, e);
    if (r == 0)
        r = snapout_finish(out, e);
    snapout_free(out);
    return r < 0 ? err_wrap(e, r, "snapshot '%s'", o->dir) : 0;
}
