/* cmd/each.h - a verb on several containers: one after another, and a failure of one does not keep
 * it from the others. */
#ifndef CMD_EACH_H
#define CMD_EACH_H

#include "base/err.h"

/* What is done with the container `name`, as it was typed. */
typedef int (*each_fn)(void *ctx, const char *name, struct err *e);

/* Prints the names of those it did, and the sentences of the others. Returns the exit status: 1 if
 * there is one of these. */
int each_container(int n, char **names, each_fn fn, void *ctx);

#endif
