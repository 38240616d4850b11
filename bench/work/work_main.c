/* Runs workloads and prints a line each: `name seconds check`. As PID 1 it first makes the few
 * mounts it needs and powers the machine off at the end. See work.h. */
#include "bench/work/work.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define PAUSE_MS_MAX 60000

static const struct work *const classes[] = {
    work_int, work_float,  work_mem,  work_string, work_call,
    work_sys, work_thread, work_code, work_shell,
};

struct options {
    const char *only; /* names with commas between; NULL: all */
    double scale;     /* factor on every workload's units */
    unsigned pause_ms;
    bool two; /* those for two CPUs, instead of those for one */
    bool list;
};

static const char *self_path = "/proc/self/exe";
static const char *tmp_path = "/tmp";

static _Noreturn void fail(const char *what)
{
    printf("FAIL %s\n", what);
    fflush(stdout);
    if (getpid() == 1)
        reboot(RB_AUTOBOOT);
    exit(1);
}

void work_expect(bool ok, const char *what)
{
    if (!ok)
        fail(what);
}

const char *work_self(void)
{
    return self_path;
}

const char *work_tmp(void)
{
    return tmp_path;
}

void *work_map(size_t len)
{
    unsigned char *p =
        mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);

    work_expect(p != MAP_FAILED, "mmap");
    return p;
}

void work_unmap(void *p, size_t len)
{
    work_expect(!munmap(p, len), "munmap");
}

static double now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* Is name in the list? Each entry matches a whole name. */
static bool chosen(const char *list, const char *name)
{
    size_t len = strlen(name);

    if (!list)
        return true;
    for (const char *p = list; p; p = strchr(p, ',')) {
        p += *p == ',';
        if (!strncmp(p, name, len) && (p[len] == ',' || !p[len]))
            return true;
        if (!*p)
            break;
    }
    return false;
}

static void run_one(const struct work *w, double scale)
{
    double units = (double)w->n * scale;
    double start = now();
    uint64_t check = w->run(units < 1 ? 1 : (uint64_t)units);
    double end = now();

    printf("%s %.6f %016llx\n", w->name, end - start, (unsigned long long)check);
    fflush(stdout);
}

static void run_chosen(const struct options *o)
{
    double start = now();

    puts("begin");
    fflush(stdout);
    for (size_t c = 0; c < WORK_COUNT(classes); c++)
        for (const struct work *w = classes[c]; w->name; w++) {
            if (!chosen(o->only, w->name) || (w->cpus == 2) != o->two)
                continue;
            if (o->list)
                puts(w->name);
            else
                run_one(w, o->scale);
        }
    printf("end %.6f\n", now() - start);
    fflush(stdout);
    struct timespec pause = {o->pause_ms / 1000, o->pause_ms % 1000 * 1000000l};
    nanosleep(&pause, NULL);
}

static int usage(void)
{
    fputs("usage: workload [--only NAME,...] [--scale FACTOR] [--pause MS] [--two] [--list]\n",
          stderr);
    return 2;
}

static int parse(int argc, char **argv, struct options *o)
{
    for (int i = 1; i < argc; i++) {
        const char *arg = argv[i], *value = i + 1 < argc ? argv[i + 1] : NULL;

        if (!strcmp(arg, "--two")) {
            o->two = true;
        } else if (!strcmp(arg, "--list")) {
            o->list = true;
        } else if (!strcmp(arg, "--only") && value) {
            o->only = argv[++i];
        } else if (!strcmp(arg, "--scale") && value) {
            o->scale = strtod(argv[++i], NULL);
        } else if (!strcmp(arg, "--pause") && value) {
            o->pause_ms = (unsigned)strtoul(argv[++i], NULL, 10);
        } else {
            return -EINVAL;
        }
    }
    return o->scale > 0 && o->scale <= 1000 && o->pause_ms <= PAUSE_MS_MAX ? 0 : -EINVAL;
}

/* What a kernel leaves to PID 1. The console may have been missing when the kernel opened it. */
static void init_machine(void)
{
    mkdir("/dev", 0755);
    mkdir("/proc", 0755);
    mkdir("/tmp", 01777);
    mount("devtmpfs", "/dev", "devtmpfs", 0, NULL);
    mount("proc", "/proc", "proc", 0, NULL);
    int fd = open("/dev/console", O_RDWR);
    for (int n = 0; fd >= 0 && n < 3; n++)
        dup2(fd, n);
    self_path = "/init";
}

int main(int argc, char **argv)
{
    struct options o = {.scale = 1};

    if (argc == 2 && !strcmp(argv[1], "--nothing")) /* what fork+exec runs */
        return 0;
    if (getpid() == 1)
        init_machine();
    else if (getenv("TMPDIR"))
        tmp_path = getenv("TMPDIR");
    if (parse(argc, argv, &o) && getpid() != 1)
        return usage();
    run_chosen(&o);
    if (getpid() == 1) {
        reboot(RB_POWER_OFF);
        reboot(RB_AUTOBOOT);
    }
    return 0;
}
