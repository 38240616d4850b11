/* What a group has used. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "jail/cgroup_priv.h"

static uint64_t number(const char *dir, const char *file)
{
    uint64_t v = 0;

    return cgroup_file_u64(dir, file, &v) < 0 ? 0 : v;
}

static uint64_t key(const char *dir, const char *file, const char *name)
{
    uint64_t v = 0;

    return cgroup_file_key(dir, file, name, &v) < 0 ? 0 : v;
}

static uint64_t limit(uint64_t v)
{
    return v == UINT64_MAX ? 0 : v;
}

static void usage_v1(const struct cgroup *c, struct cgroup_usage *u)
{
    const char *mem = c->path[CGROUP_MEMORY], *cpu = c->path[CGROUP_CPU];

    if (mem[0] && !cgroup_is_v2(c, CGROUP_MEMORY)) {
        u->memory_bytes = number(mem, "memory.usage_in_bytes");
        u->memory_peak_bytes = number(mem, "memory.max_usage_in_bytes");
        u->memory_limit_bytes = limit(number(mem, "memory.limit_in_bytes"));
        u->memory_cache_bytes = key(mem, "memory.stat", "total_inactive_file");
        u->oom_kills = key(mem, "memory.oom_control", "oom_kill");
    }
    if (c->path[CGROUP_CPUACCT][0])
        u->cpu_ns = number(c->path[CGROUP_CPUACCT], "cpuacct.usage");
    if (cpu[0] && !cgroup_is_v2(c, CGROUP_CPU))
        u->cpu_throttled_ns = key(cpu, "cpu.stat", "throttled_time");
}

static void usage_v2(const struct cgroup *c, struct cgroup_usage *u)
{
    const char *dir = c->path[CGROUP_UNIFIED];

    if (cgroup_is_v2(c, CGROUP_MEMORY)) {
        u->memory_bytes = number(dir, "memory.current");
        u->memory_peak_bytes = number(dir, "memory.peak"); /* since Linux 5.19 */
        u->memory_limit_bytes = limit(number(dir, "memory.max"));
        u->memory_cache_bytes = key(dir, "memory.stat", "inactive_file");
        u->oom_kills = key(dir, "memory.events", "oom_kill");
    }
    if (dir[0] && !c->path[CGROUP_CPUACCT][0]) { /* without any controller, too */
        u->cpu_ns = key(dir, "cpu.stat", "usage_usec") * 1000;
        u->cpu_throttled_ns = key(dir, "cpu.stat", "throttled_usec") * 1000;
    }
}

/* "254:0 Read 4096" */
static void io_v1(const char *dir, struct cgroup_usage *u)
{
    char buf[CGROUP_TEXT_MAX], *p = buf;
    int n = cgroup_file_get(dir, "blkio.throttle.io_service_bytes_recursive", buf, sizeof(buf));

    for (char *line; n > 0 && (line = strsep(&p, "\n"));) {
        char what[16];
        unsigned long long v;

        if (sscanf(line, "%*s %15s %llu", what, &v) != 2)
            continue;
        if (strcmp(what, "Read") == 0)
            u->io_read_bytes += v;
        else if (strcmp(what, "Write") == 0)
            u->io_written_bytes += v;
    }
}

/* "254:0 rbytes=4096 wbytes=0 rios=1..." */
static void io_v2(const char *dir, struct cgroup_usage *u)
{
    char buf[CGROUP_TEXT_MAX], *p = buf;
    int n = cgroup_file_get(dir, "io.stat", buf, sizeof(buf));

    for (char *word; n > 0 && (word = strsep(&p, " \n"));) {
        if (strncmp(word, "rbytes=", 7) == 0)
            u->io_read_bytes += strtoull(word + 7, NULL, 10);
        else if (strncmp(word, "wbytes=", 7) == 0)
            u->io_written_bytes += strtoull(word + 7, NULL, 10);
    }
}

int cgroup_usage(const struct cgroup *c, struct cgroup_usage *out, struct err *e)
{
    struct cgroup_usage u = {0};

    usage_v1(c, &u);
    usage_v2(c, &u);
    if (c->path[CGROUP_PIDS][0]) {
        u.pids = number(c->path[CGROUP_PIDS], "pids.current");
        u.pids_limit = limit(number(c->path[CGROUP_PIDS], "pids.max"));
    }
    if (cgroup_is_v2(c, CGROUP_IO))
        io_v2(c->path[CGROUP_IO], &u);
    else if (c->path[CGROUP_IO][0])
        io_v1(c->path[CGROUP_IO], &u);
    *out = u;
    return 0;
}
