/* kiln ps: containers, and machines without one, as docker lists them. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "cmd/filter.h"
#include "cmd/flag.h"
#include "cmd/format.h"
#include "cmd/human.h"
#include "cmd/psrow.h"
#include "cmd/verb.h"
#include "container/control.h"

struct ps_args {
    bool all, latest, no_trunc, quiet, size;
    int64_t last;
    const char *format;
    struct strv filter;
};

static const char filter_keys[] =
    "id name label status exited ancestor before since volume network publish expose health "
    "isolation";

#define A struct ps_args
static const struct flag ps_flags[] = {
    {"all", 'a', NULL, "those that do not run too", FLAG_BOOL(A, all)},
    {"filter", 'f', "KEY=VALUE",
     "only those with id, name, label, status, exited, ancestor, before, since, volume, network, "
     "publish, expose, health or isolation as said",
     FLAG_WORDS(A, filter), .values = "@psfilter"},
    {"format", 0, "FORMAT", "table, json, or a template such as '{{.ID}} {{.Names}}'",
     FLAG_TEXT(A, format), .values = "table json"},
    {"last", 'n', "N", "the last N that were made, whether they run or not",
     FLAG_INT(A, last, -1, 0)},
    {"latest", 'l', NULL, "the last one that was made", FLAG_BOOL(A, latest)},
    {"no-trunc", 0, NULL, "whole ids and commands", FLAG_BOOL(A, no_trunc)},
    {"quiet", 'q', NULL, "ids only", FLAG_BOOL(A, quiet)},
    {"size", 's', NULL, "with what each has written", FLAG_BOOL(A, size)},
    {0},
};
static const struct flag_group ps_group = {NULL, ps_flags};
const struct command command_ps = {
    .name = "ps",
    .summary = "list containers",
    .about = "Lists the containers that run, and machines that were started without one, newest "
             "first.",
    .groups = {{&ps_group}},
    .run = cmd_ps,
};

#define COLUMNS(size_hidden)                                                                  \
    {                                                                                         \
        {"ID", "CONTAINER ID"}, {"Image", "IMAGE"}, {"Command", "COMMAND"},                   \
            {"RunningFor", "CREATED"}, {"Status", "STATUS"}, {"Ports", "PORTS"},              \
            {"Isolation", "ISOLATION"}, {"Names", "NAMES"}, {"Size", "SIZE", size_hidden},    \
            {"State", "STATE", true}, {"Engine", "ENGINE", true},                             \
            {"CreatedAt", "CREATED AT", true}, {"Labels", "LABELS", true},                    \
            {"Mounts", "MOUNTS", true}, {"LocalVolumes", "LOCAL VOLUMES", true},              \
            {"Networks", "NETWORKS", true}, {"Pid", "PID", true}, {"Health", "HEALTH", true}, \
        {                                                                                     \
            0                                                                                 \
        }                                                                                     \
    }

/* Without and with --size. */
static const struct format_column columns[2][20] = {COLUMNS(true), COLUMNS(false)};

struct candidate { /* for the filters */
    const struct record *r;
    const struct record *list;
    size_t at, n;
};

static bool exited_with(void *ctx, const char *value)
{
    const struct record_state *s = &((struct candidate *)ctx)->r->state;

    return s->status == RECORD_EXITED && s->exit_code == strtol(value, NULL, 10);
}

/* By name, with or without a tag, or by an id's beginning. */
static bool has_image(void *ctx, const char *value)
{
    const struct spec *s = &((struct candidate *)ctx)->r->spec;
    size_t n = strlen(value);
    const char *hex = s->image_id ? strchr(s->image_id, ':') : NULL;

    if (s->image && strncmp(s->image, value, n) == 0 &&
        (!s->image[n] || (s->image[n] == ':' && !strchr(s->image + n, '/'))))
        return true;
    return (s->image_id && strncmp(s->image_id, value, n) == 0) ||
           (hex && n >= 4 && strncmp(hex + 1, value, n) == 0);
}

