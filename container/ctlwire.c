#include "container/ctlwire.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "container/control.h"

int ctlwire_address(const char *dir, const char *name, struct sockaddr_un *a, struct err *e)
{
    *a = (struct sockaddr_un){.sun_family = AF_UNIX};
    if ((size_t)snprintf(a->sun_path, sizeof(a->sun_path), "%s/%s", dir, name) >=
        sizeof(a->sun_path))
        return err_set(e, -ENAMETOOLONG, "%s: too long for a socket", dir);
    return 0;
}

static int64_t now_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static int wait_for(int fd, short events, int64_t deadline_ms, int quit_fd, struct err *e)
{
    for (;;) {
        struct pollfd p[] = {{.fd = fd, .events = events}, {.fd = quit_fd, .events = POLLIN}};
        int64_t left = deadline_ms < 0 ? -1 : deadline_ms - now_ms();
        int n = deadline_ms >= 0 && left <= 0 ? 0 : poll(p, ARRAY_LEN(p), (int)left);

        if (n == 0)
            return err_set(e, -ETIMEDOUT, "no answer came");
        if (n > 0 && p[1].revents)
            return err_set(e, -EINTR, "the machine ends");
        if (n > 0)
            return 0;
        if (errno != EINTR)
            return err_errno(e, -errno, "poll");
    }
}

void ctlwire_close(struct ctlwire_fds *f)
{
    for (unsigned i = 0; i < f->n; i++)
        cleanup_fd(&f->fd[i]);
    f->n = 0;
}

union fd_room {
    struct cmsghdr h;
    char room[CMSG_SPACE(CTLWIRE_FDS_MAX * sizeof(int))];
};

static ssize_t receive(int fd, char *p, size_t len, struct ctlwire_fds *f)
{
    struct iovec iov = {p, len};
    union fd_room c;
    struct msghdr m = {
        .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &c, .msg_controllen = sizeof(c)};
    ssize_t n = recvmsg(fd, &m, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);

    for (struct cmsghdr *h = n < 0 ? NULL : CMSG_FIRSTHDR(&m); h; h = CMSG_NXTHDR(&m, h)) {
        if (h->cmsg_level != SOL_SOCKET || h->cmsg_type != SCM_RIGHTS)
            continue;
        for (size_t i = 0; i < (h->cmsg_len - CMSG_LEN(0)) / sizeof(int); i++) {
            int got;

            memcpy(&got, CMSG_DATA(h) + i * sizeof(int), sizeof(got));
            if (f && f->n < CTLWIRE_FDS_MAX)
                f->fd[f->n++] = got;
            else
                close(got);
        }
    }
    return n;
}

static ssize_t transmit(int fd, const char *p, size_t len, const struct ctlwire_fds *f)
{
    struct iovec iov = {(void *)(uintptr_t)p, len};
    union fd_room c;
    struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1};

    if (f && f->n > 0) {
        size_t bytes = f->n * sizeof(int);

        m.msg_control = &c;
        m.msg_controllen = CMSG_SPACE(bytes);
        c.h = (struct cmsghdr){
            .cmsg_len = CMSG_LEN(bytes), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS};
        memcpy(CMSG_DATA(&c.h), f->fd, bytes);
    }
    return sendmsg(fd, &m, MSG_NOSIGNAL | MSG_DONTWAIT);
}

char *ctlwire_read_fds(int fd, int timeout_ms, int quit_fd, struct ctlwire_fds *f, struct err *e)
{
    CLEANUP(mem) char *line = malloc(CONTROL_LINE_MAX + 1);
    int64_t deadline = timeout_ms < 0 ? -1 : now_ms() + timeout_ms;
    size_t len = 0;

    if (!line)
        err_set(e, -ENOMEM, "out of memory");
    while (line && len < CONTROL_LINE_MAX) {
        if (wait_for(fd, POLLIN, deadline, quit_fd, e) < 0)
            return NULL;
        ssize_t n = receive(fd, line + len, CONTROL_LINE_MAX - len, f);
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
            continue;
        if (n <= 0) {
            err_set(e, -ECONNRESET, "the connection ended");
            return NULL;
        }
        char *end = memchr(line + len, '\n', (size_t)n);
        len += (size_t)n;
        if (end) {
            *end = '\0';
            return take_ptr(&line);
        }
    }
    if (line)
        err_set(e, -E2BIG, "a line of more than %d bytes", CONTROL_LINE_MAX);
    return NULL;
}

int ctlwire_write_fds(int fd, const json_t *v, const struct ctlwire_fds *f, int timeout_ms,
                      struct err *e)
{
    CLEANUP(mem) char *text = json_dumps(v, JSON_COMPACT);
    int64_t deadline = now_ms() + timeout_ms;
    size_t len = text ? strlen(text) : 0;

    if (!text)
        return err_set(e, -ENOMEM, "out of memory");
    text[len++] = '\n'; /* instead of the NUL */
    for (size_t done = 0; done < len;) {
        int r = wait_for(fd, POLLOUT, deadline, -1, e);

        if (r < 0)
            return r;
        ssize_t n = transmit(fd, text + done, len - done, done == 0 ? f : NULL);
        if (n < 0 && errno != EAGAIN && errno != EINTR)
            return err_errno(e, -errno, "send");
        done += n > 0 ? (size_t)n : 0;
    }
    return 0;
}
