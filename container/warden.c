#include "container/warden.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "vm/workset.h"

enum { DIAL = 1, WORKSET = 2, BACK_END = 3 /* `port`: which, see back_end() */ };
enum { ANSWER_MS = 2000 };

struct request {
    uint32_t op, seq, port;
};
struct answer {
    uint32_t seq;
    int32_t result; /* 0 with a descriptor, or -errno */
};

/* --- a message with a descriptor ----------------------------------------------- */

union one_fd {
    struct cmsghdr h;
    char room[CMSG_SPACE(sizeof(int))];
};

/* fd: -1 = none. */
static bool send_with(int to, const void *p, size_t len, int fd)
{
    struct iovec iov = {(void *)(uintptr_t)p, len};
    union one_fd c = {.room = {0}};
    struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1};

    if (fd >= 0) {
        m.msg_control = &c;
        m.msg_controllen = sizeof(c);
        c.h = (struct cmsghdr){
            .cmsg_len = CMSG_LEN(sizeof(int)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS};
        memcpy(CMSG_DATA(&c.h), &fd, sizeof(fd));
    }
    return sendmsg(to, &m, MSG_NOSIGNAL | MSG_DONTWAIT) == (ssize_t)len;
}

/* As recvmsg(2); *fd: owned by the caller, -1 = none came. More than one are the kernel's to close:
 * there is no room for them. */
static ssize_t receive_with(int from, void *p, size_t len, int *fd)
{
    struct iovec iov = {p, len};
    union one_fd c = {.room = {0}};
    struct msghdr m = {
        .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &c, .msg_controllen = sizeof(c)};
    ssize_t n = recvmsg(from, &m, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
    struct cmsghdr *h = n < 0 ? NULL : CMSG_FIRSTHDR(&m);

    *fd = -1;
    if (h && h->cmsg_level == SOL_SOCKET && h->cmsg_type == SCM_RIGHTS &&
        h->cmsg_len == CMSG_LEN(sizeof(int)))
        memcpy(fd, CMSG_DATA(h), sizeof(*fd));
    return n;
}

/* --- the server -------------------------------------------------------------- */

int warden_pair(int *ours, int *theirs, struct err *e)
{
    int v[2];

    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, v) < 0)
        return err_errno(e, -errno, "socketpair");
    *ours = v[0];
    *theirs = v[1];
    return 0;
}

/* Memory that the machine may change while we read it, and nothing that could hold us: sealable, so
 * a file of memory. It is copied once. */
static void keep_workset(const struct ward *w, int fd)
{
    struct stat st;

    if (!w->snapshot || fd < 0 || fcntl(fd, F_GET_SEALS) < 0 || fstat(fd, &st) < 0 ||
        st.st_size <= 0 || st.st_size > WORKSET_BYTES_MAX)
        return;
    CLEANUP(mem) uint8_t *b = malloc((size_t)st.st_size);
    if (b && pread(fd, b, (size_t)st.st_size, 0) == st.st_size)
        workset_store(w->snapshot, b, (size_t)st.st_size);
}

/* The machine's back ends by number: disks, then cards. NULL = there is no such. */
static const char *back_end(const struct vm_conf *vm, uint32_t i)
{
    if (!vm || i >= VM_DISKS_MAX + VM_NETS_MAX)
        return NULL;
    if (i < VM_DISKS_MAX)
        return i < vm->n_disks && vm->disk[i].vhost ? vm->disk[i].vhost_socket : NULL;
    const struct vm_net *n = &vm->net[i - VM_DISKS_MAX];
    return i - VM_DISKS_MAX < vm->n_nets && n->kind == VM_NET_VHOST && !n->vhost_listen
               ? n->vhost_socket
               : NULL;
}

static int reach(const struct ward *w, const struct request *q)
{
    const char *path = q->op == BACK_END ? back_end(w->vm, q->port) : NULL;

    if (q->op == DIAL)
        return w->vsock ? vsockd_connect(w->vsock, q->port) : -ECONNREFUSED;
    return path ? vhostuser_connect(path, NULL) : -ECONNREFUSED;
}

static bool gone(int owner)
{
    struct pollfd p = {.fd = owner};

    return owner < 0 || (poll(&p, 1, 0) == 1 && (p.revents & (POLLHUP | POLLERR)));
}

/* False: the machine has ended. */
static bool serve(const struct ward *w)
{
    struct request q;
    int got;
    ssize_t n = receive_with(w->link, &q, sizeof(q), &got);
    CLEANUP(fd) int came = got;

    if (n <= 0) /* an empty message is no end */
        return n == 0 ? !gone(w->link) : errno == EAGAIN || errno == EINTR;
    if (n == sizeof(q) && q.op == WORKSET)
        keep_workset(w, came);
    if (n != sizeof(q) || (q.op != DIAL && q.op != BACK_END))
        return true;
    CLEANUP(fd) int fd = reach(w, &q);
    struct answer a = {.seq = q.seq, .result = fd < 0 ? fd : 0};
    (void)send_with(w->link, &a, sizeof(a), fd);
    return true;
}

/* Names of sockets where it listened for back ends; not of one where somebody else does. */
static void forget_listening(const struct vm_conf *vm)
{
    for (unsigned i = 0; vm && i < vm->n_nets; i++) {
        if (vm->net[i].kind != VM_NET_VHOST || !vm->net[i].vhost_listen)
            continue;
        CLEANUP(fd) int fd = vhostuser_connect(vm->net[i].vhost_socket, NULL);
        if (fd == -ECONNREFUSED)
            (void)unlink(vm->net[i].vhost_socket);
    }
}

