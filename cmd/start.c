/* kiln start: containers that do not run. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "cmd/client.h"
#include "cmd/each.h"
#include "cmd/flag.h"
#include "cmd/verb.h"
#include "container/keeper.h"

struct start_args {
    bool attach, interactive;
    const char *detach_keys;
    bool no_sig_proxy;
};

static int set_sig_proxy(void *no_sig_proxy, const char *value, struct err *e)
{
    (void)e;
    *(bool *)no_sig_proxy = strcmp(value, "false") == 0;
    return 0;
}

static const struct flag flags[] = {
    {"attach", 'a', NULL, "stay, with its output and signals",
     FLAG_BOOL(struct start_args, attach)},
    {"interactive", 'i', NULL, "pass standard input on, and stay",
     FLAG_BOOL(struct start_args, interactive)},
    {"detach-keys", 0, "KEYS", "instead of ctrl-p,ctrl-q",
     FLAG_TEXT(struct start_args, detach_keys)},
    {"sig-proxy", 0, NULL, "pass signals on (default true)",
     FLAG_AT(struct start_args, no_sig_proxy, set_sig_proxy)},
    {0},
};
static const struct flag_group group = {NULL, flags};

static int cmd_start(int argc, char **argv);

const struct command command_start = {
    .name = "start",
    .operands = "CONTAINER...",
    .summary = "start containers that do not run",
    .about = "Starts containers that were created, or have ended, as they were described when they "
             "were made. One that runs stays as it is.",
    .after = "Exit status with -a or -i: the container's, as of kiln run; else 1 if one failed.",
    .groups = {{&group}},
    .min_operands = 1,
    .max_operands = FLAG_MANY,
    .values = "@container",
    .run = cmd_start,
};

static int start_one(void *ctx, const char *name, struct err *e)
{
    struct keeper_conf kc = {.watch = NULL};
    struct keeper_line line;
    struct record r;
    int rc = record_find(NULL, name, RECORD_CHANGE, &r, e);

    (void)ctx;
    if (rc < 0)
        return rc;
    rc = keeper_start(&r, &kc, &line, e);
    if (rc == -EALREADY) {
        rc = 0;
    } else if (rc == 0) {
        rc = keeper_await(&line, e);
        keeper_hang_up(&line);
    }
    record_done(&r);
    return rc;
}

static int start_attached(const struct start_args *a, const char *name)
{
    struct err e = {0};
    struct client c;
    struct record r;

    if (record_find(NULL, name, RECORD_CHANGE, &r, &e) < 0)
        return say_err(&e, 1);
    int rc = client_open(&c, !a->no_sig_proxy, &e), status = 1;
    c.tty = r.spec.tty;
    c.in = a->interactive && r.spec.open_stdin;
    c.out = c.err = true;
    c.detach_keys = a->detach_keys ? a->detach_keys : r.spec.detach_keys;
    struct keeper_conf kc = {.attach = true, .with_stdin = c.in, .watch = &c.watch};
    client_size(&c, &kc.rows, &kc.cols);
    if (rc == 0)
        rc = keeper_start(&r, &kc, &c.line, &e);
    if (rc == 0)
        status = client_stay(&c, true, true, &e);
    if (rc == -EALREADY) { /* docker attaches to it then */
        e = (struct err){0};
        rc = keeper_attach(&r, c.in, &c.watch, &c.line, &e);
        status = rc == 0 ? client_stay(&c, false, false, &e) : 1;
    }
    client_close(&c);
    record_done(&r);
    return e.code < 0 ? say_err(&e, status) : status;
}

static int cmd_start(int argc, char **argv)
{
    struct start_args a = {0};
    struct err e = {0};
    int at = flag_parse(&command_start, argc, argv, &a, &e);

    if (at <= 0)
        return flag_stop(&command_start, at, &e);
    if (!a.attach && !a.interactive)
        return each_container(argc - at, argv + at, start_one, NULL);
    if (argc - at > 1)
        return say_usage("start", 1, "-a and -i are for one container");
    return start_attached(&a, argv[at]);
}
