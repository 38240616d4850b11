#include "image/store.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "image/store_priv.h"

enum {
    FOREIGN_AGE = 24 * 60 * 60
}; /* s; after that a folder in tmp/ that is not ours is a leftover */

char *store_root_path(const char *given)
{
    const char *env = getenv("KILN_ROOT"), *data = getenv("XDG_DATA_HOME"), *home = getenv("HOME");
    char *root = NULL;

    if (given)
        return strdup(given);
    if (env && *env)
        return strdup(env);
    if (geteuid() == 0)
        return strdup("/var/lib/kiln");
    if (data && *data)
        return asprintf(&root, "%s/kiln", data) < 0 ? NULL : root;
    return asprintf(&root, "%s/.local/share/kiln", home && *home ? home : "/tmp") < 0 ? NULL : root;
}

/* mkdir -p */
static int make_path(const char *path)
{
    CLEANUP(mem) char *copy = strdup(path);

    if (!copy)
        return -ENOMEM;
    for (char *s = copy + 1; *s; s++) {
        if (*s != '/')
            continue;
        *s = '\0';
        if (mkdir(copy, 0755) < 0 && errno != EEXIST && errno != EROFS && errno != EACCES)
            return -errno;
        *s = '/';
    }
    return mkdir(copy, 0755) < 0 && errno != EEXIST ? -errno : 0;
}

static int make_folders(int dir)
{
    static const char *const names[] = {"blobs", "blobs/sha256", "rootfs", "kernels", "tmp"};

    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        /* A store that may only be read is still good for running. */
        if (mkdirat(dir, names[i], 0755) < 0 && errno != EEXIST && errno != EACCES &&
            errno != EROFS)
            return -errno;
    return 0;
}

