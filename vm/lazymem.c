#include "vm/lazymem.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "vm/snapmem.h"

enum { BUF_BYTES = SNAPFILE_EXTENT_PAGES * MEM_PAGE };

struct layer {
    struct snapshot *s; /* owned, as all */
    int fd;
    struct snapmem_reader *r;
    uint32_t base; /* number of its first extent among all */
};

struct lazymem {
    struct layer layer[SNAP_CHAIN_MAX]; /* oldest first */
    int n;
    uint32_t n_extents; /* of all layers */
    uint32_t *where;    /* a page: the extent that has it, + 1; 0 = it is zero. Lazily touched */
    uint64_t *filled;   /* bit an extent */
    uint64_t pages;
    uint8_t *buf;
    struct mem *m;
    int uffd, quit_fd;
    pthread_t thread;
    bool started, held;
    uint32_t next; /* extent that is to be read */
    const struct thread_hook *hook;
    void (*failed)(void *ctx, const struct err *e);
    void *ctx;
    pthread_mutex_t lock;
    pthread_cond_t cond; /* with lock: over */
    bool over;
    struct err err; /* once over; code 0: all is there */
};

/* --- what lies where ------------------------------------------------------------- */

static void mark(struct lazymem *l, uint32_t first, uint32_t pages, uint32_t extent)
{
    for (uint32_t i = 0; i < pages; i++)
        l->where[first + i] = extent;
}

static int add_layer(struct lazymem *l, struct snapshot *s, struct err *e)
{
    struct layer *y = &l->layer[l->n++];
    const struct snapfile *f = &s->f;

    *y = (struct layer){.s = s, .fd = snapshot_memory(s, e), .base = l->n_extents};
    int r = y->fd < 0 ? y->fd : snapmem_reader_new(f, y->fd, &y->r, e);
    if (r < 0)
        return err_wrap(e, r, "snapshot '%s'", s->path);
    for (size_t i = 0; i < f->n_extents; i++)
        mark(l, f->extent[i].first, f->extent[i].pages, y->base + (uint32_t)i + 1);
    for (size_t i = 0; i < f->n_zeroes; i++)
        mark(l, f->zero[i].first, f->zero[i].pages, 0);
    l->n_extents += (uint32_t)f->n_extents;
    return 0;
}

static const struct layer *layer_of(const struct lazymem *l, uint32_t extent)
{
    int i = l->n - 1;

    while (l->layer[i].base > extent)
        i--;
    return &l->layer[i];
}

