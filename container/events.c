#include "container/events.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "image/store.h"

#define LOG_NAME "events.log"
#define OLD_NAME "events.log.1"

static int open_root(const char *root)
{
    CLEANUP(mem) char *path = store_root_path(root);

    return path ? open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
}

/* ---- writing */

static json_t *attributes_json(const char *const *attributes)
{
    json_t *o = json_object();

    for (; attributes && attributes[0]; attributes += 2)
        if (attributes[1] && attributes[1][0])
            json_object_set_new(o, attributes[0], json_string(attributes[1]));
    return o;
}

/* Owned; ends with a newline. */
static char *line_of(const char *type, const char *action, const char *id,
                     const char *const *attributes)
{
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    json_t *o =
        json_pack("{s:s, s:s, s:s, s:{s:s, s:o}, s:s, s:I, s:I}", "Type", type, "Action", action,
                  "id", id, "Actor", "ID", id, "Attributes", attributes_json(attributes), "scope",
                  "local", "time", (json_int_t)now.tv_sec, "timeNano",
                  (json_int_t)now.tv_sec * 1000000000 + (json_int_t)now.tv_nsec);
    size_t n = o ? json_dumpb(o, NULL, 0, JSON_COMPACT) : 0;
    char *line = n > 0 ? malloc(n + 2) : NULL;

    if (line) {
        json_dumpb(o, line, n, JSON_COMPACT);
        line[n] = '\n';
        line[n + 1] = '\0';
    }
    json_decref(o);
    return line;
}

static bool same_file(int dir, int fd)
{
    struct stat a, b;

    return fstat(fd, &a) == 0 && fstatat(dir, LOG_NAME, &b, AT_SYMLINK_NOFOLLOW) == 0 &&
           a.st_dev == b.st_dev && a.st_ino == b.st_ino;
}

/* The log for writing, locked: shared among writers, alone for whoever puts it aside. */
static int open_log(int dir, int how)
{
    for (;;) {
        CLEANUP(fd)
        int fd =
            openat(dir, LOG_NAME, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644);

        if (fd < 0)
            return -1;
        while (flock(fd, how) < 0)
            if (errno != EINTR)
                return -1;
        if (same_file(dir, fd))
            return take_fd(&fd);
    }
}

/* A full log is put aside; whoever else found it full meanwhile has done so already. */
static void turn_over(int dir)
{
    CLEANUP(fd) int fd = open_log(dir, LOCK_EX);
    struct stat st;

    if (fd >= 0 && fstat(fd, &st) == 0 && st.st_size >= EVENTS_LOG_MAX)
        (void)renameat(dir, LOG_NAME, dir, OLD_NAME);
}

void event_note(const char *root, const char *type, const char *action, const char *id,
                const char *const *attributes)
{
    CLEANUP(fd) int dir = open_root(root);
    CLEANUP(mem) char *line = line_of(type, action, id, attributes);
    struct stat st;

    if (line && strlen(line) > EVENTS_LINE_MAX) {
        free(line);
        line = line_of(type, action, id, NULL);
    }
    if (dir < 0 || !line || strlen(line) > EVENTS_LINE_MAX)
        return;
    if (fstatat(dir, LOG_NAME, &st, AT_SYMLINK_NOFOLLOW) == 0 && st.st_size >= EVENTS_LOG_MAX)
        turn_over(dir);
    CLEANUP(fd) int fd = open_log(dir, LOCK_SH);
    if (fd >= 0)
        (void)!write(fd, line, strlen(line));
}

/* ---- reading */

struct events {
    int dir, watch, fd; /* fd: the file that is read; -1 = none yet */
    size_t len;
    bool skipping; /* the rest of a line that is too long */
    char buf[EVENTS_LINE_MAX];
};

int events_open(const char *root, struct events **ret, struct err *e)
{
    CLEANUP(mem) char *path = store_root_path(root);
    struct events *v = calloc(1, sizeof(*v));

    if (!v || !path) {
        free(v);
        return err_errno(e, -ENOMEM, "events");
    }
    v->watch = v->fd = -1;
    v->dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (v->dir >= 0)
        v->watch = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
    if (v->watch < 0 ||
        inotify_add_watch(v->watch, path, IN_MODIFY | IN_CREATE | IN_MOVED_TO) < 0) {
        int r = err_errno(e, -errno, "events in '%s'", path);

        events_close(v);
        return r;
    }
    v->fd = openat(v->dir, OLD_NAME, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    *ret = v;
    return 0;
}

void events_close(struct events *v)
{
    if (!v)
        return;
    cleanup_fd(&v->fd);
    cleanup_fd(&v->watch);
    cleanup_fd(&v->dir);
    free(v);
}

int events_fd(const struct events *v)
{
    return v->watch;
}

/* Take what inotify says: that there is something is all of it. */
static void drain_watch(struct events *v)
{
    char room[4096] __attribute__((aligned(8)));

    while (read(v->watch, room, sizeof(room)) > 0) {
    }
}

/* The line at the beginning of the buffer. 1 = *out is an event, 0 = none in this line. */
static int take_line(struct events *v, size_t n, json_t **out)
{
    json_t *o = v->skipping ? NULL : json_loadb(v->buf, n, 0, NULL);

    v->skipping = false;
    memmove(v->buf, v->buf + n + 1, v->len - n - 1);
    v->len -= n + 1;
    if (!json_is_object(o)) {
        json_decref(o);
        return 0;
    }
    *out = o;
    return 1;
}

/* At the end of a file: 1 = there is a later one, which is read now; 0 = this is the last. */
static int next_file(struct events *v)
{
    if (v->fd >= 0 && same_file(v->dir, v->fd))
        return 0;
    int fd = openat(v->dir, LOG_NAME, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return 0;
    cleanup_fd(&v->fd);
    v->fd = fd;
    v->len = 0;
    v->skipping = false;
    return 1;
}

int events_next(struct events *v, json_t **out, struct err *e)
{
    drain_watch(v);
    for (;;) {
        const char *nl = memchr(v->buf, '\n', v->len);

        if (nl) {
            if (take_line(v, (size_t)(nl - v->buf), out))
                return 1;
            continue;
        }
        if (v->len == sizeof(v->buf)) {
            v->skipping = true;
            v->len = 0;
        }
        /* Asked before the read: what a writer adds before it renames is then read. */
        bool last = v->fd >= 0 && same_file(v->dir, v->fd);
        ssize_t n = v->fd < 0 ? 0 : read(v->fd, v->buf + v->len, sizeof(v->buf) - v->len);
        if (n < 0)
            return err_errno(e, -errno, "events");
        v->len += (size_t)n;
        if (n == 0 && (last || !next_file(v)))
            return 0;
    }
}
