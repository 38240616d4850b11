/* kiln wait: until containers end. */
#include <errno.h>
#include <jansson.h>
#include <stdio.h>

#include "cmd/flag.h"
#include "cmd/verb.h"
#include "container/keeper.h"

static int cmd_wait(int argc, char **argv);

const struct command command_wait = {
    .name = "wait",
    .operands = "CONTAINER...",
    .summary = "wait until containers end, and print their exit codes",
    .min_operands = 1,
    .max_operands = FLAG_MANY,
    .values = "@container",
    .run = cmd_wait,
};

static int wait_one(const char *name, int *code, struct err *e)
{
    json_t *req = json_pack("{s:s}", "op", "wait"), *answer = NULL;
    struct record r;
    int rc = record_find(NULL, name, RECORD_LOOK, &r, e);

    if (rc == 0)
        rc = record_alive(&r) ? keeper_ask(&r, req, -1, &answer, e) : -ESRCH;
    json_decref(req);
    if (rc == 0)
        *code = (int)json_integer_value(json_object_get(answer, "exit_code"));
    json_decref(answer);
    /* It ended before it could be asked, or its keeper was killed: what is written down counts. */
    if (rc == -ESRCH || rc == -ECONNRESET) {
        record_done(&r);
        rc = record_find(NULL, name, RECORD_LOOK, &r, e);
        *code = rc == 0 ? r.state.exit_code : 0;
    }
    record_done(&r);
    return rc;
}

static int cmd_wait(int argc, char **argv)
{
    struct err e = {0};
    int at = flag_parse(&command_wait, argc, argv, NULL, &e), status = 0;

    if (at <= 0)
        return flag_stop(&command_wait, at, &e);
    for (int i = at; i < argc; i++) {
        int code = 0;

        e = (struct err){0};
        if (wait_one(argv[i], &code, &e) < 0) {
            status = say_err(&e, 1);
            continue;
        }
        printf("%d\n", code);
        fflush(stdout);
    }
    return status;
}
