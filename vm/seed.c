#include "vm/seed.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "fs/fusefs.h"
#include "vm/lazymem.h"
#include "vm/snapdisk.h"
#include "vm/snapmem.h"
#include "vm/snapopen.h"
#include "vm/vm_private.h"
#include "vm/workset.h"

struct seed {
    struct mem *mem; /* owned, as all; NULL once a machine has it */
    struct shape shape;
    uint8_t *machine;
    size_t machine_len;
    char *note;
    int disk_fd[VM_DISKS_MAX]; /* content of the writable disks, not to be written; with `forked`
                                * also the others */
    int copy_fd[VM_DISKS_MAX]; /* empty files for a machine's own; -1 = they are made */
    struct {                   /* of a forked machine */
        int fd, proc_fd;       /* owned */
        const char *only;      /* borrowed from the parent's memory, which is here, too */
    } share[VM_SHARES_MAX];
    bool forked;
    int host_fd; /* of a forked machine's engine; -1 = none */
    int code_fd; /* translated code; -1 = none */
    struct track track;
    char *dir;            /* of the snapshot whose file is mapped; NULL = none */
    struct lazymem *lazy; /* NULL = its memory is there */
};

static struct seed *seed_new(struct err *e)
{
    struct seed *s = calloc(1, sizeof(*s));

    if (!s) {
        err_set(e, -ENOMEM, "out of memory");
        return NULL;
    }
    for (unsigned i = 0; i < VM_DISKS_MAX; i++)
        s->disk_fd[i] = s->copy_fd[i] = -1;
    for (unsigned i = 0; i < VM_SHARES_MAX; i++)
        s->share[i].fd = s->share[i].proc_fd = -1;
    s->code_fd = s->host_fd = -1;
    return s;
}

void seed_free(struct seed *s)
{
    if (!s)
        return;
    mem_free(s->mem);
    shape_done(&s->shape);
    free(s->machine);
    free(s->note);
    for (unsigned i = 0; i < VM_DISKS_MAX; i++) {
        cleanup_fd(&s->disk_fd[i]);
        cleanup_fd(&s->copy_fd[i]);
    }
    for (unsigned i = 0; i < VM_SHARES_MAX; i++) {
        cleanup_fd(&s->share[i].fd);
        cleanup_fd(&s->share[i].proc_fd);
    }
    cleanup_fd(&s->code_fd);
    cleanup_fd(&s->host_fd);
    lazymem_free(s->lazy);
    free(s->track.more);
    free(s->dir);
    free(s);
}

unsigned seed_fds(const struct seed *s, int fd[SEED_FDS_MAX])
{
    unsigned n = 0;

    for (unsigned i = 0; i < VM_DISKS_MAX; i++)
        if (s->disk_fd[i] >= 0)
            fd[n++] = s->disk_fd[i];
    if (s->code_fd >= 0)
        fd[n++] = s->code_fd;
    if (s->host_fd >= 0)
        fd[n++] = s->host_fd;
    if (s->lazy)
        n += lazymem_fds(s->lazy, fd + n);
    for (unsigned i = 0; i < VM_SHARES_MAX; i++) {
        if (s->share[i].fd >= 0)
            fd[n++] = s->share[i].fd;
        if (s->share[i].proc_fd >= 0)
            fd[n++] = s->share[i].proc_fd;
    }
    return n;
}

const struct shape *seed_shape(const struct seed *s)
{
    return &s->shape;
}

const char *seed_note(const struct seed *s)
{
    return s->note;
}

/* --- from a snapshot ---------------------------------------------------------- */

/* Before anything is mapped: can this host go on with that machine? */
static int check_host(const struct shape *s, struct err *e)
{
    struct cpu_model m;
    int r = cpu_model_init(&m, s->cpus, s->tsc_khz, e);

    return r < 0 ? r : cpu_model_restrict(&m, &s->features, e);
}

/* Oldest first, each over what the ones before it have. */
static int map_chain(struct seed *s, struct snapshot *chain[], int n, struct err *e)
{
    int r = 0;

    s->mem = mem_new(chain[0]->f.shape.ram_bytes, e);
    if (!s->mem)
        return -ENOMEM;
    for (int i = n - 1; r == 0 && i >= 0; i--) {
        CLEANUP(fd) int fd = snapshot_memory(chain[i], e);

        if (fd >= 0 && !chain[i]->f.compressed)
            workset_ahead(chain[0]->dir, fd);
        r = fd < 0 ? fd : snapmem_load(s->mem, &chain[i]->f, fd, e);
        if (r < 0)
            err_wrap(e, r, "snapshot '%s'", chain[i]->path);
    }
    return r;
}

