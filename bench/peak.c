/* Run a command and say on standard error how long it took, its status, and of all processes that
 * came of it, daemons included, the CPU time and the greatest resident size of any.
 *
 * usage: peak COMMAND...      "WALL_NS STATUS PEAK_KIB CPU_NS" in a line
 *
 * A small program on purpose: Linux counts what a process was before execve(2), too. */
#include <errno.h>
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static uint64_t now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

int main(int argc, char **argv)
{
    struct rusage use;
    int status = 0;

    if (argc < 2)
        return 2;
    prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
    uint64_t from = now_ns();
    pid_t pid = vfork();
    if (pid == 0) {
        execvp(argv[1], argv + 1);
        _exit(127);
    }
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    uint64_t took = now_ns() - from;
    while (waitpid(-1, NULL, 0) > 0 || errno == EINTR)
        ;
    getrusage(RUSAGE_CHILDREN, &use);
    uint64_t cpu_us = (uint64_t)(use.ru_utime.tv_sec + use.ru_stime.tv_sec) * 1000000u +
                      (uint64_t)(use.ru_utime.tv_usec + use.ru_stime.tv_usec);
    fprintf(stderr, "%" PRIu64 " %d %ld %" PRIu64 "\n", took, status, use.ru_maxrss, cpu_us * 1000);
    return 0;
}