static int map_extents(struct lazymem *l, struct snapshot *chain[], int n, struct err *e)
{
    l->pages = chain[0]->f.shape.ram_bytes / MEM_PAGE;
    l->where = mmap(NULL, l->pages * sizeof(*l->where), PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (l->where == MAP_FAILED)
        l->where = NULL;
    l->buf = malloc(BUF_BYTES);
    if (!l->where || !l->buf)
        return err_set(e, -ENOMEM, "out of memory");
    for (int i = n - 1; i >= 0; i--) {
        int r = add_layer(l, chain[i], e);
        if (r < 0)
            return r;
    }
    l->filled = calloc(l->n_extents / 64 + 1, sizeof(*l->filled));
    return l->filled ? 0 : err_set(e, -ENOMEM, "out of memory");
}

int lazymem_new(struct snapshot *chain[], int n, struct lazymem **ret, struct err *e)
{
    struct lazymem *l = calloc(1, sizeof(*l));

    if (!l)
        return err_set(e, -ENOMEM, "out of memory");
    l->uffd = l->quit_fd = -1;
    pthread_mutex_init(&l->lock, NULL);
    pthread_cond_init(&l->cond, NULL);
    int r = map_extents(l, chain, n, e);
    if (r < 0) {
        for (int i = 0; i < l->n; i++)
            l->layer[i].s = NULL; /* the caller's */
        lazymem_free(l);
        return r;
    }
    *ret = l;
    return 0;
}

/* --- filling ------------------------------------------------------------------------ */

static uint8_t *address(const struct lazymem *l, uint64_t page)
{
    return mem_page_at(l->m, page);
}

/* Pages that are there already stay as they are: the guest has written to them. */
static int put(struct lazymem *l, uint64_t page, const uint8_t *from, uint64_t pages)
{
    for (uint64_t done = 0; done < pages;) {
        struct uffdio_copy c = {.dst = (uintptr_t)address(l, page + done),
                                .src = (uintptr_t)(from + done * MEM_PAGE),
                                .len = (pages - done) * MEM_PAGE};

        if (ioctl(l->uffd, UFFDIO_COPY, &c) == 0)
            return 0;
        if (c.copy > 0)
            done += (uint64_t)c.copy / MEM_PAGE;
        else if (errno == EEXIST)
            done++;
        else if (errno != EAGAIN)
            return -errno;
    }
    return 0;
}

static int fill(struct lazymem *l, uint32_t extent, struct err *e)
{
    const struct layer *y = layer_of(l, extent);
    const struct snap_extent *x = &y->s->f.extent[extent - y->base];

    if (l->filled[extent / 64] >> (extent % 64) & 1)
        return 0;
    int r = snapmem_read(y->r, x, l->buf, e);
    for (uint32_t i = 0, run; r == 0 && i < x->pages; i += run) {
        run = 1;
        if (l->where[x->first + i] != extent + 1)
            continue; /* a newer layer has it */
        while (i + run < x->pages && l->where[x->first + i + run] == extent + 1)
            run++;
        r = put(l, x->first + i, l->buf + (size_t)i * MEM_PAGE, run);
        if (r < 0)
            err_errno(e, r, "UFFDIO_COPY");
    }
    if (r < 0)
        return r == -EBADMSG ? err_wrap(e, r, "snapshot '%s'", y->s->path) : r;
    l->filled[extent / 64] |= 1ull << (extent % 64);
    return 0;
}

static int on_fault(struct lazymem *l, uint64_t address_of, struct err *e)
{
    uint64_t page = (address_of - (uintptr_t)address(l, 0)) / MEM_PAGE;
    struct uffdio_range one = {.start = (uintptr_t)address(l, page), .len = MEM_PAGE};
    int r = 0;

    if (l->where[page]) {
        r = fill(l, l->where[page] - 1, e);
        if (r == 0) /* it may have been there before this fault was read */
            (void)ioctl(l->uffd, UFFDIO_WAKE, &one);
        return r;
    }
    struct uffdio_zeropage z = {.range = one};
    if (ioctl(l->uffd, UFFDIO_ZEROPAGE, &z) < 0 && errno != EEXIST && errno != EAGAIN)
        return err_errno(e, -errno, "UFFDIO_ZEROPAGE");
    (void)ioctl(l->uffd, UFFDIO_WAKE, &one);
    return 0;
}

static int on_faults(struct lazymem *l, struct err *e)
{
    struct uffd_msg msg[16];
    ssize_t n = read(l->uffd, msg, sizeof(msg));
    int r = 0;

    if (n < 0)
        return errno == EAGAIN || errno == EINTR ? 0 : err_errno(e, -errno, "userfaultfd");
    for (size_t i = 0; r == 0 && i < (size_t)n / sizeof(msg[0]); i++)
        if (msg[i].event == UFFD_EVENT_PAGEFAULT)
            r = on_fault(l, msg[i].arg.pagefault.address, e);
    return r;
}

static void finish(struct lazymem *l, const struct err *e)
{
    struct uffdio_range all = {.start = (uintptr_t)address(l, 0), .len = l->pages * MEM_PAGE};

    if (e->code < 0 && e->code != -EINTR && l->failed)
        l->failed(l->ctx, e);
    (void)ioctl(l->uffd, UFFDIO_UNREGISTER, &all); /* wakes who waits; the rest is zeroes */
    pthread_mutex_lock(&l->lock);
    l->err = *e;
    l->over = true;
    pthread_cond_broadcast(&l->cond);
    pthread_mutex_unlock(&l->lock);
}

/* Who waits comes first; between, one extent after the other. */
static void *lazymem_main(void *arg)
{
    struct lazymem *l = arg;
    struct pollfd p[] = {{.fd = l->uffd, .events = POLLIN}, {.fd = l->quit_fd, .events = POLLIN}};
    struct err e = {0};
    int r = 0;

    thread_enter(l->hook, THREAD_MEMORY);
    while (r == 0 && l->next < l->n_extents) {
        int n = poll(p, ARRAY_LEN(p), 0);

        if (n > 0 && p[1].revents)
            r = err_set(&e, -EINTR, "the machine ended");
        else if (n > 0)
            r = on_faults(l, &e);
        else
            r = fill(l, l->next++, &e);
    }
    if (!l->held || r != -EINTR)
        finish(l, &e);
    return NULL;
}

/* --- starting, waiting, ending ---------------------------------------------------------- */

static int open_uffd(struct lazymem *l, struct err *e)
{
    struct uffdio_api api = {.api = UFFD_API};
    struct uffdio_register reg = {
        .range = {.start = (uintptr_t)address(l, 0), .len = l->pages * MEM_PAGE},
        .mode = UFFDIO_REGISTER_MODE_MISSING,
    };

    l->uffd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
    if (l->uffd < 0 && errno == EPERM)
        return err_set(e, -EPERM,
                       "restore as memory is touched: userfaultfd(2) wants root, or the sysctl "
                       "vm.unprivileged_userfaultfd set to 1");
    if (l->uffd < 0 || ioctl(l->uffd, UFFDIO_API, &api) < 0 ||
        ioctl(l->uffd, UFFDIO_REGISTER, &reg) < 0)
        return err_errno(e, -errno, "restore as memory is touched: userfaultfd");
    return 0;
}

/* Which pages have content, for whoever asks mem. */
static void tell(struct lazymem *l)
{
    for (int i = 0; i < l->n; i++) {
        const struct snapfile *f = &l->layer[i].s->f;

        for (size_t k = 0; k < f->n_extents; k++)
            mem_filed(l->m, (uint64_t)f->extent[k].first * MEM_PAGE,
                      (uint64_t)f->extent[k].pages * MEM_PAGE, true);
        for (size_t k = 0; k < f->n_zeroes; k++)
            mem_filed(l->m, (uint64_t)f->zero[k].first * MEM_PAGE,
                      (uint64_t)f->zero[k].pages * MEM_PAGE, false);
    }
}

int lazymem_start(struct lazymem *l, struct mem *m, void (*failed)(void *ctx, const struct err *e),
                  void *ctx, struct err *e)
{
    if (mem_fd(m) >= 0)
        return err_set(e, -EINVAL,
                       "memory that is shared with another process is not restored as "
                       "it is touched");
    l->m = m;
    l->failed = failed;
    l->ctx = ctx;
    int r = open_uffd(l, e);
    if (r < 0)
        return r;
    tell(l);
    l->quit_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    r = l->quit_fd < 0 ? -errno : -pthread_create(&l->thread, NULL, lazymem_main, l);
    l->started = r == 0;
    return r < 0 ? err_errno(e, r, "start the thread that fills memory") : 0;
}

void lazymem_hold(struct lazymem *l)
{
    uint64_t one = 1;

    l->held = true;
    (void)!write(l->quit_fd, &one, sizeof(one));
    pthread_join(l->thread, NULL);
    (void)!read(l->quit_fd, &one, sizeof(one));
    l->started = false;
}

int lazymem_go(struct lazymem *l, const struct thread_hook *hook, struct err *e)
{
    if (!l->held)
        return 0;
    l->held = false;
    l->hook = hook;
    if (l->over)
        return 0;
    int r = -pthread_create(&l->thread, NULL, lazymem_main, l);
    l->started = r == 0;
    return r < 0 ? err_errno(e, r, "start the thread that fills memory") : 0;
}

int lazymem_wait(struct lazymem *l, struct err *e)
{
    pthread_mutex_lock(&l->lock);
    while (!l->over)
        pthread_cond_wait(&l->cond, &l->lock);
    pthread_mutex_unlock(&l->lock);
    return l->err.code < 0 ? err_set(e, l->err.code, "%s", l->err.msg) : 0;
}

unsigned lazymem_fds(const struct lazymem *l, int fd[])
{
    unsigned n = 0;

    for (int i = 0; i < l->n; i++) {
        fd[n++] = l->layer[i].fd;
        fd[n++] = l->layer[i].s->dir;
    }
    return n;
}

void lazymem_free(struct lazymem *l)
{
    uint64_t one = 1;

    if (!l)
        return;
    if (l->started) {
        (void)!write(l->quit_fd, &one, sizeof(one));
        pthread_join(l->thread, NULL);
    }
    for (int i = 0; i < l->n; i++) {
        snapmem_reader_free(l->layer[i].r);
        cleanup_fd(&l->layer[i].fd);
        snapshot_close(l->layer[i].s);
    }
    cleanup_fd(&l->uffd);
    cleanup_fd(&l->quit_fd);
    if (l->where)
        munmap(l->where, l->pages * sizeof(*l->where));
    free(l->filled);
    free(l->buf);
    pthread_mutex_destroy(&l->lock);
    pthread_cond_destroy(&l->cond);
    free(l);
}
