/* kiln images: what the store has, as docker lists it. */
#include <errno.h>
#include <fnmatch.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "cmd/filter.h"
#include "cmd/flag.h"
#include "cmd/format.h"
#include "cmd/human.h"
#include "cmd/verb.h"
#include "image/store.h"

struct images_args {
    bool all, digests, no_trunc, quiet;
    const char *format;
    struct strv filter;
    const char *only; /* REPOSITORY[:TAG] or NULL */
};

#define A struct images_args
static const struct flag images_flags[] = {
    {"all", 'a', NULL, "accepted: there are no others", FLAG_BOOL(A, all)},
    {"digests", 0, NULL, "with the digests of manifests", FLAG_BOOL(A, digests)},
    {"filter", 'f', "KEY=VALUE",
     "only those with reference=PATTERN, dangling=true, before=IMAGE, since=IMAGE",
     FLAG_WORDS(A, filter), .values = "reference= dangling=true dangling=false before= since="},
    {"format", 0, "FORMAT", "table, json, or a template such as '{{.ID}} {{.Repository}}'",
     FLAG_TEXT(A, format), .values = "table json"},
    {"no-trunc", 0, NULL, "whole ids", FLAG_BOOL(A, no_trunc)},
    {"quiet", 'q', NULL, "ids only", FLAG_BOOL(A, quiet)},
    {0},
};
static const struct flag_group images_group = {NULL, images_flags};
const struct command command_images = {
    .name = "images",
    .operands = "[REPOSITORY[:TAG]]",
    .summary = "list images",
    .about = "Lists the images of the store, newest first.",
    .groups = {{&images_group}},
    .max_operands = 1,
    .values = "@image",
    .run = cmd_images,
};

#define MORE_COLUMNS                                                              \
    {"CreatedAt", "CREATED AT", true}, {"VirtualSize", "SIZE", true},             \
        {"SharedSize", "SHARED SIZE", true}, {"UniqueSize", "UNIQUE SIZE", true}, \
        {"Containers", "CONTAINERS", true}, {"Rootfs", "FILE SYSTEM", true},      \
    {                                                                             \
        0                                                                         \
    }

/* With and without --digests. */
static const struct format_column columns[2][14] = {
    {{"Repository", "REPOSITORY"},
     {"Tag", "TAG"},
     {"Digest", "DIGEST", true},
     {"ID", "IMAGE ID"},
     {"CreatedSince", "CREATED"},
     {"Size", "SIZE"},
     MORE_COLUMNS},
    {{"Repository", "REPOSITORY"},
     {"Tag", "TAG"},
     {"Digest", "DIGEST"},
     {"ID", "IMAGE ID"},
     {"CreatedSince", "CREATED"},
     {"Size", "SIZE"},
     MORE_COLUMNS},
};

/* A name is PATH:TAG; the last colon behind the last slash divides them. */
static size_t path_len(const char *name)
{
    const char *slash = strrchr(name, '/'), *colon = strrchr(slash ? slash : name, ':');

    return colon ? (size_t)(colon - name) : strlen(name);
}

struct candidate {
    const struct image *im, *list;
    size_t at, n;
};

static bool matches_reference(void *ctx, const char *pattern)
{
    const char *name = ((struct candidate *)ctx)->im->name;
    CLEANUP(mem) char *path = NULL;

    if (!name)
        return false;
    path = strndup(name, path_len(name));
    return path &&
           (fnmatch(pattern, name, FNM_PATHNAME) == 0 || fnmatch(pattern, path, FNM_PATHNAME) == 0);
}

static bool matches_dangling(void *ctx, const char *value)
{
    bool dangling = !((struct candidate *)ctx)->im->name;

    return dangling == (strcmp(value, "true") == 0 || strcmp(value, "1") == 0);
}

