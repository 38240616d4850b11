/* cpu/engines.c - the engines built in, and choosing one. */
#include <errno.h>
#include <string.h>

#include "cpu/cpu.h"

static const struct cpu_engine *const engines[] = {&cpu_kvm, &cpu_bt, &cpu_interp, NULL};

const struct cpu_engine *const *cpu_engines(void)
{
    return engines;
}

static bool is_kvm(const struct cpu_engine *e)
{
    return !strcmp(e->name, "kvm");
}

/* KVM only where ring 0 runs at hardware speed; else the first software engine that works. */
static int pick_fastest(const struct cpu_engine **ret, struct err *e)
{
    int r = -ENOTSUP;

    for (unsigned n = 0; engines[n]; n++) {
        bool hw = false;

        r = engines[n]->probe(&hw, e);
        if (r < 0 || (is_kvm(engines[n]) && !hw))
            continue;
        *ret = engines[n];
        return 0;
    }
    return r < 0 ? r : err_set(e, -ENOTSUP, "no engine works on this host");
}

const struct cpu_engine *cpu_engine_named(const char *name)
{
    for (unsigned n = 0; engines[n]; n++)
        if (strcmp(name, engines[n]->name) == 0)
            return engines[n];
    return NULL;
}

int cpu_engine_pick(const char *name, const struct cpu_engine **ret, struct err *e)
{
    bool hw;

    if (!strcmp(name, "auto"))
        return pick_fastest(ret, e);
    if (!strcmp(name, cpu_lockstep.name)) {
        *ret = &cpu_lockstep;
        return 0;
    }
    for (unsigned n = 0; engines[n]; n++) {
        if (strcmp(name, engines[n]->name))
            continue;
        int r = engines[n]->probe(&hw, e);
        if (r < 0)
            return err_wrap(e, r, "engine %s", name);
        *ret = engines[n];
        return 0;
    }
    return err_set(e, -EINVAL, "engine '%s': not one of auto, kvm, bt, interp", name);
}
