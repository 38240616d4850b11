/* Which layers of the jail this host lets a machine have: tried out in a child of jail_fork(). */
#include <errno.h>
#include <fcntl.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "jail/jail.h"
#include "jail/landlock.h"

#ifndef PR_SET_MDWE
#define PR_SET_MDWE 65 /* Linux 6.3 */
#endif

struct found { /* written at once */
    bool root, user, pid, mount, net, seccomp, mdwe;
    int landlock;
};

static const char userns_fix[] =
    "sysctl user.max_user_namespaces=10000 kernel.unprivileged_userns_clone=1 "
    "kernel.apparmor_restrict_unprivileged_userns=0";

static void look(struct found *f, const char user[64])
{
    uint32_t action = SECCOMP_RET_TRAP;
    char now[64] = "";

    f->pid = getpid() == 1;
    (void)!readlink("/proc/self/ns/user", now, sizeof(now) - 1);
    f->user = f->root || strcmp(now, user) != 0;
    f->mount = unshare(CLONE_NEWNS) == 0;
    f->net = unshare(CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWCGROUP) == 0;
    f->seccomp = syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, &action) == 0;
    f->landlock = landlock_abi();
    f->mdwe = prctl(PR_SET_MDWE, 1, 0, 0, 0) == 0;
}

static void say(struct jail_state *s, const char *name, bool on, const char *text, const char *off,
                const char *fix)
{
    *s = (struct jail_state){.name = name, .on = on};
    snprintf(s->text, sizeof(s->text), "%s", on ? text : off);
    snprintf(s->fix, sizeof(s->fix), "%s", on ? "" : fix);
}

static void tell(const struct found *f, struct jail_state s[JAIL_LAYERS])
{
    char abi[32];

    snprintf(abi, sizeof(abi), "ABI %d", f->landlock);
    say(&s[JAIL_USER], "user", f->user,
        f->root ? "a user of its own for each machine" : "a user namespace",
        "machines run as you are", userns_fix);
    say(&s[JAIL_PID], "pid", f->pid, "a PID namespace", "no PID namespace", userns_fix);
    say(&s[JAIL_MOUNT], "mount", f->mount, "an empty root", "the host's root", userns_fix);
    say(&s[JAIL_NET], "net", f->net, "no network, ipc, uts, cgroups of the host",
        "the host's network, ipc, uts or cgroups", userns_fix);
    say(&s[JAIL_CAPS], "caps", true, "no capabilities, no new privileges", "", "");
    say(&s[JAIL_SECCOMP], "seccomp", f->seccomp, "a list of system calls for each thread",
        "not in this kernel: machines do not start without --no-jail",
        "a kernel with CONFIG_SECCOMP_FILTER");
    say(&s[JAIL_LANDLOCK], "landlock", f->landlock > 0, abi, "not in this kernel, or off",
        "a kernel with CONFIG_SECURITY_LANDLOCK and lsm=landlock,... on its command line");
    say(&s[JAIL_MDWE], "mdwe", f->mdwe, "memory is never writable and executable",
        "writable memory may become code", "Linux 6.3 or later");
}

int jail_probe(struct jail_state state[JAIL_LAYERS], struct err *e)
{
    struct found f = {.root = geteuid() == 0};
    char user[64] = "";
    int p[2];

    (void)!readlink("/proc/self/ns/user", user, sizeof(user) - 1);
    if (pipe2(p, O_CLOEXEC) < 0)
        return err_errno(e, -errno, "pipe");
    CLEANUP(fd) int reads = p[0];
    pid_t pid = jail_fork(false, e);
    if (pid == 0) {
        look(&f, user);
        _exit(write(p[1], &f, sizeof(f)) == sizeof(f) ? 0 : 1); /* forked child */
    }
    close(p[1]);
    if (pid < 0)
        return pid;
    ssize_t n = read(reads, &f, sizeof(f));
    while (waitpid(pid, NULL, 0) < 0 && errno == EINTR) {
    }
    if (n != sizeof(f))
        return err_set(e, -EIO, "the process that was to try the jail died");
    tell(&f, state);
    return 0;
}
