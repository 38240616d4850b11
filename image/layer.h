/* image/layer.h - one layer read as a tar stream, its digests taken on the way.
 *
 * Source: OCI image-spec 1.1, layer.md (media types) and config.md ("Layer DiffID": the digest of
 * the uncompressed tar). The compression is told from the bytes: none, gzip, zstd, xz, bzip2, lz4.
 * The bytes are hostile; libarchive parses, the limits below bound what it may be made to do.
 * Threads: one. */
#ifndef IMAGE_LAYER_H
#define IMAGE_LAYER_H

#include <archive.h>
#include <archive_entry.h>
#include <stdint.h>

#include "base/err.h"

#define LAYER_BYTES_MAX ((uint64_t)64 << 30) /* of one layer, uncompressed */

struct layer;

/* Read the file `fd` (borrowed) from its start. Errors: -EBADMSG = not a known compression,
 * -ENOMEM. */
int layer_open(int fd, struct layer **ret, struct err *e) MUST_CHECK;
void layer_close(struct layer *l);

/* The next header, borrowed until the next call. Returns 1, or 0 at the end.
 * Errors: -EBADMSG = corrupt or not a tar, -EFBIG = over LAYER_BYTES_MAX. */
int layer_next(struct layer *l, struct archive_entry **ret, struct err *e) MUST_CHECK;
/* Contents of the current entry, holes as zeros. Returns bytes, 0 at the end. Errors: as above. */
int64_t layer_read(struct layer *l, void *buf, size_t n, struct err *e) MUST_CHECK;

/* Read what is left, and compare the digest of the whole uncompressed tar with `want`, or with NULL
 * only take it. Errors: -EBADMSG with both digests. `got` (DIGEST_MAX bytes) may be NULL. */
int layer_finish(struct layer *l, const char *want, char *got, struct err *e) MUST_CHECK;

/* Compressed bytes read so far, for progress. */
uint64_t layer_progress(const struct layer *l);

#endif
