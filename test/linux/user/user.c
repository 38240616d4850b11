/* The list of tests, each in its own process; and what PID 1 of a guest has to do besides. */
#include "user.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { LIMIT = 150 }; /* seconds for one test; the interpreter needs a few */

void *user_pages(size_t n, int prot)
{
    void *p = mmap(NULL, n * PAGE, prot, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (p == MAP_FAILED) {
        perror("mmap");
        _exit(1);
    }
    return p;
}

int user_wait(int pid)
{
    int status;

    if (waitpid(pid, &status, 0) != pid)
        return -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

static double now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void run(const struct user_test *t)
{
    double started = now();
    int out[2], line = 0, status = 0;

    fflush(stdout);
    if (pipe(out) < 0)
        exit(1);
    int pid = fork();
    if (pid == 0) {
        alarm(LIMIT);
        line = t->run();
        _exit(write(out[1], &line, sizeof(line)) != sizeof(line) || line);
    }
    close(out[1]);
    waitpid(pid, &status, 0);
    /* A grandchild may hold the pipe as well: a line that was not written yet is none. */
    if (WIFEXITED(status) && read(out[0], &line, sizeof(line)) != sizeof(line))
        line = -1;
    close(out[0]);
    if (WIFSIGNALED(status))
        printf("failed: %s: signal %d\n", t->name, WTERMSIG(status));
    else if (line)
        printf("failed: %s: line %d\n", t->name, line);
    else
        printf("good: %s (%.2f s)\n", t->name, now() - started);
}

/* The 32-bit sister, which says its own lines, where there is one. */
static void run_32(void)
{
    static const char sister[] = "/user32";

    fflush(stdout);
    int pid = access(sister, X_OK) == 0 ? fork() : -1;
    if (pid == 0) {
        alarm(LIMIT);
        execl(sister, sister, (char *)NULL);
        _exit(127);
    }
    int status = pid > 0 ? user_wait(pid) : 0;
    if (status)
        printf("failed: the 32-bit program: %d\n", status);
}

int main(int argc, char **argv)
{
    static const struct user_test *const groups[] = {
        user_faults, user_retries, user_code, user_trace, user_threads, user_memory,
    };

    if (getpid() == 1) {
        mkdir("/proc", 0755);
        mkdir("/tmp", 0755);
        mount("proc", "/proc", "proc", 0, NULL);
        mount("tmpfs", "/tmp", "tmpfs", 0, NULL);
    }
    for (size_t g = 0; g < sizeof(groups) / sizeof(*groups); g++) {
        for (const struct user_test *t = groups[g]; t->name; t++) {
            if (argc < 2 || strcmp(argv[1], t->name) == 0)
                run(t);
        }
    }
    if (argc < 2)
        run_32();
    printf("all done\n");
    fflush(stdout);
    if (getpid() == 1)
        reboot(RB_POWER_OFF);
    return 0;
}