/* The place in the list, newest first, of the image that a name or an id means; n = none. */
static size_t place(const struct candidate *c, const char *ref)
{
    size_t len = strlen(ref), i;

    for (i = 0; i < c->n; i++) {
        const struct image *im = &c->list[i];
        const char *hex = strchr(im->config_digest, ':') + 1;

        if (im->name && (strcmp(im->name, ref) == 0 ||
                         (path_len(im->name) == len && strncmp(im->name, ref, len) == 0 &&
                          strcmp(im->name + len, ":latest") == 0)))
            break;
        if (strncmp(hex, ref, len) == 0 || strncmp(im->config_digest, ref, len) == 0)
            break;
    }
    return i;
}

static bool is_before(void *ctx, const char *ref)
{
    const struct candidate *c = ctx;
    size_t other = place(c, ref);

    return other < c->n && c->at > other;
}

static bool is_since(void *ctx, const char *ref)
{
    const struct candidate *c = ctx;

    return c->at < place(c, ref) && place(c, ref) < c->n;
}

static bool is_wanted(const struct images_args *a, struct candidate *c)
{
    if (a->only) {
        size_t len = strlen(a->only);
        const char *name = c->im->name ? c->im->name : "";

        if (strcmp(name, a->only) != 0 &&
            !(path_len(name) == len && strncmp(name, a->only, len) == 0))
            return false;
    }
    return filter_any(&a->filter, "reference", matches_reference, c) &&
           filter_any(&a->filter, "dangling", matches_dangling, c) &&
           filter_any(&a->filter, "before", is_before, c) &&
           filter_any(&a->filter, "since", is_since, c);
}

static json_t *row(const struct images_args *a, const struct image *im, int64_t now)
{
    char id[HUMAN_MAX], ago[HUMAN_MAX], at[HUMAN_MAX], size[HUMAN_MAX];
    const char *name = im->name ? im->name : "<none>:<none>";
    size_t len = path_len(name);
    CLEANUP(mem) char *path = strndup(name, len);
    int64_t created = im->created * 1000000000;

    human_size(im->size, size);
    return json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:s}", "Repository",
                     path ? path : "", "Tag", name[len] ? name + len + 1 : "", "Digest", im->digest,
                     "ID", a->no_trunc ? im->config_digest : human_id(im->config_digest, id),
                     "CreatedSince", human_ago(created, now, ago), "Size", size, "CreatedAt",
                     human_time(created, at), "VirtualSize", size, "SharedSize", "N/A",
                     "UniqueSize", "N/A", "Containers", "N/A", "Rootfs", im->rootfs);
}

static int list_images(const struct images_args *a, struct err *e)
{
    struct store *s;
    struct image *list;
    size_t n;
    int r = store_open(NULL, &s, e);

    if (r < 0)
        return r;
    r = store_list(s, &list, &n, e);
    store_close(s);
    if (r < 0)
        return r;
    json_t *rows = json_array();
    int64_t now = human_now_ns();
    for (size_t i = 0; i < n; i++) {
        struct candidate c = {&list[i], list, i, n};

        if (is_wanted(a, &c))
            json_array_append_new(rows, row(a, &list[i], now));
    }
    r = format_list(a->format, columns[a->digests], a->quiet, "ID", rows, e);
    json_decref(rows);
    for (size_t i = 0; i < n; i++)
        image_done(&list[i]);
    free(list);
    return r;
}

int cmd_images(int argc, char **argv)
{
    struct images_args a = {0};
    struct err e = {0};
    int at = flag_parse(&command_images, argc, argv, &a, &e);
    int r = at > 0 ? filter_check(&a.filter, "reference dangling before since", &e) : at;

    if (r < 0 || at == 0) {
        strv_done(&a.filter);
        return flag_stop(&command_images, r, &e);
    }
    a.only = at < argc ? argv[at] : NULL;
    r = list_images(&a, &e);
    strv_done(&a.filter);
    return r < 0 ? say_err(&e, EXIT_KILN) : 0;
}
