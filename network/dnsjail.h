/* network/dnsjail.h - what the name server's process gives up before it reads a packet. Thread: the
 * process's only one. */
#ifndef NETWORK_DNSJAIL_H
#define NETWORK_DNSJAIL_H

#include <sys/types.h>

#include "base/err.h"

/* The process ends with `parent`, its parent. `root` (a folder) becomes "/" and the working
 * directory; nobody's ids, no capabilities, no new privileges, no processes, no written files; a
 * seccomp list that ends the process: memory, reading files, sockets of IPv4 and IPv6. Not to be
 * undone. */
int dnsjail_enter(int root, pid_t parent, struct err *e) MUST_CHECK;

#endif
