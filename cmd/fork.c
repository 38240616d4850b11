/* kiln fork: copies of a running machine. */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "cmd/verb.h"
#include "container/control.h"
#include "container/hold.h"

static const char help[] =
    "Usage: kiln fork MACHINE [-n N] [--name-prefix P] [--format json]\n\n"
    "Makes N running copies of a running machine, which goes on: same memory, shared until one of\n"
    "them writes, and disks of their own with the same content. Prints their ids, one a line.\n\n"
    "  -n, --count N        how many (default 1)\n"
    "  --name-prefix P      name them P-1, P-2, ...\n"
    "  --format json        all there is to know, with the time the machine stood\n"
    "  -h, --help           this text\n";

enum { OPT_PREFIX = 256, OPT_FORMAT };

struct fork_args {
    uint64_t n;
    const char *prefix, *machine;
    bool json;
};

static int parse(int argc, char **argv, struct fork_args *a, struct err *e)
{
    static const struct option opts[] = {
        {"count", 1, NULL, 'n'},
        {"name-prefix", 1, NULL, OPT_PREFIX},
        {"format", 1, NULL, OPT_FORMAT},
        {"help", 0, NULL, 'h'},
        {NULL, 0, NULL, 0},
    };
    int c, r = 0;

    opterr = 0;
    while (r == 0 && (c = getopt_long(argc, argv, "n:h", opts, NULL)) != -1) {
        switch (c) {
        case 'n':
            r = parse_uint("-n", optarg, 1, CONTROL_FORKS_MAX, &a->n, e);
            break;
        case OPT_PREFIX:
            a->prefix = optarg;
            break;
        case OPT_FORMAT:
            if (strcmp(optarg, "json") != 0)
                return err_set(e, -EINVAL, "--format '%s': only json can be had", optarg);
            a->json = true;
            break;
        case 'h':
            fputs(help, stdout);
            return 1;
        default:
            return err_set(e, -EINVAL, "unknown flag or missing value: %s", argv[optind - 1]);
        }
    }
    if (r == 0 && optind != argc - 1)
        return err_set(e, -EINVAL, optind == argc ? "which machine?" : "one machine at a time");
    a->machine = argv[optind];
    return r;
}

int cmd_fork(int argc, char **argv)
{
    struct fork_args a = {.n = 1};
    struct err e = {0};
    json_t *out = NULL, *m;
    size_t i;
    int r = parse(argc, argv, &a, &e);

    if (r != 0)
        return r > 0 ? 0 : say_usage("fork", EXIT_KILN, "%s", e.msg);
    json_t *req =
        json_pack("{s:s, s:I, s:s*}", "op", "fork", "n", (json_int_t)a.n, "prefix", a.prefix);
    r = hold_ask(a.machine, req, &out, &e);
    json_decref(req);
    if (r < 0)
        return say_err(&e, EXIT_KILN);
    if (a.json) {
        json_dumpf(out, stdout, JSON_INDENT(2));
        putchar('\n');
    }
    json_array_foreach(json_object_get(out, "machines"), i, m)
    {
        const char *id = json_string_value(json_object_get(m, "id"));

        if (!a.json && id)
            puts(id);
    }
    json_decref(out);
    return 0;
}
