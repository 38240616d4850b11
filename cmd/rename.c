/* kiln rename: another name for a container. */
#include "cmd/flag.h"
#include "cmd/verb.h"
#include "container/events.h"
#include "container/keeper.h"

static int cmd_rename(int argc, char **argv);

const struct command command_rename = {
    .name = "rename",
    .operands = "CONTAINER NAME",
    .summary = "give a container another name",
    .min_operands = 2,
    .max_operands = 2,
    .values = "@container",
    .run = cmd_rename,
};

static int cmd_rename(int argc, char **argv)
{
    struct err e = {0};
    struct record r;
    int at = flag_parse(&command_rename, argc, argv, NULL, &e);

    if (at <= 0)
        return flag_stop(&command_rename, at, &e);
    int rc = record_find(NULL, argv[at], RECORD_CHANGE, &r, &e);
    if (rc == 0) {
        const char *more[] = {"image", r.spec.image, "name", argv[at + 1], "oldName", r.name, NULL};

        rc = record_rename(&r, argv[at + 1], &e);
        if (rc == 0)
            event_note(NULL, "container", "rename", r.id, more);
    }
    record_unlock(&r);
    if (rc == 0)
        (void)!keeper_do(&r, "renamed", NULL); /* one that does not run need not know */
    record_done(&r);
    return rc < 0 ? say_err(&e, 1) : 0;
}
