#include "fs/fusefs.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "fs/fusereq.h"

enum { HDR_IN = sizeof(struct fuse_in_header), HDR_OUT = sizeof(struct fuse_out_header) };

/* ---- what the operations share --------------------------------------------- */

static int walk_open(struct fusefs *f, const struct fnode *n)
{
    for (int i = 0; i < FUSEFS_HANDLES_MAX; i++) {
        if (f->handle[i].fd < 0 || f->handle[i].node != n->id)
            continue;
        int fd = openat(f->procfd, fusereq_self(f->handle[i].fd).name, O_PATH | O_CLOEXEC);
        return fd < 0 ? -errno : fd;
    }
    return -ESTALE;
}

int fusereq_walk(struct fusefs *f, const struct fnode *n)
{
    struct open_how how = {.flags = O_PATH | O_NOFOLLOW | O_CLOEXEC,
                           .resolve =
                               RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS};
    char path[FNODE_PATH_MAX];
    int r = fnode_path(&f->nodes, n, path);

    if (r == -ESTALE)
        return walk_open(f, n);
    if (r < 0)
        return r;
    r = (int)syscall(SYS_openat2, f->root, path, &how, sizeof(how));
    return r < 0 ? -errno : r;
}

const char *fusereq_name(const struct fusereq *r, size_t off, unsigned k)
{
    const char *p;

    for (;; k--) {
        if (off >= r->arg_len)
            return NULL;
        p = (const char *)r->arg + off;
        size_t len = strnlen(p, r->arg_len - off);
        if (len == r->arg_len - off)
            return NULL; /* does not end */
        off += len + 1;
        if (k == 0)
            break;
    }
    if (p[0] == '\0' || strlen(p) > FNODE_NAME_MAX || strchr(p, '/') || strcmp(p, ".") == 0 ||
        strcmp(p, "..") == 0)
        return NULL;
    return p;
}

void fusereq_attr(const struct stat *st, struct fuse_attr *a)
{
    *a = (struct fuse_attr){
        .ino = st->st_ino,
        .size = (uint64_t)st->st_size,
        .blocks = (uint64_t)st->st_blocks,
        .atime = (uint64_t)st->st_atim.tv_sec,
        .mtime = (uint64_t)st->st_mtim.tv_sec,
        .ctime = (uint64_t)st->st_ctim.tv_sec,
        .atimensec = (uint32_t)st->st_atim.tv_nsec,
        .mtimensec = (uint32_t)st->st_mtim.tv_nsec,
        .ctimensec = (uint32_t)st->st_ctim.tv_nsec,
        .mode = st->st_mode,
        .nlink = (uint32_t)st->st_nlink,
        .uid = st->st_uid,
        .gid = st->st_gid,
        .rdev = (uint32_t)st->st_rdev,
        .blksize = (uint32_t)st->st_blksize,
    };
}

int fusereq_entry(struct fusefs *f, int dir, struct fnode *parent, const char *name,
                  struct fuse_entry_out *e)
{
    struct stat st;

    if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT) < 0)
        return -errno;
    struct fnode *n = fnode_lookup(&f->nodes, parent, name);
    if (!n)
        return -ENFILE;
    *e = (struct fuse_entry_out){
        .nodeid = n->id, .generation = n->generation, .entry_valid = 1, .attr_valid = 1};
    fusereq_attr(&st, &e->attr);
    return 0;
}

struct fusefs_handle *fusereq_handle(struct fusefs *f, uint64_t fh)
{
    return fh < FUSEFS_HANDLES_MAX && f->handle[fh].fd >= 0 ? &f->handle[fh] : NULL;
}

static int free_handle(const struct fusefs *f)
{
    for (int i = 0; i < FUSEFS_HANDLES_MAX; i++) {
        if (f->handle[i].fd < 0)
            return i;
    }
    return -ENFILE;
}

/* What was looked at is opened, not its name again: nobody can put a device in its place. */
int fusereq_open(struct fusefs *f, const struct fnode *n, int path_fd, int flags, bool dir,
                 uint64_t *fh)
{
    struct stat st;
    int i = free_handle(f);

    if (i < 0)
        return i;
    if (fstat(path_fd, &st) < 0)
        return -errno;
    if (dir ? !S_ISDIR(st.st_mode) : !S_ISREG(st.st_mode))
        return dir ? -ENOTDIR : -ENXIO;
    CLEANUP(fd)
    int fd = openat(f->procfd, fusereq_self(path_fd).name, flags | O_CLOEXEC | O_NOCTTY);
    if (fd < 0)
        return -errno;
    f->handle[i] = (struct fusefs_handle){.fd = -1, .node = n->id};
    if (dir) {
        f->handle[i].dir = fdopendir(fd);
        if (!f->handle[i].dir)
            return -errno;
    }
    f->handle[i].fd = take_fd(&fd);
    *fh = (uint64_t)i;
    return 0;
}

