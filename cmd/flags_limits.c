/* Flags that say how much a container may have. */
#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "cmd/flags.h"
#include "container/spec.h"

/* "0-3,5", as cpuset(7) "List format". */
static int set_cpuset(void *text, const char *value, struct err *e)
{
    const char *s = value;

    while (isdigit((unsigned char)*s)) {
        char *end;
        unsigned long from = strtoul(s, &end, 10), to = from;

        if (*end == '-' && isdigit((unsigned char)end[1]))
            to = strtoul(end + 1, &end, 10);
        if (to < from || to > 65535)
            break;
        if (!*end)
            return flags_copy(text, value, e);
        s = *end == ',' ? end + 1 : "";
    }
    return err_set(e, -EINVAL, "'%s' is not a list such as 0-3,5", value);
}

/* "soft[:hard]" behind the name; -1 is no limit. */
static bool limit_pair(const char *text)
{
    char *end;

    errno = 0;
    long long soft = strtoll(text, &end, 10), hard = soft;
    if (end == text || isspace((unsigned char)text[0]))
        return false;
    if (*end == ':') {
        const char *second = end + 1;

        hard = strtoll(second, &end, 10);
        if (end == second || isspace((unsigned char)second[0]))
            return false;
    }
    return !*end && !errno && soft >= -1 && hard >= -1 &&
           (hard == -1 || (soft != -1 && soft <= hard));
}

static int add_ulimit(void *strv, const char *value, struct err *e)
{
    static const char *const names[] = {"core",    "cpu",      "data",   "fsize",      "locks",
                                        "memlock", "msgqueue", "nice",   "nofile",     "nproc",
                                        "rss",     "rtprio",   "rttime", "sigpending", "stack"};
    size_t len = strcspn(value, "=");
    bool known = false;

    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        known |= strlen(names[i]) == len && strncmp(names[i], value, len) == 0;
    if (!known)
        return err_set(e, -EINVAL, "'%.*s' is not a limit's name", (int)len, value);
    if (!value[len] || !limit_pair(value + len + 1))
        return err_set(e, -EINVAL, "'%s': write NAME=SOFT[:HARD], SOFT no more than HARD", value);
    int r = strv_add(strv, value);
    return r < 0 ? err_errno(e, r, "'%s'", value) : 0;
}

static int add_sysctl(void *strv, const char *value, struct err *e)
{
    const char *equal = strchr(value, '=');

    if (!equal || equal == value || memchr(value, ' ', (size_t)(equal - value)))
        return err_set(e, -EINVAL, "'%s': write NAME=VALUE", value);
    int r = strv_add(strv, value);
    return r < 0 ? err_errno(e, r, "'%s'", value) : 0;
}

static int set_blkio(void *int64, const char *value, struct err *e)
{
    char *end;
    long n = strtol(value, &end, 10);

    if (!isdigit((unsigned char)value[0]) || *end || (n != 0 && (n < 10 || n > 1000)))
        return err_set(e, -EINVAL, "'%s' is out of range: 10 to 1000", value);
    *(int64_t *)int64 = n ? n : SPEC_UNSET;
    return 0;
}

#define S struct spec
static const struct flag limits_flags[] = {
    {"memory", 'm', "SIZE", "memory, such as 512m or 2g (vm: its RAM, default 512m)",
     FLAG_AT(S, memory, flags_size)},
    {"memory-swap", 0, "SIZE", "memory and swap together; -1 for no limit",
     FLAG_AT(S, memory_swap, flags_swap)},
    {"memory-reservation", 0, "SIZE", "what it is pressed back to when memory is short",
     FLAG_AT(S, memory_reservation, flags_size)},
    {"cpus", 0, "N", "CPUs, such as 2 or 1.5 (vm: default 1)", FLAG_AT(S, nano_cpus, flags_cpus)},
    {"cpu-shares", 'c', "N", "share of busy CPUs against others, 2 to 262144 (default 1024)",
     FLAG_INT(S, cpu_shares, 2, 262144)},
    {"cpu-period", 0, "US", "period of the CPU quota, 1000 to 1000000 µs",
     FLAG_INT(S, cpu_period_us, 1000, 1000000)},
    {"cpu-quota", 0, "US", "CPU time in a period, in µs; -1 for no limit",
     FLAG_INT(S, cpu_quota_us, -1, 0)},
    {"cpuset-cpus", 0, "LIST", "CPUs of this host it may use, such as 0-2,5",
     FLAG_AT(S, cpuset_cpus, set_cpuset)},
    {"cpuset-mems", 0, "LIST", "memory nodes of this host it may use",
     FLAG_AT(S, cpuset_mems, set_cpuset)},
    {"pids-limit", 0, "N", "processes it may have; -1 for no limit",
     FLAG_AT(S, pids_limit, flags_pids)},
    {"blkio-weight", 0, "N", "share of busy disks against others, 10 to 1000",
     FLAG_AT(S, blkio_weight, set_blkio)},
    {"ulimit", 0, "NAME=SOFT[:HARD]", "a limit of each process, such as nofile=1024:2048",
     FLAG_AT(S, ulimits, add_ulimit)},
    {"shm-size", 0, "SIZE", "size of /dev/shm (default 64m)", FLAG_AT(S, shm_size, flags_size)},
    {"oom-score-adj", 0, "N", "how gladly it is killed when memory is out, -1000 to 1000",
     FLAG_INT(S, oom_score_adj, -1000, 1000)},
    {"sysctl", 0, "NAME=VALUE", "a kernel parameter of its namespaces",
     FLAG_AT(S, sysctls, add_sysctl)},
    {"net-rate", 0, "SIZE", "bytes a second over the network, each way",
     FLAG_AT(S, net_rate, flags_size)},
    {"disk-rate", 0, "SIZE", "bytes a second from and to its disk",
     FLAG_AT(S, disk_rate, flags_size)},
    {0},
};
const struct flag_group flags_limits = {"Limits", limits_flags};
