/* network/netns.h - network namespaces as descriptors: one lives as long as a process is in it or a
 * descriptor of it is open, so that none is left by a crash.
 *
 * Thread: enter and leave move the calling thread alone; between them it makes no threads. */
#ifndef NETWORK_NETNS_H
#define NETWORK_NETNS_H

#include <sys/types.h>

#include "base/err.h"

/* A new one, with loopback up. Owned descriptor. -EPERM. */
int netns_new(struct err *e) MUST_CHECK;
/* The one a file or a process is in: "/run/netns/x", "/proc/1/ns/net". Owned. -EINVAL: it is none.
 */
int netns_open(const char *path, struct err *e) MUST_CHECK;
int netns_of(pid_t pid, struct err *e) MUST_CHECK;

/* Go there; *back is owned until netns_leave(), which cannot fail. */
int netns_enter(int fd, int *back, struct err *e) MUST_CHECK;
void netns_leave(int *back);

#endif
