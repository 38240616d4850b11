/* kiln pause, kiln unpause: containers stand still, and go on. */
#include "cmd/each.h"
#include "cmd/flag.h"
#include "cmd/verb.h"
#include "container/keeper.h"

static int cmd_pause(int argc, char **argv);
static int cmd_unpause(int argc, char **argv);

const struct command command_pause = {
    .name = "pause",
    .operands = "CONTAINER...",
    .summary = "let containers stand still",
    .about = "Stops every process of containers, until kiln unpause.",
    .min_operands = 1,
    .max_operands = FLAG_MANY,
    .values = "@container",
    .run = cmd_pause,
};

const struct command command_unpause = {
    .name = "unpause",
    .operands = "CONTAINER...",
    .summary = "let paused containers go on",
    .min_operands = 1,
    .max_operands = FLAG_MANY,
    .values = "@container",
    .run = cmd_unpause,
};

static int ask_one(void *op, const char *name, struct err *e)
{
    struct record r;
    int rc = record_find(NULL, name, RECORD_LOOK, &r, e);

    if (rc == 0)
        rc = keeper_do(&r, op, e);
    record_done(&r);
    return rc;
}

static int run(const struct command *c, const char *op, int argc, char **argv)
{
    struct err e = {0};
    int at = flag_parse(c, argc, argv, NULL, &e);

    return at <= 0 ? flag_stop(c, at, &e)
                   : each_container(argc - at, argv + at, ask_one, (void *)(uintptr_t)op);
}

static int cmd_pause(int argc, char **argv)
{
    return run(&command_pause, "pause", argc, argv);
}

static int cmd_unpause(int argc, char **argv)
{
    return run(&command_unpause, "resume", argc, argv);
}
