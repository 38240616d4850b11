/* kiln attach: this terminal as that of a running container. */
#include <errno.h>
#include <string.h>

#include "cmd/client.h"
#include "cmd/flag.h"
#include "cmd/verb.h"

struct attach_args {
    bool no_stdin, no_sig_proxy;
    const char *detach_keys;
};

static int set_sig_proxy(void *no_sig_proxy, const char *value, struct err *e)
{
    (void)e;
    *(bool *)no_sig_proxy = strcmp(value, "false") == 0;
    return 0;
}

static const struct flag flags[] = {
    {"no-stdin", 0, NULL, "do not pass standard input on", FLAG_BOOL(struct attach_args, no_stdin)},
    {"detach-keys", 0, "KEYS", "instead of ctrl-p,ctrl-q",
     FLAG_TEXT(struct attach_args, detach_keys)},
    {"sig-proxy", 0, NULL, "pass signals on (default true)",
     FLAG_AT(struct attach_args, no_sig_proxy, set_sig_proxy)},
    {0},
};
static const struct flag_group group = {NULL, flags};

static int cmd_attach(int argc, char **argv);

const struct command command_attach = {
    .name = "attach",
    .operands = "CONTAINER",
    .summary = "see and feed a running container",
    .about =
        "Shows what a running container writes from now on, and passes input and signals on. "
        "Several may be attached to one. With a terminal, ctrl-p ctrl-q leaves it alone again.",
    .after = "Exit status: the container's, when it ended; 0 after the keys.",
    .groups = {{&group}},
    .min_operands = 1,
    .max_operands = 1,
    .values = "@container",
    .run = cmd_attach,
};

static int check(const struct record *r, struct err *e)
{
    switch (r->state.status) {
    case RECORD_PAUSED:
        return err_set(e, -EBUSY, "cannot attach to a paused container, unpause it first");
    case RECORD_RESTARTING:
        return err_set(e, -EBUSY, "cannot attach to a restarting container, wait until it runs");
    case RECORD_RUNNING:
        return 0;
    default:
        return record_alive(r)
                   ? 0
                   : err_set(e, -ESRCH, "cannot attach to a stopped container, start it first");
    }
}

static int cmd_attach(int argc, char **argv)
{
    struct attach_args a = {0};
    struct err e = {0};
    struct client c;
    struct record r;
    int at = flag_parse(&command_attach, argc, argv, &a, &e), status = 1;

    if (at <= 0)
        return flag_stop(&command_attach, at, &e);
    if (record_find(NULL, argv[at], RECORD_LOOK, &r, &e) < 0)
        return say_err(&e, 1);
    int rc = check(&r, &e);
    if (rc == 0)
        rc = client_open(&c, !a.no_sig_proxy, &e);
    if (rc == 0) {
        c.tty = r.spec.tty;
        c.in = !a.no_stdin && r.spec.open_stdin;
        c.out = c.err = true;
        c.detach_keys = a.detach_keys ? a.detach_keys : r.spec.detach_keys;
        rc = keeper_attach(&r, c.in, &c.watch, &c.line, &e);
        if (rc == 0)
            status = client_stay(&c, false, false, &e);
        client_close(&c);
    }
    record_done(&r);
    return e.code < 0 ? say_err(&e, status) : status;
}