static size_t place(const struct candidate *c, const char *value)
{
    size_t i;

    for (i = 0; i < c->n; i++)
        if (strcmp(c->list[i].name, value) == 0 ||
            (value[0] && strncmp(c->list[i].id, value, strlen(value)) == 0))
            break;
    return i;
}

static bool is_before(void *ctx, const char *value)
{
    const struct candidate *c = ctx;

    return c->at > place(c, value);
}

static bool is_since(void *ctx, const char *value)
{
    const struct candidate *c = ctx;
    size_t other = place(c, value);

    return other < c->n && c->at < other;
}

static bool has_volume(void *ctx, const char *value)
{
    const struct spec *s = &((struct candidate *)ctx)->r->spec;

    for (size_t i = 0; i < s->n_mounts; i++)
        if (strcmp(s->mounts[i].target, value) == 0 ||
            (s->mounts[i].source && strcmp(s->mounts[i].source, value) == 0))
            return true;
    return false;
}

static bool has_network(void *ctx, const char *value)
{
    const struct record *r = ((struct candidate *)ctx)->r;

    for (unsigned i = 0; i < r->state.n_addresses; i++)
        if (strcmp(r->state.address[i].network, value) == 0)
            return true;
    return r->spec.network && strcmp(r->spec.network, value) == 0;
}

/* "80", "80/udp", "8000-8010/tcp" */
static bool in_range(const char *value, unsigned port, bool udp)
{
    char *end;
    unsigned long from = strtoul(value, &end, 10), to = from;

    if (*end == '-')
        to = strtoul(end + 1, &end, 10);
    if (*end == '/' && udp != (strcmp(end, "/udp") == 0))
        return false;
    return port >= from && port <= to;
}

static bool publishes(void *ctx, const char *value)
{
    const struct record *r = ((struct candidate *)ctx)->r;

    for (unsigned i = 0; i < r->state.n_ports; i++)
        if (in_range(value, r->state.port[i].host_port, r->state.port[i].udp))
            return true;
    return false;
}

static bool exposes(void *ctx, const char *value)
{
    const struct spec *s = &((struct candidate *)ctx)->r->spec;

    for (size_t i = 0; i < s->exposed.n; i++) {
        const char *port = s->exposed.v[i];

        if (in_range(value, (unsigned)strtoul(port, NULL, 10), strstr(port, "/udp") != NULL))
            return true;
    }
    for (size_t i = 0; i < s->n_ports; i++)
        if (in_range(value, s->ports[i].ctr_port, s->ports[i].udp))
            return true;
    return false;
}

static bool passes(const struct strv *f, struct candidate *c)
{
    const struct record *r = c->r;

    return filter_prefix(f, "id", r->id) && filter_part(f, "name", r->name) &&
           filter_labels(f, r->spec.labels.v) &&
           filter_equal(f, "status", record_status_name(r->state.status)) &&
           filter_equal(f, "health", record_health_name(r->state.health)) &&
           filter_equal(f, "isolation", r->spec.isolation == SPEC_PROCESS ? "process" : "vm") &&
           filter_any(f, "exited", exited_with, c) && filter_any(f, "ancestor", has_image, c) &&
           filter_any(f, "before", is_before, c) && filter_any(f, "since", is_since, c) &&
           filter_any(f, "volume", has_volume, c) && filter_any(f, "network", has_network, c) &&
           filter_any(f, "publish", publishes, c) && filter_any(f, "expose", exposes, c);
}

static bool runs(const struct record *r)
{
    return r->state.status == RECORD_RUNNING || r->state.status == RECORD_PAUSED ||
           r->state.status == RECORD_RESTARTING;
}

struct found { /* machines of kiln boot, restore and fork */
    struct strv ids;
    const struct strv *filter;
    const struct record *list;
    size_t n;
    int failed;
};

static bool is_container(const struct found *f, const char *id)
{
    for (size_t i = 0; i < f->n; i++)
        if (strncmp(f->list[i].id, id, RECORD_SHORT) == 0)
            return true;
    return false;
}

