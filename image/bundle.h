/* image/bundle.h - what a user hands over as an image, opened: an archive or a folder, and what it
 * holds.
 *
 * Members of an archive are spooled into files of our own naming in the work folder; a member's
 * name is only ever compared, never used as a path of the host. Threads: one. */
#ifndef IMAGE_BUNDLE_H
#define IMAGE_BUNDLE_H

#include <stddef.h>

#include "base/err.h"
#include "image/merge.h"

enum {
    BUNDLE_MEMBERS_MAX = 4096,
    BUNDLE_LINKS_MAX = 8, /* links followed from one member to another */
};
#define BUNDLE_BYTES_MAX ((uint64_t)256 << 30) /* of all members spooled */

enum bundle_kind {
    BUNDLE_OCI,    /* an OCI image layout: index.json, blobs/ */
    BUNDLE_DOCKER, /* a docker-archive: manifest.json */
    BUNDLE_ROOTFS, /* a root file system */
};

struct bundle;

/* `work` (borrowed) is a folder for temporary files, emptied by its owner.
 * Errors: open(2) with the path; -EBADMSG = corrupt or nothing kiln knows; -ENOSPC. */
int bundle_open(const char *path, int work, merge_progress p, void *ctx, struct bundle **ret,
                struct err *e) MUST_CHECK;
void bundle_close(struct bundle *b);
enum bundle_kind bundle_kind(const struct bundle *b);

/* Open a member; the caller owns *fd. Errors: -ENOENT = no such member; -EBADMSG = not a file. */
int bundle_member(struct bundle *b, const char *name, int *fd, struct err *e) MUST_CHECK;
/* A whole member that is a document of at most OCI_DOC_MAX bytes, owned by the caller. */
int bundle_document(struct bundle *b, const char *name, void **p, size_t *n,
                    struct err *e) MUST_CHECK;

/* The tar of a BUNDLE_ROOTFS; the caller owns *fd. */
int bundle_rootfs(struct bundle *b, int *fd, struct err *e) MUST_CHECK;

#endif
