/* kiln ps, kiln stop: the machines that run, and the end of one. */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "cmd/verb.h"
#include "container/control.h"

static const char ps_help[] = "Usage: kiln ps [-q] [--format json]\n\n"
                              "Lists the machines that run.\n\n"
                              "  -q, --quiet      ids only\n"
                              "  --format json    for programs\n"
                              "  -h, --help       this text\n";

static const char stop_help[] =
    "Usage: kiln stop MACHINE...\n\n"
    "Ends machines at once, as if their power was cut. MACHINE is a name, an id or the beginning\n"
    "of one.\n\n"
    "  -h, --help   this text\n";

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

int cmd_stop(int argc, char **argv)
{
    static const struct option opts[] = {{"help", 0, NULL, 'h'}, {0}};
    int status = 0;

    opterr = 0;
    for (int c; (c = getopt_long(argc, argv, "h", opts, NULL)) != -1;) {
        if (c != 'h')
            return say_usage("stop", EXIT_KILN, "unknown flag '%s'", argv[optind - 1]);
        fputs(stop_help, stdout);
        return 0;
    }
    if (optind == argc)
        return say_usage("stop", EXIT_KILN, "which machine?");
    for (int i = optind; i < argc; i++) {
        json_t *req = json_pack("{s:s}", "op", "stop"), *out = NULL;
        struct err e = {0};

        if (control_ask(argv[i], req, &out, &e) < 0)
            status = say_err(&e, EXIT_KILN);
        json_decref(out);
        json_decref(req);
    }
    return status;
}
