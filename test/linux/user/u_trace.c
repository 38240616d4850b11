/* What debuggers do to a process: breakpoints in shared code, steps, registers, breakpoint
 * registers. */
#include <signal.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#include "user.h"

static volatile uint64_t watched;

__attribute__((noinline, used)) static uint64_t traced_work(uint64_t n)
{
    uint64_t s = 0;

    for (uint64_t i = 0; i < n; i++)
        s += i ^ (s >> 3);
    watched = s;
    return s;
}

extern char trace_fn[];
uint64_t trace_add(uint64_t a, uint64_t b);
__asm__(".text\n.globl trace_add\ntrace_add:\ntrace_fn: lea (%rdi,%rsi), %rax\n ret\n");

/* A child that waits to be traced, then calls the function `n` times. */
static int child(unsigned n)
{
    int pid = fork();

    if (pid == 0) {
        uint64_t sum = 0;

        ptrace(PTRACE_TRACEME, 0, 0, 0);
        raise(SIGSTOP);
        for (unsigned i = 0; i < n; i++)
            sum = trace_add(sum, i);
        _exit(sum == (uint64_t)n * (n - 1) / 2 ? 0 : 1);
    }
    int status;
    return waitpid(pid, &status, 0) == pid && WIFSTOPPED(status) ? pid : -1;
}

static int stopped_by(int pid, int sig)
{
    int status;

    return waitpid(pid, &status, 0) == pid && WIFSTOPPED(status) && WSTOPSIG(status) == sig;
}

static int breakpoints(void)
{
    int pid = child(50), other = child(50);
    long was, at = (long)trace_fn;
    struct user_regs_struct r;

    WANT(pid > 0 && other > 0);
    was = ptrace(PTRACE_PEEKTEXT, pid, at, 0);
    for (unsigned i = 0; i < 50; i++) {
        WANT(ptrace(PTRACE_POKETEXT, pid, at, (was & ~0xffl) | 0xcc) == 0);
        /* The code is the parent's and the other child's as well; only one has the breakpoint. */
        WANT(trace_add(i, 7) == i + 7);
        ptrace(PTRACE_CONT, pid, 0, 0);
        WANT(stopped_by(pid, SIGTRAP));
        WANT(ptrace(PTRACE_GETREGS, pid, 0, &r) == 0);
        WANT(r.rip == (uint64_t)at + 1 && r.rsi == i && r.rdi == (uint64_t)i * (i - 1) / 2);
        r.rip = (uint64_t)at;
        WANT(ptrace(PTRACE_SETREGS, pid, 0, &r) == 0);
        WANT(ptrace(PTRACE_POKETEXT, pid, at, was) == 0);
        WANT(ptrace(PTRACE_SINGLESTEP, pid, 0, 0) == 0 && stopped_by(pid, SIGTRAP));
        WANT(ptrace(PTRACE_GETREGS, pid, 0, &r) == 0);
        WANT(r.rip == (uint64_t)at + 4 && r.rax == (uint64_t)i * (i + 1) / 2);
        if (i == 20)
            ptrace(PTRACE_CONT, other, 0, 0);
    }
    ptrace(PTRACE_CONT, pid, 0, 0);
    WANT(user_wait(pid) == 0 && user_wait(other) == 0);
    return 0;
}

static int steps_and_registers(void)
{
    int pid = child(20), status;
    struct user_regs_struct r;
    struct user_fpregs_struct f;
    unsigned steps = 0, calls = 0;

    WANT(pid > 0);
    WANT(ptrace(PTRACE_GETFPREGS, pid, 0, &f) == 0);
    memset(&f.xmm_space[4 * 9], 0x77, 16);
    WANT(ptrace(PTRACE_SETFPREGS, pid, 0, &f) == 0);
    memset(&f, 0, sizeof(f));
    for (; steps < 5000; steps++) {
        WANT(ptrace(PTRACE_SINGLESTEP, pid, 0, 0) == 0);
        WANT(waitpid(pid, &status, 0) == pid);
        if (WIFEXITED(status))
            break;
        WANT(WIFSTOPPED(status) && WSTOPSIG(status) == SIGTRAP);
        WANT(ptrace(PTRACE_GETREGS, pid, 0, &r) == 0);
        calls += r.rip == (uint64_t)trace_fn;
        if (steps == 3) {
            WANT(ptrace(PTRACE_GETFPREGS, pid, 0, &f) == 0);
            WANT(f.xmm_space[4 * 9] == 0x77777777 && f.xmm_space[4 * 9 + 3] == 0x77777777);
        }
    }
    WANT(calls == 20 && WIFEXITED(status) && WEXITSTATUS(status) == 0);
    return 0;
}

