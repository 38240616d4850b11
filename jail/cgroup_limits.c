/* Limits as the files of v1 and v2 want them. Conversions between their scales are those of OCI
 * runtimes: cgroup-v2.rst gives ranges, runtime-spec 1.1 the meaning. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "jail/cgroup_priv.h"
#include "jail/devfilter.h"

enum { VALUE_MAX = 64 };

static const char *const v1_limit = "memory.limit_in_bytes";
static const char *const v1_memsw = "memory.memsw.limit_in_bytes";

int cgroup_cpus(double cpus, unsigned online, int64_t *quota_us, struct err *e)
{
    if (!(cpus >= 0.01) || cpus > (double)online)
        return err_set(e, -EINVAL,
                       "range of CPUs is from 0.01 to %u.00, as there are only %u CPUs available",
                       online, online);
    *quota_us = (int64_t)(cpus * CGROUP_CPU_PERIOD_US + 0.5);
    return 0;
}

unsigned cgroup_needs(const struct cgroup_limits *l)
{
    unsigned mask = 0;

    if (!l)
        return 0;
    if (l->memory_bytes || l->memory_swap_bytes || l->memory_reservation_bytes)
        mask |= 1U << CGROUP_MEMORY;
    if (l->cpu_quota_us || l->cpu_period_us || l->cpu_shares)
        mask |= 1U << CGROUP_CPU;
    if (l->cpus || l->mems)
        mask |= 1U << CGROUP_CPUSET;
    if (l->pids)
        mask |= 1U << CGROUP_PIDS;
    if (l->io_weight)
        mask |= 1U << CGROUP_IO;
    return mask;
}

static int set(const struct cgroup *c, enum cgroup_controller k, const char *file, const char *text,
               struct err *e)
{
    if (!c->path[k][0])
        return err_set(e, -EOPNOTSUPP, "this host gives no limits of %s: no such cgroup controller",
                       cgroup_controller_name(k));
    int r = cgroup_file_put(c->path[k], file, text);
    if (r == -ENOENT)
        return err_set(e, -EOPNOTSUPP, "this kernel has no %s: the limit cannot be held", file);
    return r < 0 ? err_errno(e, r, "set %s to %s", file, text) : 0;
}

/* -1 and less = no limit. */
static int set_bytes(const struct cgroup *c, const char *file, int64_t v, struct err *e)
{
    char text[VALUE_MAX];

    if (v < 0)
        snprintf(text, sizeof(text), "%s", cgroup_is_v2(c, CGROUP_MEMORY) ? "max" : "-1");
    else
        snprintf(text, sizeof(text), "%" PRId64, v);
    return set(c, CGROUP_MEMORY, file, text, e);
}

static int set_memsw(const struct cgroup *c, const struct cgroup_limits *l, struct err *e)
{
    struct err why = {0};
    int r = set_bytes(c, v1_memsw, l->memory_swap_bytes, &why);

    return r == -EOPNOTSUPP && l->swap_optional ? 0 : r < 0 ? err_set(e, r, "%s", why.msg) : 0;
}

/* v1 keeps memory <= memory and swap at every moment: the order depends on where they come from. */
static int apply_memory_v1(const struct cgroup *c, const struct cgroup_limits *l, struct err *e)
{
    uint64_t now = UINT64_MAX;
    bool swap_first = false;
    int r = 0;

    if (l->memory_bytes && l->memory_swap_bytes) {
        (void)!cgroup_file_u64(c->path[CGROUP_MEMORY], v1_memsw, &now);
        swap_first = l->memory_bytes < 0 || (uint64_t)l->memory_bytes > now;
    }
    if (swap_first)
        r = set_memsw(c, l, e);
    if (r == 0 && l->memory_bytes)
        r = set_bytes(c, v1_limit, l->memory_bytes, e);
    if (r == 0 && l->memory_swap_bytes && !swap_first)
        r = set_memsw(c, l, e);
    if (r == 0 && l->memory_reservation_bytes)
        r = set_bytes(c, "memory.soft_limit_in_bytes", l->memory_reservation_bytes, e);
    return r;
}

