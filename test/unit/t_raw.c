/* The raw disk over a temporary file, by io_uring and by the thread. */
#include "block/raw.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "os/loop.h"
#include "test/unit/t.h"

enum { SIZE = 1 << 20, BATCH = 300 };

struct world {
    char path[64];
    struct loop *l;
    struct block *b;
    enum raw_io how;
};

struct job {
    struct block_req r;
    struct iovec iov[3];
    int result;
    bool done;
};

static int open_tmp(struct world *w, bool read_only, struct err *e)
{
    int fd = open(w->path, (read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC);

    assert_true(fd >= 0);
    return raw_open_as(fd, read_only, w->l, w->how, &w->b, e);
}

static bool setup(struct world *w, enum raw_io how)
{
    struct err e = {0};

    *w = (struct world){.path = "/tmp/t_raw.XXXXXX", .how = how};
    int fd = mkstemp(w->path);
    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, SIZE), 0);
    close(fd);
    w->l = loop_new(NULL, NULL);
    int r = open_tmp(w, false, &e);
    if (how == RAW_IO_URING && (r == -EPERM || r == -ENOSYS)) {
        print_message("skip: this host refuses io_uring\n");
        unlink(w->path);
        loop_free(w->l);
        return false;
    }
    assert_int_equal(r, 0);
    return true;
}

static void teardown(struct world *w)
{
    if (w->b)
        w->b->ops->close(w->b);
    loop_free(w->l);
    unlink(w->path);
}

static void job_done(struct block_req *r, int result)
{
    struct job *j = r->ctx;

    assert_false(j->done);
    j->done = true;
    j->result = result;
}

static void submit(struct world *w, struct job *j, enum block_op op, uint64_t off, void *buf,
                   size_t len)
{
    size_t third = len / 3;

    *j = (struct job){.r = {.op = op, .offset = off, .len = len, .done = job_done, .ctx = j}};
    if (op == BLOCK_READ || op == BLOCK_WRITE) {
        j->iov[0] = (struct iovec){buf, third};
        j->iov[1] = (struct iovec){(char *)buf + third, third};
        j->iov[2] = (struct iovec){(char *)buf + 2 * third, len - 2 * third};
        j->r.iov = j->iov;
        j->r.n_iov = 3;
    }
    w->b->ops->submit(w->b, &j->r);
}

static int run(struct world *w, enum block_op op, uint64_t off, void *buf, size_t len)
{
    struct job j;

    submit(w, &j, op, off, buf, len);
    w->b->ops->commit(w->b);
    assert_false(j.done); /* never inside submit */
    while (!j.done)
        loop_once(w->l, 1000);
    return j.result;
}

static void written_bytes_come_back(enum raw_io how)
{
    struct world w;
    static char out[9000], in[9000];

    if (!setup(&w, how))
        return;
    for (size_t i = 0; i < sizeof(out); i++)
        out[i] = (char)(i * 7);
    assert_int_equal(w.b->info.size, SIZE);
    assert_int_equal(run(&w, BLOCK_WRITE, 512, out, sizeof(out)), 0);
    assert_int_equal(run(&w, BLOCK_FLUSH, 0, NULL, 0), 0);
    assert_int_equal(run(&w, BLOCK_READ, 512, in, sizeof(in)), 0);
    assert_memory_equal(in, out, sizeof(in));
    teardown(&w);
}

static bool all_zero(const char *p, size_t n)
{
    while (n > 0 && *p == 0) {
        p++;
        n--;
    }
    return n == 0;
}

static void holes_and_zeroes_read_as_zero(enum raw_io how)
{
    struct world w;
    static char buf[65536];

    if (!setup(&w, how))
        return;
    for (int unmap = 0; unmap < 2; unmap++) {
        struct job j;

        memset(buf, 0x55, sizeof(buf));
        assert_int_equal(run(&w, BLOCK_WRITE, 0, buf, sizeof(buf)), 0);
        submit(&w, &j, BLOCK_WRITE_ZEROES, 512, NULL, sizeof(buf) - 1024);
        j.r.unmap = unmap;
        w.b->ops->drain(w.b);
        assert_true(j.done);
        assert_int_equal(j.result, 0);
        assert_int_equal(run(&w, BLOCK_READ, 0, buf, sizeof(buf)), 0);
        assert_int_equal(buf[511], 0x55);
        assert_true(all_zero(buf + 512, sizeof(buf) - 1024));
        assert_int_equal(buf[sizeof(buf) - 512], 0x55);
    }
    if (w.b->info.can_discard) {
        assert_int_equal(run(&w, BLOCK_DISCARD, 0, NULL, 4096), 0);
        assert_int_equal(run(&w, BLOCK_READ, 0, buf, 4096), 0);
        assert_true(all_zero(buf, 4096));
    }
    teardown(&w);
}

