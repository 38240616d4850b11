/* kiln inspect: all that is known of containers, images, volumes, networks. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "cmd/ctrjson.h"
#include "cmd/flag.h"
#include "cmd/format.h"
#include "cmd/netverb.h"
#include "cmd/verb.h"
#include "cmd/volverb.h"

struct inspect_args {
    const char *format, *type;
    bool size;
};

#define A struct inspect_args
#define KINDS "container image volume network"
static const struct flag flags[] = {
    {"format", 'f', "FORMAT", "json, or a template such as '{{.State.Status}}'",
     FLAG_TEXT(A, format), .values = "json"},
    {"size", 's', NULL, "with what a container takes on the disk", FLAG_BOOL(A, size)},
    {"type", 0, "KIND", "only a container, image, volume or network of the name",
     FLAG_TEXT(A, type), .values = KINDS},
    {0},
};
static const struct flag_group group = {NULL, flags};
static int run(int argc, char **argv);

const struct command command_inspect = {
    .name = "inspect",
    .operands = "NAME...",
    .summary = "show all that is known of containers, images, volumes, networks",
    .about = "Prints a JSON array, shaped as docker's. A name means a container, else an image, a\n"
             "volume, a network.",
    .groups = {{&group}},
    .min_operands = 1,
    .max_operands = FLAG_MANY,
    .values = "@object",
    .run = run,
};

static json_t *container(const char *name, const struct inspect_args *a, struct err *e)
{
    struct record r;

    if (record_find(NULL, name, RECORD_LOOK, &r, e) < 0)
        return NULL;
    json_t *j = ctrjson_container(NULL, &r, a->size);
    record_done(&r);
    return j;
}

static json_t *image(const char *name, const struct inspect_args *a, struct err *e)
{
    struct store *s = NULL;
    struct image im;
    json_t *j = NULL;

    (void)a;
    if (store_open(NULL, &s, e) < 0)
        return NULL;
    if (store_find(s, name, &im, e) == 0) {
        j = ctrjson_image(&im);
        image_done(&im);
    }
    store_close(s);
    return j;
}

static json_t *volume(const char *name, const struct inspect_args *a, struct err *e)
{
    struct volstore v;

    (void)a;
    if (volstore_find(NULL, name, &v, e) < 0)
        return NULL;
    json_t *j = volverb_inspect(&v);
    volstore_done(&v);
    return j;
}

static json_t *network(const char *name, const struct inspect_args *a, struct err *e)
{
    char root[PATH_MAX];

    (void)a;
    return netverb_root(root, e) < 0 ? NULL : netverb_inspect(root, name, e);
}

static const struct {
    const char *name;
    json_t *(*find)(const char *name, const struct inspect_args *a, struct err *e);
} kinds[] = {{"container", container}, {"image", image}, {"volume", volume}, {"network", network}};

/* The first kind that has the name. One that is ambiguous there is not looked for elsewhere. */
static json_t *find(const char *name, const struct inspect_args *a, struct err *e)
{
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        if (a->type && strcmp(a->type, kinds[i].name) != 0)
            continue;
        *e = (struct err){0};
        json_t *j = kinds[i].find(name, a, e);
        if (j || a->type || (i == 0 && e->code == -EINVAL))
            return j;
    }
    err_set(e, -ENOENT, "no such object: %s", name);
    return NULL;
}

static bool is_kind(const char *type)
{
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++)
        if (strcmp(type, kinds[i].name) == 0)
            return true;
    return false;
}

static int show(int n, char **names, const struct inspect_args *a)
{
    bool template = a->format && strcmp(a->format, "json") != 0;
    json_t *all = json_array();
    struct err e = {0};
    int status = 0;

    for (int i = 0; i < n; i++) {
        json_t *j = find(names[i], a, &e);

        if (!j) {
            status = say_err(&e, 1);
        } else if (template) {
            if (format_value(a->format, j, stdout, &e) < 0)
                status = say_err(&e, 1);
            json_decref(j);
        } else {
            json_array_append_new(all, j);
        }
    }
    if (!template && format_value(NULL, all, stdout, &e) < 0)
        status = say_err(&e, 1);
    json_decref(all);
    return status;
}

static int run(int argc, char **argv)
{
    struct inspect_args a = {0};
    struct err e = {0};
    int at = flag_parse(&command_inspect, argc, argv, &a, &e);

    if (at > 0 && a.type && !is_kind(a.type))
        at = err_set(&e, -EINVAL, "--type '%s' is none of " KINDS, a.type);
    return at <= 0 ? flag_stop(&command_inspect, at, &e) : show(argc - at, argv + at, &a);
}
