/* container/ctlwire.h - a line of JSON over a Unix socket: what both ends of control.h share. */
#ifndef CONTAINER_CTLWIRE_H
#define CONTAINER_CTLWIRE_H

#include <jansson.h>
#include <sys/un.h>

#include "base/err.h"

/* Socket `name` in state folder `dir`. -ENAMETOOLONG. */
int ctlwire_address(const char *dir, const char *name, struct sockaddr_un *a,
                    struct err *e) MUST_CHECK;
enum { CTLWIRE_FDS_MAX = 24 };
struct ctlwire_fds { /* owned: ctlwire_close() */
    int fd[CTLWIRE_FDS_MAX];
    unsigned n;
};
void ctlwire_close(struct ctlwire_fds *f); /* a zeroed one is fine */

/* A line of at most CONTROL_LINE_MAX bytes without its newline, owned by the caller; NULL with *e:
 * -ETIMEDOUT (timeout_ms in all, -1 = never), -ECONNRESET, -E2BIG, -EINTR once quit_fd (-1 = none)
 * is readable.
 * The descriptors that came with it (*f is added to; NULL = none may come). */
char *ctlwire_read_fds(int fd, int timeout_ms, int quit_fd, struct ctlwire_fds *f, struct err *e);
/* `f` may be NULL. */
int ctlwire_write_fds(int fd, const json_t *v, const struct ctlwire_fds *f, int timeout_ms,
                      struct err *e) MUST_CHECK;

/* Without descriptors. */
static inline char *ctlwire_read(int fd, int timeout_ms, int quit_fd, struct err *e)
{
    return ctlwire_read_fds(fd, timeout_ms, quit_fd, NULL, e);
}
MUST_CHECK static inline int ctlwire_write(int fd, const json_t *v, int timeout_ms, struct err *e)
{
    return ctlwire_write_fds(fd, v, NULL, timeout_ms, e);
}

#endif
