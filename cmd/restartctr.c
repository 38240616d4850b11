/* kiln restart: stop and start. */
#include <errno.h>

#include "cmd/each.h"
#include "cmd/stopflags.h"
#include "cmd/verb.h"
#include "container/events.h"
#include "container/keeper.h"

static int cmd_restart(int argc, char **argv);

const struct command command_restart = {
    .name = "restart",
    .operands = "CONTAINER...",
    .summary = "stop and start containers",
    .about = "Stops containers as kiln stop does and starts them again; one that does not run is "
             "just started.",
    .groups = {{&stopflags}},
    .min_operands = 1,
    .max_operands = FLAG_MANY,
    .values = "@container",
    .run = cmd_restart,
};

static int start(struct record *r, struct err *e)
{
    struct keeper_conf kc = {.watch = NULL};
    struct keeper_line line;
    int rc = record_relock(r, e);

    if (rc == 0)
        rc = keeper_start(r, &kc, &line, e);
    if (rc < 0)
        return rc == -EALREADY ? 0 : rc;
    rc = keeper_await(&line, e);
    keeper_hang_up(&line);
    return rc;
}

static int restart_one(void *ctx, const char *name, struct err *e)
{
    json_t *req = stopflags_request("restart", ctx);
    struct record r;
    int rc = record_find(NULL, name, RECORD_LOOK, &r, e);

    if (rc == 0)
        rc = record_alive(&r) ? keeper_ask(&r, req, -1, NULL, e) : -ESRCH;
    if (rc == -ESRCH || rc == -ECONNRESET)
        rc = start(&r, e);
    json_decref(req);
    if (rc == 0) {
        const char *more[] = {"image", r.spec.image, "name", r.name, NULL};

        event_note(NULL, "container", "restart", r.id, more);
    }
    record_done(&r);
    return rc;
}

static int cmd_restart(int argc, char **argv)
{
    struct stop_args a = STOP_ARGS_NONE;
    struct err e = {0};
    int at = flag_parse(&command_restart, argc, argv, &a, &e);

    return at <= 0 ? flag_stop(&command_restart, at, &e)
                   : each_container(argc - at, argv + at, restart_one, &a);
}
