#include <getopt.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "cmd/checks.h"
#include "cmd/verb.h"

static const char *const status_name[] = {
    [CHECK_OK] = "ok", [CHECK_WARN] = "warn", [CHECK_MISSING] = "missing"};

static void help(void)
{
    puts("Usage: kiln check [flags]\n\n"
         "Tell what this host can do, one line an item, with what to do where something is\n"
         "missing. The exit status is 0 if `kiln run` will work, else 1.\n\n"
         "      --format FORMAT   table (default) or json\n"
         "  -h, --help            this text");
}

static void print_line(FILE *out, const struct check_item *i, const struct check_result *r)
{
    fprintf(out, "%-7s  %-15s  %s", status_name[r->status], i->name, r->text);
    if (r->fix[0])
        fprintf(out, "; fix: %s", r->fix);
    fputc('\n', out);
}

/* An item that does not fit into memory is left out: `ok` still speaks for all. */
static void add_json(json_t *list, const struct check_item *i, const struct check_result *r)
{
    (void)json_array_append_new(list,
                                json_pack("{s:s, s:s, s:s, s:s}", "name", i->name, "status",
                                          status_name[r->status], "text", r->text, "fix", r->fix));
}

bool checks_report(const struct check_item *items, size_t n, bool json, FILE *out)
{
    json_t *list = json ? json_array() : NULL;
    bool good = true;

    for (size_t i = 0; i < n; i++) {
        struct check_result r = {.status = CHECK_OK};

        items[i].probe(&r);
        good &= r.status != CHECK_MISSING;
        if (json)
            add_json(list, &items[i], &r);
        else
            print_line(out, &items[i], &r);
    }
    if (json) {
        json_t *doc = json_pack("{s:b, s:o}", "ok", good, "items", list);

        if (doc && json_dumpf(doc, out, JSON_INDENT(2)) == 0)
            fputc('\n', out);
        json_decref(doc);
    }
    return good;
}

int cmd_check(int argc, char **argv)
{
    static const struct option longs[] = {
        {"format", required_argument, NULL, 'f'}, {"help", no_argument, NULL, 'h'}, {0}};
    bool json = false;

    optind = 1;
    for (int c; (c = getopt_long(argc, argv, "+:h", longs, NULL)) != -1;) {
        switch (c) {
        case 'f':
            json = strcmp(optarg, "json") == 0;
            if (!json && strcmp(optarg, "table") != 0)
                return say_usage("check", EXIT_KILN, "--format '%s' is not one of table, json",
                                 optarg);
            break;
        case 'h':
            help();
            return 0;
        case ':':
            return say_usage("check", EXIT_KILN, "%s needs a value", argv[optind - 1]);
        default:
            return say_usage("check", EXIT_KILN, "unknown flag %s", argv[optind - 1]);
        }
    }
    if (optind < argc)
        return say_usage("check", EXIT_KILN, "takes no arguments, but has '%s'", argv[optind]);
    bool good = checks_report(checks_host, checks_host_n, json, stdout);
    if (fflush(stdout) != 0 || ferror(stdout)) {
        say("standard output: %s", "cannot be written");
        return EXIT_KILN;
    }
    return good ? 0 : 1;
}