static int system_calls(void)
{
    int pid = fork(), status, seen = 0;

    if (pid == 0) {
        ptrace(PTRACE_TRACEME, 0, 0, 0);
        raise(SIGSTOP);
        _exit(getppid() == 4711 && write(-1, "", 0) == 12 ? 0 : 1);
    }
    WANT(stopped_by(pid, SIGSTOP));
    ptrace(PTRACE_SETOPTIONS, pid, 0, PTRACE_O_TRACESYSGOOD);
    for (;;) {
        struct user_regs_struct r;

        WANT(ptrace(PTRACE_SYSCALL, pid, 0, 0) == 0 && waitpid(pid, &status, 0) == pid);
        if (WIFEXITED(status))
            break;
        WANT(WIFSTOPPED(status) && WSTOPSIG(status) == (SIGTRAP | 0x80));
        ptrace(PTRACE_GETREGS, pid, 0, &r);
        if (r.orig_rax == 110 || r.orig_rax == 1) { /* their results are ours */
            r.rax = r.orig_rax == 110 ? 4711 : 12;
            seen += ptrace(PTRACE_SETREGS, pid, 0, &r) == 0;
        }
    }
    WANT(seen == 4 && WEXITSTATUS(status) == 0);
    return 0;
}

enum { DR_OFFSET = offsetof(struct user, u_debugreg) };

static int breakpoint_registers(void)
{
    int pid = fork();
    struct user_regs_struct r;

    if (pid == 0) {
        ptrace(PTRACE_TRACEME, 0, 0, 0);
        raise(SIGSTOP);
        for (int i = 0; i < 5; i++)
            traced_work(1000 + (uint64_t)i);
        _exit(0);
    }
    WANT(stopped_by(pid, SIGSTOP));
    WANT(ptrace(PTRACE_POKEUSER, pid, DR_OFFSET, &watched) == 0);
    WANT(ptrace(PTRACE_POKEUSER, pid, DR_OFFSET + 8, traced_work) == 0);
    /* 0: writes of 8 bytes; 1: execution */
    WANT(ptrace(PTRACE_POKEUSER, pid, DR_OFFSET + 56, 0x90000 | 0x5) == 0);
    for (int i = 0; i < 5; i++) {
        ptrace(PTRACE_CONT, pid, 0, 0);
        WANT(stopped_by(pid, SIGTRAP));
        WANT(ptrace(PTRACE_GETREGS, pid, 0, &r) == 0 && r.rip == (uint64_t)traced_work);
        WANT((ptrace(PTRACE_PEEKUSER, pid, DR_OFFSET + 48, 0) & 0xf) == 2);
        ptrace(PTRACE_POKEUSER, pid, DR_OFFSET + 48, 0);
        ptrace(PTRACE_CONT, pid, 0, 0);
        WANT(stopped_by(pid, SIGTRAP));
        WANT((ptrace(PTRACE_PEEKUSER, pid, DR_OFFSET + 48, 0) & 0xf) == 1);
        ptrace(PTRACE_POKEUSER, pid, DR_OFFSET + 48, 0);
        WANT((uint64_t)ptrace(PTRACE_PEEKDATA, pid, &watched, 0) ==
             traced_work(1000 + (uint64_t)i));
    }
    ptrace(PTRACE_CONT, pid, 0, 0);
    WANT(user_wait(pid) == 0);
    return 0;
}

const struct user_test user_trace[] = {
    {"breakpoints_in_shared_code", breakpoints},
    {"single_steps_and_registers", steps_and_registers},
    {"traced_system_calls", system_calls},
    {"breakpoint_registers", breakpoint_registers},
    {NULL, NULL},
};
