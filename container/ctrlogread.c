/* The reader of a container's log: whole entries out of a buffer, straight to their streams. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "container/ctrlogfile.h"

enum {
    BUFFER = CTRLOG_HEADER + CTRLOG_ENTRY_MAX + CTRLOG_TRAILER, /* one entry at the least */
    PARTS = 256,                                                /* written at once */
    STAMP_MAX = 40,
};

struct ctrlog_reader {
    int dir, fd, notify; /* fd: the file under way; -1 = none yet */
    struct ctrlog_options o;
    uint64_t pos;  /* in fd */
    uint64_t skip; /* bytes of the next entry that are not shown */
    bool over;
    bool inside[2]; /* the stream's last byte was no line's end */
    struct iovec part[PARTS];
    unsigned n_parts, part_stream;
    char *stamped; /* lines with their times, when asked for */
    size_t stamped_len, stamped_cap;
    uint8_t *buf; /* BUFFER bytes */
};

/* ---- which file */

static int open_nth(struct ctrlog_reader *r, unsigned n)
{
    char name[CTRLOGFILE_NAME];

    ctrlogfile_name(n, name);
    return openat(r->dir, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
}

static int oldest(const struct ctrlog_reader *r)
{
    char name[CTRLOGFILE_NAME];
    int n = -1;

    for (unsigned i = 0; i < CTRLOG_FILES_MAX; i++) {
        ctrlogfile_name(i, name);
        if (faccessat(r->dir, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0)
            n = (int)i;
    }
    return n;
}

/* The number that the file under way has now; -1: it is gone. */
static int number_now(const struct ctrlog_reader *r)
{
    char name[CTRLOGFILE_NAME];
    struct stat own, st;

    if (fstat(r->fd, &own) < 0)
        return -1;
    for (unsigned i = 0; i < CTRLOG_FILES_MAX; i++) {
        ctrlogfile_name(i, name);
        if (fstatat(r->dir, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && st.st_ino == own.st_ino &&
            st.st_dev == own.st_dev)
            return (int)i;
    }
    return -1;
}

/* True: there is a file to go on with. */
static bool next_file(struct ctrlog_reader *r)
{
    int n = r->fd < 0 ? oldest(r) + 1 : number_now(r);

    if (n == 0)
        return false; /* the newest: more may come */
    if (n < 0)
        n = oldest(r) + 1;
    int fd = n > 0 ? open_nth(r, (unsigned)n - 1) : -1;
    if (fd < 0)
        return false;
    cleanup_fd(&r->fd);
    r->fd = fd;
    r->pos = 0;
    return true;
}

/* ---- the last lines */

struct back { /* a walk from the end */
    struct ctrlog_reader *r;
    int64_t left; /* lines */
    bool begun;   /* the last byte was seen */
};

/* True: the entry at `at` has the first byte to be shown; r->skip says which. */
static bool count_lines(struct back *b, uint64_t at, const struct ctrlogfile_entry *en)
{
    uint8_t *p = b->r->buf;
    size_t len = en->len;

    if (pread(b->r->fd, p, len, (off_t)(at + CTRLOG_HEADER)) != (ssize_t)len)
        return false;
    if (!b->begun && p[len - 1] == '\n')
        len--; /* ends the last line, begins none */
    b->begun = true;
    while (len > 0) {
        uint8_t *nl = memrchr(p, '\n', len);

        if (!nl)
            return false;
        if (--b->left == 0) {
            b->r->skip = (uint64_t)(nl + 1 - p);
            return true;
        }
        len = (size_t)(nl - p);
    }
    return false;
}

/* Walk the file under way backwards; true: r->pos and r->skip are where to begin. */
static bool walk_back(struct back *b)
{
    struct ctrlog_reader *r = b->r;
    uint8_t h[CTRLOG_HEADER], t[CTRLOG_TRAILER];
    struct ctrlogfile_entry en;
    struct stat st;
    uint64_t end = fstat(r->fd, &st) == 0 ? (uint64_t)st.st_size : 0;

    r->pos = end;
    while (end >= sizeof(h) + sizeof(t)) {
        if (pread(r->fd, t, sizeof(t), (off_t)(end - sizeof(t))) != sizeof(t))
            break;
        uint64_t len = (uint64_t)ctrlogfile_get32(t) + sizeof(h) + sizeof(t);
        if (len > end || pread(r->fd, h, sizeof(h), (off_t)(end - len)) != sizeof(h) ||
            !ctrlogfile_header(h, &en) || en.len != ctrlogfile_get32(t))
            break; /* cut short: what is before it cannot be found from here */
        uint64_t at = end - len;
        if (r->o.since_ns && en.ns < r->o.since_ns)
            return true;
        bool later = r->o.until_ns && en.ns > r->o.until_ns;
        if (!later && b->left == 0)
            return true;
        if (!later) {
            r->pos = at;
            if (count_lines(b, at, &en))
                return true;
        }
        end = at;
    }
    return false;
}

static void find_tail(struct ctrlog_reader *r)
{
    struct back b = {.r = r, .left = r->o.tail};
    int last = oldest(r);

    for (int n = 0; n <= last; n++) {
        int fd = open_nth(r, (unsigned)n);

        if (fd < 0)
            continue;
        cleanup_fd(&r->fd);
        r->fd = fd;
        if (walk_back(&b))
            return;
    }
    /* Fewer lines than asked for: the walk ended at the beginning, with pos there. */
}

/* ---- writing */

static int write_all(int fd, struct iovec *v, unsigned n, struct err *e)
{
    while (n > 0) {
        ssize_t done = writev(fd, v, (int)n);

        if (done < 0 && errno == EINTR)
            continue;
        if (done < 0)
            return err_errno(e, -errno, "write");
        while (n > 0 && (size_t)done >= v->iov_len) {
            done -= (ssize_t)v->iov_len;
            v++;
            n--;
        }
        if (n > 0) {
            v->iov_base = (char *)v->iov_base + done;
            v->iov_len -= (size_t)done;
        }
    }
    return 0;
}

static int flush(struct ctrlog_reader *r, const int out[2], struct err *e)
{
    int rc = 0, fd = out[r->part_stream];

    if (r->stamped_len > 0) {
        struct iovec v = {r->stamped, r->stamped_len};

        rc = write_all(fd, &v, 1, e);
    } else if (r->n_parts > 0) {
        rc = write_all(fd, r->part, r->n_parts, e);
    }
    r->n_parts = 0;
    r->stamped_len = 0;
    return rc;
}

static size_t stamp(int64_t ns, char out[STAMP_MAX])
{
    time_t s = (time_t)(ns / 1000000000);
    struct tm tm;

    gmtime_r(&s, &tm);
    return (size_t)snprintf(out, STAMP_MAX, "%04d-%02d-%02dT%02d:%02d:%02d.%09dZ ",
                            (tm.tm_year + 1900) % 10000, tm.tm_mon + 1, tm.tm_mday, tm.tm_hour,
                            tm.tm_min, tm.tm_sec, (int)(ns % 1000000000));
}

static int add_stamped(struct ctrlog_reader *r, const void *p, size_t len, struct err *e)
{
    if (r->stamped_len + len > r->stamped_cap) {
        size_t cap = 2 * (r->stamped_len + len) + 4096;
        char *more = realloc(r->stamped, cap);

        if (!more)
            return err_set(e, -ENOMEM, "out of memory");
        r->stamped = more;
        r->stamped_cap = cap;
    }
    memcpy(r->stamped + r->stamped_len, p, len);
    r->stamped_len += len;
    return 0;
}

/* One portion's lines, each with its time in front where it begins. */
static int stamp_lines(struct ctrlog_reader *r, const struct ctrlogfile_entry *en, const uint8_t *p,
                       size_t len, struct err *e)
{
    char text[STAMP_MAX];
    size_t text_len = stamp(en->ns, text);
    int rc = 0;

    while (len > 0 && rc == 0) {
        const uint8_t *nl = memchr(p, '\n', len);
        size_t n = nl ? (size_t)(nl + 1 - p) : len;

        if (!r->inside[en->stream])
            rc = add_stamped(r, text, text_len, e);
        if (rc == 0)
            rc = add_stamped(r, p, n, e);
        r->inside[en->stream] = !nl;
        p += n;
        len -= n;
    }
    return rc;
}

/* Whether a part of it is shown; and -errno. */
static int show(struct ctrlog_reader *r, const struct ctrlogfile_entry *en, const uint8_t *p,
                const int out[2], struct err *e)
{
    size_t skip = r->skip < en->len ? (size_t)r->skip : en->len, len = en->len - skip;
    int rc = 0;

    r->skip = 0;
    if (out[en->stream] < 0 || len == 0)
        return 0;
    if (en->stream != r->part_stream || r->n_parts == PARTS || r->stamped_len > BUFFER)
        rc = flush(r, out, e);
    r->part_stream = en->stream;
    if (rc == 0 && r->o.timestamps)
        rc = stamp_lines(r, en, p + skip, len, e);
    else if (rc == 0)
        r->part[r->n_parts++] = (struct iovec){(void *)(uintptr_t)(p + skip), len};
    return rc;
}

/* ---- reading */

/* What lies in the buffer, n bytes from r->pos; *used: of whole entries. */
static int show_buffer(struct ctrlog_reader *r, size_t n, size_t *used, const int out[2],
                       struct err *e)
{
    struct ctrlogfile_entry en;
    int rc = 0;

    *used = 0;
    while (rc == 0 && n - *used >= CTRLOG_HEADER) {
        const uint8_t *h = r->buf + *used;

        if (!ctrlogfile_header(h, &en))
            return err_set(e, -EBADMSG, "the log is damaged");
        if (n - *used < (size_t)CTRLOG_HEADER + en.len + CTRLOG_TRAILER)
            break;
        if (r->o.until_ns && en.ns > r->o.until_ns) {
            r->over = true;
            break;
        }
        if (!r->o.since_ns || en.ns >= r->o.since_ns)
            rc = show(r, &en, h + CTRLOG_HEADER, out, e);
        *used += CTRLOG_HEADER + en.len + CTRLOG_TRAILER;
    }
    int last = flush(r, out, rc == 0 ? e : NULL);
    return rc < 0 ? rc : last;
}

int ctrlog_copy(struct ctrlog_reader *r, const int out[2], struct err *e)
{
    char events[4096] __attribute__((aligned(__alignof__(struct inotify_event))));

    while (read(r->notify, events, sizeof(events)) > 0) {
    }
    while (!r->over) {
        size_t used = 0;
        ssize_t n = r->fd < 0 ? 0 : pread(r->fd, r->buf, BUFFER, (off_t)r->pos);

        if (n < 0)
            return err_errno(e, -errno, "log");
        int rc = show_buffer(r, (size_t)n, &used, out, e);
        if (rc < 0)
            return rc;
        r->pos += used;
        if (used == 0 && !r->over && !next_file(r))
            return 0;
    }
    return 1;
}

int ctrlog_read_fd(const struct ctrlog_reader *r)
{
    return r->notify;
}

int ctrlog_read_open(int dir, const struct ctrlog_options *o, struct ctrlog_reader **ret,
                     struct err *e)
{
    struct ctrlog_reader *r = calloc(1, sizeof(*r));
    uint8_t *buf = r ? malloc(BUFFER) : NULL;
    char path[32];

    if (!buf) {
        free(r);
        return err_set(e, -ENOMEM, "out of memory");
    }
    *r = (struct ctrlog_reader){.dir = dir, .fd = -1, .o = *o, .buf = buf};
    r->notify = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
    snprintf(path, sizeof(path), "/proc/self/fd/%d", dir);
    if (r->notify < 0 ||
        inotify_add_watch(r->notify, path, IN_MODIFY | IN_CREATE | IN_MOVED_TO) < 0) {
        int rc = err_errno(e, -errno, "watch the log");

        ctrlog_read_close(r);
        return rc;
    }
    if (o->tail >= 0)
        find_tail(r);
    *ret = r;
    return 0;
}

void ctrlog_read_close(struct ctrlog_reader *r)
{
    if (!r)
        return;
    cleanup_fd(&r->fd);
    cleanup_fd(&r->notify);
    free(r->stamped);
    free(r->buf);
    free(r);
}
