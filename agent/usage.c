/* What the container uses, as the guest sees it, and limits on that by its control group. Source:
 * Linux Documentation/admin-guide/cgroup-v2.rst, proc.rst, iostats.rst. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/pid1.h"
#include "base/cleanup.h"

enum { TEXT_MAX = 16384, CPU_PERIOD_US = 100000, SECTOR = 512 };

/* The first bytes of a file, as text; "" when it cannot be read. */
static void read_text(int dir, const char *name, char text[TEXT_MAX])
{
    CLEANUP(fd) int fd = openat(dir, name, O_RDONLY | O_CLOEXEC);
    ssize_t n = 0, k;

    while (fd >= 0 && n < TEXT_MAX - 1 && (k = read(fd, text + n, (size_t)(TEXT_MAX - 1 - n))) > 0)
        n += k;
    text[n] = '\0';
}

/* The number behind a word. */
static bool number_of(const char *text, const char *word, uint64_t *out)
{
    const char *at = strstr(text, word);

    if (!at)
        return false;
    *out = strtoull(at + strlen(word), NULL, 10);
    return true;
}

static uint64_t memory_used(char text[TEXT_MAX], uint64_t *total)
{
    uint64_t all = 0, available = 0;

    read_text(AT_FDCWD, "/proc/meminfo", text);
    if (!number_of(text, "MemTotal:", &all) || !number_of(text, "MemAvailable:", &available))
        all = available = 0;
    *total = all * 1024;
    return available < all ? (all - available) * 1024 : 0;
}

static uint64_t count_processes(int group, char text[TEXT_MAX])
{
    uint64_t n = 0;

    read_text(group, "cgroup.procs", text);
    for (const char *c = text; *c; c++)
        n += *c == '\n';
    return n > 0 ? n - 1 : 0; /* without the sandbox's init */
}

/* All cards but the loopback. */
static void sum_net(char text[TEXT_MAX], uint64_t *rx, uint64_t *tx)
{
    char *rest = text, *line;

    read_text(AT_FDCWD, "/proc/net/dev", text);
    while ((line = strsep(&rest, "\n"))) {
        unsigned long long r, t;
        char name[32];

        if (sscanf(line, " %31[^:]: %llu %*u %*u %*u %*u %*u %*u %*u %llu", name, &r, &t) == 3 &&
            strcmp(name, "lo") != 0) {
            *rx += r;
            *tx += t;
        }
    }
}

/* Whole disks of the host's, /dev/vd?. */
static void sum_disks(char text[TEXT_MAX], uint64_t *rd, uint64_t *wr)
{
    char *rest = text, *line;

    read_text(AT_FDCWD, "/proc/diskstats", text);
    while ((line = strsep(&rest, "\n"))) {
        unsigned long long r, w;
        char name[32];

        if (sscanf(line, " %*u %*u %31s %*u %*u %llu %*u %*u %*u %llu", name, &r, &w) == 3 &&
            strncmp(name, "vd", 2) == 0 && strlen(name) == 3) {
            *rd += r * SECTOR;
            *wr += w * SECTOR;
        }
    }
}

void usage_put(int group, struct proto_buf *b)
{
    static char text[TEXT_MAX]; /* one thread */
    uint64_t cpu_us = 0, total = 0, a = 0, c = 0;
    uint64_t used = memory_used(text, &total);

    proto_put_u64(b, PF_MEMORY, used);
    proto_put_u64(b, PF_MEMORY_TOTAL, total);
    if (group >= 0) {
        proto_put_u64(b, PF_PIDS, count_processes(group, text));
        read_text(group, "cpu.stat", text);
        if (number_of(text, "usage_usec ", &cpu_us))
            proto_put_u64(b, PF_CPU_NS, cpu_us * 1000);
    }
    sum_net(text, &a, &c);
    proto_put_u64(b, PF_NET_RX, a);
    proto_put_u64(b, PF_NET_TX, c);
    a = c = 0;
    sum_disks(text, &a, &c);
    proto_put_u64(b, PF_DISK_READ, a);
    proto_put_u64(b, PF_DISK_WRITE, c);
}

/* ---- limits */

static int write_text(int dir, const char *name, const char *text)
{
    CLEANUP(fd) int fd = openat(dir, name, O_WRONLY | O_CLOEXEC);

    if (fd < 0)
        return -errno;
    return write(fd, text, strlen(text)) < 0 ? -errno : 0;
}

/* A controller counts from when it is first needed: each costs a guest that asks for no limits. */
static int set_limit(int group, const char *controller, const char *file, const char *value,
                     struct err *e)
{
    char on[32];

    snprintf(on, sizeof(on), "+%s", controller);
    int r = write_text(group, "../cgroup.subtree_control", on);
    if (r == 0)
        r = write_text(group, file, value);
    if (r == -ENOENT || r == -EINVAL)
        return err_set(e, -ENOTSUP, "the guest's kernel has no limits of %s", controller);
    return r < 0 ? err_errno(e, r, "limit of %s", controller) : 0;
}

static int limit_memory(int group, uint64_t limit, struct err *e)
{
    static char text[TEXT_MAX];
    char value[32];
    uint64_t total, used = memory_used(text, &total), counted = 0;

    if (limit >= total)
        return set_limit(group, "memory", "memory.max", "max", e);
    read_text(group, "memory.current", text);
    (void)number_of(text, "", &counted);
    if (used > counted)
        used -= counted; /* what memory.max does not see */
    else
        used = 0;
    if (limit <= used + counted)
        return err_set(e, -EBUSY,
                       "%llu MiB of the machine's memory are in use, more than the new limit",
                       (unsigned long long)((used + counted) >> 20));
    snprintf(value, sizeof(value), "%llu", (unsigned long long)(limit - used));
    return set_limit(group, "memory", "memory.max", value, e);
}

static int limit_field(int group, const struct proto_field_view *v, struct err *e)
{
    char value[48] = "max";
    uint64_t n;

    if (v->id != PF_MEMORY && v->id != PF_PIDS && v->id != PF_CPU_US)
        return 0;
    if (proto_field_u64(v, &n) < 0)
        return err_set(e, -EBADMSG, "LIMIT is malformed");
    if (v->id == PF_MEMORY)
        return limit_memory(group, n, e);
    if (v->id == PF_PIDS && n < UINT64_MAX - 1)
        n++; /* the sandbox's init is none of the container's */
    if (n != UINT64_MAX)
        snprintf(value, sizeof(value), "%llu", (unsigned long long)n);
    if (v->id == PF_PIDS)
        return set_limit(group, "pids", "pids.max", value, e);
    snprintf(value + strlen(value), sizeof(value) - strlen(value), " %d", CPU_PERIOD_US);
    return set_limit(group, "cpu", "cpu.max", value, e);
}

int usage_limit(int group, const struct proto_frame *f, struct err *e)
{
    struct proto_field_view v;
    size_t pos = 0;
    int r = 0, got;

    if (group < 0)
        return err_set(e, -ENOTSUP, "the guest's kernel has no control groups");
    while ((got = proto_field_next(f, &pos, &v)) == 1 && r == 0)
        r = limit_field(group, &v, e);
    return r == 0 && got < 0 ? err_set(e, -EBADMSG, "LIMIT is malformed") : r;
}
