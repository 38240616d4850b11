/* kiln exec: a further command in a running container. */
#include <errno.h>
#include <stdio.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "cmd/flags.h"
#include "cmd/verb.h"
#include "container/exec.h"

struct exec_args {
    bool detach, interactive, tty, privileged;
    struct strv env;
    const char *user, *workdir;
    char *detach_keys;
};

static int set_workdir(void *target, const char *value, struct err *e)
{
    if (value[0] != '/')
        return err_set(e, -EINVAL, "'%s' is not an absolute path", value);
    *(const char **)target = value;
    return 0;
}

#define A struct exec_args
static const struct flag exec_flags[] = {
    {"detach", 'd', NULL, "do not wait for it; what it writes is lost", FLAG_BOOL(A, detach)},
    {"detach-keys", 0, "KEYS", "accepted: an exec ends with its terminal",
     FLAG_AT(A, detach_keys, flags_keys)},
    {"env", 'e', "K[=V]", "set a variable; without =V as it is here", FLAG_AT(A, env, flags_env),
     .values = "@env"},
    {"env-file", 0, "FILE", "variables, one a line", FLAG_AT(A, env, flags_env_file),
     .values = "@file"},
    {"interactive", 'i', NULL, "pass standard input on", FLAG_BOOL(A, interactive)},
    {"privileged", 0, NULL, "process class: all capabilities, no system call filter",
     FLAG_BOOL(A, privileged)},
    {"tty", 't', NULL, "give the command a terminal", FLAG_BOOL(A, tty)},
    {"user", 'u', "USER[:GROUP]", "names or numbers", FLAG_TEXT(A, user)},
    {"workdir", 'w', "DIR", "working directory", FLAG_AT(A, workdir, set_workdir)},
    {0},
};
static const struct flag_group exec_group = {NULL, exec_flags};

static int run(int argc, char **argv);

const struct command command_exec = {
    .name = "exec",
    .operands = "CONTAINER COMMAND [ARGUMENT...]",
    .summary = "run a command in a running container",
    .about = "Runs a further command in a container, with its variables, working directory and\n"
             "user where no others are given.",
    .after = "Exit status: the command's; 128 and the number of the signal that ended it; 126: it\n"
             "cannot be run; 127: it is not there; 125: kiln failed.\n",
    .groups = {{&exec_group}},
    .min_operands = 2,
    .max_operands = FLAG_MANY,
    .flags_first = true,
    .values = "@running @command",
    .run = run,
};

static int exec_in(const char *name, char **argv, const struct exec_args *a)
{
    struct record r;
    struct err e = {0};
    bool terminal = a->tty && a->interactive && isatty(0);

    if (a->tty && a->interactive && !isatty(0)) {
        say("the input device is not a terminal");
        return EXIT_KILN;
    }
    if (record_find_running(NULL, name, &r, &e) < 0)
        return say_err(&e, EXIT_KILN);
    const struct exec_conf c = {
        .argv = (const char *const *)argv,
        .env = (const char *const *)a->env.v,
        .cwd = a->workdir,
        .user = a->user,
        .tty = a->tty,
        .detach = a->detach,
        .privileged = a->privileged,
        .in = a->interactive && !a->detach ? 0 : -1,
        .out = a->detach ? -1 : 1,
        .err = a->detach ? -1 : 2,
        .terminal = terminal,
        .signals = !a->detach,
        .timeout_ms = -1,
    };
    int status = exec_run(&r, &c, &e);
    record_done(&r);
    if (e.code < 0 && e.code != -ECANCELED && e.code != -EINTR)
        say("%s", e.msg);
    return status;
}

static int run(int argc, char **argv)
{
    struct exec_args a = {0};
    struct err e = {0};
    int at = flag_parse(&command_exec, argc, argv, &a, &e);
    int status = at <= 0 ? flag_stop(&command_exec, at, &e) : exec_in(argv[at], argv + at + 1, &a);

    strv_done(&a.env);
    free(a.detach_keys);
    return status;
}