void fusereq_close(struct fusefs *f, uint64_t fh)
{
    struct fusefs_handle *h = fusereq_handle(f, fh);

    if (!h)
        return;
    if (h->dir)
        (void)closedir(h->dir); /* closes fd */
    else
        (void)close(h->fd);
    *h = (struct fusefs_handle){.fd = -1};
}

unsigned fusereq_slice(const struct iovec *iov, unsigned n, size_t off, size_t len,
                       struct iovec *to, unsigned max)
{
    unsigned k = 0;

    for (; n > 0 && k < max && len > 0; iov++, n--) {
        if (off >= iov->iov_len) {
            off -= iov->iov_len;
            continue;
        }
        size_t part = iov->iov_len - off < len ? iov->iov_len - off : len;
        to[k++] = (struct iovec){(uint8_t *)iov->iov_base + off, part};
        len -= part;
        off = 0;
    }
    return k;
}

/* ---- requests and replies ---------------------------------------------------- */

static size_t total(const struct iovec *iov, unsigned n)
{
    size_t sum = 0;

    for (unsigned i = 0; i < n; i++)
        sum += iov[i].iov_len;
    return sum;
}

static size_t copy_from(const struct iovec *iov, unsigned n, size_t off, void *to, size_t len)
{
    struct iovec part[FUSEREQ_IOV_MAX];
    unsigned k = fusereq_slice(iov, n, off, len, part, FUSEREQ_IOV_MAX);
    size_t done = 0;

    for (unsigned i = 0; i < k; i++) {
        memcpy((uint8_t *)to + done, part[i].iov_base, part[i].iov_len);
        done += part[i].iov_len;
    }
    return done;
}

static void copy_to(const struct iovec *iov, unsigned n, size_t off, const void *from, size_t len)
{
    struct iovec part[FUSEREQ_IOV_MAX];
    unsigned k = fusereq_slice(iov, n, off, len, part, FUSEREQ_IOV_MAX);
    size_t done = 0;

    for (unsigned i = 0; i < k; i++) {
        memcpy(part[i].iov_base, (const uint8_t *)from + done, part[i].iov_len);
        done += part[i].iov_len;
    }
}

/* Of the requests without a reply only these can come where nothing was mounted. */
static int no_folder(const struct fusereq *r)
{
    return r->h.opcode == FUSE_FORGET || r->h.opcode == FUSE_BATCH_FORGET ? FUSEREQ_SILENT
                                                                          : -ENODEV;
}

size_t fusefs_serve(struct fusefs *f, const struct iovec *in, unsigned n_in,
                    const struct iovec *out, unsigned n_out)
{
    struct fusereq r = {.f = f,
                        .in = in,
                        .n_in = n_in,
                        .out = out,
                        .n_out = n_out,
                        .in_len = total(in, n_in),
                        .arg = f->arg,
                        .reply = f->reply};
    size_t room = total(out, n_out);

    if (copy_from(in, n_in, 0, &r.h, HDR_IN) != HDR_IN)
        return 0;
    r.arg_len = copy_from(in, n_in, HDR_IN, f->arg, FUSEREQ_ARG_MAX);
    f->arg[r.arg_len] = 0;
    r.out_room = room > HDR_OUT ? room - HDR_OUT : 0;
    r.node = fnode_get(&f->nodes, r.h.nodeid);
    int res = f->root >= 0 ? fuseop_run(&r) : no_folder(&r);
    if (res == FUSEREQ_SILENT || room < HDR_OUT)
        return 0;
    if (res == 0 && r.reply_len > r.out_room)
        res = -EINVAL;
    size_t len = res < 0 ? 0 : r.direct ? r.direct : r.reply_len;
    struct fuse_out_header h = {
        .len = (uint32_t)(HDR_OUT + len), .error = res, .unique = r.h.unique};
    copy_to(out, n_out, 0, &h, HDR_OUT);
    if (!r.direct)
        copy_to(out, n_out, HDR_OUT, r.reply, len);
    return HDR_OUT + len;
}

