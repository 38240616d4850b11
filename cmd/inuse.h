/* cmd/inuse.h - what containers hold of the image store. */
#ifndef CMD_INUSE_H
#define CMD_INUSE_H

#include "base/err.h"

struct store;

/* store_keep() the image of every container, before something is removed. */
int inuse_keep(struct store *s, struct err *e) MUST_CHECK;

#endif
