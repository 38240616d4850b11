#include "image/sqfs.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "image/helper.h"

enum { PIPE_BLOCK = 1 << 18 }; /* bytes of tar handed over at a time */

static la_ssize_t to_helper(struct archive *a, void *ctx, const void *buf, size_t n)
{
    int r = helper_write(ctx, buf, n);

    if (r == 0)
        return (la_ssize_t)n;
    archive_set_error(a, -r, "%s", strerror(-r));
    return -1;
}

static int open_writer(struct archive *out, struct helper *h)
{
    /* PAX for long names and large numbers; one spelling of xattrs, as sqfstar would take both for
     * two. */
    if (archive_write_set_format_pax_restricted(out) != ARCHIVE_OK ||
        archive_write_set_options(out, "xattrheader=SCHILY") != ARCHIVE_OK ||
        archive_write_set_bytes_per_block(out, PIPE_BLOCK) != ARCHIVE_OK ||
        archive_write_open(out, h, NULL, to_helper, NULL) != ARCHIVE_OK)
        return -ENOMEM;
    return 0;
}

static int feed(struct helper *h, struct tree *t, struct merge_layer *layers, size_t n,
                merge_progress p, void *ctx, struct err *e)
{
    struct archive *out = archive_write_new();
    int r = out ? open_writer(out, h) : -ENOMEM;

    if (r < 0) {
        archive_write_free(out);
        return err_set(e, r, "tar: out of memory");
    }
    r = merge_write(t, layers, n, out, p, ctx, e);
    /* sqfstar ends at the end-of-archive mark, perhaps before it has read the padding behind it:
     * when the last block cannot be written, its exit status tells whether that matters. */
    if (r == 0)
        (void)archive_write_close(out);
    if (r < 0)
        archive_write_fail(out);
    archive_write_free(out);
    return r;
}

int sqfs_build(const char *path, struct tree *t, struct merge_layer *layers, size_t n,
               merge_progress p, void *ctx, struct err *e)
{
    const struct tree_inode *root = tree_root(t)->inode;
    char mode[16], uid[16], gid[16], mtime[24];
    const char *argv[] = {"sqfstar",   "-quiet",     "-no-progress", "-noI",      "-noD",
                          "-noF",      "-noX",       "-mem",         "256M",      "-mkfs-time",
                          "0",         "-root-mode", mode,           "-root-uid", uid,
                          "-root-gid", gid,          "-root-time",   mtime,       path,
                          NULL};
    struct err said = {0}, fed = {0};
    struct helper h;

    snprintf(mode, sizeof(mode), "%o", root->mode & 07777);
    snprintf(uid, sizeof(uid), "%u", root->uid);
    snprintf(gid, sizeof(gid), "%u", root->gid);
    /* squashfs has 32 unsigned bits of seconds. */
    snprintf(mtime, sizeof(mtime), "%u",
             root->mtime > 0 && root->mtime <= UINT32_MAX ? (unsigned)root->mtime : 0);
    int r = helper_start(&h, argv, NULL, "squashfs-tools", true, false, e);
    if (r < 0)
        return r;
    r = feed(&h, t, layers, n, p, ctx, &fed);
    if (r < 0 && r != -EIO) {
        helper_kill(&h);
        return err_set(e, r, "%s", fed.msg);
    }
    /* When the pipe broke, sqfstar knows why. */
    int end = helper_end(&h, &said);
    if (end < 0)
        return err_set(e, end, "making the file system image: %s", said.msg);
    return r < 0 ? err_set(e, r, "%s", fed.msg) : 0;
}
