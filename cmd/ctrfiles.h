/* cmd/ctrfiles.h - what kiln cp, diff, commit, top share. */
#ifndef CMD_CTRFILES_H
#define CMD_CTRFILES_H

#include "base/err.h"
#include "container/files.h"
#include "container/record.h"

/* The container; one that does not run is locked, so that nobody starts it meanwhile. Errors as
 * record_find(). */
int ctrfiles_find(const char *name, struct record *r, struct err *e) MUST_CHECK;

#endif
