/* vm/served.h - the connection of a machine's device to the process that serves it. Thread: the
 * VM's owner. */
#ifndef VM_SERVED_H
#define VM_SERVED_H

#include <stdbool.h>

#include "base/err.h"

struct vm;
struct vulink;

struct served_place { /* all borrowed */
    const char *socket;
    bool listen; /* this side, for a back end that connects */
    int fd;      /* where `socket` is NULL: connected to the back end */
};

/* Errors as vulink_new(). */
int served_link(struct vm *vm, const struct served_place *p, struct vulink **ret,
                struct err *e) MUST_CHECK;

#endif