int store_open(const char *root, struct store **ret, struct err *e)
{
    struct store *s = calloc(1, sizeof(*s));

    if (!s)
        return err_set(e, -ENOMEM, "out of memory");
    s->dir = -1;
    s->root = store_root_path(root);
    int r = s->root ? make_path(s->root) : -ENOMEM;
    if (s->root) {
        s->dir = open(s->root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (s->dir >= 0)
            r = make_folders(s->dir);
        else if (r == 0)
            r = -errno;
    }
    if (r < 0) {
        r = err_errno(e, r, "image store '%s'", s->root ? s->root : "");
        store_close(s);
        return r;
    }
    *ret = s;
    return 0;
}

void store_close(struct store *s)
{
    if (!s)
        return;
    cleanup_fd(&s->dir);
    strv_done(&s->used);
    free(s->root);
    free(s);
}

const char *store_root(const struct store *s)
{
    return s->root;
}

void image_done(struct image *im)
{
    free(im->name);
    free(im->rootfs);
    free(im->fstype);
    image_config_done(&im->config);
    *im = (struct image){.name = NULL};
}

int store_lock(struct store *s, int *ret, struct err *e)
{
    CLEANUP(fd) int fd = openat(s->dir, "lock", O_RDWR | O_CREAT | O_CLOEXEC, 0644);

    if (fd < 0)
        return err_errno(e, -errno, "image store '%s'", s->root);
    while (flock(fd, LOCK_EX) < 0)
        if (errno != EINTR)
            return err_errno(e, -errno, "image store '%s': lock", s->root);
    *ret = take_fd(&fd);
    return 0;
}

/* A tree that a container made may be deeper than there are descriptors: what lies DEPTH_MAX below
 * is lifted to the top, and its turn comes later. */
enum { DEPTH_MAX = 64 };
struct lift {
    int top; /* borrowed */
    unsigned n;
};
#define LIFTED ".lifted-%u"

static void lift(int parent, const char *name, struct lift *l)
{
    char to[32];

    snprintf(to, sizeof(to), LIFTED, l->n);
    if (renameat2(parent, name, l->top, to, RENAME_NOREPLACE) == 0)
        l->n++;
}

static uint64_t remove_below(int parent, const char *name, unsigned depth, struct lift *l)
{
    uint64_t freed = 0;
    struct stat st;

    if (fstatat(parent, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return 0;
    if (!S_ISDIR(st.st_mode))
        return unlinkat(parent, name, 0) == 0 ? (uint64_t)st.st_blocks * 512 : 0;
    if (depth == DEPTH_MAX && l->top >= 0) {
        lift(parent, name, l);
        return 0;
    }
    /* Without root: an overlay's work folder has no permissions, and a container's may have none.
     */
    if ((st.st_mode & S_IRWXU) != S_IRWXU)
        (void)!fchmodat(parent, name, S_IRWXU, AT_SYMLINK_NOFOLLOW);
    int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    CLEANUP(dir) DIR *d = fd >= 0 ? fdopendir(fd) : NULL;
    if (!d) {
        cleanup_fd(&fd);
        return 0;
    }
    if (depth == 0 && l->top < 0)
        l->top = fd;
    for (struct dirent *x = readdir(d); x; x = readdir(d))
        if (strcmp(x->d_name, ".") != 0 && strcmp(x->d_name, "..") != 0)
            freed += remove_below(dirfd(d), x->d_name, depth + 1, l);
    if (l->top == fd) { /* more may be lifted meanwhile */
        for (unsigned i = 0; i < l->n; i++) {
            char lifted[32];

            snprintf(lifted, sizeof(lifted), LIFTED, i);
            freed += remove_below(fd, lifted, 1, l);
        }
        l->top = -1;
    }
    (void)unlinkat(parent, name, AT_REMOVEDIR);
    return freed;
}

uint64_t store_remove_tree(int parent, const char *name)
{
    struct lift l = {.top = -1};

    return remove_below(parent, name, 0, &l);
}

/* Whether a folder in tmp/ belongs to nobody. */
static bool is_left(int tmp, const char *name)
{
    CLEANUP(fd) int fd = openat(tmp, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    struct stat st;

    if (fd < 0 || fstat(fd, &st) < 0)
        return false;
    if (strncmp(name, "work.", 5) != 0)
        return time(NULL) - st.st_mtime > FOREIGN_AGE;
    return flock(fd, LOCK_EX | LOCK_NB) == 0;
}

uint64_t store_sweep(struct store *s)
{
    int fd = openat(s->dir, "tmp", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    CLEANUP(dir) DIR *d = fd >= 0 ? fdopendir(fd) : NULL;
    uint64_t freed = 0;

    if (!d) {
        cleanup_fd(&fd);
        return 0;
    }
    for (struct dirent *x = readdir(d); x; x = readdir(d))
        if (x->d_name[0] != '.' && is_left(dirfd(d), x->d_name))
            freed += store_remove_tree(dirfd(d), x->d_name);
    return freed;
}

int store_work_begin(struct store *s, struct work *w, struct err *e)
{
    CLEANUP(fd) int lock = -1;
    CLEANUP(mem) char *path = NULL;
    int r = store_lock(s, &lock, e);

    if (r < 0)
        return r;
    (void)store_sweep(s);
    if (asprintf(&path, "%s/tmp/work.XXXXXX", s->root) < 0) {
        path = NULL;
        return err_set(e, -ENOMEM, "out of memory");
    }
    if (!mkdtemp(path))
        return err_errno(e, -errno, "image store '%s'", s->root);
    snprintf(w->name, sizeof(w->name), "%s", strrchr(path, '/') + 1);
    w->dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (w->dir < 0 || flock(w->dir, LOCK_EX | LOCK_NB) < 0) {
        r = err_errno(e, -errno, "image store '%s'", s->root);
        store_work_end(s, w);
        return r;
    }
    return 0;
}

void store_work_end(struct store *s, struct work *w)
{
    CLEANUP(fd) int tmp = openat(s->dir, "tmp", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    if (tmp >= 0)
        (void)store_remove_tree(tmp, w->name);
    cleanup_fd(&w->dir);
    w->dir = -1;
}

void store_blob_name(const char *digest, char out[128])
{
    snprintf(out, 128, "blobs/sha256/%s", digest_hex(digest));
}

void store_rootfs_name(const char *config_digest, char out[128])
{
    snprintf(out, 128, "rootfs/%s.squashfs", digest_hex(config_digest));
}

int store_blob_read(struct store *s, const char *digest, void **p, size_t *n, struct err *e)
{
    char path[128], sum[DIGEST_MAX];
    CLEANUP(mem) char *buf = NULL;
    struct stat st;

    store_blob_name(digest, path);
    CLEANUP(fd) int fd = openat(s->dir, path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) < 0)
        return err_errno(e, -errno, "blob %s", digest);
    if (st.st_size > OCI_DOC_MAX)
        return err_set(e, -EBADMSG, "blob %s is damaged", digest);
    buf = malloc((size_t)st.st_size + 1);
    if (!buf)
        return err_set(e, -ENOMEM, "out of memory");
    ssize_t got = read(fd, buf, (size_t)st.st_size);
    if (got < 0 || digest_of(buf, (size_t)got, sum) < 0 || strcmp(sum, digest) != 0)
        return err_set(e, -EBADMSG, "blob %s is damaged; import the image again", digest);
    buf[got] = '\0';
    *p = take_ptr(&buf);
    *n = (size_t)got;
    return 0;
}

static int write_all(int fd, const char *p, size_t n)
{
    while (n > 0) {
        ssize_t k = write(fd, p, n);

        if (k < 0 && errno != EINTR)
            return -errno;
        p += k > 0 ? k : 0;
        n -= k > 0 ? (size_t)k : 0;
    }
    return fsync(fd) < 0 ? -errno : 0;
}

int store_blob_write(struct store *s, const char *digest, const void *p, size_t n, struct err *e)
{
    char path[128], aside[128];

    store_blob_name(digest, path);
    if (faccessat(s->dir, path, F_OK, 0) == 0)
        return 0;
    snprintf(aside, sizeof(aside), "tmp/blob.%s", digest_hex(digest));
    CLEANUP(fd) int fd = openat(s->dir, aside, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    int r = fd < 0 ? -errno : write_all(fd, p, n);
    if (r == 0 && renameat(s->dir, aside, s->dir, path) < 0)
        r = -errno;
    if (r < 0) {
        (void)unlinkat(s->dir, aside, 0);
        return err_errno(e, r, "image store '%s': blob", s->root);
    }
    return 0;
}
