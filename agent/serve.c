#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <linux/vm_sockets.h>

#include "agent/pid1.h"
#include "base/cleanup.h"

struct server {
    struct agent *a;
    int listener, sigchld;
    struct peer *peer[AGENT_PEERS_MAX];
    unsigned n_peers;
};

/* Only the host may talk to the agent: a process in the container has sockets of the same family.
 */
static bool from_host(const struct sockaddr_vm *sa)
{
    return sa->svm_family == AF_VSOCK && sa->svm_cid == VMADDR_CID_HOST;
}

static void accept_one(struct server *s)
{
    struct sockaddr_vm sa = {0};
    socklen_t len = sizeof(sa);
    int fd = accept4(s->listener, (struct sockaddr *)&sa, &len, SOCK_CLOEXEC | SOCK_NONBLOCK);

    if (fd < 0)
        return;
    if (!s->a->any_peer && !from_host(&sa)) {
        close(fd);
        return;
    }
    struct peer *p = peer_new(s->a, fd);
    if (p)
        s->peer[s->n_peers++] = p;
}

static void drop(struct server *s, unsigned i)
{
    peer_free(s->peer[i]);
    s->peer[i] = s->peer[--s->n_peers];
}

static void reap(struct server *s)
{
    struct signalfd_siginfo si;
    int status;
    pid_t pid;

    while (read(s->sigchld, &si, sizeof(si)) == sizeof(si)) {
    }
    while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
        bool known = false;

        if (pid == s->a->box.pid) {
            /* Its namespace is gone, and all processes in it. */
            s->a->box.pid = 0;
            sandbox_close(&s->a->box);
        }
        for (unsigned i = 0; i < s->n_peers && !known; i++)
            known = peer_reaped(s->peer[i], pid, status);
        if (!known && pid == s->a->main_pid) { /* its session broke off */
            s->a->main_pid = -1;
            sandbox_kill_all(&s->a->box);
            if (s->a->box.disks)
                sync();
        }
    }
}

static int turn(struct server *s)
{
    struct pollfd v[2 + AGENT_PEERS_MAX * AGENT_PEER_POLLS];
    unsigned n = 2, peers = s->n_peers;
    int timeout = -1;

    v[0] = (struct pollfd){.fd = s->sigchld, .events = POLLIN};
    v[1] = (struct pollfd){.fd = peers < AGENT_PEERS_MAX ? s->listener : -1, .events = POLLIN};
    for (unsigned i = 0; i < peers; i++)
        n += peer_polls(s->peer[i], v + n, &timeout);
    if (poll(v, n, timeout) < 0)
        return errno == EINTR ? 0 : -errno;
    if (v[0].revents)
        reap(s);
    /* From the end: dropping moves the last one into the gap. */
    for (unsigned i = peers; i-- > 0;)
        if (!peer_handle(s->peer[i], v + 2 + i * AGENT_PEER_POLLS))
            drop(s, i);
    if (v[1].revents)
        accept_one(s);
    return 0;
}

int serve(struct agent *a, int listener, struct err *e)
{
    struct server s = {.a = a, .listener = listener};
    sigset_t chld;
    int rc = 0;

    sigemptyset(&chld);
    sigaddset(&chld, SIGCHLD);
    s.sigchld = signalfd(-1, &chld, SFD_CLOEXEC | SFD_NONBLOCK);
    if (s.sigchld < 0)
        return err_errno(e, -errno, "signalfd");
    while (rc == 0 && !a->poweroff)
        rc = turn(&s);
    while (s.n_peers > 0)
        drop(&s, s.n_peers - 1);
    sandbox_close(&a->box);
    close(s.sigchld);
    return rc < 0 ? err_errno(e, rc, "poll") : 0;
}