/* Nobody is asked in here: the folders are locked meanwhile. */
static void note_machine(void *ctx, const char *id, const char *name)
{
    struct found *f = ctx;

    if (!is_container(f, id) && filter_prefix(f->filter, "id", id) &&
        filter_part(f->filter, "name", name) && strv_add(&f->ids, id) < 0)
        f->failed = -ENOMEM;
}

/* A machine has a name, an id, runs, and is of class vm; all else is a container's. */
static bool machines_pass(const struct ps_args *a)
{
    static const char *const others[] = {"label",  "exited",  "ancestor", "before", "since",
                                         "volume", "network", "publish",  "expose", "health"};

    for (size_t i = 0; i < ARRAY_LEN(others); i++)
        if (filter_has(&a->filter, others[i]))
            return false;
    return a->last <= 0 && filter_equal(&a->filter, "status", "running") &&
           filter_equal(&a->filter, "isolation", "vm");
}

static int add_machines(struct found *f, const struct psrow_how *how, json_t *rows, struct err *e)
{
    char base[RUNDIR_PATH_MAX];
    int r = rundir_base(base, sizeof(base), e);

    if (r == 0)
        r = rundir_each(base, note_machine, f, e);
    for (size_t i = 0; r == 0 && i < f->ids.n; i++) {
        json_t *req = json_pack("{s:s}", "op", "info"), *info = NULL;

        /* One that ends meanwhile, or only begins, is none. */
        if (req && control_ask(f->ids.v[i], req, &info, NULL) == 0)
            json_array_append_new(rows, psrow_machine(info, how));
        json_decref(info);
        json_decref(req);
    }
    strv_done(&f->ids);
    return r == 0 && f->failed ? err_errno(e, f->failed, "machines") : r;
}

static int collect(const struct ps_args *a, bool size, json_t *rows, struct err *e)
{
    struct psrow_how how = {.now_ns = human_now_ns(), .no_trunc = a->no_trunc, .size = size};
    struct record *list = NULL;
    size_t n = 0;
    unsigned damaged = 0;
    bool all = a->all || a->last > 0 || filter_has(&a->filter, "status") ||
               filter_has(&a->filter, "exited");
    int r = record_list(NULL, &list, &n, &damaged, e);

    for (size_t i = 0; r == 0 && i < n; i++) {
        struct candidate c = {&list[i], list, i, n};

        if (a->last > 0 && json_array_size(rows) >= (size_t)a->last)
            break;
        if ((all || runs(&list[i])) && passes(&a->filter, &c))
            json_array_append_new(rows, psrow_of(&list[i], &how));
    }
    struct found f = {.filter = &a->filter, .list = list, .n = n};
    if (r == 0 && machines_pass(a))
        r = add_machines(&f, &how, rows, e);
    for (size_t i = 0; i < n; i++)
        record_done(&list[i]);
    free(list);
    if (damaged)
        say("%u container%s with damaged records left out", damaged, damaged == 1 ? "" : "s");
    return r;
}

static int list_containers(const struct ps_args *a, struct err *e)
{
    struct format *f = NULL;
    json_t *rows = json_array();
    int r = format_new(a->format, columns[a->size], &f, e);

    if (r == 0)
        r = collect(a, a->size || (a->format && !a->quiet && format_wants(f, "Size")), rows, e);
    if (r == 0)
        r = format_list(a->format, columns[a->size], a->quiet, "ID", rows, e);
    format_free(f);
    json_decref(rows);
    return r;
}

int cmd_ps(int argc, char **argv)
{
    struct ps_args a = {0};
    struct err e = {0};
    int at = flag_parse(&command_ps, argc, argv, &a, &e);
    int r = at > 0 ? filter_check(&a.filter, filter_keys, &e) : at;

    if (a.latest)
        a.last = 1;
    if (r < 0 || at == 0) {
        strv_done(&a.filter);
        return flag_stop(&command_ps, r, &e);
    }
    r = list_containers(&a, &e);
    strv_done(&a.filter);
    return r < 0 ? say_err(&e, EXIT_KILN) : 0;
}