/* v2 counts swap alone. */
static int apply_memory_v2(const struct cgroup *c, const struct cgroup_limits *l, struct err *e)
{
    int r = 0;

    if (l->memory_bytes)
        r = set_bytes(c, "memory.max", l->memory_bytes, e);
    if (r == 0 && l->memory_swap_bytes) {
        int64_t swap = l->memory_swap_bytes;

        if (swap > 0 && l->memory_bytes > 0)
            swap -= l->memory_bytes;
        struct err why = {0};

        r = set_bytes(c, "memory.swap.max", swap, &why);
        if (r == -EOPNOTSUPP && (swap == 0 || l->swap_optional))
            r = 0; /* no swap in this kernel: there is nothing to forbid */
        if (r < 0)
            return err_set(e, r, "%s", why.msg);
    }
    if (r == 0 && l->memory_reservation_bytes)
        r = set_bytes(c, "memory.low", l->memory_reservation_bytes, e);
    return r;
}

static int apply_memory(const struct cgroup *c, const struct cgroup_limits *l, struct err *e)
{
    if (l->memory_swap_bytes > 0 && l->memory_bytes <= 0)
        return err_set(e, -EINVAL, "a limit of memory and swap needs a limit of memory too");
    if (l->memory_swap_bytes > 0 && l->memory_swap_bytes < l->memory_bytes)
        return err_set(e, -EINVAL, "the limit of memory and swap is below that of memory");
    return cgroup_is_v2(c, CGROUP_MEMORY) ? apply_memory_v2(c, l, e) : apply_memory_v1(c, l, e);
}

static int apply_quota_v1(const struct cgroup *c, const struct cgroup_limits *l, struct err *e)
{
    char text[VALUE_MAX];
    int r = 0;

    if (l->cpu_period_us) {
        snprintf(text, sizeof(text), "%" PRIu64, l->cpu_period_us);
        r = set(c, CGROUP_CPU, "cpu.cfs_period_us", text, e);
    }
    if (r == 0 && l->cpu_quota_us) {
        snprintf(text, sizeof(text), "%" PRId64, l->cpu_quota_us < 0 ? -1 : l->cpu_quota_us);
        r = set(c, CGROUP_CPU, "cpu.cfs_quota_us", text, e);
    }
    return r;
}

static int apply_quota_v2(const struct cgroup *c, const struct cgroup_limits *l, struct err *e)
{
    char text[VALUE_MAX], quota[32] = "max";
    uint64_t period = l->cpu_period_us;
    int r = 0;

    if (l->cpu_quota_us == 0) { /* a period alone: the quota that is there stays */
        r = cgroup_file_get(c->path[CGROUP_CPU], "cpu.max", text, sizeof(text));
        if (r > 0)
            snprintf(quota, sizeof(quota), "%.*s", (int)strcspn(text, " \n"), text);
    } else if (l->cpu_quota_us > 0) {
        snprintf(quota, sizeof(quota), "%" PRId64, l->cpu_quota_us);
    }
    if (period == 0)
        snprintf(text, sizeof(text), "%s", quota); /* the kernel keeps the period */
    else
        snprintf(text, sizeof(text), "%s %" PRIu64, quota, period);
    return set(c, CGROUP_CPU, "cpu.max", text, e);
}

static int apply_cpu(const struct cgroup *c, const struct cgroup_limits *l, struct err *e)
{
    char text[VALUE_MAX];
    bool v2 = cgroup_is_v2(c, CGROUP_CPU);
    int r = 0;

    if (l->cpu_quota_us > 0 && l->cpu_quota_us < CGROUP_CPU_QUOTA_MIN_US)
        return err_set(e, -EINVAL, "CPU quota of %" PRId64 " µs: 1 ms is the least",
                       l->cpu_quota_us);
    if (l->cpu_quota_us || l->cpu_period_us)
        r = v2 ? apply_quota_v2(c, l, e) : apply_quota_v1(c, l, e);
    if (r < 0 || !l->cpu_shares)
        return r;
    uint64_t shares = l->cpu_shares < 2 ? 2 : l->cpu_shares > 262144 ? 262144 : l->cpu_shares;
    /* 2..262144 to 1..10000 */
    uint64_t v = v2 ? 1 + (shares - 2) * 9999 / 262142 : shares;
    snprintf(text, sizeof(text), "%" PRIu64, v);
    return set(c, CGROUP_CPU, v2 ? "cpu.weight" : "cpu.shares", text, e);
}

