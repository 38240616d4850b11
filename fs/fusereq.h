/* fs/fusereq.h - one request on its way through fusefs; private to it. */
#ifndef FS_FUSEREQ_H
#define FS_FUSEREQ_H

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "fs/fusefs.h"
#include "fs/fusenode.h"

enum {
    FUSEREQ_ARG_MAX = 8192,        /* bytes behind the header that are copied: a target and names */
    FUSEREQ_REPLY_MAX = 64 * 1024, /* bytes of a reply that is not file data */
    FUSEREQ_IOV_MAX = 160,
};

struct fusefs_handle {
    int fd; /* owned; -1 = free */
    uint32_t node;
    DIR *dir; /* owns fd, if not NULL */
    long dir_at;
};

struct fusefs {
    int root;   /* owned, O_PATH */
    int procfd; /* owned: /proc, to open what was looked at */
    bool read_only, chown;
    char only[256]; /* of a single file: its name; "" = a folder */
    struct fnodes nodes;
    struct fusefs_handle handle[FUSEFS_HANDLES_MAX];
    uint8_t arg[FUSEREQ_ARG_MAX + 1]; /* a NUL behind it */
    uint8_t reply[FUSEREQ_REPLY_MAX];
};

struct fusereq {
    struct fusefs *f;
    struct fuse_in_header h;
    struct fnode *node; /* of h.nodeid */
    const uint8_t *arg;
    size_t arg_len;
    const struct iovec *in, *out;
    unsigned n_in, n_out;
    size_t in_len, out_room; /* bytes; room behind the reply's header */
    uint8_t *reply;
    size_t reply_len;
    size_t direct; /* bytes of reply already in `out` */
};

/* An O_PATH descriptor of the node, or -errno. One without a name is found while it is open. */
int fusereq_walk(struct fusefs *f, const struct fnode *n);
/* Entry number `k` of the names in the arguments from `off`: NULL if it is no name. */
const char *fusereq_name(const struct fusereq *r, size_t off, unsigned k);
/* Look `name` up below the folder `dir` (node `parent`) and fill *e; the guest then holds the node.
 */
int fusereq_entry(struct fusefs *f, int dir, struct fnode *parent, const char *name,
                  struct fuse_entry_out *e);
void fusereq_attr(const struct stat *st, struct fuse_attr *a);
struct fusefs_handle *fusereq_handle(struct fusefs *f, uint64_t fh); /* NULL = not open */
/* Open the node that `path_fd` is. `*fh` and 0, or -errno. */
int fusereq_open(struct fusefs *f, const struct fnode *n, int path_fd, int flags, bool dir,
                 uint64_t *fh);
void fusereq_close(struct fusefs *f, uint64_t fh);
/* Entries from, to at most n of iov, that cover `len` bytes from byte `off`. */
unsigned fusereq_slice(const struct iovec *iov, unsigned n, size_t off, size_t len,
                       struct iovec *to, unsigned max);

enum {
    FUSEREQ_MODE_KEPT = 01777, /* no set-user-ID, no set-group-ID */
    FUSEREQ_OPEN_KEPT = O_ACCMODE | O_TRUNC | O_SYNC | O_DSYNC,
};

/* The arguments' fixed part; -EINVAL when the guest sent less. */
#define FUSEREQ_TAKE(r, in)                  \
    do {                                     \
        if ((r)->arg_len < sizeof(in))       \
            return -EINVAL;                  \
        memcpy(&(in), (r)->arg, sizeof(in)); \
    } while (0)

static inline void fusereq_reply(struct fusereq *r, const void *p, size_t len)
{
    memcpy(r->reply, p, len);
    r->reply_len = len;
}

static inline int fusereq_result(int r)
{
    return r < 0 ? -errno : 0;
}

/* Name of an O_PATH descriptor below procfd, for calls that do not take one. */
struct fusereq_self {
    char name[24];
};
static inline struct fusereq_self fusereq_self(int fd)
{
    struct fusereq_self s;

    snprintf(s.name, sizeof(s.name), "self/fd/%d", fd);
    return s;
}

/* fusename.c: what makes, moves and removes names. As fuseop_run(). */
int fusename_lookup(struct fusereq *r);
int fusename_symlink(struct fusereq *r);
int fusename_mknod(struct fusereq *r);
int fusename_mkdir(struct fusereq *r);
int fusename_remove(struct fusereq *r); /* UNLINK and RMDIR */
int fusename_rename(struct fusereq *r);
int fusename_rename2(struct fusereq *r);
int fusename_link(struct fusereq *r);
int fusename_create(struct fusereq *r);
/* fusedir.c */
int fusedir_read(struct fusereq *r, bool plus);
/* fuseop.c: 0 with the reply in r, -errno, or FUSEREQ_SILENT. */
enum { FUSEREQ_SILENT = 1 };
int fuseop_run(struct fusereq *r);

#endif
