/* kiln volume: named volumes. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "cmd/each.h"
#include "cmd/filter.h"
#include "cmd/flags.h"
#include "cmd/format.h"
#include "cmd/human.h"
#include "cmd/verb.h"
#include "cmd/volverb.h"
#include "container/events.h"

static void note(const char *action, const char *name)
{
    const char *const about[] = {"driver", "local", NULL};

    event_note(NULL, "volume", action, name, about);
}

/* ---- create */

struct create_args {
    struct strv labels, options;
    const char *driver;
    const char *name;
};

#define A struct create_args
static const struct flag create_flags[] = {
    {"driver", 'd', "NAME", "accepted: local", FLAG_TEXT(A, driver), .values = "local"},
    {"label", 0, "K[=V]", "a label", FLAG_AT(A, labels, flags_label)},
    {"name", 0, "NAME", "its name, as the operand", FLAG_TEXT(A, name)},
    {"opt", 'o', "K=V", "refused: a local volume takes none", FLAG_WORDS(A, options)},
    {0},
};
#undef A
static const struct flag_group create_group = {NULL, create_flags};
static int run_create(int argc, char **argv);
static const struct command volume_create = {
    .name = "volume create",
    .operands = "[NAME]",
    .summary = "make a volume",
    .about = "Makes a volume, which outlives containers, and prints its name. One that is there\n"
             "stays as it is; without a name it gets one of 64 digits.",
    .groups = {{&create_group}},
    .max_operands = 1,
    .run = run_create,
};

static int create(const struct create_args *a, const char *name, struct err *e)
{
    struct volstore v;

    if (a->driver && strcmp(a->driver, "local") != 0)
        return err_set(e, -EINVAL, "there is no volume driver '%s', only local", a->driver);
    if (a->options.n > 0)
        return err_set(e, -EINVAL, "-o %s: a local volume takes no options", a->options.v[0]);
    if (a->name && name && strcmp(a->name, name) != 0)
        return err_set(e, -EINVAL, "two names: '%s' and '%s'", a->name, name);
    int r = volstore_create(NULL, name ? name : a->name, &a->labels, false, &v, e);
    if (r < 0)
        return r;
    if (r == 0)
        note("create", v.name);
    puts(v.name);
    volstore_done(&v);
    return 0;
}

static int run_create(int argc, char **argv)
{
    struct create_args a = {0};
    struct err e = {0};
    int at = flag_parse(&volume_create, argc, argv, &a, &e);
    int status = at <= 0 ? flag_stop(&volume_create, at, &e)
                 : create(&a, at < argc ? argv[at] : NULL, &e) < 0 ? say_err(&e, 1)
                                                                   : 0;

    strv_done(&a.labels);
    strv_done(&a.options);
    return status;
}

/* ---- ls */

struct ls_args {
    struct strv filter;
    const char *format;
    bool quiet;
};

#define A struct ls_args
static const struct flag ls_flags[] = {
    {"filter", 'f', "KEY=VALUE", "only those with name=, label=, dangling=true, driver=local",
     FLAG_WORDS(A, filter), .values = "name= label= dangling=true dangling=false driver=local"},
    {"format", 0, "FORMAT", "table, json, or a template such as '{{.Name}}'", FLAG_TEXT(A, format),
     .values = "table json"},
    {"quiet", 'q', NULL, "names only", FLAG_BOOL(A, quiet)},
    {0},
};
#undef A
static const struct flag_group ls_group = {NULL, ls_flags};
static int run_ls(int argc, char **argv);
static const struct command volume_ls = {
    .name = "volume ls",
    .summary = "list volumes",
    .groups = {{&ls_group}},
    .run = run_ls,
};

static const struct format_column columns[] = {
    {"Driver", "DRIVER"},       {"Name", "VOLUME NAME"},        {"Mountpoint", "MOUNTPOINT", true},
    {"Labels", "LABELS", true}, {"Scope", "SCOPE", true},       {"Size", "SIZE", true},
    {"Links", "LINKS", true},   {"CreatedAt", "CREATED", true}, {0},
};

static bool matches_dangling(void *ctx, const char *value)
{
    bool want = strcmp(value, "true") == 0 || strcmp(value, "1") == 0;
    struct strv ids = {0};
    int r = volstore_users(NULL, ((const struct volstore *)ctx)->name, &ids, NULL);
    bool dangling = r == 0 && ids.n == 0;

    strv_done(&ids);
    return dangling == want;
}

