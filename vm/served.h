/* vm/served.h - the connection of a machine's device to the process that serves it. Thread: the
 * VM's owner. */
#ifndef VM_SERVED_H
#define VM_SERVED_H

#include "base/err.h"

struct vm;
struct vulink;

/* To the back end that listens on `socket`, or where that is NULL, at the other end of `fd`
 * (borrowed). Errors as vulink_new(). */
int served_link(struct vm *vm, const char *socket, int fd, struct vulink **ret,
                struct err *e) MUST_CHECK;

#endif
