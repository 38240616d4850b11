#include "image/merge.h"

#include <archive_entry.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "image/layer.h"

enum {
    COPY_CHUNK = 1 << 18,     /* bytes of a file at a time */
    PROGRESS_EVERY = 1 << 23, /* bytes of compressed input between two calls */
};

struct ticker {
    merge_progress fn;
    void *ctx;
    char what[64];
    uint64_t done, total;
};

static void tick_start(struct ticker *k, const char *verb, size_t i, size_t n, int fd)
{
    struct stat st;

    snprintf(k->what, sizeof(k->what), "%s layer %zu of %zu", verb, i + 1, n);
    k->done = 0;
    k->total = fstat(fd, &st) == 0 && st.st_size > 0 ? (uint64_t)st.st_size : 0;
    if (k->fn)
        k->fn(k->ctx, k->what, 0, k->total);
}

static void tick(struct ticker *k, uint64_t done)
{
    if (!k->fn || done - k->done < PROGRESS_EVERY)
        return;
    k->done = done;
    k->fn(k->ctx, k->what, done, k->total);
}

static int no_room(struct err *e)
{
    return err_set(e, -E2BIG, "the image has more names than kiln takes");
}

/* What squashfs can hold and the guest may see. Overlay's own notes would be taken for those of the
 * machine's overlay. */
static bool xattr_is_kept(const char *name)
{
    if (strncmp(name, "trusted.overlay.", 16) == 0)
        return false;
    return strncmp(name, "user.", 5) == 0 || strncmp(name, "trusted.", 8) == 0 ||
           strncmp(name, "security.", 9) == 0;
}

static int copy_xattrs(struct tree *t, struct tree_inode *ino, struct archive_entry *entry,
                       struct err *e)
{
    const char *name;
    const void *value;
    size_t len;
    unsigned n = 0;

    archive_entry_xattr_reset(entry);
    while (archive_entry_xattr_next(entry, &name, &value, &len) == ARCHIVE_OK) {
        if (!name || !xattr_is_kept(name))
            continue;
        if (++n > TREE_XATTRS_MAX || len > TREE_XATTR_SIZE_MAX || strlen(name) > TREE_NAME_MAX)
            return err_set(e, -EBADMSG, "a file has too many or too large extended attributes");
        struct tree_xattr *x = tree_copy(t, &(struct tree_xattr){.len = len}, sizeof(*x));
        if (!x)
            return no_room(e);
        x->name = tree_copy(t, name, strlen(name) + 1);
        x->value = tree_copy(t, value, len);
        if (!x->name || !x->value)
            return no_room(e);
        x->next = ino->xattrs;
        ino->xattrs = x;
    }
    return 0;
}

/* Facts of one header. *ret NULL: a kind of file that has no place in an image. */
static int to_inode(struct tree *t, struct archive_entry *entry, uint32_t layer, uint32_t index,
                    struct tree_inode **ret, struct err *e)
{
    mode_t type = archive_entry_filetype(entry);
    int64_t uid = archive_entry_uid(entry), gid = archive_entry_gid(entry);
    int64_t size = archive_entry_size(entry);

    *ret = NULL;
    if (type == S_IFSOCK || type == 0)
        return 0;
    if (uid < 0 || uid > UINT32_MAX || gid < 0 || gid > UINT32_MAX || size < 0)
        return err_set(e, -EBADMSG, "a file has an owner or a size out of range");
    struct tree_inode *ino = tree_inode(t);
    if (!ino)
        return no_room(e);
    ino->mode = type | (archive_entry_perm(entry) & 07777);
    ino->uid = (uint32_t)uid;
    ino->gid = (uint32_t)gid;
    ino->mtime = archive_entry_mtime_is_set(entry) ? archive_entry_mtime(entry) : 0;
    ino->layer = layer;
    ino->entry = index;
    if (type == S_IFREG)
        ino->size = (uint64_t)size;
    if (type == S_IFCHR || type == S_IFBLK) {
        ino->major = (uint32_t)archive_entry_rdevmajor(entry);
        ino->minor = (uint32_t)archive_entry_rdevminor(entry);
    }
    if (type == S_IFLNK) {
        const char *target = archive_entry_symlink(entry);

        if (!target || !*target || strlen(target) > TREE_PATH_MAX)
            return err_set(e, -EBADMSG, "a symbolic link has no target or too long a one");
        ino->target = tree_copy(t, target, strlen(target) + 1);
        if (!ino->target)
            return no_room(e);
    }
    *ret = ino;
    return copy_xattrs(t, ino, entry, e);
}

