#include <getopt.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/cleanup.h"
#include "cmd/progress.h"
#include "cmd/verb.h"
#include "image/store.h"

enum { SHORT_ID = 12 }; /* hexadecimal digits shown */

enum format { TABLE, QUIET, AS_JSON };

static void help(void)
{
    puts("Usage: kiln images [flags]\n\n"
         "List the images of the store, newest first.\n\n"
         "  -q, --quiet           digests only\n"
         "      --format FORMAT   table (default) or json\n"
         "  -h, --help            this text");
}

/* "3 hours ago" */
static void age(int64_t then, char out[32])
{
    static const struct {
        int64_t s;
        const char *unit;
    } steps[] = {{86400, "day"}, {3600, "hour"}, {60, "minute"}, {1, "second"}};
    int64_t s = (int64_t)time(NULL) - then;

    for (size_t i = 0; i < ARRAY_LEN(steps); i++) {
        if (s < steps[i].s)
            continue;
        int64_t n = s / steps[i].s;
        snprintf(out, 32, "%lld %s%s ago", (long long)n, steps[i].unit, n == 1 ? "" : "s");
        return;
    }
    snprintf(out, 32, "now");
}

static const char *short_id(const struct image *im)
{
    return strchr(im->digest, ':') + 1;
}

/* A name is PATH:TAG; the last colon behind the last slash divides them. */
static int path_len(const char *name)
{
    const char *slash = strrchr(name, '/'), *colon = strchr(slash ? slash : name, ':');

    return colon ? (int)(colon - name) : (int)strlen(name);
}

static void print_table(const struct image *list, size_t n)
{
    int width = (int)strlen("REPOSITORY");

    for (size_t i = 0; i < n; i++)
        if (list[i].name && path_len(list[i].name) > width)
            width = path_len(list[i].name);
    printf("%-*s  %-12s  %-12s  %-15s  %s\n", width, "REPOSITORY", "TAG", "IMAGE ID", "CREATED",
           "SIZE");
    for (size_t i = 0; i < n; i++) {
        const char *name = list[i].name ? list[i].name : "<none>:<none>";
        char when[32], size[32];
        int len = path_len(name);

        age(list[i].created, when);
        progress_size(list[i].size, size);
        printf("%-*.*s  %-12s  %.*s  %-15s  %s\n", width, len, name,
               name[len] ? name + len + 1 : "", SHORT_ID, short_id(&list[i]), when, size);
    }
}

static int print_json(const struct image *list, size_t n)
{
    json_t *all = json_array();

    for (size_t i = 0; i < n; i++) {
        const struct image *im = &list[i];
        json_t *o =
            json_pack("{s:s?, s:s, s:s, s:I, s:I, s:s}", "name", im->name, "digest", im->digest,
                      "config_digest", im->config_digest, "created", (json_int_t)im->created,
                      "size", (json_int_t)im->size, "rootfs", im->rootfs);

        if (!o || json_array_append_new(all, o) < 0)
            return -1;
    }
    int r = json_dumpf(all, stdout, JSON_INDENT(2));
    putchar('\n');
    json_decref(all);
    return r;
}

static int list_images(enum format format)
{
    struct err e = {0};
    struct store *s;
    struct image *list;
    size_t n;

    if (store_open(NULL, &s, &e) < 0)
        return say_err(&e, EXIT_KILN);
    int r = store_list(s, &list, &n, &e);
    store_close(s);
    if (r < 0)
        return say_err(&e, EXIT_KILN);
    if (format == AS_JSON)
        r = print_json(list, n);
    else if (format == TABLE)
        print_table(list, n);
    for (size_t i = 0; i < n; i++) {
        if (format == QUIET)
            puts(list[i].digest);
        image_done(&list[i]);
    }
    free(list);
    return r < 0 ? EXIT_KILN : 0;
}

int cmd_images(int argc, char **argv)
{
    static const struct option longs[] = {{"quiet", no_argument, NULL, 'q'},
                                          {"format", required_argument, NULL, 'f'},
                                          {"help", no_argument, NULL, 'h'},
                                          {0}};
    enum format format = TABLE;

    for (int c; (c = getopt_long(argc, argv, "+:qh", longs, NULL)) != -1;) {
        if (c == 'h') {
            help();
            return 0;
        }
        if (c == 'q')
            format = QUIET;
        else if (c == 'f' && strcmp(optarg, "json") == 0)
            format = AS_JSON;
        else if (c == 'f' && strcmp(optarg, "table") == 0)
            format = TABLE;
        else if (c == 'f')
            return say_usage("images", EXIT_KILN, "--format '%s' is neither table nor json",
                             optarg);
        else
            return say_usage("images", EXIT_KILN, "unknown flag '%s'", argv[optind - 1]);
    }
    if (optind != argc)
        return say_usage("images", EXIT_KILN, "takes no arguments");
    return list_images(format);
}