/* What the newest snapshot of the chain has besides memory moves into the seed. */
static int take_top(struct seed *s, struct snapshot *top, struct err *e)
{
    struct snapfile *f = &top->f;

    for (unsigned i = 0; i < f->shape.n_disks; i++) {
        if (!shape_own_disk(&f->shape.disk[i]))
            continue;
        s->disk_fd[i] = snapshot_disk(top, i, e);
        if (s->disk_fd[i] < 0)
            return s->disk_fd[i];
    }
    s->shape = f->shape;
    f->shape = (struct shape){0};
    s->machine = take_ptr(&f->machine);
    s->machine_len = f->machine_len;
    s->note = take_ptr(&f->note);
    s->track.how = TRACK_PRIVATE;
    memcpy(s->track.id, f->id, sizeof(s->track.id));
    s->dir = f->compressed || s->lazy ? NULL : take_ptr(&top->path);
    return 0;
}

/* Where a disk's copy is best made: beside the snapshot's. */
static int place_disks(struct shape *s, const char *dir, struct err *e)
{
    for (unsigned i = 0; i < s->n_disks; i++) {
        struct shape_disk *d = &s->disk[i];

        if (!shape_own_disk(d))
            continue;
        char *path = NULL;
        if (asprintf(&path, "%s/disk%u", dir, i) < 0)
            return err_set(e, -ENOMEM, "out of memory");
        free(d->path);
        d->path = path;
    }
    return 0;
}

static int open_chain(const char *dir, bool lazy, struct seed **ret, struct err *e)
{
    struct snapshot *chain[SNAP_CHAIN_MAX];
    int n = snapshot_chain(dir, chain, e);

    if (n < 0)
        return n;
    struct seed *s = seed_new(e);
    int r = s ? check_host(&chain[0]->f.shape, e) : -ENOMEM;
    if (r < 0)
        err_wrap(e, r, "snapshot '%s'", dir);
    if (r == 0)
        r = lazy ? lazymem_new(chain, n, &s->lazy, e) : map_chain(s, chain, n, e);
    if (r == 0)
        r = place_disks(&chain[0]->f.shape, chain[0]->path, e);
    if (r == 0)
        r = take_top(s, chain[0], e);
    if (!s || !s->lazy)
        snapshot_close_chain(chain, n);
    if (r < 0) {
        seed_free(s);
        return r;
    }
    *ret = s;
    return 0;
}

int seed_open(const char *dir, struct seed **ret, struct err *e)
{
    return open_chain(dir, false, ret, e);
}

int seed_open_lazy(const char *dir, struct seed **ret, struct err *e)
{
    return open_chain(dir, true, ret, e);
}

/* --- from a running machine ------------------------------------------------- */

static uint64_t now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* Without it all is translated anew. */
static void take_code(struct seed *s, struct vm *vm)
{
    CLEANUP(fd) int fd = memfd_create("kiln-code", MFD_CLOEXEC);

    if (fd >= 0 && vm_code_share(vm, fd, NULL) == 0)
        s->code_fd = take_fd(&fd);
}

static int duplicate(int fd, int *to, struct err *e)
{
    *to = fd < 0 ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, 0);
    return fd >= 0 && *to < 0 ? err_errno(e, -errno, "descriptor") : 0;
}

/* A disk's content as it is now, or the disk itself where nobody writes it. */
static int take_disk(struct seed *s, struct vm *vm, unsigned i, int copy, struct err *e)
{
    const struct shape_disk *d = &s->shape.disk[i];
    int r;

    if (!shape_own_disk(d))
        return duplicate(vm->disk_fd[i], &s->disk_fd[i], e);
    if (copy < 0) {
        s->disk_fd[i] = snapdisk_clone(vm->disk_fd[i], d->size, d->path, e);
        r = s->disk_fd[i] < 0 ? s->disk_fd[i] : 0;
    } else {
        r = duplicate(copy, &s->disk_fd[i], e);
        if (r == 0)
            r = snapdisk_copy(vm->disk_fd[i], s->disk_fd[i], d->size, e);
    }
    return r < 0 ? err_wrap(e, r, "disk '%s'", d->path) : 0;
}

/* The folders that a fork serves, too: it cannot open them. */
static int take_shares(struct seed *s, const struct vm *vm, struct err *e)
{
    int r = 0;

    for (unsigned i = 0; r == 0 && i < s->shape.n_shares; i++) {
        int root = -1, proc = -1;

        if (s->shape.share[i].path) {
            fusefs_fds(vm->share[i], &root, &proc);
            s->share[i].only = fusefs_only(vm->share[i]);
        }
        r = duplicate(root, &s->share[i].fd, e);
        if (r == 0)
            r = duplicate(proc, &s->share[i].proc_fd, e);
    }
    return r;
}

