/* kiln snapshot: save a running machine; list, look at, check and remove what was saved. */
#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/cleanup.h"
#include "cmd/progress.h"
#include "cmd/snapname.h"
#include "cmd/verb.h"
#include "container/hold.h"
#include "vm/snapshot.h"

static const char help[] =
    "Usage: kiln snapshot create MACHINE NAME|DIR [--diff-of SNAPSHOT] [--compress] [--stop]\n"
    "       kiln snapshot ls [--format json]\n"
    "       kiln snapshot inspect SNAPSHOT\n"
    "       kiln snapshot verify SNAPSHOT...\n"
    "       kiln snapshot rm SNAPSHOT...\n\n"
    "Saves a running machine: its memory, CPUs, devices and writable disks. A name lies in the\n"
    "store; a word with a slash is a folder. MACHINE is a name, an id or the beginning of one.\n\n"
    "  --diff-of SNAPSHOT   keep only what changed since this one, which must stay\n"
    "  --compress           memory as zstd: smaller, but not restored lazily\n"
    "  --stop               end the machine once it is saved\n"
    "  --format json        for programs\n"
    "  -q, --quiet          no figures\n"
    "  -h, --help           this text\n";

enum { OPT_DIFF_OF = 256, OPT_COMPRESS, OPT_STOP, OPT_FORMAT };

struct args {
    const char *diff_of;
    bool compress, stop, json, quiet;
    char **word; /* what is no flag */
    int n;
};

static int parse(int argc, char **argv, struct args *a, struct err *e)
{
    static const struct option opts[] = {
        {"diff-of", 1, NULL, OPT_DIFF_OF},
        {"compress", 0, NULL, OPT_COMPRESS},
        {"stop", 0, NULL, OPT_STOP},
        {"format", 1, NULL, OPT_FORMAT},
        {"quiet", 0, NULL, 'q'},
        {"help", 0, NULL, 'h'},
        {NULL, 0, NULL, 0},
    };
    int c;

    opterr = 0;
    while ((c = getopt_long(argc, argv, "qh", opts, NULL)) != -1) {
        switch (c) {
        case OPT_DIFF_OF:
            a->diff_of = optarg;
            break;
        case OPT_COMPRESS:
            a->compress = true;
            break;
        case OPT_STOP:
            a->stop = true;
            break;
        case OPT_FORMAT:
            if (strcmp(optarg, "json") != 0)
                return err_set(e, -EINVAL, "--format '%s': only json can be had", optarg);
            a->json = true;
            break;
        case 'q':
            a->quiet = true;
            break;
        case 'h':
            fputs(help, stdout);
            return 1;
        default:
            return err_set(e, -EINVAL, "unknown flag or missing value: %s", argv[optind - 1]);
        }
    }
    a->word = argv + optind;
    a->n = argc - optind;
    return 0;
}

static void print_json(json_t *v)
{
    json_dumpf(v, stdout, JSON_INDENT(2));
    putchar('\n');
    json_decref(v);
}

/* --- create -------------------------------------------------------------------- */

static void print_made(const json_t *v)
{
    char size[32];

    progress_size((uint64_t)json_integer_value(json_object_get(v, "stored_bytes")), size);
    printf("%s, %lld pages, in %.0f ms; the machine stood for %.1f ms\n", size,
           (long long)json_integer_value(json_object_get(v, "pages")),
           (double)json_integer_value(json_object_get(v, "total_ns")) / 1e6,
           (double)json_integer_value(json_object_get(v, "pause_ns")) / 1e6);
}

static int create(const struct args *a)
{
    CLEANUP(mem) char *dir = NULL;
    CLEANUP(mem) char *parent = NULL;
    json_t *out = NULL;
    struct err e = {0};

    if (a->n != 2)
        return say_usage("snapshot", EXIT_KILN, "create takes a machine and a name or folder");
    int r = snapname_new(a->word[1], &dir, &e);
    if (r == 0 && a->diff_of)
        r = snapname_find(a->diff_of, &parent, &e);
    if (r == 0) {
        json_t *req = json_pack("{s:s, s:s, s:b, s:b}", "op", "snapshot", "dir", dir, "compress",
                                a->compress, "stop", a->stop);
        if (parent)
            json_object_set_new(req, "parent", json_string(parent));
        r = hold_ask(a->word[0], req, &out, &e);
        json_decref(req);
    }
    if (r < 0)
        return say_err(&e, EXIT_KILN);
    if (a->json)
        print_json(json_incref(out));
    else if (!a->quiet)
        print_made(out);
    json_decref(out);
    return 0;
}

/* --- ls, inspect ----------------------------------------------------------------- */

static json_t *disks_json(const struct shape *s)
{
    json_t *list = json_array();

    for (unsigned i = 0; i < s->n_disks; i++)
        json_array_append_new(list, json_pack("{s:s*, s:I, s:b}", "path", s->disk[i].path, "size",
                                              (json_int_t)s->disk[i].size, "read_only",
                                              s->disk[i].read_only));
    return list;
}

static json_t *info_json(const char *name, const struct snap_info *i)
{
    const struct shape *s = i->shape;

    return json_pack("{s:s, s:s, s:s*, s:s*, s:I, s:s, s:s, s:s, s:b, s:I, s:I, s:i, s:I, s:o}",
                     "snapshot", name, "id", i->id, "parent", i->parent, "parent_id", i->parent_id,
                     "created_ns", (json_int_t)i->created_ns, "program", i->program, "engine",
                     i->engine, "note", i->note, "compressed", i->compressed, "pages",
                     (json_int_t)i->pages, "ram_bytes", (json_int_t)s->ram_bytes, "cpus",
                     (int)s->cpus, "tsc_khz", (json_int_t)s->tsc_khz, "disks", disks_json(s));
}

