/* vm/snapdir.h - the folder of a snapshot: temporary while it is made, whole once it has its name.
 * Private to vm/. Thread: the caller's.
 *
 * A temporary folder is ".NAME.HEX.snap" beside the final one and is locked (flock(2)) by the
 * processes that fill it; one whose lock can be had belongs to a killed call. */
#ifndef VM_SNAPDIR_H
#define VM_SNAPDIR_H

#include <limits.h>

#include "base/err.h"

struct snapdir { /* owned: snapdir_abandon() or snapdir_finish() */
    int above;   /* the folder it lies in */
    int fd;
    char name[NAME_MAX + 1], temp[NAME_MAX + 1];
};
#define SNAPDIR_NONE ((struct snapdir){.above = -1, .fd = -1})

/* -EEXIST: there is something of that name. */
int snapdir_new(const char *path, struct snapdir *d, struct err *e) MUST_CHECK;
/* A file for writing; the caller owns the descriptor. */
int snapdir_create(const struct snapdir *d, const char *name, struct err *e) MUST_CHECK;
/* Give it its name; the files are synced already. On failure nothing is left. */
int snapdir_finish(struct snapdir *d, struct err *e) MUST_CHECK;
void snapdir_abandon(struct snapdir *d); /* a finished or SNAPDIR_NONE one is fine */

#endif