/* All but the memory, of a machine that stands still. */
static int take_machine(struct seed *s, struct vm *vm, const int *copies, struct err *e)
{
    int r = shape_copy(&s->shape, &vm->shape, e);

    if (r == 0)
        r = vm_save(vm, &s->machine, &s->machine_len, e);
    for (unsigned i = 0; r == 0 && i < s->shape.n_disks; i++)
        r = take_disk(s, vm, i, copies && shape_own_disk(&s->shape.disk[i]) ? *copies++ : -1, e);
    if (r == 0)
        r = take_shares(s, vm, e);
    if (r == 0 && vm->engine->vm_host_fd)
        r = duplicate(vm->engine->vm_host_fd(vm->cpus), &s->host_fd, e);
    if (r == 0)
        take_code(s, vm);
    s->forked = true;
    /* A log of the parent's is not the child's; pages it owns alone are. */
    if (vm->track.how == TRACK_PRIVATE && vm->mem->pagemap < 0) {
        s->track.how = TRACK_PRIVATE;
        memcpy(s->track.id, vm->track.id, sizeof(s->track.id));
    }
    return r;
}

pid_t seed_fork(struct vm *vm, const int *copies, struct seed **ret, uint64_t *pause_ns,
                struct err *e)
{
    struct seed *s = vm_wait(vm, 0, NULL, NULL) == VM_RUNNING ? seed_new(e) : NULL;
    uint64_t began = now_ns();
    bool was_paused = vm->paused;
    pid_t pid = -1;

    if (!s)
        return err_set(e, -ESRCH, "the machine has ended");
    s->note = strdup("");
    int r = s->note ? 0 : err_set(e, -ENOMEM, "out of memory");
    if (r == 0)
        r = vm_check_whole(vm, e);
    if (r == 0 && !was_paused)
        r = vm_pause(vm, e);
    bool paused = r == 0;
    if (r == 0)
        r = take_machine(s, vm, copies, e);
    if (r == 0) {
        pid = fork();
        if (pid < 0)
            r = err_errno(e, -errno, "fork");
    }
    if (pid == 0) {
        s->mem = vm->mem;
        *ret = s;
        return mem_forget(s->mem, e);
    }
    if (paused && !was_paused) {
        struct err ignored;
        int r2 = vm_resume(vm, &ignored);

        r = r < 0 ? r : r2;
    }
    if (pause_ns)
        *pause_ns = now_ns() - began;
    seed_free(s);
    return r < 0 ? r : pid;
}

/* --- growing -------------------------------------------------------------------- */

static int check_fit(const struct seed *s, const struct vm_conf *c, struct err *e)
{
    const struct shape *h = &s->shape;

    if (!s->mem && !s->lazy)
        return err_set(e, -EINVAL, "a machine was made of it already");
    if (c->cpus != h->cpus || c->ram_bytes != h->ram_bytes)
        return err_set(e, -EINVAL, "the saved machine has %u CPUs and %llu MiB of memory", h->cpus,
                       (unsigned long long)(h->ram_bytes >> 20));
    if (c->n_disks != h->n_disks || c->n_shares != h->n_shares || c->n_nets != h->n_nets)
        return err_set(e, -EINVAL, "the saved machine has %u disks, %u shares, %u network cards",
                       h->n_disks, h->n_shares, h->n_nets);
    for (unsigned i = 0; i < h->n_nets; i++)
        if ((c->net[i].pairs ? c->net[i].pairs : 1) != h->net[i].pairs ||
            c->net[i].mtu != h->net[i].mtu)
            return err_set(e, -EINVAL,
                           "network card %u of the saved machine has %u queue pairs and MTU %u", i,
                           h->net[i].pairs, h->net[i].mtu);
    if ((c->vsock_path != NULL) != h->vsock || c->console != h->console || c->rng != h->rng)
        return err_set(e, -EINVAL,
                       "the saved machine has %s vsock, %s virtio console, %s entropy device",
                       h->vsock ? "a" : "no", h->console ? "a" : "no", h->rng ? "an" : "no");
    for (unsigned i = 0; i < h->n_disks; i++)
        if (h->disk[i].path && c->disk[i].read_only != h->disk[i].read_only)
            return err_set(e, -EINVAL, "the saved machine %s disk %u",
                           h->disk[i].read_only ? "could not write" : "wrote", i);
    return 0;
}

int seed_copies(struct seed *s, const int *fd, unsigned n, struct err *e)
{
    unsigned k = 0;

    for (unsigned i = 0; i < s->shape.n_disks; i++)
        if (shape_own_disk(&s->shape.disk[i]) && k++ < n)
            s->copy_fd[i] = *fd++;
    return k == n ? 0 : err_set(e, -EINVAL, "%u files for copies of %u disks", n, k);
}

