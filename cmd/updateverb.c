/* kiln update: limits of containers, also of those that run. */
#include <errno.h>
#include <jansson.h>
#include <stdio.h>

#include "cmd/each.h"
#include "cmd/flags.h"
#include "cmd/verb.h"
#include "container/events.h"
#include "container/relimit.h"

#define A struct relimit
static const struct flag flags[] = {
    {"cpus", 0, "NUMBER", "CPU time, such as 1.5", FLAG_AT(A, limits.nano_cpus, flags_cpus)},
    {"cpu-shares", 'c', "NUMBER", "weight among others, 1024 as a rule",
     FLAG_INT(A, limits.cpu_shares, 2, 262144)},
    {"memory", 'm', "SIZE", "memory", FLAG_AT(A, limits.memory, flags_size)},
    {"memory-swap", 0, "SIZE", "memory and swap together; -1: no limit",
     FLAG_AT(A, limits.memory_swap, flags_swap)},
    {"pids-limit", 0, "NUMBER", "processes; -1: no limit",
     FLAG_AT(A, limits.pids_limit, flags_pids)},
    {"restart", 0, "POLICY", "no, on-failure[:N], always, unless-stopped", FLAG_TEXT(A, restart),
     .values = "no on-failure always unless-stopped"},
    {0},
};
static const struct flag_group group = {NULL, flags};
static int run(int argc, char **argv);

const struct command command_update = {
    .name = "update",
    .operands = "CONTAINER...",
    .summary = "change limits of containers",
    .about =
        "Changes limits of containers, of those that run at once. A running machine keeps its\n"
        "memory and its CPUs: less is a limit inside it until it stops, of memory for what is\n"
        "used from now on; more needs a stop.",
    .groups = {{&group}},
    .min_operands = 1,
    .max_operands = FLAG_MANY,
    .values = "@container",
    .run = run,
};

static int update(void *ctx, const char *name, struct err *e)
{
    struct relimit *l = ctx;
    struct record r;
    int rc = record_find(NULL, name, RECORD_CHANGE, &r, e);

    if (rc < 0)
        return rc;
    if (l->restart)
        rc = flags_restart(&r.spec, l->restart, e);
    if (rc == 0)
        rc = relimit(&r, l, e);
    if (rc == 0) {
        const char *const about[] = {"image", r.spec.image ? r.spec.image : "", "name", r.name,
                                     NULL};
        event_note(NULL, "container", "update", r.id, about);
    }
    record_done(&r);
    return rc;
}

static int run(int argc, char **argv)
{
    struct relimit l;
    struct err e = {0};

    relimit_init(&l);
    int at = flag_parse(&command_update, argc, argv, &l, &e);
    if (at > 0 && !relimit_any(&l))
        at = err_set(&e, -EINVAL, "nothing is to be changed: give a flag");
    return at <= 0 ? flag_stop(&command_update, at, &e)
                   : each_container(argc - at, argv + at, update, &l);
}
