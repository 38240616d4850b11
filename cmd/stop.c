/* kiln ps, kiln stop: the machines that run, and the end of one. */
#include <errno.h>
#include <getopt.h>
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

static const char ps_help[] = "Usage: kiln ps [-q] [--format json]\n\n"
                              "Lists the machines that run.\n\n"
                              "  -q, --quiet      ids only\n"
                              "  --format json    for programs\n"
                              "  -h, --help       this text\n";

struct ids { /* owned */
    char **v;
    size_t n;
    int failed;
};

static void add_id(void *ctx, const char *id, const char *name)
{
    struct ids *l = ctx;
    char **v = realloc(l->v, (l->n + 1) * sizeof(*v));

    if (v)
        l->v = v;
    if (!v || !(l->v[l->n] = strdup(id)))
        l->failed = -ENOMEM;
    else
        l->n++;
}

static void print_machine(json_t *m)
{
    printf("%-12s  %-24s  %-7s  %6lld MiB  %lld\n", json_string_value(json_object_get(m, "id")),
           json_string_value(json_object_get(m, "name")),
           json_string_value(json_object_get(m, "engine")),
           (long long)json_integer_value(json_object_get(m, "ram_bytes")) >> 20,
           (long long)json_integer_value(json_object_get(m, "pid")));
}

static int list(bool quiet, bool json)
{
    char base[RUNDIR_PATH_MAX];
    struct ids l = {0};
    struct err e = {0};
    json_t *all = json_array();
    int r = rundir_base(base, sizeof(base), &e);

    if (r == 0)
        r = rundir_each(base, add_id, &l, &e);
    if (!quiet && !json)
        printf("%-12s  %-24s  %-7s  %10s  %s\n", "ID", "NAME", "ENGINE", "MEMORY", "PID");
    for (size_t i = 0; i < l.n; i++) {
        json_t *req = json_pack("{s:s}", "op", "info"), *m = NULL;

        /* One that ends meanwhile, or only begins, is none. */
        if (control_ask(l.v[i], req, &m, NULL) == 0) {
            if (json)
                json_array_append(all, m);
            else if (quiet)
                puts(l.v[i]);
            else
                print_machine(m);
        }
        json_decref(m);
        json_decref(req);
        free(l.v[i]);
    }
    free(l.v);
    if (json) {
        json_dumpf(all, stdout, JSON_INDENT(2));
        putchar('\n');
    }
    json_decref(all);
    return r < 0 ? say_err(&e, EXIT_KILN) : 0;
}

int cmd_ps(int argc, char **argv)
{
    static const struct option opts[] = {
        {"quiet", 0, NULL, 'q'}, {"format", 1, NULL, 'f'}, {"help", 0, NULL, 'h'}, {0}};
    bool quiet = false, json = false;

    opterr = 0;
    for (int c; (c = getopt_long(argc, argv, "qh", opts, NULL)) != -1;) {
        if (c == 'h') {
            fputs(ps_help, stdout);
            return 0;
        }
        if (c == '?' || (c == 'f' && strcmp(optarg, "json") != 0))
            return say_usage("ps", EXIT_KILN, "unknown flag or value: %s", argv[optind - 1]);
        quiet |= c == 'q';
        json |= c == 'f';
    }
    if (optind != argc)
        return say_usage("ps", EXIT_KILN, "takes no arguments");
    return list(quiet, json);
}

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
