/* network/netprog.h - other programs: nft for a moment, passt and pasta for a container's life. A
 * process that outlives its starter is named by pid and start time, which together are never
 * reused. Thread: the caller's. */
#ifndef NETWORK_NETPROG_H
#define NETWORK_NETPROG_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"

/* Run argv with `text` as its input until it ends. -ENOENT: not installed; -EIO: it failed, the
 * message is the first line it wrote to its error output. */
int netprog_feed(const char *const *argv, const char *text, size_t len, struct err *e);

/* Field 22 of /proc/PID/stat, clock ticks since boot; 0 = no such process (or a zombie). */
uint64_t netprog_start_time(pid_t pid);
/* End the process that has this pid and start time, and wait until it has. A child is reaped. */
void netprog_end(pid_t pid, uint64_t start);

#endif
