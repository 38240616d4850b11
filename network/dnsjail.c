#include "network/dnsjail.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <signal.h>
#include <seccomp.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/cleanup.h"

enum { NOBODY = 65534, FILES_MAX = 1024 };

static const int allowed[] = {
    /* the round */
    SCMP_SYS(poll),
    SCMP_SYS(ppoll),
    SCMP_SYS(restart_syscall),
    SCMP_SYS(rt_sigreturn),
    SCMP_SYS(clock_gettime),
    SCMP_SYS(getrandom),
    SCMP_SYS(exit_group),
    SCMP_SYS(exit),
    /* sockets */
    SCMP_SYS(connect),
    SCMP_SYS(accept4),
    SCMP_SYS(recvfrom),
    SCMP_SYS(sendto),
    SCMP_SYS(getsockopt),
    SCMP_SYS(close),
    /* the leases */
    SCMP_SYS(newfstatat),
    SCMP_SYS(fstat),
    SCMP_SYS(read),
    SCMP_SYS(write),
    /* malloc */
    SCMP_SYS(brk),
    SCMP_SYS(munmap),
    SCMP_SYS(mremap),
    SCMP_SYS(madvise),
    SCMP_SYS(futex),
};

static int allow_some(scmp_filter_ctx f)
{
    int r = 0;

    for (size_t i = 0; r == 0 && i < ARRAY_LEN(allowed); i++)
        r = seccomp_rule_add(f, SCMP_ACT_ALLOW, allowed[i], 0);
    /* no memory that can be executed */
    if (r == 0)
        r = seccomp_rule_add(f, SCMP_ACT_ALLOW, SCMP_SYS(mmap), 1,
                             SCMP_A2(SCMP_CMP_MASKED_EQ, 4, 0));
    if (r == 0)
        r = seccomp_rule_add(f, SCMP_ACT_ALLOW, SCMP_SYS(mprotect), 1,
                             SCMP_A2(SCMP_CMP_MASKED_EQ, 4, 0));
    if (r == 0)
        r = seccomp_rule_add(f, SCMP_ACT_ALLOW, SCMP_SYS(openat), 1,
                             SCMP_A2(SCMP_CMP_MASKED_EQ, O_ACCMODE | O_CREAT | O_TRUNC, O_RDONLY));
    if (r == 0)
        r = seccomp_rule_add(f, SCMP_ACT_ALLOW, SCMP_SYS(socket), 1, SCMP_A0(SCMP_CMP_EQ, AF_INET));
    return r == 0 ? seccomp_rule_add(f, SCMP_ACT_ALLOW, SCMP_SYS(socket), 1,
                                     SCMP_A0(SCMP_CMP_EQ, AF_INET6))
                  : r;
}

/* Made while files can still be opened: the library itself is loaded by its first call. */
static int make_filter(scmp_filter_ctx *f, struct err *e)
{
    *f = seccomp_init(SCMP_ACT_KILL_PROCESS);
    int r = *f ? allow_some(*f) : -ENOMEM;

    return r < 0 ? err_errno(e, r, "seccomp") : 0;
}

static int limit(struct err *e)
{
    static const struct {
        int what;
        rlim_t max;
    } limits[] = {
        {RLIMIT_NPROC, 0}, {RLIMIT_FSIZE, 0}, {RLIMIT_CORE, 0}, {RLIMIT_NOFILE, FILES_MAX}};

    for (size_t i = 0; i < ARRAY_LEN(limits); i++) {
        struct rlimit l = {limits[i].max, limits[i].max};

        if (setrlimit((__rlimit_resource_t)limits[i].what, &l) < 0)
            return err_errno(e, -errno, "setrlimit");
    }
    return 0;
}

static int give_up(int root, pid_t parent, struct err *e)
{
    int r = limit(e);

    if (r < 0)
        return r;
    if (fchdir(root) < 0 || chroot(".") < 0)
        return err_errno(e, -errno, "chroot");
    /* From root to anybody else: the kernel takes all capabilities (capabilities(7)). */
    if (setgroups(0, NULL) < 0 || setresgid(NOBODY, NOBODY, NOBODY) < 0 ||
        setresuid(NOBODY, NOBODY, NOBODY) < 0)
        return err_errno(e, -errno, "change to nobody");
    /* Behind the change of ids, which takes it back (prctl(2)). */
    if (prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) < 0 || getppid() != parent)
        return err_set(e, -ESRCH, "its parent is gone");
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0)
        return err_errno(e, -errno, "prctl");
    return 0;
}

int dnsjail_enter(int root, pid_t parent, struct err *e)
{
    scmp_filter_ctx f = NULL;
    int r = make_filter(&f, e);

    if (r == 0)
        r = give_up(root, parent, e);
    if (r == 0) {
        r = seccomp_load(f);
        if (r < 0)
            r = err_errno(e, r, "seccomp");
    }
    if (f)
        seccomp_release(f);
    return r;
}
