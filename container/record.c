#include "container/record.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "container/recpriv.h"
#include "container/task.h"
#include "image/store_priv.h"
#include "os/hexid.h"

enum { FILE_MAX = SPEC_JSON_MAX, TRIES = 64 /* names made up before giving up */ };

static int64_t now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_REALTIME, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* ---- the folder of all */

char *record_root(const char *root)
{
    return store_root_path(root);
}

static int open_all(const char *root, struct err *e)
{
    CLEANUP(mem) char *base = record_root(root);
    char path[PATH_MAX];

    if (!base || (size_t)snprintf(path, sizeof(path), "%s/containers", base) >= sizeof(path))
        return err_errno(e, base ? -ENAMETOOLONG : -ENOMEM, "containers");
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 && errno == ENOENT) {
        (void)mkdir(base, 0755);
        if (mkdir(path, 0700) < 0 && errno != EEXIST)
            return err_errno(e, -errno, "%s", path);
        fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    }
    return fd < 0 ? err_errno(e, -errno, "%s", path) : fd;
}

/* A lock's file is never removed while its folder is there. Blocks. */
static int take_lock(int dir, struct err *e)
{
    CLEANUP(fd) int fd = openat(dir, "lock", O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);

    if (fd < 0)
        return err_errno(e, -errno, "container: lock");
    while (flock(fd, LOCK_EX) < 0)
        if (errno != EINTR)
            return err_errno(e, -errno, "container: lock");
    return take_fd(&fd);
}

static bool is_id(const char *s)
{
    return strlen(s) == RECORD_ID_LEN && strspn(s, "0123456789abcdef") == RECORD_ID_LEN;
}

/* The id that has this name; false: none. */
static bool by_name(int all, const char *name, char id[RECORD_ID_LEN + 1])
{
    char path[RECORD_NAME_MAX + 16], own[RECORD_ID_LEN + 16], real[RECORD_NAME_MAX + 1];

    if ((size_t)snprintf(path, sizeof(path), "names/%s", name) >= sizeof(path))
        return false;
    ssize_t n = readlinkat(all, path, id, RECORD_ID_LEN + 1);
    if (n != RECORD_ID_LEN)
        return false;
    id[n] = '\0';
    if (!is_id(id))
        return false;
    /* A kill between two steps leaves links that nothing answers. */
    snprintf(own, sizeof(own), "%s/name", id);
    n = readlinkat(all, own, real, sizeof(real) - 1);
    real[n < 0 ? 0 : n] = '\0';
    return strcmp(real, name) == 0;
}

/* With the lock of all. */
static int take_name(int all, const char *name, const char *id, struct err *e)
{
    char path[RECORD_NAME_MAX + 16], other[RECORD_ID_LEN + 1];

    if (by_name(all, name, other))
        return err_set(e, -EEXIST, "the name '%s' is in use by container %.*s", name, RECORD_SHORT,
                       other);
    snprintf(path, sizeof(path), "names/%s", name);
    if (mkdirat(all, "names", 0700) < 0 && errno != EEXIST)
        return err_errno(e, -errno, "containers/names");
    (void)unlinkat(all, path, 0);
    return symlinkat(id, all, path) < 0 ? err_errno(e, -errno, "containers/%s", path) : 0;
}

static void drop_name(int all, const char *name, const char *id)
{
    char path[RECORD_NAME_MAX + 16], holder[RECORD_ID_LEN + 1] = "";

    snprintf(path, sizeof(path), "names/%s", name);
    if (readlinkat(all, path, holder, RECORD_ID_LEN) == RECORD_ID_LEN && strcmp(holder, id) == 0)
        (void)unlinkat(all, path, 0);
}

