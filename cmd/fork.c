/* kiln fork: copies of a running machine. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "cmd/flag.h"
#include "cmd/format.h"
#include "cmd/verb.h"
#include "container/control.h"
#include "container/hold.h"

struct fork_args {
    unsigned n;
    const char *prefix, *format;
};

#define A struct fork_args
static const struct flag fork_flags[] = {
    {"count", 'n', "N", "how many (default 1)", FLAG_UINT(A, n, 1, CONTROL_FORKS_MAX)},
    {"name-prefix", 0, "P", "name them P-1, P-2, ...", FLAG_TEXT(A, prefix)},
    {"format", 0, "FORMAT",
     "json or a template: all there is to know, with the time the machine stood",
     FLAG_TEXT(A, format), .values = "json"},
    {0},
};
static const struct flag_group fork_group = {NULL, fork_flags};
const struct command command_fork = {
    .name = "fork",
    .operands = "MACHINE",
    .summary = "copy a running machine",
    .about =
        "Makes N running copies of a running machine, which goes on: same memory, shared until one "
        "of them writes, and disks of their own with the same content. Prints their ids, one a "
        "line.",
    .groups = {{&fork_group}},
    .min_operands = 1,
    .max_operands = 1,
    .values = "@container",
    .run = cmd_fork,
};

int cmd_fork(int argc, char **argv)
{
    struct fork_args a = {.n = 1};
    struct err e = {0};
    json_t *out = NULL, *m;
    size_t i;
    int at = flag_parse(&command_fork, argc, argv, &a, &e);

    if (at <= 0)
        return flag_stop(&command_fork, at, &e);
    json_t *req =
        json_pack("{s:s, s:I, s:s*}", "op", "fork", "n", (json_int_t)a.n, "prefix", a.prefix);
    int r = hold_ask(argv[at], req, &out, &e);
    json_decref(req);
    if (r < 0)
        return say_err(&e, EXIT_KILN);
    if (a.format)
        r = format_value(a.format, out, stdout, &e);
    json_array_foreach(json_object_get(out, "machines"), i, m)
    {
        const char *id = json_string_value(json_object_get(m, "id"));

        if (!a.format && id)
            puts(id);
    }
    json_decref(out);
    return r < 0 ? say_err(&e, EXIT_KILN) : 0;
}