static int scan_entry(struct tree *t, struct archive_entry *entry, uint32_t layer, uint32_t index,
                      struct err *e)
{
    const char *path = archive_entry_pathname(entry);
    const char *hard = archive_entry_hardlink(entry);
    struct tree_inode *ino;

    if (!path || !*path)
        return err_set(e, -EBADMSG, "a file has no name or one that is not UTF-8");
    if (hard)
        return tree_link(t, path, hard, e);
    int r = to_inode(t, entry, layer, index, &ino, e);
    if (r < 0)
        return err_wrap(e, r, "'%.200s'", path);
    return ino ? tree_add(t, path, ino, e) : 0;
}

static int scan_layer(struct tree *t, struct merge_layer *ml, uint32_t i, struct ticker *k,
                      struct err *e)
{
    struct archive_entry *entry;
    struct layer *l;
    uint32_t index = 0;
    int r = layer_open(ml->fd, &l, e);

    if (r < 0)
        return r;
    while ((r = layer_next(l, &entry, e)) > 0) {
        r = scan_entry(t, entry, i, index++, e);
        if (r < 0)
            break;
        tick(k, layer_progress(l));
    }
    if (r == 0)
        r = layer_finish(l, ml->diff_id, ml->got, e);
    layer_close(l);
    return r;
}

int merge_scan(struct tree *t, struct merge_layer *layers, size_t n, merge_progress p, void *ctx,
               struct err *e)
{
    struct ticker k = {.fn = p, .ctx = ctx};

    if (n > MERGE_LAYERS_MAX)
        return err_set(e, -E2BIG, "the image has %zu layers; kiln takes %d", n, MERGE_LAYERS_MAX);
    for (size_t i = 0; i < n; i++) {
        if (i > 0)
            tree_next_layer(t);
        tick_start(&k, "reading", i, n, layers[i].fd);
        int r = scan_layer(t, &layers[i], (uint32_t)i, &k, e);
        if (r < 0)
            return err_wrap(e, r, "layer %zu of %zu", i + 1, n);
    }
    return 0;
}

static int out_failed(struct archive *out, struct err *e)
{
    const char *why = archive_error_string(out);

    return err_set(e, -EIO, "write: %s", why ? why : "refused");
}

static int write_header(const struct tree_node *n, const char *hard, struct archive_entry *entry,
                        struct archive *out, struct err *e)
{
    const struct tree_inode *ino = n->inode;
    char path[TREE_PATH_MAX + 1];

    if (tree_path(n, path) < 0)
        return err_set(e, -ENAMETOOLONG, "a path is longer than %d bytes once links are followed",
                       TREE_PATH_MAX);
    archive_entry_clear(entry);
    archive_entry_set_pathname(entry, path);
    archive_entry_set_mode(entry, ino->mode);
    archive_entry_set_uid(entry, ino->uid);
    archive_entry_set_gid(entry, ino->gid);
    /* squashfs has 32 unsigned bits of seconds. */
    archive_entry_set_mtime(entry,
                            ino->mtime < 0            ? 0
                            : ino->mtime > UINT32_MAX ? UINT32_MAX
                                                      : ino->mtime,
                            0);
    archive_entry_set_rdevmajor(entry, ino->major);
    archive_entry_set_rdevminor(entry, ino->minor);
    archive_entry_set_size(entry, hard ? 0 : (int64_t)ino->size);
    if (hard)
        archive_entry_set_hardlink(entry, hard);
    else if (ino->target)
        archive_entry_set_symlink(entry, ino->target);
    for (const struct tree_xattr *x = hard ? NULL : ino->xattrs; x; x = x->next)
        archive_entry_xattr_add_entry(entry, x->name, x->value, x->len);
    int r = archive_write_header(out, entry);
    return r == ARCHIVE_OK || r == ARCHIVE_WARN ? 0 : out_failed(out, e);
}

/* Everything that has no contents, folders before what is in them. */
static int write_facts(struct tree *t, struct archive_entry *entry, struct archive *out,
                       struct err *e)
{
    for (struct tree_node *n = tree_walk(t, tree_root(t)); n; n = tree_walk(t, n)) {
        if (S_ISREG(n->inode->mode))
            continue;
        int r = write_header(n, NULL, entry, out, e);
        if (r < 0)
            return r;
    }
    return 0;
}

/* The inodes whose contents layer `i` holds, by entry. */
struct wanted {
    struct tree_inode **at; /* owned */
    size_t n;
};