static int inspect(const struct args *a)
{
    CLEANUP(mem) char *dir = NULL;
    struct snapshot *s;
    struct err e = {0};

    if (a->n != 1)
        return say_usage("snapshot", EXIT_KILN, "inspect takes one snapshot");
    if (snapname_find(a->word[0], &dir, &e) < 0 || snapshot_open(dir, &s, &e) < 0)
        return say_err(&e, EXIT_KILN);
    struct snap_info i = snapshot_info(s);
    print_json(info_json(a->word[0], &i));
    snapshot_close(s);
    return 0;
}

struct listing {
    json_t *json; /* NULL: lines */
    unsigned n;
};

static void list_one(void *ctx, const char *name, const char *dir)
{
    struct listing *l = ctx;
    struct snapshot *s;
    struct err e = {0};
    char when[32] = "", size[32];

    if (snapshot_open(dir, &s, &e) < 0) {
        say("%s", e.msg);
        return;
    }
    struct snap_info i = snapshot_info(s);
    time_t t = (time_t)(i.created_ns / 1000000000);
    struct tm tm;
    if (localtime_r(&t, &tm))
        strftime(when, sizeof(when), "%Y-%m-%d %H:%M:%S", &tm);
    progress_size(i.pages * 4096, size);
    const char *parent = i.parent ? strrchr(i.parent, '/') : NULL;
    if (l->json)
        json_array_append_new(l->json, info_json(name, &i));
    else if (l->n++ == 0)
        printf("%-24s %-20s %-10s %-8s %s\n", "NAME", "CREATED", "STORED", "ENGINE", "PARENT");
    if (!l->json)
        printf("%-24s %-20s %-10s %-8s %s\n", name, when, size, i.engine,
               parent ? parent + 1 : "-");
    snapshot_close(s);
}

static int ls(const struct args *a)
{
    struct listing l = {.json = a->json ? json_array() : NULL};
    struct err e = {0};

    if (a->n != 0)
        return say_usage("snapshot", EXIT_KILN, "ls takes no arguments");
    int r = snapname_each(list_one, &l, &e);
    if (l.json)
        print_json(l.json);
    return r < 0 ? say_err(&e, EXIT_KILN) : 0;
}

/* --- verify, rm ------------------------------------------------------------------ */

static int each_word(const struct args *a, const char *what,
                     int (*run)(const char *dir, const char *word, struct err *e))
{
    int status = 0;

    if (a->n == 0)
        return say_usage("snapshot", EXIT_KILN, "%s takes snapshots", what);
    for (int i = 0; i < a->n; i++) {
        CLEANUP(mem) char *dir = NULL;
        struct err e = {0};

        if (snapname_find(a->word[i], &dir, &e) < 0 || run(dir, a->word[i], &e) < 0)
            status = say_err(&e, EXIT_KILN);
    }
    return status;
}

static int verify_one(const char *dir, const char *word, struct err *e)
{
    int r = snapshot_verify(dir, e);

    if (r == 0)
        printf("%s: whole\n", word);
    return r;
}

struct heirs {
    const char *dir;
    char id[SNAP_ID_LEN + 1];
    char heir[NAME_MAX + 1];
};

static void find_heir(void *ctx, const char *name, const char *dir)
{
    struct heirs *h = ctx;
    struct snapshot *s;

    if (snapshot_open(dir, &s, NULL) < 0)
        return;
    struct snap_info i = snapshot_info(s);
    if (i.parent_id && strcmp(i.parent_id, h->id) == 0)
        snprintf(h->heir, sizeof(h->heir), "%s", name);
    snapshot_close(s);
}

/* A parent in the store must stay as long as a diff of it is there. A damaged one may go. */
static int remove_one(const char *dir, const char *word, struct err *e)
{
    struct heirs h = {.dir = dir};
    struct snapshot *s;

    if (snapshot_open(dir, &s, NULL) == 0) {
        snprintf(h.id, sizeof(h.id), "%s", snapshot_info(s).id);
        snapshot_close(s);
        int r = snapname_each(find_heir, &h, e);
        if (r < 0)
            return r;
    }
    if (h.heir[0])
        return err_set(e, -EBUSY, "snapshot '%s' is the parent of '%s': remove that first", word,
                       h.heir);
    return snapshot_remove(dir, e);
}

int cmd_snapshot(int argc, char **argv)
{
    struct args a = {0};
    struct err e = {0};
    int r = parse(argc, argv, &a, &e);

    if (r > 0)
        return 0;
    if (r < 0)
        return say_usage("snapshot", EXIT_KILN, "%s", e.msg);
    if (a.n == 0)
        return say_usage("snapshot", EXIT_KILN, "which: create, ls, inspect, verify or rm?");
    const char *verb = *a.word++;
    a.n--;
    if (strcmp(verb, "create") == 0)
        return create(&a);
    if (strcmp(verb, "ls") == 0)
        return ls(&a);
    if (strcmp(verb, "inspect") == 0)
        return inspect(&a);
    if (strcmp(verb, "verify") == 0)
        return each_word(&a, verb, verify_one);
    if (strcmp(verb, "rm") == 0)
        return each_word(&a, verb, remove_one);
    return say_usage("snapshot", EXIT_KILN, "'%s' is not one of create, ls, inspect, verify, rm",
                     verb);
}
