#include "jail/jail.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "jail/emptyroot.h"
#include "jail/jailfilter.h"
#include "jail/landlock.h"
#include "jail/powers.h"

struct jail {
    int why_fd;
    bool files;
};

/* --- the warden ------------------------------------------------------------------- */

/* clone(2) as fork(2) does it: no stack, no shared memory. */
static pid_t fork_with(unsigned long flags)
{
    return (pid_t)syscall(SYS_clone, flags | SIGCHLD, NULL, NULL, NULL, 0);
}

static int put(const char *path, const char *text)
{
    CLEANUP(fd) int fd = open(path, O_WRONLY | O_CLOEXEC);

    return fd < 0 || dprintf(fd, "%s", text) < 0 ? -errno : 0;
}

/* In a new user namespace: the one user there is stays who it was, so that peers of sockets are
 * told apart. user_namespaces(7) */
static void map_self(uid_t uid, gid_t gid)
{
    char text[64];

    (void)put("/proc/self/setgroups", "deny");
    snprintf(text, sizeof(text), "%u %u 1\n", uid, uid);
    (void)put("/proc/self/uid_map", text);
    snprintf(text, sizeof(text), "%u %u 1\n", gid, gid);
    (void)put("/proc/self/gid_map", text);
}

pid_t jail_fork(bool off, struct err *e)
{
    uid_t uid = geteuid();
    gid_t gid = getegid();
    pid_t pid = off ? fork() : fork_with(CLONE_NEWPID);

    if (pid < 0 && !off) {
        pid = fork_with(CLONE_NEWUSER | CLONE_NEWPID);
        if (pid == 0)
            map_self(uid, gid);
    }
    if (pid < 0 && !off)
        pid = fork(); /* what is left: seccomp, landlock, no_new_privs */
    return pid < 0 ? err_errno(e, -errno, "fork") : pid;
}

/* --- the machine's process ---------------------------------------------------------- */

static void enter_thread(void *ctx, enum thread_role role)
{
    const struct jail *j = ctx;

    if (role == THREAD_IO)
        powers_files(POWERS_USE);
    else
        powers_files(role == THREAD_MAIN || role == THREAD_CONTROL ? POWERS_KEEP : POWERS_NONE);
    if (jailfilter_install(role, j->files, j->why_fd) < 0)
        _exit(1); /* forked child: a thread without its list does not run */
}

static int enter_landlock(const struct jail_conf *c, struct err *e)
{
    int fd[JAIL_SHARES_MAX];

    for (unsigned i = 0; i < c->n_shares; i++)
        fd[i] = c->share[i].fd;
    return landlock_enter(fd, c->n_shares, e);
}

void jail_forked(const struct thread_hook *hook)
{
    const struct jail *j = hook ? hook->ctx : NULL;

    if (j)
        (void)dup2(STDERR_FILENO, j->why_fd);
}

int jail_enter(const struct jail_conf *c, struct thread_hook *hook, struct err *e)
{
    *hook = (struct thread_hook){0};
    if (c->off)
        return 0;
    struct jail *j = malloc(sizeof(*j));
    if (!j)
        return err_set(e, -ENOMEM, "out of memory");
    *j = (struct jail){.why_fd = c->why_fd, .files = c->n_shares > 0};
    int r = c->why_fd <= JAILFILTER_WHY_MAX ? 0 : err_set(e, -EMFILE, "too many descriptors");
    if (r == 0)
        r = emptyroot_enter(c, e);
    if (r == 0)
        r = powers_drop(j->files, e);
    if (r == 0)
        r = enter_landlock(c, e);
    if (r == 0)
        r = jailfilter_prepare(e);
    if (r < 0) {
        free(j);
        return err_wrap(e, r, "jail");
    }
    *hook = (struct thread_hook){.enter = enter_thread, .ctx = j};
    return 0;
}
