#include "jail/jailfilter.h"

#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <seccomp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "jail/jail.h"
#include "jail/programs.h" /* made by tools/mkcalls.c */

enum { ROLE_BITS = 4, EXIT_STATUS = 159 /* 128 + SIGSYS */ };
_Static_assert(THREAD_ROLES <= 1 << ROLE_BITS, "a role fits beside the descriptor");
_Static_assert(JAILFILTER_WHY_MAX < 1 << (16 - ROLE_BITS), "16 bits go from a filter to a signal");

struct violation { /* written at once to the pipe */
    uint32_t magic;
    int32_t role, call;
};
enum { VIOLATION = 0x4b4a414c };

/* What is needed comes with the signal: nothing here can be changed by whom it is about. */
static void on_violation(int sig, siginfo_t *si, void *ctx)
{
    struct violation v = {
        .magic = VIOLATION,
        .role = si->si_errno & ((1 << ROLE_BITS) - 1),
        .call = si->si_syscall,
    };

    (void)sig;
    (void)ctx;
    (void)!write((si->si_errno & SECCOMP_RET_DATA) >> ROLE_BITS, &v, sizeof(v));
    _exit(EXIT_STATUS); /* forked child: the machine's, not to be trusted any more */
}

int jailfilter_prepare(struct err *e)
{
    struct sigaction sa = {.sa_sigaction = on_violation, .sa_flags = SA_SIGINFO};

    sigfillset(&sa.sa_mask);
    return sigaction(SIGSYS, &sa, NULL) < 0 ? err_errno(e, -errno, "sigaction") : 0;
}

static enum jailfilter_program program_of(enum thread_role role, bool files)
{
    switch (role) {
    case THREAD_VCPU:
        return JAILFILTER_VCPU;
    case THREAD_IO:
        return files ? JAILFILTER_IO_FILES : JAILFILTER_IO;
    case THREAD_BLOCK:
        return JAILFILTER_BLOCK;
    case THREAD_MEMORY:
        return JAILFILTER_MEMORY;
    case THREAD_LOG:
        return JAILFILTER_LOG;
    case THREAD_WRITER:
        return JAILFILTER_WRITER;
    default: /* main saves templates, the control thread forks */
        return files ? JAILFILTER_CONTROL_FILES : JAILFILTER_CONTROL;
    }
}

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED 1
#endif
#endif

int jailfilter_install(enum thread_role role, bool files, int why_fd)
{
#ifdef SANITIZED
    (void)programs;
    (void)program_of;
    return 0; /* the sanitizers' runtime makes calls of its own, more with each version */
#else
    const struct program *p = &programs[program_of(role, files)];
    struct sock_filter f[JAILFILTER_MAX];
    struct sock_fprog prog = {.len = (unsigned short)p->n, .filter = f};
    uint32_t data = (uint32_t)role | (uint32_t)why_fd << ROLE_BITS;

    memcpy(f, p->f, p->n * sizeof(*f));
    for (unsigned i = 0; i < p->n; i++) {
        if (f[i].code == (BPF_RET | BPF_K) && f[i].k == SECCOMP_RET_TRAP)
            f[i].k |= data;
        if (f[i].code == (BPF_JMP | BPF_JEQ | BPF_K) && f[i].k == JAILFILTER_PID)
            f[i].k = (uint32_t)getpid();
    }
    return syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &prog) < 0 ? -errno : 0;
#endif
}

const char *jailfilter_role(enum thread_role role)
{
    static const char *const name[THREAD_ROLES] = {
        [THREAD_MAIN] = "main",       [THREAD_VCPU] = "vCPU",       [THREAD_IO] = "I/O",
        [THREAD_BLOCK] = "disk",      [THREAD_MEMORY] = "memory",   [THREAD_LOG] = "console log",
        [THREAD_CONTROL] = "control", [THREAD_WRITER] = "snapshot",
    };

    return (unsigned)role < THREAD_ROLES ? name[role] : "unknown";
}

int jail_why(int why_fd, struct err *e)
{
    struct violation v;

    if (read(why_fd, &v, sizeof(v)) != sizeof(v) || v.magic != VIOLATION)
        return 0;
    CLEANUP(mem) char *name = seccomp_syscall_resolve_num_arch(SCMP_ARCH_NATIVE, v.call);
    return err_set(e, -EPERM,
                   "the machine was ended: its %s thread made a system call it may not make: "
                   "%s (%d)",
                   jailfilter_role((enum thread_role)v.role), name ? name : "unknown", v.call);
}
