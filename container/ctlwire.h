/* container/ctlwire.h - a line of JSON over a Unix socket: what both ends of control.h share. */
#ifndef CONTAINER_CTLWIRE_H
#define CONTAINER_CTLWIRE_H

#include <jansson.h>
#include <sys/un.h>

#include "base/err.h"

/* The control socket in state folder `dir`. -ENAMETOOLONG. */
int ctlwire_address(const char *dir, const char *name, struct sockaddr_un *a,
                    struct err *e) MUST_CHECK;
/* A line of at most CONTROL_LINE_MAX bytes without its newline, owned by the caller; NULL with *e:
 * -ETIMEDOUT (timeout_ms in all, -1 = never), -ECONNRESET, -E2BIG, -EINTR once quit_fd (-1 = none)
 * is readable. */
char *ctlwire_read(int fd, int timeout_ms, int quit_fd, struct err *e);
int ctlwire_write(int fd, const json_t *v, int timeout_ms, struct err *e) MUST_CHECK;

#endif
