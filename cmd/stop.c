/* kiln stop: the end of containers, and of machines. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "cmd/each.h"
#include "cmd/stopflags.h"
#include "cmd/verb.h"
#include "container/control.h"
#include "container/events.h"
#include "container/keeper.h"

static int cmd_stop(int argc, char **argv);

const struct command command_stop = {
    .name = "stop",
    .operands = "CONTAINER...",
    .summary = "end containers, and machines",
    .about = "Asks containers to end, by their stop signal, and kills those that have not after a "
             "while. Machines of kiln boot, fork and restore end at once, as if their power was "
             "cut.",
    .groups = {{&stopflags}},
    .min_operands = 1,
    .max_operands = FLAG_MANY,
    .values = "@container",
    .run = cmd_stop,
};

/* One that is no container: the code stays -ENOENT if there is none, either. */
static int stop_machine(const char *name, struct err *e)
{
    json_t *req = json_pack("{s:s}", "op", "stop"), *out = NULL;
    struct err none = {0};
    int rc = control_ask(name, req, &out, &none);

    json_decref(out);
    json_decref(req);
    if (rc != -ENOENT)
        *e = none;
    return rc;
}

static int stop_one(void *ctx, const char *name, struct err *e)
{
    struct record r;
    int rc = record_find(NULL, name, RECORD_LOOK, &r, e);

    if (rc == -ENOENT)
        return stop_machine(name, e);
    if (rc < 0)
        return rc;
    json_t *req = stopflags_request("stop", ctx);
    if (record_alive(&r))
        rc = keeper_end(&r, req, e);
    json_decref(req);
    if (rc == 0 && record_refresh(&r, NULL) == 0) {
        const char *more[] = {"image", r.spec.image, "name", r.name, NULL};

        event_note(NULL, "container", "stop", r.id, more);
    }
    record_done(&r);
    return rc == -ESRCH || rc == -ECONNRESET ? 0 : rc; /* it has ended meanwhile */
}

static int cmd_stop(int argc, char **argv)
{
    struct stop_args a = STOP_ARGS_NONE;
    struct err e = {0};
    int at = flag_parse(&command_stop, argc, argv, &a, &e);

    return at <= 0 ? flag_stop(&command_stop, at, &e)
                   : each_container(argc - at, argv + at, stop_one, &a);
}
