/* A container's log that somebody has written to: read from the beginning and from the end, with
 * times and without, then written on. */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "container/ctrlog.h"
#include "container/spec.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

static void read_all(int dir, int64_t tail, bool timestamps, int null)
{
    struct ctrlog_options o = {.tail = tail, .timestamps = timestamps, .until_ns = INT64_MAX};
    struct ctrlog_reader *r = NULL;
    struct err e;

    if (ctrlog_read_open(dir, &o, &r, &e) < 0)
        return;
    (void)!ctrlog_copy(r, (int[]){null, null}, &e);
    ctrlog_read_close(r);
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    char path[] = "/tmp/kiln-f-ctrlog-XXXXXX";
    struct ctrlog_options whole = {.tail = -1};
    struct ctrlog_reader *r = NULL;
    struct ctrlog l;
    struct err e;

    if (!mkdtemp(path))
        return 0;
    int dir = open(path, O_RDONLY | O_DIRECTORY), null = open("/dev/null", O_WRONLY);
    int fd = openat(dir, "log", O_WRONLY | O_CREAT, 0600);
    assert(write(fd, p, n) == (ssize_t)n);
    close(fd);
    read_all(dir, -1, false, null);
    read_all(dir, 3, true, null);
    ctrlog_open(&l, dir, NULL, SPEC_UNSET, SPEC_UNSET);
    ctrlog_write(&l, 0, 1, "x\n", 2);
    ctrlog_close(&l);
    /* Either the beginning is whole, too, or that is said. */
    assert(ctrlog_read_open(dir, &whole, &r, &e) == 0);
    int rc = ctrlog_copy(r, (int[]){null, null}, &e);
    assert(rc == 0 || rc == -EBADMSG);
    ctrlog_read_close(r);
    (void)unlinkat(dir, "log", 0);
    close(null);
    close(dir);
    (void)rmdir(path);
    return 0;
}
