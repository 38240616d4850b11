/* vm/snapdisk.h - copies of disk files: shared blocks where the file system can (FICLONE), else
 * copied without the holes. Thread: the caller's. */
#ifndef VM_SNAPDISK_H
#define VM_SNAPDISK_H

#include <stdint.h>

#include "base/err.h"

/* `size` bytes of `from` (a file or a block device, which nobody writes meanwhile) become the
 * content of `to`, an empty file. Errors of the host. */
int snapdisk_copy(int from, int to, uint64_t size, struct err *e) MUST_CHECK;
/* An empty file without a name, in the folder of `near` if that can be written, else in /var/tmp.
 * Returns a descriptor, owned by the caller. */
int snapdisk_new(const char *near, struct err *e) MUST_CHECK;
/* A copy without a name, in the folder of `near` if that can be written, else in /var/tmp. Returns
 * a descriptor, owned by the caller. */
int snapdisk_clone(int from, uint64_t size, const char *near, struct err *e) MUST_CHECK;

#endif
