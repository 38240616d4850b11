/* Two libarchive readers in a row: the first undoes the compression and nothing else, so that the
 * plain tar's bytes pass by here and can be summed; the second takes them apart. */
#include "image/layer.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "image/digest.h"

enum { READ_BLOCK = 1 << 17 }; /* bytes of compressed input at a time */

struct layer {
    struct archive *plain, *tar;
    struct digest *sum;
    uint64_t bytes; /* of the plain tar so far */
    int failed;     /* of the first reader; seen through the second */
    char why[200];
};

static void add_filters(struct archive *a)
{
    /* By name, not all: some filters of libarchive start programs. */
    archive_read_support_filter_gzip(a);
    archive_read_support_filter_zstd(a);
    archive_read_support_filter_xz(a);
    archive_read_support_filter_bzip2(a);
    archive_read_support_filter_lz4(a);
}

static ssize_t fail(struct layer *l, int code, const char *why)
{
    if (!l->failed) {
        l->failed = code;
        strncpy(l->why, why ? why : "unreadable", sizeof(l->why) - 1);
    }
    return -1;
}

/* The plain tar's next bytes; 0 at the end, -1 on failure. */
static ssize_t plain_read(struct archive *a, void *ctx, const void **buf)
{
    struct layer *l = ctx;
    size_t n = 0;
    la_int64_t at;
    int r = archive_read_data_block(l->plain, buf, &n, &at);

    if (r == ARCHIVE_EOF)
        return 0;
    if (r < ARCHIVE_OK) {
        fail(l, -EBADMSG, archive_error_string(l->plain));
        archive_set_error(a, EIO, "%s", l->why);
        return -1;
    }
    if (n > LAYER_BYTES_MAX - l->bytes) {
        fail(l, -EFBIG, "larger than any layer may be");
        archive_set_error(a, EIO, "%s", l->why);
        return -1;
    }
    l->bytes += n;
    digest_add(l->sum, *buf, n);
    return (ssize_t)n;
}

static int report(const struct layer *l, struct err *e)
{
    const char *why = l->failed ? l->why : archive_error_string(l->tar);

    return err_set(e, l->failed ? l->failed : -EBADMSG, "corrupt: %s",
                   why ? why : "not a tar archive");
}

void layer_close(struct layer *l)
{
    if (!l)
        return;
    archive_read_free(l->tar);
    archive_read_free(l->plain);
    digest_free(l->sum);
    free(l);
}

static int open_readers(struct layer *l, int fd, struct err *e)
{
    struct archive_entry *entry;

    l->plain = archive_read_new();
    l->tar = archive_read_new();
    l->sum = digest_new();
    if (!l->plain || !l->tar || !l->sum)
        return err_set(e, -ENOMEM, "out of memory");
    if (lseek(fd, 0, SEEK_SET) < 0)
        return err_errno(e, -errno, "seek");

    add_filters(l->plain);
    archive_read_support_format_raw(l->plain);
    archive_read_support_format_empty(l->plain);
    if (archive_read_open_fd(l->plain, fd, READ_BLOCK) != ARCHIVE_OK)
        return err_set(e, -EBADMSG, "corrupt: %s", archive_error_string(l->plain));
    int r = archive_read_next_header(l->plain, &entry);
    if (r != ARCHIVE_OK)
        return err_set(e, -EBADMSG, "corrupt: %s",
                       r == ARCHIVE_EOF ? "empty" : archive_error_string(l->plain));

    archive_read_support_format_tar(l->tar);
    if (archive_read_open(l->tar, l, NULL, plain_read, NULL) != ARCHIVE_OK)
        return report(l, e);
    return 0;
}

int layer_open(int fd, struct layer **ret, struct err *e)
{
    struct layer *l = calloc(1, sizeof(*l));
    int r = l ? open_readers(l, fd, e) : err_set(e, -ENOMEM, "out of memory");

    if (r < 0) {
        layer_close(l);
        return r;
    }
    *ret = l;
    return 0;
}

int layer_next(struct layer *l, struct archive_entry **ret, struct err *e)
{
    int r = archive_read_next_header(l->tar, ret);

    if (r == ARCHIVE_EOF && !l->failed)
        return 0;
    /* A warning is an attribute in a character set nobody knows: the entry is there all the same.
     */
    if (r != ARCHIVE_OK && r != ARCHIVE_WARN)
        return report(l, e);
    return 1;
}

int64_t layer_read(struct layer *l, void *buf, size_t n, struct err *e)
{
    la_ssize_t got = archive_read_data(l->tar, buf, n);

    if (got < 0)
        return report(l, e);
    return got;
}

int layer_finish(struct layer *l, const char *want, char *got, struct err *e)
{
    char sum[DIGEST_MAX];
    const void *rest;
    ssize_t n;

    /* Behind the tar's end comes padding, which counts. */
    while ((n = plain_read(l->tar, l, &rest)) > 0)
        ;
    if (n < 0 || l->failed)
        return report(l, e);
    digest_end(l->sum, sum);
    if (got)
        memcpy(got, sum, DIGEST_MAX);
    if (want && strcmp(want, sum) != 0)
        return err_set(e, -EBADMSG, "wrong digest: its contents are %s, not %s", sum, want);
    return 0;
}

uint64_t layer_progress(const struct layer *l)
{
    la_int64_t n = archive_filter_bytes(l->plain, -1);

    return n > 0 ? (uint64_t)n : 0;
}