static bool same_place(const struct vm_disk *d, const struct shape_disk *h)
{
    return !d->opened && (!d->path || (h->path && strcmp(d->path, h->path) == 0));
}

/* Writable disks that were not replaced become copies; fd[]: owned by the caller. */
static int clone_disks(struct seed *s, struct vm_conf *c, int fd[VM_DISKS_MAX], struct err *e)
{
    for (unsigned i = 0; i < c->n_disks; i++) {
        const struct shape_disk *h = &s->shape.disk[i];

        if (!same_place(&c->disk[i], h))
            continue;
        c->disk[i].path = h->path;
        if (!shape_own_disk(h)) {
            c->disk[i].opened = s->forked && h->path;
            c->disk[i].fd = s->disk_fd[i];
            continue;
        }
        int r = 0;
        if (s->copy_fd[i] >= 0) {
            fd[i] = s->copy_fd[i];
            s->copy_fd[i] = -1;
            r = snapdisk_copy(s->disk_fd[i], fd[i], h->size, e);
        } else {
            fd[i] = snapdisk_clone(s->disk_fd[i], h->size, h->path, e);
        }
        r = fd[i] < 0 ? fd[i] : r;
        if (r < 0)
            return err_wrap(e, r, "disk '%s'", h->path);
        c->disk[i].opened = true;
        c->disk[i].fd = fd[i];
    }
    return 0;
}

/* A forked machine serves its parent's folders by its parent's descriptors. */
static void same_shares(const struct seed *s, struct vm_conf *c)
{
    for (unsigned i = 0; s->forked && i < c->n_shares; i++) {
        if (s->share[i].fd < 0)
            continue;
        c->share[i].opened = true;
        c->share[i].fd = s->share[i].fd;
        c->share[i].proc_fd = s->share[i].proc_fd;
        c->share[i].only = s->share[i].only;
    }
}

/* A disk or folder that is another than the saved machine's. */
static int note_path(char **was, const char *now, struct err *e)
{
    if (!now || (*was && strcmp(now, *was) == 0))
        return 0;
    char *path = realpath(now, NULL);
    if (!path && !(path = strdup(now)))
        return err_set(e, -ENOMEM, "out of memory");
    free(*was);
    *was = path;
    return 0;
}

static int note_paths(struct vm *vm, const struct vm_conf *c, struct err *e)
{
    int r = 0;

    for (unsigned i = 0; r == 0 && i < c->n_disks; i++) {
        r = note_path(&vm->shape.disk[i].path, c->disk[i].path, e);
        vm->shape.disk[i].read_only = c->disk[i].read_only;
    }
    for (unsigned i = 0; r == 0 && i < c->n_shares; i++) {
        r = note_path(&vm->shape.share[i].path, c->share[i].path, e);
        vm->shape.share[i].read_only = c->share[i].read_only;
    }
    return r;
}

int seed_grow(struct seed *s, const struct vm_conf *conf, struct vm **ret, struct err *e)
{
    struct vm_conf c = *conf;
    int fd[VM_DISKS_MAX];
    struct vm *vm = NULL;
    int r = check_fit(s, &c, e);

    for (unsigned i = 0; i < VM_DISKS_MAX; i++)
        fd[i] = -1;
    if (r == 0)
        r = clone_disks(s, &c, fd, e);
    same_shares(s, &c);
    c.host_fd = s->host_fd > 0 ? s->host_fd : 0;
    c.kernel = NULL;
    if (r == 0 && s->lazy && !(s->mem = mem_new(s->shape.ram_bytes, e)))
        r = -ENOMEM;
    if (r == 0)
        r = vm_build(&c, take_ptr(&s->mem), &s->shape, &vm, e);
    for (unsigned i = 0; i < VM_DISKS_MAX; i++)
        cleanup_fd(&fd[i]);
    if (r == 0)
        r = note_paths(vm, &c, e);
    if (r == 0 && s->lazy) {
        vm->lazy = take_ptr(&s->lazy);
        r = lazymem_start(vm->lazy, vm->mem, vm_lost, vm, e);
    }
    if (r == 0)
        r = vm_load(vm, s->machine, s->machine_len, e);
    if (r < 0) {
        vm_free(vm);
        return err_wrap(e, r, "go on with the saved machine");
    }
    if (s->code_fd >= 0)
        (void)!vm_code_load(vm, s->code_fd, NULL);
    vm->track = s->track;
    s->track = (struct track){0};
    vm->workset_wanted = s->dir && workset_wanted(s->dir);
    *ret = vm;
    return 0;
}