static bool is_wanted(const struct ls_args *a, struct volstore *v)
{
    return filter_part(&a->filter, "name", v->name) &&
           filter_equal(&a->filter, "driver", "local") && filter_labels(&a->filter, v->labels.v) &&
           filter_any(&a->filter, "dangling", matches_dangling, v);
}

/* `more`: with what costs a walk over all files. */
static json_t *row(const struct volstore *v, bool more)
{
    char size[HUMAN_MAX], at[HUMAN_MAX];
    char labels[1024] = "";
    size_t len = 0;
    struct strv ids = {0};

    for (size_t i = 0; i < v->labels.n && len < sizeof(labels); i++)
        len += (size_t)snprintf(labels + len, sizeof(labels) - len, "%s%s", i ? "," : "",
                                v->labels.v[i]);
    int links = more && volstore_users(NULL, v->name, &ids, NULL) == 0 ? (int)ids.n : 0;
    strv_done(&ids);
    return json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:i, s:s}", "Driver", "local", "Name", v->name,
                     "Mountpoint", v->path, "Labels", labels, "Scope", "local", "Size",
                     more ? human_size(volstore_size(v), size) : "N/A", "Links", links, "CreatedAt",
                     human_time(v->created_s * 1000000000, at));
}

static int list(const struct ls_args *a, struct err *e)
{
    struct volstore *all;
    size_t n;
    int r = filter_check(&a->filter, "name label dangling driver", e);

    if (r == 0)
        r = volstore_list(NULL, &all, &n, e);
    if (r < 0)
        return r;
    json_t *rows = json_array();
    bool more = a->format && (strstr(a->format, ".Size") || strstr(a->format, ".Links"));
    for (size_t i = 0; i < n; i++) {
        if (is_wanted(a, &all[i]))
            json_array_append_new(rows, row(&all[i], more));
        volstore_done(&all[i]);
    }
    free(all);
    r = format_list(a->format, columns, a->quiet, "Name", rows, e);
    json_decref(rows);
    return r;
}

static int run_ls(int argc, char **argv)
{
    struct ls_args a = {0};
    struct err e = {0};
    int at = flag_parse(&volume_ls, argc, argv, &a, &e);
    int status = at <= 0 ? flag_stop(&volume_ls, at, &e) : list(&a, &e) < 0 ? say_err(&e, 1) : 0;

    strv_done(&a.filter);
    return status;
}

/* ---- inspect */

json_t *volverb_inspect(const struct volstore *v)
{
    json_t *labels = json_object();
    char at[64];
    time_t when = v->created_s;
    struct tm tm;

    for (size_t i = 0; i < v->labels.n; i++) {
        const char *eq = strchr(v->labels.v[i], '=');
        size_t n = eq ? (size_t)(eq - v->labels.v[i]) : strlen(v->labels.v[i]);
        CLEANUP(mem) char *key = strndup(v->labels.v[i], n);

        if (key)
            json_object_set_new(labels, key, json_string(eq ? eq + 1 : ""));
    }
    gmtime_r(&when, &tm);
    strftime(at, sizeof(at), "%Y-%m-%dT%H:%M:%SZ", &tm);
    return json_pack("{s:s, s:s, s:o, s:s, s:s, s:{}, s:s, s:b}", "CreatedAt", at, "Driver",
                     "local", "Labels", labels, "Mountpoint", v->path, "Name", v->name, "Options",
                     "Scope", "local", "Anonymous", v->anonymous);
}

struct inspect_args {
    const char *format;
};
static const struct flag inspect_flags[] = {
    {"format", 'f', "FORMAT", "json, or a template such as '{{.Mountpoint}}'",
     FLAG_TEXT(struct inspect_args, format), .values = "json"},
    {0},
};
static const struct flag_group inspect_group = {NULL, inspect_flags};
static int run_inspect(int argc, char **argv);
static const struct command volume_inspect = {
    .name = "volume inspect",
    .operands = "VOLUME...",
    .summary = "show all that is known of volumes",
    .groups = {{&inspect_group}},
    .min_operands = 1,
    .max_operands = FLAG_MANY,
    .values = "@volume",
    .run = run_inspect,
};

static int run_inspect(int argc, char **argv)
{
    struct inspect_args a = {0};
    struct err e = {0};
    int at = flag_parse(&volume_inspect, argc, argv, &a, &e), status = 0;

    if (at <= 0)
        return flag_stop(&volume_inspect, at, &e);
    json_t *all = json_array();
    for (int i = at; i < argc; i++) {
        struct volstore v;

        if (volstore_find(NULL, argv[i], &v, &e) < 0) {
            status = say_err(&e, 1);
            continue;
        }
        json_t *j = volverb_inspect(&v);
        volstore_done(&v);
        if (a.format && strcmp(a.format, "json") != 0) {
            if (format_value(a.format, j, stdout, &e) < 0)
                status = say_err(&e, 1);
            json_decref(j);
        } else {
            json_array_append_new(all, j);
        }
    }
    if ((!a.format || strcmp(a.format, "json") == 0) && format_value(NULL, all, stdout, &e) < 0)
        status = say_err(&e, 1);
    json_decref(all);
    return status;
}

