/* cmd/snapname.h - what a user calls a snapshot: a name in the store (`snapshots/NAME`), or a
 * folder, which is a word with a slash. */
#ifndef CMD_SNAPNAME_H
#define CMD_SNAPNAME_H

#include "base/err.h"

/* Where a new one goes, absolute; owned by the caller. The store's folder is made, and leftovers of
 * killed calls there are removed. -EINVAL: not a name. */
int snapname_new(const char *word, char **dir, struct err *e) MUST_CHECK;
/* An existing one's folder, absolute; owned by the caller. -ENOENT. */
int snapname_find(const char *word, char **dir, struct err *e) MUST_CHECK;
/* All of the store. */
int snapname_each(void (*each)(void *ctx, const char *name, const char *dir), void *ctx,
                  struct err *e) MUST_CHECK;

#endif
