/* kiln kill: a signal to containers. */
#include <jansson.h>
#include <signal.h>

#include "cmd/each.h"
#include "cmd/flag.h"
#include "cmd/verb.h"
#include "container/keeper.h"
#include "container/signame.h"

struct kill_args {
    int signal;
};

static int set_signal(void *number, const char *value, struct err *e)
{
    return signame_parse(value, number, e);
}

static const struct flag flags[] = {
    {"signal", 's', "SIGNAL", "which one (default KILL)",
     FLAG_AT(struct kill_args, signal, set_signal), .values = "@signal"},
    {0},
};
static const struct flag_group group = {NULL, flags};

static int cmd_kill(int argc, char **argv);

const struct command command_kill = {
    .name = "kill",
    .operands = "CONTAINER...",
    .summary = "send a signal to containers",
    .about = "Sends a signal to the first process of containers. After KILL they have ended when "
             "this returns, and no restart policy starts them again.",
    .groups = {{&group}},
    .min_operands = 1,
    .max_operands = FLAG_MANY,
    .values = "@container",
    .run = cmd_kill,
};

static int kill_one(void *ctx, const char *name, struct err *e)
{
    const struct kill_args *a = ctx;
    struct record r;
    int rc = record_find(NULL, name, RECORD_LOOK, &r, e);

    if (rc < 0)
        return rc;
    json_t *req = json_pack("{s:s, s:i}", "op", "kill", "signal", a->signal);
    rc = a->signal == SIGKILL ? keeper_end(&r, req, e) : keeper_ask(&r, req, -1, NULL, e);
    json_decref(req);
    record_done(&r);
    return rc;
}

static int cmd_kill(int argc, char **argv)
{
    struct kill_args a = {.signal = SIGKILL};
    struct err e = {0};
    int at = flag_parse(&command_kill, argc, argv, &a, &e);

    return at <= 0 ? flag_stop(&command_kill, at, &e)
                   : each_container(argc - at, argv + at, kill_one, &a);
}
