/* jail/powers.h - user, capabilities and limits of a machine's process; private to jail/. */
#ifndef JAIL_POWERS_H
#define JAIL_POWERS_H

#include <stdbool.h>

#include "base/err.h"

/* Give them up: root becomes a user that nobody else is. `files`: the four capabilities a file
 * server needs stay permitted, where the caller has them. */
int powers_drop(bool files, struct err *e) MUST_CHECK;
/* On the calling thread: the file server's capabilities take effect, stay away (but for threads to
 * come), or go for good. */
enum powers_files { POWERS_USE, POWERS_KEEP, POWERS_NONE };
void powers_files(enum powers_files how);

#endif
