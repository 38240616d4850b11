/* PID 1 of the kernels the linux suite boots: shows that user space lives, then powers off.
 *
 * Prints "user space: CPUS cpus", repeats the line it reads from the console, counts the ticks it
 * saw while sleeping, and computes a little so that every CPU has run something. */
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* Run on `cpu` and compute there; the child's status tells. */
static int runs_on(int cpu)
{
    cpu_set_t set;
    int status = 1;
    pid_t pid = fork();

    if (pid == 0) {
        double x = 1;

        CPU_ZERO(&set);
        CPU_SET(cpu, &set);
        if (sched_setaffinity(0, sizeof(set), &set) < 0 || sched_getcpu() != cpu)
            _exit(1);
        for (int i = 1; i < 1000; i++)
            x = x + 1.0 / i;
        _exit(x > 8.4 && x < 8.5 ? 0 : 1);
    }
    return pid > 0 && waitpid(pid, &status, 0) == pid && status == 0;
}

/* A sleep of 50 ms lasts that long, and not for ever. */
static int time_passes(void)
{
    struct timespec a, b, nap = {.tv_nsec = 50 * 1000 * 1000};

    clock_gettime(CLOCK_MONOTONIC, &a);
    nanosleep(&nap, NULL);
    clock_gettime(CLOCK_MONOTONIC, &b);
    double s = (double)(b.tv_sec - a.tv_sec) + (double)(b.tv_nsec - a.tv_nsec) / 1e9;
    return s >= 0.05 && s < 5;
}

int main(int argc, char **argv)
{
    char line[80];
    long cpus;
    int good = 1;

    mkdir("/proc", 0755);
    if (mount("proc", "/proc", "proc", 0, NULL) < 0)
        perror("mount /proc");
    cpus = sysconf(_SC_NPROCESSORS_ONLN);
    for (int i = 0; i < cpus; i++)
        good = good && runs_on(i);
    printf("user space: %ld cpus, %s, time %s, year %d\n", cpus, good ? "all run" : "not all run",
           time_passes() ? "passes" : "does not pass",
           (int)(time(NULL) / (365.2425 * 86400) + 1970));
    printf("say something\n");
    fflush(stdout);
    if (fgets(line, sizeof(line), stdin))
        printf("heard: %s\n", line);
    fflush(stdout);
    reboot(argc > 1 && strcmp(argv[1], "reboot") == 0 ? RB_AUTOBOOT : RB_POWER_OFF);
    for (;;)
        pause();
}