static int apply_io(const struct cgroup *c, const struct cgroup_limits *l, struct err *e)
{
    char text[VALUE_MAX];
    bool v2 = cgroup_is_v2(c, CGROUP_IO);

    if (l->io_weight < 10 || l->io_weight > 1000)
        return err_set(e, -EINVAL, "block IO weight %u: range is from 10 to 1000", l->io_weight);
    /* BFQ has the scale of v1, io.weight 1..10000. */
    snprintf(text, sizeof(text), "%u", l->io_weight);
    int r = set(c, CGROUP_IO, v2 ? "io.bfq.weight" : "blkio.weight", text, e);
    if (r != -EOPNOTSUPP || !c->path[CGROUP_IO][0])
        return r;
    if (!v2)
        return set(c, CGROUP_IO, "blkio.bfq.weight", text, e);
    snprintf(text, sizeof(text), "default %u", 1 + (l->io_weight - 10) * 9999 / 990);
    return set(c, CGROUP_IO, "io.weight", text, e);
}

static int rule_text(const struct cgroup_device *d, char text[VALUE_MAX])
{
    char major[16] = "*", minor[16] = "*";

    if (d->major >= 0)
        snprintf(major, sizeof(major), "%d", d->major);
    if (d->minor >= 0)
        snprintf(minor, sizeof(minor), "%d", d->minor);
    if (d->type == 'a')
        return snprintf(text, VALUE_MAX, "a");
    return snprintf(text, VALUE_MAX, "%c %s:%s %.3s", d->type, major, minor, d->access);
}

/* Each rule is a write(2) of its own; the files are opened once. */
static int apply_devices_v1(const struct cgroup *c, const struct cgroup_limits *l, struct err *e)
{
    const char *dir = c->path[CGROUP_DEVICES];
    CLEANUP(fd) int allow = -1;
    CLEANUP(fd) int deny = -1;
    char text[VALUE_MAX];
    int r = set(c, CGROUP_DEVICES, "devices.deny", "a", e);

    for (size_t i = 0; r == 0 && i < l->n_devices; i++) {
        const struct cgroup_device *d = &l->devices[i];
        int *fd = d->allow ? &allow : &deny;
        int len = rule_text(d, text);

        if (*fd < 0)
            *fd = cgroup_file_open(dir, d->allow ? "devices.allow" : "devices.deny");
        if (*fd < 0)
            return err_errno(e, *fd, "devices of %s", dir);
        if (write(*fd, text, (size_t)len) != len)
            return err_errno(e, -errno, "allow or deny device '%s'", text);
    }
    return r;
}

static int apply_devices(const struct cgroup *c, const struct cgroup_limits *l, struct err *e)
{
    if (l->n_devices > CGROUP_DEVICES_MAX)
        return err_set(e, -E2BIG, "more than %d rules for devices", CGROUP_DEVICES_MAX);
    if (c->path[CGROUP_DEVICES][0])
        return apply_devices_v1(c, l, e);
    if (c->path[CGROUP_UNIFIED][0])
        return devfilter_attach(c->path[CGROUP_UNIFIED], l->devices, l->n_devices, e);
    return err_set(e, -EOPNOTSUPP, "this host cannot limit the use of devices");
}

int cgroup_apply(const struct cgroup *c, const struct cgroup_limits *l, struct err *e)
{
    char text[VALUE_MAX];
    unsigned needs = cgroup_needs(l);
    int r = 0;

    if (needs & (1U << CGROUP_MEMORY))
        r = apply_memory(c, l, e);
    if (r == 0 && (needs & (1U << CGROUP_CPU)))
        r = apply_cpu(c, l, e);
    if (r == 0 && l->cpus)
        r = set(c, CGROUP_CPUSET, "cpuset.cpus", l->cpus, e);
    if (r == 0 && l->mems)
        r = set(c, CGROUP_CPUSET, "cpuset.mems", l->mems, e);
    if (r == 0 && l->pids) {
        snprintf(text, sizeof(text), "%" PRId64, l->pids);
        r = set(c, CGROUP_PIDS, "pids.max", l->pids < 0 ? "max" : text, e);
    }
    if (r == 0 && l->io_weight)
        r = apply_io(c, l, e);
    if (r == 0 && l->devices)
        r = apply_devices(c, l, e);
    return r;
}
