/* container/upper.h - the writable layer of a container: on disk, so that its files are there after
 * a stop, or in memory. docs/storage.md says why which.
 *
 * A VM's is disk.img in its record: an ext4 file system in a sparse file, a copy of an empty one
 * that is made once a size (ROOT/upper/). Thread: the caller's. */
#ifndef CONTAINER_UPPER_H
#define CONTAINER_UPPER_H

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "container/record.h"

#define UPPER_BYTES ((uint64_t)64 << 30) /* where no size is said: the host's disk is the limit */
#define UPPER_BYTES_MIN ((uint64_t)16 << 20)

/* On disk, unless memory was asked for; a container that is removed as it ends needs none, unless a
 * size was. */
bool upper_on_disk(const struct spec *s);
/* Its limit; 0 = none was said. */
uint64_t upper_limit(const struct spec *s);
/* -EINVAL: the size is none for the class. */
int upper_check(const struct spec *s, struct err *e) MUST_CHECK;

/* The VM's disk, made at its first start. root: the store's. Errors: -ENOENT mke2fs(8) is missing;
 * -ENOSPC; what the calls say. */
int upper_disk(const char *root, const struct record *r, char path[PATH_MAX],
               struct err *e) MUST_CHECK;

#endif