static int by_entry(const void *a, const void *b)
{
    uint32_t x = (*(struct tree_inode *const *)a)->entry,
             y = (*(struct tree_inode *const *)b)->entry;

    return (x > y) - (x < y);
}

static int collect(struct tree *t, struct wanted *w, size_t layers, struct err *e)
{
    for (int fill = 0; fill < 2; fill++) {
        for (struct tree_node *n = tree_root(t); n; n = tree_walk(t, n)) {
            struct tree_inode *ino = n->inode;

            /* Once an inode, whatever the number of its names. */
            if (!S_ISREG(ino->mode) || ino->names != n)
                continue;
            struct wanted *mine = &w[ino->layer];
            if (fill)
                mine->at[mine->n] = ino;
            mine->n++;
        }
        for (size_t i = 0; i < layers; i++) {
            if (fill) {
                qsort(w[i].at, w[i].n, sizeof(struct tree_inode *), by_entry);
                continue;
            }
            w[i].at = calloc(w[i].n + 1, sizeof(struct tree_inode *));
            if (!w[i].at)
                return err_set(e, -ENOMEM, "out of memory");
            w[i].n = 0;
        }
    }
    return 0;
}

static int copy_contents(struct layer *l, const struct tree_inode *ino, uint8_t *buf,
                         struct archive *out, struct ticker *k, struct err *e)
{
    uint64_t left = ino->size;

    while (left > 0) {
        int64_t n = layer_read(l, buf, left < COPY_CHUNK ? left : COPY_CHUNK, e);

        if (n < 0)
            return (int)n;
        if (n == 0)
            return err_set(e, -EBADMSG, "corrupt: a file ends early");
        if (archive_write_data(out, buf, (size_t)n) != n)
            return out_failed(out, e);
        left -= (uint64_t)n;
        tick(k, layer_progress(l));
    }
    return 0;
}

/* One file, then its other names as hard links to it. */
static int write_file(struct layer *l, const struct tree_inode *ino, struct archive_entry *entry,
                      uint8_t *buf, struct archive *out, struct ticker *k, struct err *e)
{
    char first[TREE_PATH_MAX + 1];
    int r = write_header(ino->names, NULL, entry, out, e);

    if (r == 0)
        r = copy_contents(l, ino, buf, out, k, e);
    if (r < 0 || !ino->names->alias)
        return r;
    if (tree_path(ino->names, first) < 0)
        return -ENAMETOOLONG;
    for (const struct tree_node *n = ino->names->alias; n && r == 0; n = n->alias)
        r = write_header(n, first, entry, out, e);
    return r;
}

static int write_layer(struct merge_layer *ml, const struct wanted *w, struct archive_entry *entry,
                       uint8_t *buf, struct archive *out, struct ticker *k, struct err *e)
{
    struct archive_entry *header;
    struct layer *l;
    uint32_t index = 0;
    size_t next = 0;
    int r = layer_open(ml->fd, &l, e);

    if (r < 0)
        return r;
    while (next < w->n && (r = layer_next(l, &header, e)) > 0) {
        if (index++ == w->at[next]->entry) {
            r = write_file(l, w->at[next++], entry, buf, out, k, e);
            if (r < 0)
                break;
        }
        tick(k, layer_progress(l));
    }
    if (r == 0 && next < w->n)
        r = err_set(e, -EBADMSG, "changed while it was read");
    layer_close(l);
    return r < 0 ? r : 0;
}

int merge_write(struct tree *t, struct merge_layer *layers, size_t n, struct archive *out,
                merge_progress p, void *ctx, struct err *e)
{
    struct ticker k = {.fn = p, .ctx = ctx};
    struct archive_entry *entry = archive_entry_new();
    CLEANUP(mem) uint8_t *buf = malloc(COPY_CHUNK);
    CLEANUP(mem) struct wanted *w = calloc(n + 1, sizeof(*w));
    int r = entry && buf && w ? 0 : err_set(e, -ENOMEM, "out of memory");

    if (r == 0)
        r = collect(t, w, n, e);
    if (r == 0)
        r = write_facts(t, entry, out, e);
    for (size_t i = 0; i < n && r == 0; i++) {
        if (w[i].n == 0)
            continue;
        tick_start(&k, "packing", i, n, layers[i].fd);
        r = write_layer(&layers[i], &w[i], entry, buf, out, &k, e);
        if (r < 0)
            r = err_wrap(e, r, "layer %zu of %zu", i + 1, n);
    }
    for (size_t i = 0; w && i < n; i++)
        free(w[i].at);
    archive_entry_free(entry);
    return r;
}
