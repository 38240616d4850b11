/* The sandbox's init is a fork of the agent that is PID 1 of a PID namespace: it makes the
 * container's root in a mount namespace of its own, then does two things only: child exits are
 * reaped by the kernel for it (SIGCHLD ignored), and it kills everything when the agent asks. A
 * kernel never delivers a fatal signal from inside the namespace to it. */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "agent/pid1.h"
#include "base/cleanup.h"

enum { SETUP_MS = 60000 }; /* an image disk may be slow to appear */

static int build(const struct setup_req *r, const char *base, struct layers *l, struct err *e)
{
    if (unshare(CLONE_NEWNS) < 0)
        return err_errno(e, -errno, "mount namespace");
    if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
        return err_errno(e, -errno, "make mounts private");
    return root_enter(r, base, l, e);
}

/* What became of it, and with success the layers. */
static bool tell(int cmd, struct err *e, const struct layers *l)
{
    union {
        struct cmsghdr h;
        char room[CMSG_SPACE(sizeof(*l))];
    } u = {0};
    struct iovec iov = {e, sizeof(*e)};
    struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1};

    if (e->code == 0) {
        m.msg_control = u.room;
        m.msg_controllen = sizeof(u.room);
        struct cmsghdr *c = CMSG_FIRSTHDR(&m);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(sizeof(*l));
        memcpy(CMSG_DATA(c), l, sizeof(*l));
    }
    return sendmsg(cmd, &m, MSG_NOSIGNAL) == sizeof(*e) && e->code == 0;
}

static _Noreturn void sandbox_init(int cmd, const struct setup_req *r, const char *base)
{
    struct err e = {0};
    sigset_t none;
    char c;

    sigemptyset(&none);
    signal(SIGCHLD, SIG_IGN);
    sigprocmask(SIG_SETMASK, &none, NULL);
    prctl(PR_SET_NAME, "kiln-init");
    /* Whatever the agent had open stays with the agent. */
    if (dup2(cmd, 3) < 0)
        _exit(1);
    (void)syscall(SYS_close_range, 4, ~0U, 0);
    struct layers l = {-1, -1};
    (void)build(r, base, &l, &e);
    if (!tell(3, &e, &l))
        _exit(1);
    close(l.image);
    close(l.upper);
    while (read(3, &c, 1) == 1) {
        kill(-1, SIGKILL); /* kill(2): all of the namespace but the caller */
        if (write(3, &c, 1) != 1)
            break;
    }
    _exit(0);
}

static void take_layers(struct msghdr *m, struct layers *l)
{
    const struct cmsghdr *c = CMSG_FIRSTHDR(m);

    if (c && c->cmsg_type == SCM_RIGHTS && c->cmsg_len == CMSG_LEN(sizeof(*l)))
        memcpy(l, CMSG_DATA(c), sizeof(*l));
}

static int wait_built(int cmd, struct layers *l, struct err *e)
{
    struct pollfd p = {.fd = cmd, .events = POLLIN};
    union {
        struct cmsghdr h;
        char room[CMSG_SPACE(sizeof(*l))];
    } u;
    struct err told;
    struct iovec iov = {&told, sizeof(told)};
    struct msghdr m = {
        .msg_iov = &iov, .msg_iovlen = 1, .msg_control = u.room, .msg_controllen = sizeof(u.room)};
    int n;

    do
        n = poll(&p, 1, SETUP_MS);
    while (n < 0 && errno == EINTR);
    if (n <= 0)
        return err_set(e, -ETIMEDOUT, "the container's root took too long");
    if (recvmsg(cmd, &m, MSG_CMSG_CLOEXEC) != sizeof(told))
        return err_set(e, -EIO, "the container's init ended");
    take_layers(&m, l);
    told.msg[sizeof(told.msg) - 1] = '\0';
    return told.code < 0 ? err_set(e, told.code, "%s", told.msg) : 0;
}

/* Found now, while only our own code has run in there: later its paths are the container's to
 * change. */
static int hold(struct sandbox *s, struct err *e)
{
    char path[64];

    snprintf(path, sizeof(path), "/proc/%d/ns/mnt", (int)s->pid);
    s->mnt = open(path, O_RDONLY | O_CLOEXEC);
    if (s->mnt < 0)
        return err_errno(e, -errno, "%s", path);
    snprintf(path, sizeof(path), "/proc/%d/root", (int)s->pid);
    s->root = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (s->root < 0)
        return err_errno(e, -errno, "%s", path);
    snprintf(path, sizeof(path), "/proc/%d/root/dev/pts/ptmx", (int)s->pid);
    s->ptmx = open(path, O_PATH | O_CLOEXEC | O_NOFOLLOW);
    if (s->ptmx < 0)
        return err_errno(e, -errno, "%s", path);
    return 0;
}

int sandbox_open(struct sandbox *s, const struct setup_req *r, const char *base, int group,
                 struct err *e)
{
    int sv[2];

    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sv) < 0)
        return err_errno(e, -errno, "socketpair");
    *s = SANDBOX_NONE;
    s->cmd = sv[0];
    s->group = group;
    CLEANUP(fd) int theirs = sv[1];
    if (unshare(CLONE_NEWPID) < 0) {
        int rc = err_errno(e, -errno, "PID namespace");

        sandbox_close(s);
        return rc;
    }
    s->pid = group_fork(group);
    if (s->pid == 0)
        sandbox_init(theirs, r, base);
    if (s->pid < 0) {
        s->pid = 0;
        sandbox_close(s);
        return err_errno(e, -ENOMEM, "fork");
    }
    close(take_fd(&theirs));
    s->disks = r->overlay_dev;
    for (unsigned i = 0; i < r->n_mounts; i++)
        s->disks |= strcmp(r->mount[i].type, "device") == 0;
    int rc = wait_built(s->cmd, &s->layers, e);
    if (rc == 0)
        rc = hold(s, e);
    if (rc < 0)
        sandbox_close(s);
    return rc;
}

void sandbox_kill_all(struct sandbox *s)
{
    struct pollfd p = {.fd = s->cmd, .events = POLLIN};
    char c = 'k';

    if (s->pid == 0 || send(s->cmd, &c, 1, MSG_NOSIGNAL | MSG_DONTWAIT) != 1)
        return;
    if (poll(&p, 1, 1000) == 1)
        (void)!recv(s->cmd, &c, 1, MSG_DONTWAIT);
}

void sandbox_close(struct sandbox *s)
{
    int fd[] = {s->cmd, s->mnt, s->root, s->ptmx, s->layers.image, s->layers.upper};

    if (s->pid > 0) {
        pid_t got;

        /* The end of a PID namespace waits for all its processes, those among them that are our
         * children included: so take whatever there is until its init comes. */
        kill(s->pid, SIGKILL);
        do
            got = waitpid(-1, NULL, 0);
        while (got != s->pid && (got > 0 || errno == EINTR));
    }
    for (unsigned i = 0; i < ARRAY_LEN(fd); i++)
        if (fd[i] >= 0)
            close(fd[i]);
    *s = SANDBOX_NONE;
}
