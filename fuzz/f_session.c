/* The guest as the host's session sees it: bytes from a hostile agent through HELLO, SETUP, START
 * and the streams. */
#include <assert.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "container/session.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

enum { SOCKET_MAX = 100 * 1024 }; /* what a socket holds without a reader */

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    static const char *const argv[] = {"true", NULL};
    const struct session_watch w = {.machine_fd = -1, .signal_fd = -1};
    const struct session_setup setup = {.root_dev = "/dev/vda", .root_fstype = "squashfs"};
    const struct session_process process = {.argv = argv, .with_stdin = true};
    struct session *s = NULL;
    struct err e = {0};
    int v[2], status = 0;

    signal(SIGPIPE, SIG_IGN);
    if (n > SOCKET_MAX || socketpair(AF_UNIX, SOCK_STREAM, 0, v) < 0)
        return 0;
    ssize_t sent = n ? write(v[1], p, n) : 0;
    assert(sent == (ssize_t)n);
    shutdown(v[1], SHUT_WR);
    int null = open("/dev/null", O_RDWR);
    if (session_open_fd(v[0], &w, 1000, &s, &e) == 0 && session_setup(s, &setup, &e) == 0 &&
        session_start(s, &process, &e) == 0) {
        struct session_streams io = {.in = null, .out = null, .err = null, .tty = -1};

        if (session_pump(s, &io, 1000, &status, &e) == 0)
            assert((status & ~0xffff) == 0);
    }
    session_close(s);
    close(null);
    close(v[1]);
    return 0;
}