/* More than a ring holds at once. */
static void a_large_batch_is_drained(enum raw_io how)
{
    struct world w;
    static struct job j[BATCH];
    static char buf[BATCH][512];

    if (!setup(&w, how))
        return;
    for (int i = 0; i < BATCH; i++) {
        memset(buf[i], i, 512);
        submit(&w, &j[i], BLOCK_WRITE, 512u * (unsigned)i, buf[i], 512);
    }
    w.b->ops->commit(w.b);
    w.b->ops->drain(w.b);
    for (int i = 0; i < BATCH; i++)
        assert_true(j[i].done && j[i].result == 0);
    for (int i = 0; i < BATCH; i++) {
        char in[512];

        assert_int_equal(run(&w, BLOCK_READ, 512u * (unsigned)i, in, 512), 0);
        assert_int_equal(in[100], (char)i);
    }
    teardown(&w);
}

static void a_file_that_shrank_gives_an_error(enum raw_io how)
{
    struct world w;
    char buf[4096];

    if (!setup(&w, how))
        return;
    assert_int_equal(truncate(w.path, 4096), 0);
    assert_int_equal(run(&w, BLOCK_READ, 2048, buf, 4096), -EIO);
    assert_int_equal(run(&w, BLOCK_READ, 0, buf, 4096), 0);
    teardown(&w);
}

#define BOTH(name)                             \
    static void name##_by_uring(void **state)  \
    {                                          \
        name(RAW_IO_URING);                    \
    }                                          \
    static void name##_by_thread(void **state) \
    {                                          \
        name(RAW_IO_THREAD);                   \
    }
BOTH(written_bytes_come_back)
BOTH(holes_and_zeroes_read_as_zero)
BOTH(a_large_batch_is_drained)
BOTH(a_file_that_shrank_gives_an_error)

static void a_second_writer_is_refused(void **state)
{
    struct world w;
    struct block *other = NULL;
    struct err e = {0};

    assert_true(setup(&w, RAW_IO_THREAD));
    assert_int_equal(raw_open(w.path, false, w.l, &other, &e), -EBUSY);
    assert_non_null(strstr(e.msg, "disk is in use by another machine"));
    assert_int_equal(raw_open(w.path, true, w.l, &other, &e), -EBUSY);
    w.b->ops->close(w.b);
    assert_int_equal(raw_open(w.path, true, w.l, &w.b, &e), 0);
    assert_int_equal(raw_open(w.path, true, w.l, &other, &e), 0); /* readers share */
    assert_true(other->info.read_only && !other->info.can_discard);
    other->ops->close(other);
    assert_int_equal(raw_open(w.path, false, w.l, &other, &e), -EBUSY);
    teardown(&w);
}

static void what_is_no_disk_is_refused(void **state)
{
    struct world w;
    struct block *b = NULL;
    struct err e = {0};

    assert_true(setup(&w, RAW_IO_THREAD));
    w.b->ops->close(w.b);
    w.b = NULL;
    assert_int_equal(truncate(w.path, 1000), 0);
    assert_int_equal(raw_open(w.path, false, w.l, &b, &e), -EINVAL);
    assert_int_equal(truncate(w.path, 0), 0);
    assert_int_equal(raw_open(w.path, false, w.l, &b, &e), -EINVAL);
    assert_int_equal(raw_open("/dev/null", false, w.l, &b, &e), -EINVAL);
    assert_int_equal(raw_open("/", true, w.l, &b, &e), -EINVAL);
    assert_int_equal(raw_open("/does/not/exist", true, w.l, &b, &e), -ENOENT);
    assert_int_equal(unlink(w.path), 0);
    assert_int_equal(mkfifo(w.path, 0600), 0);
    assert_int_equal(raw_open(w.path, true, w.l, &b, &e), -EINVAL); /* and does not hang */
    assert_null(b);
    teardown(&w);
}

#define PAIR(name) cmocka_unit_test(name##_by_uring), cmocka_unit_test(name##_by_thread)

int main(void)
{
    const struct CMUnitTest tests[] = {
        PAIR(written_bytes_come_back),
        PAIR(holes_and_zeroes_read_as_zero),
        PAIR(a_large_batch_is_drained),
        PAIR(a_file_that_shrank_gives_an_error),
        cmocka_unit_test(a_second_writer_is_refused),
        cmocka_unit_test(what_is_no_disk_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