/* ---- rm, prune */

struct rm_args {
    bool force;
};
static const struct flag rm_flags[] = {
    {"force", 'f', NULL, "one that is not there is no failure", FLAG_BOOL(struct rm_args, force)},
    {0},
};
static const struct flag_group rm_group = {NULL, rm_flags};
static int run_rm(int argc, char **argv);
static const struct command volume_rm = {
    .name = "volume rm",
    .operands = "VOLUME...",
    .summary = "remove volumes",
    .about = "Removes volumes with all that is in them. One that a container has, running or not,\n"
             "stays.",
    .groups = {{&rm_group}},
    .min_operands = 1,
    .max_operands = FLAG_MANY,
    .values = "@volume",
    .run = run_rm,
};

static int remove_one(void *ctx, const char *name, struct err *e)
{
    const struct rm_args *a = ctx;
    int r = volstore_remove(NULL, name, e);

    if (r == 0)
        note("destroy", name);
    return a->force && r == -ENOENT ? 0 : r;
}

static int run_rm(int argc, char **argv)
{
    struct rm_args a = {0};
    struct err e = {0};
    int at = flag_parse(&volume_rm, argc, argv, &a, &e);

    return at <= 0 ? flag_stop(&volume_rm, at, &e)
                   : each_container(argc - at, argv + at, remove_one, &a);
}

struct prune_args {
    bool all, force;
    struct strv filter;
};
#define A struct prune_args
static const struct flag prune_flags[] = {
    {"all", 'a', NULL, "also those with a name of the user's", FLAG_BOOL(A, all)},
    {"filter", 0, "KEY=VALUE", "only those with label=, all=true", FLAG_WORDS(A, filter),
     .values = "label= all=true"},
    {"force", 'f', NULL, "do not ask", FLAG_BOOL(A, force)},
    {0},
};
#undef A
static const struct flag_group prune_group = {NULL, prune_flags};
static int run_prune(int argc, char **argv);
static const struct command volume_prune = {
    .name = "volume prune",
    .summary = "remove volumes that no container has",
    .about = "Removes the volumes without a name that no container has, with --all also those\n"
             "with one. Asks before, on a terminal.",
    .groups = {{&prune_group}},
    .run = run_prune,
};

static int prune(struct prune_args *a, struct err *e)
{
    struct volstore *all;
    uint64_t freed = 0;
    char size[HUMAN_MAX];
    size_t n;
    int r = filter_check(&a->filter, "label all", e);

    if (r < 0)
        return r;
    a->all |= filter_has(&a->filter, "all") && filter_equal(&a->filter, "all", "true");
    if (!confirmed(a->force, a->all ? "This removes all volumes that no container has."
                                    : "This removes all nameless volumes that no container has."))
        return 0;
    r = volstore_list(NULL, &all, &n, e);
    if (r < 0)
        return r;
    for (size_t i = 0; i < n; i++) {
        uint64_t bytes = volstore_size(&all[i]);

        if ((a->all || all[i].anonymous) && filter_labels(&a->filter, all[i].labels.v) &&
            volstore_remove(NULL, all[i].name, NULL) == 0) {
            note("destroy", all[i].name);
            puts(all[i].name);
            freed += bytes;
        }
        volstore_done(&all[i]);
    }
    free(all);
    printf("freed %s\n", human_size(freed, size));
    return 0;
}

static int run_prune(int argc, char **argv)
{
    struct prune_args a = {0};
    struct err e = {0};
    int at = flag_parse(&volume_prune, argc, argv, &a, &e);
    int status = at <= 0             ? flag_stop(&volume_prune, at, &e)
                 : prune(&a, &e) < 0 ? say_err(&e, 1)
                                     : 0;

    strv_done(&a.filter);
    return status;
}

static const struct command *const verbs[] = {&volume_create, &volume_inspect, &volume_ls,
                                              &volume_prune,  &volume_rm,      NULL};
const struct command command_volume = {
    .name = "volume",
    .operands = "COMMAND",
    .summary = "volumes: folders that outlive containers",
    .sub = verbs,
};
