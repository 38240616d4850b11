/* container/files.h - the files of a container, of either class, running or not, as streams of
 * proto/pack.h: what kiln cp, diff, commit, top do their work with.
 *
 * Running: a session with the machine's agent; a helper of ours at the container's root. Stopped: a
 * machine that gets the disk but runs nothing; the root mounted in a namespace of a helper. The
 * caller then holds the record's lock, so that nobody starts it meanwhile. Paused: -EAGAIN. A
 * container whose writable layer was in memory has only the image's files left: -ENODATA.
 * Thread: the caller's only one; a child is forked. SIGPIPE must be ignored. */
#ifndef CONTAINER_FILES_H
#define CONTAINER_FILES_H

#include <sys/types.h>

#include "base/err.h"
#include "container/record.h"
#include "proto/filework.h"
#include "proto/pack.h"

struct files_at; /* where the container's files are to be had */

/* root: the store's, NULL = default. r is borrowed until files_leave(). */
int files_enter(const char *root, const struct record *r, struct files_at **ret,
                struct err *e) MUST_CHECK;
/* May be NULL. */
void files_leave(struct files_at *at);

struct files { /* one work under way; owned: files_end() */
    int in;    /* FILEWORK_PUT: for the tree; -1 = none, or closed by the caller */
    int out;   /* the answer */
    pid_t helper;
};

/* Begin `kind`; flags, path and name as in proto/filework.h. DIFF of the process class, and TOP,
 * are done here as well. */
int files_begin(struct files_at *at, enum filework_kind kind, unsigned flags, const char *path,
                const char *name, struct files *f, struct err *e) MUST_CHECK;
/* Closes both ends and waits. */
void files_end(struct files *f);

#endif