/* ---- life ---------------------------------------------------------------------- */

static void close_all(struct fusefs *f)
{
    for (uint64_t i = 0; i < FUSEFS_HANDLES_MAX; i++)
        fusereq_close(f, i);
    fnodes_done(&f->nodes);
}

void fusefs_reset(struct fusefs *f)
{
    close_all(f);
    (void)fnodes_init(&f->nodes); /* out of memory: no node is found, each request is ESTALE */
}

void fusefs_free(struct fusefs *f)
{
    if (!f)
        return;
    close_all(f);
    if (f->root >= 0)
        (void)close(f->root);
    if (f->procfd >= 0)
        (void)close(f->procfd);
    free(f);
}

/* Of a single file: the folder it is in is the root, and just that name of it is shown. */
static int open_root(struct fusefs *f, const char *path, struct err *e)
{
    struct stat st;
    const char *slash = strrchr(path, '/');

    if (stat(path, &st) < 0)
        return err_errno(e, -errno, "open");
    if (!S_ISREG(st.st_mode)) {
        f->root = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
        return f->root < 0 ? err_errno(e, -errno, "open") : 0;
    }
    CLEANUP(mem) char *dir = slash ? strndup(path, (size_t)(slash - path) + 1) : strdup(".");
    if (!dir)
        return err_errno(e, -ENOMEM, "open");
    int n = snprintf(f->only, sizeof(f->only), "%s", slash ? slash + 1 : path);
    if (n <= 0 || (size_t)n >= sizeof(f->only))
        return err_errno(e, -ENAMETOOLONG, "open");
    f->root = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
    return f->root < 0 ? err_errno(e, -errno, "open") : 0;
}

static int open_folders(struct fusefs *f, const char *path, struct err *e)
{
    int r = open_root(f, path, e);

    if (r < 0)
        return r;
    f->procfd = open("/proc", O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (f->procfd < 0)
        return err_errno(e, -errno, "open /proc");
    return fnodes_init(&f->nodes) < 0 ? err_set(e, -ENOMEM, "out of memory") : 0;
}

const char *fusefs_only(const struct fusefs *f)
{
    return f->only;
}

void fusefs_fds(const struct fusefs *f, int *root, int *proc)
{
    *root = f->root;
    *proc = f->procfd;
}

static struct fusefs *make(bool read_only, struct err *e)
{
    struct fusefs *f = calloc(1, sizeof(*f));

    if (!f) {
        err_set(e, -ENOMEM, "out of memory");
        return NULL;
    }
    f->root = f->procfd = -1;
    f->read_only = read_only;
    f->chown = geteuid() == 0;
    for (unsigned i = 0; i < FUSEFS_HANDLES_MAX; i++)
        f->handle[i].fd = -1;
    return f;
}

int fusefs_new(const char *path, bool read_only, struct fusefs **ret, struct err *e)
{
    struct fusefs *f = make(read_only, e);
    int r = !f ? -ENOMEM : path ? open_folders(f, path, e) : 0;

    if (r < 0) {
        fusefs_free(f);
        return r;
    }
    *ret = f;
    return 0;
}

/* In a jail the user is another, but may have kept the capability. */
static bool may_chown(void)
{
    struct __user_cap_header_struct h = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct d[2] = {{0}};

    return syscall(SYS_capget, &h, d) == 0 && (d[0].permitted & 1u << CAP_CHOWN);
}

int fusefs_new_fds(int root, int proc, const char *only, bool read_only, struct fusefs **ret,
                   struct err *e)
{
    struct fusefs *f = make(read_only, e);

    if (!f)
        return -ENOMEM;
    f->chown = may_chown();
    snprintf(f->only, sizeof(f->only), "%s", only);
    f->root = fcntl(root, F_DUPFD_CLOEXEC, 0);
    f->procfd = fcntl(proc, F_DUPFD_CLOEXEC, 0);
    int r = f->root < 0 || f->procfd < 0 ? err_errno(e, -errno, "descriptors of a folder")
            : fnodes_init(&f->nodes) < 0 ? err_set(e, -ENOMEM, "out of memory")
                                         : 0;
    if (r < 0) {
        fusefs_free(f);
        return r;
    }
    *ret = f;
    return 0;
}