/* With the lock of all: whoever made these is dead, or removes them as well. */
static void sweep(int all)
{
    int copy = openat(all, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    CLEANUP(dir) DIR *d = copy < 0 ? NULL : fdopendir(copy);
    struct dirent *de;

    while (d && (de = readdir(d)))
        if (strncmp(de->d_name, "tmp-", 4) == 0)
            (void)store_remove_tree(all, de->d_name);
}

/* ---- files */

static int write_file(int dir, const char *name, json_t *j, bool sync, struct err *e)
{
    CLEANUP(mem) char *text = j ? json_dumps(j, JSON_COMPACT) : NULL;
    size_t len = text ? strlen(text) : 0;
    char temp[32];

    json_decref(j);
    if (!text)
        return err_set(e, -ENOMEM, "out of memory");
    snprintf(temp, sizeof(temp), "%s.new", name);
    CLEANUP(fd)
    int fd = openat(dir, temp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    ssize_t n = fd < 0 ? -1 : write(fd, text, len);
    if (n >= 0 && (size_t)n < len)
        errno = ENOSPC;
    if (n < 0 || (size_t)n < len || (sync && fsync(fd) < 0) || renameat(dir, temp, dir, name) < 0) {
        int r = err_errno(e, -errno, "container: write %s", name);

        (void)unlinkat(dir, temp, 0);
        return r;
    }
    return 0;
}

static json_t *read_file(int dir, const char *name, struct err *e)
{
    CLEANUP(fd) int fd = openat(dir, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    json_error_t why;
    struct stat st;

    if (fd < 0 || fstat(fd, &st) < 0) {
        err_errno(e, -errno, "%s", name);
        return NULL;
    }
    if (!S_ISREG(st.st_mode) || st.st_size > FILE_MAX) {
        err_set(e, -EBADMSG, "%s: damaged", name);
        return NULL;
    }
    size_t len = (size_t)st.st_size;
    CLEANUP(mem) char *text = malloc(len + 1);
    ssize_t n = text ? read(fd, text, len) : -1;
    json_t *j = n >= 0 ? json_loadb(text, (size_t)n, JSON_REJECT_DUPLICATES, &why) : NULL;
    if (!j)
        err_set(e, text ? -EBADMSG : -ENOMEM, "%s: damaged", name);
    return j;
}

int record_save(struct record *r, struct err *e)
{
    return write_file(r->dir, "state.json", recstate_to_json(&r->state), false, e);
}

int record_update(struct record *r, struct err *e)
{
    return write_file(r->dir, "config.json", spec_to_json(&r->spec), !r->spec.auto_remove, e);
}

/* ---- making one */

static int fill_folder(struct record *r, const char *temp, int all, struct err *e)
{
    if (mkdirat(all, temp, 0700) < 0)
        return err_errno(e, -errno, "containers/%s", temp);
    r->dir = openat(all, temp, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (r->dir < 0)
        return err_errno(e, -errno, "containers/%s", temp);
    r->lock = take_lock(r->dir, e);
    int rc = r->lock < 0 ? r->lock : record_update(r, e);
    if (rc == 0)
        rc = record_save(r, e);
    if (rc == 0 && symlinkat(r->name, r->dir, "name") < 0)
        rc = err_errno(e, -errno, "containers/%s", temp);
    if (rc == 0 && !r->spec.auto_remove && fsync(r->dir) < 0)
        rc = err_errno(e, -errno, "containers/%s", temp);
    return rc;
}

static int choose_name(int all, const char *name, struct record *r, struct err *e)
{
    char other[RECORD_ID_LEN + 1];
    uint64_t n = 0;

    if (name) {
        memcpy(r->name, name, strlen(name) + 1);
        return 0;
    }
    for (unsigned i = 0; i < TRIES; i++) {
        if (getrandom(&n, sizeof(n), 0) != sizeof(n))
            return err_errno(e, -errno, "getrandom");
        recname_make(i < TRIES / 2 ? n % 4096 : n, r->name); /* with a number only if need be */
        if (!by_name(all, r->name, other))
            return 0;
    }
    return err_set(e, -EEXIST, "no free name was found");
}

static int make(int all, const char *name, struct record *r, struct err *e)
{
    char temp[RECORD_ID_LEN + 8];
    int rc = hexid(r->id, RECORD_ID_LEN, e);

    if (rc == 0)
        rc = choose_name(all, name, r, e);
    if (rc < 0)
        return rc;
    r->state = (struct record_state){.status = RECORD_CREATED, .created_ns = now_ns()};
    snprintf(temp, sizeof(temp), "tmp-%s", r->id);
    rc = take_name(all, r->name, r->id, e);
    if (rc == 0)
        rc = fill_folder(r, temp, all, e);
    if (rc == 0 && renameat(all, temp, all, r->id) < 0)
        rc = err_errno(e, -errno, "containers/%s", r->id);
    if (rc == 0 && !r->spec.auto_remove && fsync(all) < 0)
        rc = err_errno(e, -errno, "containers");
    if (rc < 0 && rc != -EEXIST) {
        drop_name(all, r->name, r->id);
        (void)store_remove_tree(all, temp);
    }
    return rc;
}

static int set_path(const char *root, struct record *r, struct err *e)
{
    CLEANUP(mem) char *base = record_root(root);

    if (!base)
        return err_set(e, -ENOMEM, "out of memory");
    if ((size_t)snprintf(r->path, sizeof(r->path), "%s/containers/%s", base, r->id) >=
        sizeof(r->path))
        return err_errno(e, -ENAMETOOLONG, "%s", base);
    return 0;
}

int record_create(const char *root, const char *name, struct spec *s, struct record *r,
                  struct err *e)
{
    *r = (struct record){.dir = -1, .lock = -1, .spec = *s};
    spec_init(s);
    int rc = name ? record_check_name(name, e) : 0;
    CLEANUP(fd) int all = rc == 0 ? open_all(root, e) : -1;
    CLEANUP(fd) int lock = all >= 0 ? take_lock(all, e) : -1;
    if (rc == 0 && lock < 0)
        rc = all < 0 ? all : lock;
    if (rc == 0) {
        sweep(all);
        rc = make(all, name, r, e);
    }
    if (rc == 0)
        rc = set_path(root, r, e);
    if (rc < 0)
        record_done(r);
    return rc;
}

/* ---- finding */

static int read_name(struct record *r)
{
    ssize_t n = readlinkat(r->dir, "name", r->name, sizeof(r->name) - 1);

    r->name[n < 0 ? 0 : n] = '\0';
    return n < 0 ? -errno : 0;
}

int record_refresh(struct record *r, struct err *e)
{
    json_t *j = read_file(r->dir, "state.json", NULL);

    if (access(r->path, F_OK) < 0) {
        json_decref(j);
        return err_set(e, -ENOENT, "no such container: %s", r->name[0] ? r->name : r->id);
    }
    (void)read_name(r);
    /* After a power cut it may be empty: then nothing of it runs, either. */
    if (recstate_from_json(j, &r->state, NULL) < 0)
        snprintf(r->state.error, sizeof(r->state.error), "its state was lost");
    json_decref(j);
    return 0;
}

static int load(const char *root, int all, const char *id, struct record *r, struct err *e)
{
    *r = (struct record){.dir = -1, .lock = -1};
    spec_init(&r->spec);
    memcpy(r->id, id, RECORD_ID_LEN + 1);
    int rc = set_path(root, r, e);
    if (rc < 0)
        return rc;
    r->dir = openat(all, id, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (r->dir < 0)
        return err_set(e, -ENOENT, "no such container: %s", id);
    json_t *config = read_file(r->dir, "config.json", e);
    rc = config ? spec_from_json(config, &r->spec, e) : -EBADMSG;
    json_decref(config);
    if (rc == 0)
        rc = record_refresh(r, e);
    return rc < 0 && rc != -ENOENT ? err_wrap(e, rc, "container %.*s", RECORD_SHORT, id) : rc;
}

/* Speaks of a keeper that is gone, or should be gone itself (--rm). */
static bool is_settled(const struct record *r)
{
    bool over = r->state.keeper == 0 && r->state.status == RECORD_EXITED;

    return (r->state.keeper == 0 && !(over && r->spec.auto_remove)) || record_alive(r);
}

/* As it is, in truth. */
static int settle(const char *root, struct record *r, struct err *e)
{
    bool locked = r->lock >= 0;

    if (is_settled(r))
        return 0;
    int rc = locked ? 0 : record_relock(r, e);
    if (rc == 0 && !is_settled(r))
        rc = recover_settle(root, r, e);
    if (!locked)
        record_unlock(r);
    return rc;
}

static int by_prefix(int all, const char *text, char id[RECORD_ID_LEN + 1], struct err *e)
{
    int copy = openat(all, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    CLEANUP(dir) DIR *d = copy < 0 ? NULL : fdopendir(copy);
    size_t len = strlen(text);
    unsigned found = 0;
    struct dirent *de;

    while (d && (de = readdir(d))) {
        if (!is_id(de->d_name) || strncmp(de->d_name, text, len) != 0)
            continue;
        memcpy(id, de->d_name, RECORD_ID_LEN + 1);
        found++;
    }
    if (found > 1)
        return err_set(e, -EINVAL, "'%s' is the beginning of several containers' ids", text);
    return found == 1 ? 0 : err_set(e, -ENOENT, "no such container: %s", text);
}

int record_find(const char *root, const char *text, enum record_use use, struct record *r,
                struct err *e)
{
    char id[RECORD_ID_LEN + 1];
    size_t len = strlen(text);
    int rc = 0;

    *r = (struct record){.dir = -1, .lock = -1};
    spec_init(&r->spec);
    CLEANUP(fd) int all = open_all(root, e);
    if (all < 0)
        return all;
    if (is_id(text))
        memcpy(id, text, sizeof(id));
    else if (len == 0 || len > RECORD_ID_LEN || strchr(text, '/'))
        return err_set(e, -ENOENT, "no such container: %s", text);
    else if (!by_name(all, text, id))
        rc = by_prefix(all, text, id, e);
    if (rc == 0)
        rc = load(root, all, id, r, e);
    if (rc == 0 && use == RECORD_CHANGE)
        rc = record_relock(r, e);
    if (rc == 0)
        rc = settle(root, r, e);
    if (rc < 0)
        record_done(r);
    return rc == -ENOENT ? err_set(e, rc, "no such container: %s", text) : rc;
}

static int newest_first(const void *a, const void *b)
{
    const struct record *x = a, *y = b;

    return x->state.created_ns < y->state.created_ns   ? 1
           : x->state.created_ns > y->state.created_ns ? -1
                                                       : strcmp(x->id, y->id);
}

/* Leftovers are swept, if nobody is making something. */
static void sweep_gently(int all)
{
    CLEANUP(fd) int lock = openat(all, "lock", O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);

    if (lock >= 0 && flock(lock, LOCK_EX | LOCK_NB) == 0)
        sweep(all);
}

int record_list(const char *root, struct record **list, size_t *n, unsigned *damaged, struct err *e)
{
    unsigned bad = 0;
    size_t count = 0, cap = 0;
    struct record *v = NULL;
    struct dirent *de;
    int all = open_all(root, e), rc = 0;

    if (all < 0)
        return all;
    sweep_gently(all);
    CLEANUP(dir) DIR *d = fdopendir(all);
    while (d && rc == 0 && (de = readdir(d))) {
        if (!is_id(de->d_name))
            continue;
        if (count == cap) {
            struct record *more = reallocarray(v, cap ? 2 * cap : 16, sizeof(*v));

            rc = more ? 0 : err_set(e, -ENOMEM, "out of memory");
            v = more ? more : v;
            cap = cap ? 2 * cap : 16;
        }
        if (rc < 0)
            break;
        int one = load(root, dirfd(d), de->d_name, &v[count], NULL);
        if (one == 0)
            one = settle(root, &v[count], NULL);
        bad += one < 0 && one != -ENOENT;
        if (one == 0)
            count++;
        else
            record_done(&v[count]);
    }
    if (rc < 0) {
        while (count > 0)
            record_done(&v[--count]);
        free(v);
        return rc;
    }
    if (count)
        qsort(v, count, sizeof(*v), newest_first);
    *list = v;
    *n = count;
    if (damaged)
        *damaged = bad;
    return 0;
}

void record_done(struct record *r)
{
    record_unlock(r);
    cleanup_fd(&r->dir);
    r->dir = -1;
    spec_done(&r->spec);
}

/* ---- changing */

void record_unlock(struct record *r)
{
    cleanup_fd(&r->lock);
    r->lock = -1;
}

/* A keeper that wrote down the end is about to go. */
static void await_last_steps(const struct record *r)
{
    struct flock l = {.l_type = F_RDLCK, .l_whence = SEEK_SET};
    CLEANUP(fd) int fd = openat(r->dir, "alive", O_RDWR | O_CLOEXEC | O_NOFOLLOW);

    while (fd >= 0 && fcntl(fd, F_OFD_SETLKW, &l) < 0 && errno == EINTR) {
    }
}

int record_relock(struct record *r, struct err *e)
{
    if (r->lock < 0)
        r->lock = take_lock(r->dir, e);
    int rc = r->lock < 0 ? r->lock : record_refresh(r, e);
    if (rc == 0 && r->state.keeper == 0 && record_alive(r))
        await_last_steps(r);
    if (rc == -ENOENT)
        record_unlock(r);
    return rc;
}

bool record_alive(const struct record *r)
{
    struct flock l = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    CLEANUP(fd) int fd = openat(r->dir, "alive", O_RDWR | O_CLOEXEC | O_NOFOLLOW);

    /* Asked for, not taken: two who ask must not see each other. */
    return fd >= 0 && fcntl(fd, F_OFD_GETLK, &l) == 0 && l.l_type != F_UNLCK;
}

int record_hold(struct record *r, int *alive, struct err *e)
{
    struct flock l = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    CLEANUP(fd)
    int fd = openat(r->dir, "alive", O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);

    if (fd < 0)
        return err_errno(e, -errno, "container %s", r->name);
    if (fcntl(fd, F_OFD_SETLK, &l) < 0)
        return err_set(e, errno == EAGAIN || errno == EACCES ? -EBUSY : -errno,
                       "container %s is running", r->name);
    *alive = take_fd(&fd);
    return 0;
}

int record_check_name(const char *name, struct err *e)
{
    static const char set[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-";
    size_t n = strlen(name);

    if (n == 0 || n > RECORD_NAME_MAX || strspn(name, set) != n || strchr("_.-", name[0]))
        return err_set(e, -EINVAL, "'%s' is not a name: letters, digits, '_', '.', '-', at most %d",
                       name, RECORD_NAME_MAX);
    return 0;
}

/* The folder of all, of a record's path. */
static int open_parent(const struct record *r, struct err *e)
{
    CLEANUP(fd) int all = open(r->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    int up = all < 0 ? -1 : openat(all, "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    return up < 0 ? err_errno(e, -errno, "%s", r->path) : up;
}

/* The new name leads here before the folder says so, and the old one until then: a kill leaves the
 * container with one of them. */
int record_rename(struct record *r, const char *name, struct err *e)
{
    int rc = record_check_name(name, e);
    CLEANUP(fd) int all = rc == 0 ? open_parent(r, e) : -1;
    CLEANUP(fd) int lock = all >= 0 ? take_lock(all, e) : -1;

    if (rc == 0 && lock < 0)
        rc = all < 0 ? all : lock;
    if (rc == 0)
        rc = take_name(all, name, r->id, e);
    if (rc < 0)
        return rc;
    (void)unlinkat(r->dir, "name.new", 0);
    if (symlinkat(name, r->dir, "name.new") < 0 ||
        renameat(r->dir, "name.new", r->dir, "name") < 0) {
        rc = err_errno(e, -errno, "container %s", r->name);
        drop_name(all, name, r->id);
        return rc;
    }
    drop_name(all, r->name, r->id);
    memcpy(r->name, name, strlen(name) + 1);
    return 0;
}

int record_remove(struct record *r, struct err *e)
{
    char temp[RECORD_ID_LEN + 8];
    CLEANUP(fd) int all = open_parent(r, e);
    CLEANUP(fd) int lock = all >= 0 ? take_lock(all, e) : -1;

    if (lock < 0)
        return all < 0 ? all : lock;
    snprintf(temp, sizeof(temp), "tmp-%s", r->id);
    if (renameat(all, r->id, all, temp) < 0)
        return err_errno(e, -errno, "container %s", r->name);
    drop_name(all, r->name, r->id);
    cleanup_fd(&lock);
    lock = -1;
    const struct task_ops *task = task_class(&r->spec);
    if (task && task->discard)
        task->discard(r);
    (void)store_remove_tree(all, temp);
    if (faccessat(all, temp, F_OK, AT_SYMLINK_NOFOLLOW) == 0)
        return err_set(e, -EIO, "container %s: not all of its files could be removed", r->name);
    return 0;
}
