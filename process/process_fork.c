#include <errno.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "process/process_priv.h"

uint64_t fork_flag(enum process_ns kind)
{
    static const uint64_t flag[PROCESS_NS_KINDS] = {
        [PROCESS_NS_USER] = CLONE_NEWUSER, [PROCESS_NS_PID] = CLONE_NEWPID,
        [PROCESS_NS_NET] = CLONE_NEWNET,   [PROCESS_NS_IPC] = CLONE_NEWIPC,
        [PROCESS_NS_UTS] = CLONE_NEWUTS,   [PROCESS_NS_CGROUP] = CLONE_NEWCGROUP,
        [PROCESS_NS_TIME] = CLONE_NEWTIME, [PROCESS_NS_MNT] = CLONE_NEWNS,
    };

    return flag[kind];
}

/* clone3(2) as fork(2): only it takes CLONE_NEWTIME, and one call makes all namespaces. */
static pid_t clone_plain(uint64_t flags, int exit_signal)
{
    struct clone_args a = {.flags = flags, .exit_signal = (uint64_t)exit_signal};

    return (pid_t)syscall(SYS_clone3, &a, sizeof(a));
}

pid_t fork_new(uint64_t flags, struct err *e)
{
    pid_t pid = clone_plain(flags, SIGCHLD);

    if (pid >= 0)
        return pid;
    int code = -errno;
    if (code == -ENOSPC || code == -EUSERS)
        return err_errno(e, code,
                         "new namespaces: the host's limit is reached "
                         "(/proc/sys/user/max_*_namespaces)");
    if (code == -EPERM && (flags & CLONE_NEWUSER))
        return err_errno(e, code, "new user namespace: this host forbids them to users");
    return err_errno(e, code, "new namespaces");
}

/* The stage: it enters, makes the child a sibling of itself, tells its pid, and ends. */
static pid_t stage(uint64_t flags, int (*enter)(void *ctx, struct err *e), void *ctx, int sock)
{
    struct note n = {.kind = NOTE_FAILED};
    pid_t pid = -1;

    if (enter(ctx, &n.err) == 0) {
        pid = clone_plain(flags | CLONE_PARENT, 0);
        if (pid == 0)
            return 0;
        if (pid < 0)
            (void)err_errno(&n.err, -errno, "fork in the container's namespaces");
    }
    if (pid > 0) {
        n.kind = NOTE_PID;
        n.pid = pid;
    }
    _exit(note_send(sock, &n, -1) < 0); /* forked child */
}

pid_t fork_staged(uint64_t flags, int (*enter)(void *ctx, struct err *e), void *ctx,
                  const int sock[2], struct err *e)
{
    struct note n;
    int status;
    pid_t helper = fork();

    if (helper < 0)
        return err_errno(e, -errno, "fork");
    if (helper == 0)
        return stage(flags, enter, ctx, sock[1]);
    while (waitpid(helper, &status, 0) < 0 && errno == EINTR)
        ;
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
        return err_set(e, -EIO, "the stage into the container's namespaces was killed");
    int r = note_receive(sock[0], &n, NULL);
    if (r < 0)
        return err_errno(e, r, "the stage into the container's namespaces");
    if (n.kind == NOTE_PID && n.pid > 0)
        return n.pid;
    return err_set(e, n.err.code < 0 ? n.err.code : -EIO, "%s", n.err.msg);
}
