#include "container/vmgroup.h"

#include "vm/vm.h"

enum {
    BILLION = 1000000000,
    TABLES = 64 /* bytes of RAM for one of tables about it */,
    END_MS = 2000
};

uint64_t vmgroup_memory(uint64_t ram_bytes, uint64_t code_bytes)
{
    uint64_t code = code_bytes ? code_bytes : CPU_CODE_CACHE_DEFAULT;

    return ram_bytes + ram_bytes / TABLES + 2 * code + ((uint64_t)VMGROUP_OVERHEAD_MIB << 20);
}

static int64_t given(int64_t v)
{
    return v == SPEC_UNSET ? 0 : v;
}

/* False: nothing is asked for. */
static bool fill(const struct spec *s, uint64_t ram_bytes, struct cgroup_limits *l)
{
    *l = (struct cgroup_limits){.cpu_quota_us = given(s->cpu_quota_us),
                                .cpu_period_us = (uint64_t)given(s->cpu_period_us),
                                .cpu_shares = (uint64_t)given(s->cpu_shares),
                                .cpus = s->cpuset_cpus,
                                .mems = s->cpuset_mems,
                                .io_weight = (unsigned)given(s->blkio_weight)};
    if (s->memory > 0)
        l->memory_bytes = (int64_t)vmgroup_memory(ram_bytes, s->code_cache_bytes);
    if (s->nano_cpus > 0 && s->nano_cpus % BILLION != 0) {
        l->cpu_period_us = CGROUP_CPU_PERIOD_US;
        l->cpu_quota_us = s->nano_cpus / (BILLION / CGROUP_CPU_PERIOD_US);
        if (l->cpu_quota_us < CGROUP_CPU_QUOTA_MIN_US)
            l->cpu_quota_us = CGROUP_CPU_QUOTA_MIN_US;
    }
    return l->memory_bytes || l->cpu_quota_us || l->cpu_period_us || l->cpu_shares || l->cpus ||
           l->mems || l->io_weight;
}

int vmgroup_make(const struct spec *s, const char *id, uint64_t ram_bytes, struct cgroup *out,
                 struct err *e)
{
    struct cgroup_limits l;
    struct cgroup_host host;

    *out = (struct cgroup){.layout = CGROUP_NONE};
    if (!fill(s, ram_bytes, &l))
        return 0;
    int r = cgroup_host_find("", &host, e);
    /* RAM is a limit, too: without root a machine does without the other one. */
    if (r == 0 && l.memory_bytes) {
        struct cgroup_limits rest = l;

        r = cgroup_make(&host, id, &l, out, NULL);
        rest.memory_bytes = 0;
        if (r < 0 && (rest.cpu_quota_us || rest.cpu_shares || rest.cpus || rest.io_weight))
            return cgroup_make(&host, id, &rest, out, e);
        return 0;
    }
    return r == 0 ? cgroup_make(&host, id, &l, out, e) : r;
}

bool vmgroup_oom(const struct cgroup *g)
{
    struct cgroup_usage u = {0};

    return g->layout != CGROUP_NONE && cgroup_usage(g, &u, NULL) == 0 && u.oom_kills > 0;
}

void vmgroup_remove(const struct cgroup *g)
{
    if (g->layout != CGROUP_NONE)
        (void)!cgroup_remove(g, END_MS, NULL);
}

void vmgroup_recover(const char *id)
{
    struct cgroup_host host;
    struct cgroup g;

    if (cgroup_host_find("", &host, NULL) < 0 || cgroup_find(&host, id, &g, NULL) < 0)
        return;
    (void)!cgroup_kill(&g, END_MS, NULL);
    vmgroup_remove(&g);
}
