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

/* Who connects to "PATH_port" for the guest, where this process cannot: a connected, non-blocking
 * socket, owned by the caller, or -errno. */
struct vsockd_dial {
    int (*dial)(void *ctx, uint32_t port);
    void *ctx;
};

enum {
    VSOCKD_PENDING_MAX = 64, /* clients that have not said CONNECT yet */
    VSOCKD_LINE_MAX = 32,    /* bytes of "CONNECT 4294967295\n" and some */
};

/* Listens on `path` (a stale socket there is replaced; one somebody listens on is -EADDRINUSE).
 * Fills *host, to be given to vsock_new(). `l` is borrowed and outlives it. The socket file is
 * removed by host->destroy. Errors: -ENAMETOOLONG, what socket(2), bind(2), listen(2) say; the
 * caller adds the path. */
int vsockd_new(const char *path, struct loop *l, struct vsock_host *host, struct err *e) MUST_CHECK;
/* The socket alone, for vsockd_new_fd(): owned by the caller. Errors as vsockd_new(). */
int vsockd_listen(const char *path, struct err *e) MUST_CHECK;
/* With the socket that listens on `path` (taken, also on failure); its file stays at the end.
 * `dial` is borrowed and outlives it; NULL = this process connects. */
int vsockd_new_fd(int fd, const char *path, const struct vsockd_dial *dial, struct loop *l,
                  struct vsock_host *host, struct err *e) MUST_CHECK;
/* What a guest's connection to `port` reaches: a socket as vsockd_dial says. */
int vsockd_connect(const char *path, uint32_t port) MUST_CHECK;
/* Take the connected socket `fd`, also on failure, as a client that was just accepted: it says
 * "CONNECT <port>\n" like any other. -ENOMEM, or what fcntl(2) says. */
int vsockd_adopt(const struct vsock_host *host, int fd, struct err *e) MUST_CHECK;

#endif
