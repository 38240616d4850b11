/* kiln events: what happened, and what happens. */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/cleanup.h"
#include "cmd/filter.h"
#include "cmd/flag.h"
#include "cmd/format.h"
#include "cmd/human.h"
#include "cmd/verb.h"
#include "cmd/when.h"
#include "container/events.h"

struct events_args {
    const char *since, *until, *format;
    struct strv filter;
};

#define A struct events_args
#define KEYS "container event image label network type volume"
static const struct flag flags[] = {
    {"filter", 'f', "KEY=VALUE", "only those with container=, event=, image=, type=, ...",
     FLAG_WORDS(A, filter),
     .values = "container= event= image= label= network= type=container type=image type=network "
               "type=volume volume="},
    {"format", 0, "FORMAT", "json, or a template such as '{{.Type}} {{.Action}}'",
     FLAG_TEXT(A, format), .values = "json"},
    {"since", 0, "WHEN", "begin with what happened then: a time, or 10m ago", FLAG_TEXT(A, since)},
    {"until", 0, "WHEN", "end with what happened then", FLAG_TEXT(A, until)},
    {0},
};
static const struct flag_group group = {NULL, flags};
static int run(int argc, char **argv);

const struct command command_events = {
    .name = "events",
    .summary = "show what happens to containers, images, volumes, networks",
    .about = "Prints a line for each thing that happens, until it is interrupted or --until is\n"
             "reached. With --since also what happened before.",
    .groups = {{&group}},
    .run = run,
};

static const char *text_of(const json_t *o, const char *key)
{
    const char *s = json_string_value(json_object_get(o, key));

    return s ? s : "";
}

struct one { /* an event that filters look at */
    const char *type, *action, *id;
    const json_t *attributes;
};

static bool names(void *ctx, const char *value, const char *type)
{
    const struct one *v = ctx;
    const char *name = text_of(v->attributes, "name");

    return strcmp(v->type, type) == 0 && value[0] &&
           (strcmp(name, value) == 0 || strncmp(v->id, value, strlen(value)) == 0);
}

static bool is_container(void *ctx, const char *value)
{
    return names(ctx, value, "container");
}

static bool is_volume(void *ctx, const char *value)
{
    return names(ctx, value, "volume");
}

static bool is_network(void *ctx, const char *value)
{
    return names(ctx, value, "network");
}

/* Of a container's image as well, with and without its tag. */
static bool is_image(void *ctx, const char *value)
{
    const struct one *v = ctx;
    const char *image = text_of(v->attributes, "image");
    size_t n = strlen(value);

    return names(ctx, value, "image") || strcmp(image, value) == 0 ||
           (n > 0 && strncmp(image, value, n) == 0 && image[n] == ':');
}

static bool is_action(void *ctx, const char *value)
{
    const char *action = ((const struct one *)ctx)->action;
    size_t n = strlen(value);

    return strncmp(action, value, n) == 0 && (action[n] == '\0' || action[n] == ':');
}

static bool is_label(void *ctx, const char *value)
{
    const struct one *v = ctx;
    const char *eq = strchr(value, '=');
    CLEANUP(mem) char *key = strndup(value, eq ? (size_t)(eq - value) : strlen(value));
    const json_t *have = key ? json_object_get(v->attributes, key) : NULL;

    return have && (!eq || strcmp(json_string_value(have), eq + 1) == 0);
}

static bool is_wanted(const struct events_args *a, const json_t *ev)
{
    const json_t *actor = json_object_get(ev, "Actor");
    struct one v = {text_of(ev, "Type"), text_of(ev, "Action"), text_of(actor, "ID"),
                    json_object_get(actor, "Attributes")};

    return filter_equal(&a->filter, "type", v.type) &&
           filter_any(&a->filter, "event", is_action, &v) &&
           filter_any(&a->filter, "container", is_container, &v) &&
           filter_any(&a->filter, "volume", is_volume, &v) &&
           filter_any(&a->filter, "network", is_network, &v) &&
           filter_any(&a->filter, "image", is_image, &v) &&
           filter_any(&a->filter, "label", is_label, &v);
}

