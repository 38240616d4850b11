#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "cmd/checks.h"
#include "cmd/flag.h"
#include "cmd/verb.h"

static const char *const status_name[] = {
    [CHECK_OK] = "ok", [CHECK_WARN] = "warn", [CHECK_MISSING] = "missing"};

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

static int set_format(void *json, const char *value, struct err *e)
{
    *(bool *)json = strcmp(value, "json") == 0;
    if (strcmp(value, "json") != 0 && strcmp(value, "table") != 0)
        return err_set(e, -EINVAL, "'%s' is not one of table, json", value);
    return 0;
}

struct check_args {
    bool json;
};
static const struct flag check_flags[] = {
    {"format", 0, "FORMAT", "table (default) or json", FLAG_AT(struct check_args, json, set_format),
     .values = "table json"},
    {0},
};
static const struct flag_group check_group = {NULL, check_flags};
const struct command command_check = {
    .name = "check",
    .summary = "tell what this host can do",
    .about = "Tells what this host can do, one line an item, with what to do where something is "
             "missing. The exit status is 0 if kiln run will work, else 1.",
    .groups = {{&check_group}},
    .run = cmd_check,
};

int cmd_check(int argc, char **argv)
{
    struct check_args a = {0};
    struct err e = {0};
    int at = flag_parse(&command_check, argc, argv, &a, &e);

    if (at <= 0)
        return flag_stop(&command_check, at, &e);
    bool good = checks_report(checks_host, checks_host_n, a.json, stdout);
    if (fflush(stdout) != 0 || ferror(stdout)) {
        say("standard output: %s", "cannot be written");
        return EXIT_KILN;
    }
    return good ? 0 : 1;
}
