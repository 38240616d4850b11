/* net/vsockd.h - the host's end of the socket device: Unix sockets, in the way Firecracker
 * documents.
 *
 * A client connects to PATH, writes "CONNECT <port>\n" and, when the guest accepts, reads
 * "OK <host port>\n"; a refused stream is closed without a word. A guest that connects to
 * port N of CID 2 reaches whoever listens on "PATH_N". Clients are non-blocking, bounded in number,
 * and slowed by credit; a client that is slow or talks nonsense loses only itself.
 * Thread: the I/O loop, under the board's lock. */
#ifndef NET_VSOCKD_H
#define NET_VSOCKD_H

#include "net/vsock.h"

struct loop;

enum {
    VSOCKD_PENDING_MAX = 64, /* clients that have not said CONNECT yet */
    VSOCKD_LINE_MAX = 32,    /* bytes of "CONNECT 4294967295\n" and some */
};

/* Listens on `path` (a stale socket there is replaced; one somebody listens on is -EADDRINUSE).
 * Fills *host, to be given to vsock_new(). `l` is borrowed and outlives it. The socket file is
 * removed by host->destroy. Errors: -ENAMETOOLONG, what socket(2), bind(2), listen(2) say; the
 * caller adds the path. */
int vsockd_new(const char *path, struct loop *l, struct vsock_host *host, struct err *e) MUST_CHECK;
/* Take the connected socket `fd`, also on failure, as a client that was just accepted: it says
 * "CONNECT <port>\n" like any other. -ENOMEM, or what fcntl(2) says. */
int vsockd_adopt(const struct vsock_host *host, int fd, struct err *e) MUST_CHECK;

#endif
