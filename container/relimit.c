#include "container/relimit.h"

#include <errno.h>
#include <unistd.h>

#include "container/exec_priv.h"
#include "container/keeper.h"
#include "container/vmconf.h"
#include "vm/vm.h"

enum { ANSWER_MS = 60000, SECOND = 1000000000 };
#define MEMORY_MIN ((int64_t)6 << 20) /* docker's */

void relimit_init(struct relimit *l)
{
    *l = (struct relimit){.limits = {.memory = SPEC_UNSET,
                                     .memory_swap = SPEC_UNSET,
                                     .nano_cpus = SPEC_UNSET,
                                     .cpu_shares = SPEC_UNSET,
                                     .pids_limit = SPEC_UNSET}};
}

static bool any_limit(const struct task_limits *t)
{
    return t->memory != SPEC_UNSET || t->memory_swap != SPEC_UNSET || t->nano_cpus != SPEC_UNSET ||
           t->cpu_shares != SPEC_UNSET || t->pids_limit != SPEC_UNSET;
}

bool relimit_any(const struct relimit *l)
{
    return l->restart || any_limit(&l->limits);
}

static int check(const struct record *r, const struct task_limits *t, struct err *e)
{
    long cpus = sysconf(_SC_NPROCESSORS_ONLN);
    bool vm = r->spec.isolation == SPEC_VM;
    int64_t least = vm ? (int64_t)VM_RAM_MIN_MIB << 20 : MEMORY_MIN;

    if (t->memory != SPEC_UNSET && t->memory < least)
        return err_set(e, -EINVAL, "minimum memory limit allowed is %lldMB",
                       (long long)(least >> 20));
    if (t->memory_swap > 0 && t->memory_swap < (t->memory > 0 ? t->memory : r->spec.memory))
        return err_set(e, -EINVAL,
                       "minimum memoryswap limit should be larger than memory limit, see usage");
    if (t->nano_cpus > (int64_t)cpus * 1000000000)
        return err_set(e, -EINVAL,
                       "range of CPUs is from 0.01 to %ld.00, as there are only %ld CPUs available",
                       cpus, cpus);
    return 0;
}

static bool runs(const struct record *r)
{
    return r->state.status == RECORD_RUNNING || r->state.status == RECORD_PAUSED;
}

/* ---- a running one */

static void put(json_t *req, const char *name, int64_t value)
{
    if (value != SPEC_UNSET)
        json_object_set_new(req, name, json_integer(value));
}

static int by_keeper(const struct record *r, const struct task_limits *t, struct err *e)
{
    json_t *req = json_pack("{s:s}", "op", "update");

    put(req, "memory", t->memory);
    put(req, "memory_swap", t->memory_swap);
    put(req, "nano_cpus", t->nano_cpus);
    put(req, "cpu_shares", t->cpu_shares);
    put(req, "pids_limit", t->pids_limit);
    int rc = keeper_ask(r, req, ANSWER_MS, NULL, e);
    json_decref(req);
    return rc;
}

static int by_agent(const struct record *r, const struct task_limits *t, struct err *e)
{
    static const struct session_watch none = {.machine_fd = -1, .signal_fd = -1};
    int64_t ram = r->spec.memory > 0 ? r->spec.memory : VMCONF_RAM_DEFAULT;
    struct session_limit l = {0};
    struct session *s = NULL;

    int64_t cpus = r->spec.nano_cpus > 0 ? (r->spec.nano_cpus + SECOND - 1) / SECOND : 1;

    if (t->memory == SPEC_UNSET && t->pids_limit == SPEC_UNSET && t->nano_cpus == SPEC_UNSET)
        return 0;
    if (t->nano_cpus != SPEC_UNSET && t->nano_cpus > cpus * SECOND)
        return err_set(e, -EINVAL, "a running machine keeps its %lld CPU%s: stop it, or stay below",
                       (long long)cpus, cpus == 1 ? "" : "s");
    if (t->memory != SPEC_UNSET && t->memory > ram)
        return err_set(e, -EINVAL,
                       "a running machine keeps its memory, %lld MiB here: stop it, or stay below",
                       (long long)(ram >> 20));
    if (r->state.status == RECORD_PAUSED)
        return err_set(e, -EAGAIN, "container %s is paused: unpause it before", r->name);
    l.memory = t->memory != SPEC_UNSET ? (uint64_t)t->memory : 0;
    l.pids = t->pids_limit == SPEC_UNSET ? 0
             : t->pids_limit <= 0        ? UINT64_MAX
                                         : (uint64_t)t->pids_limit;
    if (t->nano_cpus != SPEC_UNSET) /* of CPU time in 100 ms */
        l.cpu_us = (uint64_t)(t->nano_cpus / 10000);
    int rc = exec_vm_call(r, &none, &s, e);
    if (rc == 0)
        rc = session_limit(s, &l, e);
    for (unsigned i = 0; rc == 0 && i < 2; i++) /* HELLO, and that */
        rc = session_await(s, ANSWER_MS, e);
    session_close(s);
    return rc;
}

/* ---- from the next start on */

static void later(struct spec *s, const struct task_limits *t, bool vm, bool running)
{
    /* Inside a running machine less is a limit; its RAM and its CPUs are what they were. */
    if (t->memory != SPEC_UNSET && !(vm && running))
        s->memory = t->memory;
    if (t->memory_swap != SPEC_UNSET)
        s->memory_swap = t->memory_swap;
    if (t->nano_cpus != SPEC_UNSET && !(vm && running))
        s->nano_cpus = t->nano_cpus;
    if (t->cpu_shares != SPEC_UNSET)
        s->cpu_shares = t->cpu_shares;
    if (t->pids_limit != SPEC_UNSET)
        s->pids_limit = t->pids_limit;
}

int relimit(struct record *r, const struct relimit *l, struct err *e)
{
    bool running = runs(r), vm = r->spec.isolation == SPEC_VM;
    int rc = check(r, &l->limits, e);

    /* Nobody may hold the lock while he waits for a keeper. */
    if (rc == 0 && running && any_limit(&l->limits)) {
        record_unlock(r);
        rc = vm ? by_agent(r, &l->limits, e) : by_keeper(r, &l->limits, e);
        if (rc == 0)
            rc = record_relock(r, e);
    }
    if (rc < 0)
        return rc;
    later(&r->spec, &l->limits, vm, running);
    return record_update(r, e);
}