static void end_of(struct ward *w, int owner)
{
    cleanup_fd(&w->link);
    w->link = -1;
    forget_listening(w->vm);
    if (!gone(owner))
        return;
    if (w->vsock)
        (void)unlink(w->vsock);
    rundir_remove(&w->dir);
}

bool warden_present(int owner, int pidfd)
{
    return pidfd >= 0 && send_with(owner, "p", 1, pidfd);
}

/* Where the kernel says whose a pidfd is: pidfd_open(2). */
static pid_t pid_of(int pidfd)
{
    char path[64], line[128];
    int pid = -1;

    snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", pidfd);
    CLEANUP(file) FILE *f = fopen(path, "re");
    while (f && fgets(line, sizeof(line), f) && sscanf(line, "Pid: %d", &pid) != 1) {
    }
    return pid;
}

int warden_await(int ward_fd, pid_t *pid, struct err *e)
{
    struct pollfd p = {.fd = ward_fd, .events = POLLIN};
    char c;
    int fd = -1;

    while (poll(&p, 1, -1) < 0 && errno == EINTR) {
    }
    if (receive_with(ward_fd, &c, 1, &fd) != 1 || fd < 0)
        return err_set(e, -ECONNRESET, "the machine's warden died");
    *pid = pid_of(fd);
    return fd;
}

static bool reap(void)
{
    pid_t pid;

    while ((pid = waitpid(-1, NULL, WNOHANG)) > 0) {
    }
    return pid == 0; /* some live */
}

/* Machines first, then whoever else is a child of ours: copies of a machine, whose own wardens look
 * after them. */
static _Noreturn void linger(int owner)
{
    if (reap()) {
        if (owner >= 0)
            (void)!send(owner, "s", 1, MSG_NOSIGNAL);
        close(owner);
        while (waitpid(-1, NULL, 0) > 0 || errno == EINTR) {
        }
    }
    _exit(0); /* forked child */
}

_Noreturn void warden_main(struct ward *w, unsigned n, int owner, pid_t machine)
{
    struct pollfd *p = calloc(n + 2, sizeof(*p));
    unsigned left = n;
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGCHLD);
    sigprocmask(SIG_BLOCK, &set, NULL);
    int sig = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    prctl(PR_SET_NAME, "kiln-warden");
    while (p && left > 0) {
        struct signalfd_siginfo si;

        for (unsigned i = 0; i < n; i++)
            p[i] = (struct pollfd){.fd = w[i].link, .events = POLLIN};
        p[n] = (struct pollfd){.fd = sig, .events = POLLIN};
        p[n + 1] = (struct pollfd){.fd = owner};
        if (poll(p, n + 2, -1) < 0)
            continue;
        if (p[n + 1].revents && machine > 0) {
            kill(machine, SIGKILL);
            owner = -1; /* seen; not -1 for gone(), which says so of both */
            machine = 0;
        }
        if (p[n].revents && read(sig, &si, sizeof(si)) > 0)
            (void)reap();
        for (unsigned i = 0; i < n; i++)
            if (p[i].revents && w[i].link >= 0 && !serve(&w[i])) {
                if (machine > 0)
                    kill(machine, SIGKILL); /* nobody looks after it any more */
                end_of(&w[i], owner);
                left--;
            }
    }
    linger(owner);
}

/* --- the machine's side ------------------------------------------------------- */

/* An answer to an earlier question, that came too late, is let go. */
static int await(struct warden_link *l, uint32_t seq)
{
    for (;;) {
        struct pollfd p = {.fd = l->fd, .events = POLLIN};
        struct answer a;
        int got;

        if (poll(&p, 1, ANSWER_MS) <= 0)
            return -ETIMEDOUT;
        ssize_t n = receive_with(l->fd, &a, sizeof(a), &got);
        CLEANUP(fd) int fd = got;
        if (n <= 0)
            return -ECONNREFUSED;
        if (n == sizeof(a) && a.seq == seq)
            return a.result < 0 ? a.result : fd < 0 ? -ECONNREFUSED : take_fd(&fd);
    }
}

static int ask(struct warden_link *l, uint32_t op, uint32_t port)
{
    pthread_mutex_lock(&l->lock);
    struct request q = {.op = op, .seq = ++l->seq, .port = port};
    int r = send_with(l->fd, &q, sizeof(q), -1) ? await(l, q.seq) : -ECONNREFUSED;
    pthread_mutex_unlock(&l->lock);
    return r;
}

static int dial(void *ctx, uint32_t port)
{
    return ask(ctx, DIAL, port);
}

static int dial_back_end(void *ctx, const char *path)
{
    struct warden_link *l = ctx;

    for (uint32_t i = 0; i < VM_DISKS_MAX + VM_NETS_MAX; i++) {
        const char *p = back_end(l->vm, i);

        if (p && strcmp(p, path) == 0)
            return ask(l, BACK_END, i);
    }
    return -ECONNREFUSED;
}

void warden_link_init(struct warden_link *l, int fd, const struct vm_conf *vm)
{
    *l = (struct warden_link){.fd = fd,
                              .dial = {.dial = dial, .ctx = l},
                              .back = {.dial = dial_back_end, .ctx = l},
                              .vm = vm};
    pthread_mutex_init(&l->lock, NULL);
}

void warden_workset(struct warden_link *l, const void *bytes, size_t len)
{
    CLEANUP(fd) int fd = memfd_create("working-set", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    struct request q = {.op = WORKSET};

    if (fd >= 0 && write(fd, bytes, len) == (ssize_t)len)
        (void)send_with(l->fd, &q, sizeof(q), fd);
}
