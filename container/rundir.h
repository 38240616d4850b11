/* container/rundir.h - the private state folder of one running machine: sockets, console log.
 *
 * BASE/ID/, mode 0700. BASE/ID/lock is held by an flock(2) for as long as a process of that machine
 * lives: a folder whose lock can be had is stale and is removed by the next rundir_new(). BASE/lock
 * serialises makers. */
#ifndef CONTAINER_RUNDIR_H
#define CONTAINER_RUNDIR_H

#include <stddef.h>

#include "base/err.h"

enum { RUNDIR_ID_LEN = 12, RUNDIR_NAME_MAX = 63, RUNDIR_PATH_MAX = 128 };

struct rundir { /* owned: rundir_remove() */
    int base, dir, lock;
    char id[RUNDIR_ID_LEN + 1];     /* hex */
    char name[RUNDIR_NAME_MAX + 1]; /* "" = none */
    char path[RUNDIR_PATH_MAX];
};
#define RUNDIR_NONE ((struct rundir){.base = -1, .dir = -1, .lock = -1})

/* $XDG_RUNTIME_DIR/kiln, else /run/kiln where it may be made, else /tmp/kiln-UID. */
int rundir_base(char *buf, size_t len, struct err *e) MUST_CHECK;
/* `name` may be NULL. -EEXIST: a running machine has it. -EINVAL: not a name. */
int rundir_new(const char *base, const char *name, struct rundir *d, struct err *e) MUST_CHECK;
/* The same for a container: its id's first digits name the folder. -EEXIST: one that has them runs.
 */
int rundir_make(const char *base, const char *id, const char *name, struct rundir *d,
                struct err *e) MUST_CHECK;
void rundir_rename(struct rundir *d, const char *name);
void rundir_remove(struct rundir *d);
/* Every machine that lives; name "" = it has none. */
int rundir_each(const char *base, void (*each)(void *ctx, const char *id, const char *name),
                void *ctx, struct err *e) MUST_CHECK;
/* The living machine with this name, id, or unique beginning of an id. -ENOENT; -EINVAL ambiguous.
 */
int rundir_find(const char *base, const char *text, char id[RUNDIR_ID_LEN + 1],
                struct err *e) MUST_CHECK;
/* Remove BASE/ID and what is in it; for whoever outlives the owner. */
void rundir_wipe(int base, const char *id);

#endif