/* 2026-11-21T16:40:11.123456789+00:00 container start ID (image=..., name=...) */
static void print_line(const json_t *ev, int64_t ns)
{
    const json_t *actor = json_object_get(ev, "Actor");
    json_t *attributes = json_object_get(actor, "Attributes"), *value;
    const char *key, *sep = " (";
    time_t s = (time_t)(ns / 1000000000);
    char at[40], zone[8];
    struct tm tm;

    localtime_r(&s, &tm);
    strftime(at, sizeof(at), "%Y-%m-%dT%H:%M:%S", &tm);
    strftime(zone, sizeof(zone), "%z", &tm);
    printf("%s.%09lld%.3s:%s %s %s %s", at, (long long)(ns % 1000000000), zone, zone + 3,
           text_of(ev, "Type"), text_of(ev, "Action"), text_of(actor, "ID"));
    json_object_foreach(attributes, key, value)
    {
        printf("%s%s=%s", sep, key, json_string_value(value) ? json_string_value(value) : "");
        sep = ", ";
    }
    puts(json_object_size(attributes) > 0 ? ")" : "");
}

static int print(const struct events_args *a, json_t *ev, int64_t ns, struct err *e)
{
    int r = 0;

    if (!a->format) {
        print_line(ev, ns);
    } else if (strcmp(a->format, "json") == 0) {
        json_dumpf(ev, stdout, JSON_COMPACT);
        putchar('\n');
    } else {
        json_object_set_new(ev, "ID", json_string(text_of(ev, "id")));
        json_object_set_new(ev, "Time", json_integer(ns / 1000000000));
        json_object_set_new(ev, "TimeNano", json_integer(ns));
        r = format_value(a->format, ev, stdout, e);
    }
    fflush(stdout);
    return r;
}

/* Every event there is now. 1: --until was reached. */
static int drain(const struct events_args *a, struct events *v, int64_t since, int64_t until,
                 struct err *e)
{
    json_t *ev;
    int r;

    while ((r = events_next(v, &ev, e)) == 1) {
        int64_t ns = json_integer_value(json_object_get(ev, "timeNano"));
        int rc = ns > until ? 1 : ns >= since && is_wanted(a, ev) ? print(a, ev, ns, e) : 0;

        json_decref(ev);
        if (rc != 0)
            return rc;
        if (ferror(stdout))
            return 1;
    }
    return r;
}

static int follow(const struct events_args *a, struct err *e)
{
    int64_t now = human_now_ns(), since = now, until = INT64_MAX;
    struct events *v;
    int r = a->since ? when_parse(a->since, now, &since, e) : 0;

    if (r == 0 && a->until)
        r = when_parse(a->until, now, &until, e);
    if (r == 0)
        r = events_open(NULL, &v, e);
    if (r < 0)
        return r;
    signal(SIGPIPE, SIG_DFL);
    while ((r = drain(a, v, since, until, e)) == 0) {
        struct pollfd p = {.fd = events_fd(v), .events = POLLIN};
        int64_t left = until == INT64_MAX ? -1 : (until - human_now_ns()) / 1000000;

        if (until != INT64_MAX && left < 0)
            break;
        if (poll(&p, 1, left > 3600000 ? 3600000 : (int)left) < 0 && errno != EINTR) {
            r = err_errno(e, -errno, "poll");
            break;
        }
    }
    events_close(v);
    return r < 0 ? r : 0;
}

static int run(int argc, char **argv)
{
    struct events_args a = {0};
    struct err e = {0};
    int at = flag_parse(&command_events, argc, argv, &a, &e);

    if (at > 0 && filter_check(&a.filter, KEYS, &e) < 0)
        at = e.code;
    int status = at <= 0              ? flag_stop(&command_events, at, &e)
                 : follow(&a, &e) < 0 ? say_err(&e, 1)
                                      : 0;

    strv_done(&a.filter);
    return status;
}
