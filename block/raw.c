#include "block/raw.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#include "base/cleanup.h"

enum { RAW_BLOCK = 4096 }; /* bytes: what page caches and file systems like */

struct raw {
    struct block b;
    int fd;               /* owned */
    struct rawring *ring; /* owned, may be NULL */
    struct rawpool *pool; /* owned, may be NULL: read-only with a ring */
};

void raw_advance(struct block_req *r, uint64_t n)
{
    r->backend.moved += n;
    while (n > 0 && r->n_iov > 0) {
        uint64_t k = n < r->iov->iov_len ? n : r->iov->iov_len;

        r->iov->iov_base = (uint8_t *)r->iov->iov_base + k;
        r->iov->iov_len -= k;
        n -= k;
        if (r->iov->iov_len == 0) {
            r->iov++;
            r->n_iov--;
        }
    }
}

static void raw_submit(struct block *b, struct block_req *r)
{
    struct raw *d = (struct raw *)b;

    r->backend.moved = 0;
    r->backend.result = 0;
    r->backend.next = NULL;
    if (d->ring && (r->op == BLOCK_READ || r->op == BLOCK_WRITE || r->op == BLOCK_FLUSH))
        rawring_submit(d->ring, r);
    else if (d->pool)
        rawpool_submit(d->pool, r);
    else
        BUG("a request that a read-only disk does not take");
}

static void raw_commit(struct block *b)
{
    struct raw *d = (struct raw *)b;

    if (d->ring)
        rawring_commit(d->ring);
}

/* A done() may submit more, to either side. */
static void raw_drain(struct block *b)
{
    struct raw *d = (struct raw *)b;
    bool more;

    do {
        more = d->ring && rawring_drain(d->ring);
        more |= d->pool && rawpool_drain(d->pool);
    } while (more);
}

static void raw_close(struct block *b)
{
    struct raw *d = (struct raw *)b;

    if (!d)
        return;
    rawring_free(d->ring);
    rawpool_free(d->pool);
    (void)close(d->fd); /* gives up the lock */
    free(d);
}

static const struct block_ops raw_ops = {
    .submit = raw_submit,
    .commit = raw_commit,
    .drain = raw_drain,
    .close = raw_close,
};

/* A hole behind the end of a file changes nothing: it tells whether the file system knows holes. */
static bool knows_holes(int fd, uint64_t size)
{
    return fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)size, RAW_BLOCK) == 0;
}

static int fill_info(int fd, bool read_only, struct block_info *i, struct err *e)
{
    struct stat st;

    if (fstat(fd, &st) < 0)
        return err_errno(e, -errno, "stat");
    *i = (struct block_info){.read_only = read_only, .can_write_zeroes = !read_only};
    if (S_ISREG(st.st_mode)) {
        i->size = (uint64_t)st.st_size;
        i->can_discard = !read_only && knows_holes(fd, i->size);
    } else if (S_ISBLK(st.st_mode)) {
        if (ioctl(fd, BLKGETSIZE64, &i->size) < 0)
            return err_errno(e, -errno, "ask for the size");
        i->can_discard = !read_only;
    } else {
        return err_set(e, -EINVAL, "neither a file nor a block device");
    }
    if (i->size == 0 || i->size % BLOCK_SECTOR != 0)
        return err_set(e, -EINVAL, "a size of %llu bytes is not a multiple of %d",
                       (unsigned long long)i->size, BLOCK_SECTOR);
    i->block_size = i->size % RAW_BLOCK == 0 ? RAW_BLOCK : BLOCK_SECTOR;
    return 0;
}

/* Many readers or one writer, whoever they are (flock(2): the lock is the open file's). */
static int lock(int fd, bool read_only, struct err *e)
{
    if (flock(fd, (read_only ? LOCK_SH : LOCK_EX) | LOCK_NB) == 0)
        return 0;
    if (errno == EWOULDBLOCK)
        return err_set(e, -EBUSY, "disk is in use by another machine");
    return err_errno(e, -errno, "lock");
}

static int start_io(struct raw *d, struct loop *l, enum raw_io how, struct err *e)
{
    int r = 0;

    if (how != RAW_IO_THREAD) {
        r = rawring_new(d->fd, l, &d->ring, e);
        if (r < 0 && how == RAW_IO_URING)
            return r;
    }
    if (d->ring && d->b.info.read_only)
        return 0;
    return rawpool_new(d->fd, l, &d->pool, e);
}

int raw_open_as(int fd, bool read_only, struct loop *l, enum raw_io how, struct block **ret,
                struct err *e)
{
    CLEANUP(fd) int own = fd;
    struct block_info info;
    int r = fill_info(fd, read_only, &info, e);

    if (r == 0)
        r = lock(fd, read_only, e);
    if (r < 0)
        return r;
    /* io_uring would hand the guest EAGAIN for a non-blocking file. */
    int flags = fcntl(fd, F_GETFL);
    if (flags < 0 || fcntl(fd, F_SETFL, flags & ~O_NONBLOCK) < 0)
        return err_errno(e, -errno, "fcntl");
    struct raw *d = calloc(1, sizeof(*d));
    if (!d)
        return err_set(e, -ENOMEM, "out of memory");
    d->b = (struct block){.ops = &raw_ops, .info = info};
    d->fd = take_fd(&own);
    r = start_io(d, l, how, e);
    if (r < 0) {
        raw_close(&d->b);
        return r;
    }
    *ret = &d->b;
    return 0;
}

int raw_open_fd(int fd, bool read_only, struct loop *l, struct block **ret, struct err *e)
{
    return raw_open_as(fd, read_only, l, RAW_IO_AUTO, ret, e);
}

int raw_open(const char *path, bool read_only, struct loop *l, struct block **ret, struct err *e)
{
    /* O_NONBLOCK: a FIFO must not hold us before it is refused. */
    int fd = open(path, (read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC | O_NONBLOCK);

    if (fd < 0)
        return err_errno(e, -errno, "open");
    return raw_open_fd(fd, read_only, l, ret, e);
}
