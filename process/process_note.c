#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "process/process_priv.h"

int note_send(int sock, const struct note *n, int fd)
{
    union {
        struct cmsghdr h;
        char b[CMSG_SPACE(sizeof(int))];
    } control = {0};
    struct iovec iov = {.iov_base = (void *)n, .iov_len = sizeof(*n)};
    struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1};

    if (fd >= 0) {
        m.msg_control = &control;
        m.msg_controllen = sizeof(control);
        control.h.cmsg_level = SOL_SOCKET;
        control.h.cmsg_type = SCM_RIGHTS;
        control.h.cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(&control.h), &fd, sizeof(fd));
    }
    return sendmsg(sock, &m, MSG_NOSIGNAL) == (ssize_t)sizeof(*n) ? 0 : -errno;
}

int note_receive(int sock, struct note *n, int *fd)
{
    union {
        struct cmsghdr h;
        char b[CMSG_SPACE(sizeof(int))];
    } control = {0};
    struct iovec iov = {.iov_base = n, .iov_len = sizeof(*n)};
    struct msghdr m = {.msg_iov = &iov,
                       .msg_iovlen = 1,
                       .msg_control = fd ? &control : NULL,
                       .msg_controllen = fd ? sizeof(control) : 0};
    ssize_t got;

    do
        got = recvmsg(sock, &m, MSG_CMSG_CLOEXEC);
    while (got < 0 && errno == EINTR);
    if (got < 0)
        return -errno;
    if (got == 0)
        return -ECONNRESET;
    if (fd) {
        const struct cmsghdr *c = CMSG_FIRSTHDR(&m);

        *fd = -1;
        if (c && c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS)
            memcpy(fd, CMSG_DATA(c), sizeof(*fd));
    }
    n->err.msg[sizeof(n->err.msg) - 1] = '\0';
    return (size_t)got == sizeof(*n) ? 0 : -EBADMSG;
}
