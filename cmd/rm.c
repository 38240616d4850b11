/* kiln rm: containers go. */
#include <errno.h>
#include <jansson.h>
#include <signal.h>
#include <stdio.h>

#include "cmd/flag.h"
#include "cmd/verb.h"
#include "container/events.h"
#include "container/keeper.h"
#include "container/volume.h"

struct rm_args {
    bool force, volumes;
};

static const struct flag flags[] = {
    {"force", 'f', NULL, "also those that run: they are killed", FLAG_BOOL(struct rm_args, force)},
    {"volumes", 'v', NULL, "with the volumes that have no name",
     FLAG_BOOL(struct rm_args, volumes)},
    {0},
};
static const struct flag_group group = {NULL, flags};

static int cmd_rm(int argc, char **argv);

const struct command command_rm = {
    .name = "rm",
    .operands = "CONTAINER...",
    .summary = "remove containers",
    .about = "Removes containers that do not run: what they wrote to their root file system, their "
             "logs, their names.",
    .groups = {{&group}},
    .min_operands = 1,
    .max_operands = FLAG_MANY,
    .values = "@container",
    .run = cmd_rm,
};

/* Nobody may hold the lock while he waits for a keeper. */
static int end_it(const char *name, struct err *e)
{
    json_t *req = json_pack("{s:s, s:i}", "op", "kill", "signal", SIGKILL);
    struct record r;
    int rc = record_find(NULL, name, RECORD_LOOK, &r, e);

    if (rc == 0 && record_alive(&r))
        rc = keeper_end(&r, req, e);
    json_decref(req);
    record_done(&r);
    return rc == -ESRCH || rc == -ECONNRESET ? 0 : rc;
}

static int remove_locked(struct record *r, bool volumes, struct err *e)
{
    const char *more[] = {"image", r->spec.image ? r->spec.image : "", "name", r->name, NULL};
    int rc = record_remove(r, e);

    if (rc == 0 && volumes)
        volume_release(NULL, &r->spec);
    if (rc == 0)
        event_note(NULL, "container", "destroy", r->id, more);
    return rc;
}

static int remove_one(const struct rm_args *a, const char *name, struct err *e)
{
    struct record r;
    bool alive = true;
    int rc = 0;

    while (alive) { /* it may be started again in between */
        if (a->force)
            rc = end_it(name, e);
        if (rc == 0)
            rc = record_find(NULL, name, RECORD_CHANGE, &r, e);
        if (rc < 0) /* one that was to go with its end is gone */
            return rc;
        alive = record_alive(&r);
        if (alive && !a->force)
            rc = err_set(e, -EBUSY, "container %s is %s: stop it before, or remove it with --force",
                         name, r.state.status == RECORD_PAUSED ? "paused" : "running");
        else if (!alive)
            rc = remove_locked(&r, a->volumes, e);
        record_done(&r);
        if (rc < 0)
            return rc;
    }
    return 0;
}

static int cmd_rm(int argc, char **argv)
{
    struct rm_args a = {0};
    struct err e = {0};
    int at = flag_parse(&command_rm, argc, argv, &a, &e), status = 0;

    if (at <= 0)
        return flag_stop(&command_rm, at, &e);
    for (int i = at; i < argc; i++) {
        struct record r;

        e = (struct err){0};
        /* Known at the beginning and gone at the end is what was asked for, whoever did it. */
        bool known = record_find(NULL, argv[i], RECORD_LOOK, &r, &e) == 0;
        record_done(&r);
        int rc = known ? remove_one(&a, argv[i], &e) : e.code;
        if (rc < 0 && !(known && a.force && rc == -ENOENT)) {
            say("%s", e.msg);
            status = a.force && rc == -ENOENT ? status : 1; /* docker: with -f it is gone, too */
            continue;
        }
        puts(argv[i]);
        fflush(stdout);
    }
    return status;
}
