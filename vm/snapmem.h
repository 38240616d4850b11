/* vm/snapmem.h - the memory file of a snapshot: written from a machine's RAM, laid under another's.
 * Thread: the caller's; RAM stands still while it is written. */
#ifndef VM_SNAPMEM_H
#define VM_SNAPMEM_H

#include <stdbool.h>
#include <stdint.h>

#include "mem/mem.h"
#include "vm/snapfile.h"

/* Write the pages set in candidates[] (one bit a page) to `fd`, an empty file, and list them in *f.
 * Zero pages are left out; in a diff they are listed as such. f->compressed says how. Errors:
 * -ENOSPC and others of write(2); -EFBIG more pieces than a snapshot may have; -ENOMEM. */
int snapmem_write(const struct mem *m, const uint64_t *candidates, bool diff, int fd,
                  struct snapfile *f, struct err *e) MUST_CHECK;

/* Lay the file's pages over *m, which holds what the parents have. Long runs of a plain file are
 * mapped, the rest is read and compared with its checksum. Errors: -EBADMSG truncated or damaged.
 */
int snapmem_load(struct mem *m, const struct snapfile *f, int fd, struct err *e) MUST_CHECK;

/* The same a piece at a time: one extent of the file into `to`, compared with its checksum. Errors
 * as snapmem_load(). f and fd: borrowed until snapmem_reader_free(). */
struct snapmem_reader;
int snapmem_reader_new(const struct snapfile *f, int fd, struct snapmem_reader **ret,
                       struct err *e) MUST_CHECK;
int snapmem_read(struct snapmem_reader *r, const struct snap_extent *x, uint8_t *to,
                 struct err *e) MUST_CHECK;
void snapmem_reader_free(struct snapmem_reader *r); /* may be NULL */

/* Read all of it and compare. -EBADMSG. */
int snapmem_verify(const struct snapfile *f, int fd, struct err *e) MUST_CHECK;

#endif
