/* jail/landlock.h - rules that a process lays upon itself; private to jail/. Source: Linux
 * Documentation/userspace-api/landlock.rst. */
#ifndef JAIL_LANDLOCK_H
#define JAIL_LANDLOCK_H

#include "base/err.h"

/* The ABI of this kernel; 0 = it has no landlock, or it is switched off. */
int landlock_abi(void);
/* From now on this thread and those it makes open nothing by name but what is beneath the folders
 * `fd`, bind and connect no TCP ports, reach no abstract sockets and signal nobody outside; as far
 * as the kernel's ABI goes. no_new_privs is set already. */
int landlock_enter(const int *fd, unsigned n, struct err *e) MUST_CHECK;

#endif
