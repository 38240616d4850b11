/* image/merge.h - layers in, one tar stream out.
 *
 * Charter: reads every layer twice. The first pass takes headers into a tree (image/tree.h) and
 * checks the digest; the second copies the contents of the files that the tree still names. Nothing
 * is unpacked to the host's file system, and memory grows with the number of files only. Source:
 * OCI image-spec 1.1, layer.md. */
#ifndef IMAGE_MERGE_H
#define IMAGE_MERGE_H

#include <archive.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "image/tree.h"

enum { MERGE_LAYERS_MAX = 512 }; /* of one image */

struct merge_layer {
    int fd;              /* borrowed, read from its start */
    const char *diff_id; /* borrowed; NULL = take it as it is */
    char got[72];        /* out: the digest of the uncompressed tar */
};

typedef void (*merge_progress)(void *ctx, const char *what, uint64_t done, uint64_t total);

/* First pass. Errors: -EBADMSG = corrupt, wrong digest or hostile names, with the layer's number in
 * the sentence; -E2BIG, -EFBIG, -ENOMEM. */
int merge_scan(struct tree *t, struct merge_layer *layers, size_t n, merge_progress p, void *ctx,
               struct err *e) MUST_CHECK;

/* Second pass: write the tree to `out` (borrowed, opened for pax). The root folder is left out: its
 * facts are in tree_root(t)->inode. Errors: as above, and -EIO when `out` refuses. */
int merge_write(struct tree *t, struct merge_layer *layers, size_t n, struct archive *out,
                merge_progress p, void *ctx, struct err *e) MUST_CHECK;

#endif
