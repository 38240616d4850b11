/* kiln snapshot: save a running machine; list, look at, check and remove what was saved. */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "cmd/flag.h"
#include "cmd/format.h"
#include "cmd/human.h"
#include "cmd/snapname.h"
#include "cmd/verb.h"
#include "container/hold.h"
#include "vm/snapshot.h"

/* --- create -------------------------------------------------------------------- */

struct create_args {
    const char *diff_of, *format;
    bool compress, stop, quiet;
};

#define C struct create_args
static const struct flag create_flags[] = {
    {"diff-of", 0, "SNAPSHOT", "keep only what changed since this one, which must stay",
     FLAG_TEXT(C, diff_of), .values = "@snapshot"},
    {"compress", 0, NULL, "memory as zstd: smaller, but not restored lazily",
     FLAG_BOOL(C, compress)},
    {"stop", 0, NULL, "end the machine once it is saved", FLAG_BOOL(C, stop)},
    {"format", 0, "FORMAT", "json or a template: what it took", FLAG_TEXT(C, format),
     .values = "json"},
    {"quiet", 'q', NULL, "no figures", FLAG_BOOL(C, quiet)},
    {0},
};
static const struct flag_group create_group = {NULL, create_flags};

static int create(int argc, char **argv);
static const struct command create_command = {
    .name = "snapshot create",
    .operands = "MACHINE NAME|DIR",
    .summary = "save a running machine",
    .about =
        "Saves a running machine: its memory, CPUs, devices and writable disks. A name lies in the "
        "store; a word with a slash is a folder. MACHINE is a name, an id or the beginning of one.",
    .groups = {{&create_group}},
    .min_operands = 2,
    .max_operands = 2,
    .values = "@container @file",
    .run = create,
};

static void print_made(const json_t *v)
{
    char size[HUMAN_MAX];

    printf("%s, %lld pages, in %.0f ms; the machine stood for %.1f ms\n",
           human_size((uint64_t)json_integer_value(json_object_get(v, "stored_bytes")), size),
           (long long)json_integer_value(json_object_get(v, "pages")),
           (double)json_integer_value(json_object_get(v, "total_ns")) / 1e6,
           (double)json_integer_value(json_object_get(v, "pause_ns")) / 1e6);
}

static int save(const struct create_args *a, const char *machine, const char *name, json_t **out,
                struct err *e)
{
    CLEANUP(mem) char *dir = NULL;
    CLEANUP(mem) char *parent = NULL;
    int r = snapname_new(name, &dir, e);

    if (r == 0 && a->diff_of)
        r = snapname_find(a->diff_of, &parent, e);
    if (r < 0)
        return r;
    json_t *req = json_pack("{s:s, s:s, s:b, s:b}", "op", "snapshot", "dir", dir, "compress",
                            a->compress, "stop", a->stop);
    if (parent)
        json_object_set_new(req, "parent", json_string(parent));
    r = hold_ask(machine, req, out, e);
    json_decref(req);
    return r;
}

static int create(int argc, char **argv)
{
    struct create_args a = {0};
    json_t *out = NULL;
    struct err e = {0};
    int at = flag_parse(&create_command, argc, argv, &a, &e);

    if (at <= 0)
        return flag_stop(&create_command, at, &e);
    int r = save(&a, argv[at], argv[at + 1], &out, &e);
    if (r == 0 && a.format)
        r = format_value(a.format, out, stdout, &e);
    else if (r == 0 && !a.quiet)
        print_made(out);
    json_decref(out);
    return r < 0 ? say_err(&e, EXIT_KILN) : 0;
}

/* --- ls, inspect ----------------------------------------------------------------- */

struct format_args {
    const char *format;
    bool quiet;
};
static const struct flag format_flags[] = {
    {"format", 0, "FORMAT", "table, json or a template", FLAG_TEXT(struct format_args, format),
     .values = "json table"},
    {0},
};
static const struct flag quiet_flags[] = {
    {"quiet", 'q', NULL, "names only", FLAG_BOOL(struct format_args, quiet)},
    {0},
};
static const struct flag_group format_group = {NULL, format_flags},
                               quiet_group = {"List", quiet_flags};

static int inspect(int argc, char **argv);
static int ls(int argc, char **argv);

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

static const struct command inspect_command = {
    .name = "snapshot inspect",
    .operands = "SNAPSHOT...",
    .summary = "show what there is to know about snapshots",
    .groups = {{&format_group}},
    .min_operands = 1,
    .max_operands = FLAG_MANY,
    .values = "@snapshot",
    .run = inspect,
};

static int inspect_one(const char *word, const char *format, struct err *e)
{
    CLEANUP(mem) char *dir = NULL;
    struct snapshot *s;
    int r = snapname_find(word, &dir, e);

    if (r == 0)
        r = snapshot_open(dir, &s, e);
    if (r < 0)
        return r;
    struct snap_info i = snapshot_info(s);
    json_t *v = info_json(word, &i);
    r = format_value(format, v, stdout, e);
    json_decref(v);
    snapshot_close(s);
    return r;
}

static int inspect(int argc, char **argv)
{
    struct format_args a = {0};
    struct err e = {0};
    int status = 0, at = flag_parse(&inspect_command, argc, argv, &a, &e);

    if (at <= 0)
        return flag_stop(&inspect_command, at, &e);
    for (int i = at; i < argc; i++)
        if (inspect_one(argv[i], a.format, &e) < 0)
            status = say_err(&e, EXIT_KILN);
    return status;
}

static const struct format_column columns[] = {
    {"Name", "NAME"},           {"CreatedAt", "CREATED"}, {"Size", "STORED"},
    {"Engine", "ENGINE"},       {"Parent", "PARENT"},     {"ID", "ID", true},
    {"Memory", "MEMORY", true}, {"CPUs", "CPUS", true},   {0}};

static const struct command ls_command = {
    .name = "snapshot ls",
    .summary = "list snapshots",
    .groups = {{&format_group}, {&quiet_group}},
    .run = ls,
};

static void list_one(void *ctx, const char *name, const char *dir)
{
    json_t *list = ctx;
    struct snapshot *s;
    struct err e = {0};
    char when[HUMAN_MAX], size[HUMAN_MAX], memory[HUMAN_MAX];

    if (snapshot_open(dir, &s, &e) < 0) {
        say("%s", e.msg);
        return;
    }
    struct snap_info i = snapshot_info(s);
    const char *parent = i.parent ? strrchr(i.parent, '/') : NULL;
    human_time((int64_t)i.created_ns, when);
    when[19] = '\0'; /* without the zone */
    json_array_append_new(
        list, json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:i}", "Name", name, "CreatedAt", when,
                        "Size", human_size(i.pages * 4096, size), "Engine", i.engine, "Parent",
                        parent ? parent + 1 : "-", "ID", i.id, "Memory",
                        human_mem(i.shape->ram_bytes, memory), "CPUs", (int)i.shape->cpus));
    snapshot_close(s);
}

static int ls(int argc, char **argv)
{
    struct format_args a = {0};
    struct err e = {0};
    int at = flag_parse(&ls_command, argc, argv, &a, &e);

    if (at <= 0)
        return flag_stop(&ls_command, at, &e);
    json_t *list = json_array();
    int r = snapname_each(list_one, list, &e);
    if (r == 0)
        r = format_list(a.format, columns, a.quiet, "Name", list, &e);
    json_decref(list);
    return r < 0 ? say_err(&e, EXIT_KILN) : 0;
}

/* --- verify, rm ------------------------------------------------------------------ */

static int each_word(const struct command *c, int argc, char **argv,
                     int (*run)(const char *dir, const char *word, struct err *e))
{
    struct err e = {0};
    int status = 0, at = flag_parse(c, argc, argv, NULL, &e);

    if (at <= 0)
        return flag_stop(c, at, &e);
    for (int i = at; i < argc; i++) {
        CLEANUP(mem) char *dir = NULL;

        if (snapname_find(argv[i], &dir, &e) < 0 || run(dir, argv[i], &e) < 0)
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

static int verify(int argc, char **argv);
static const struct command verify_command = {
    .name = "snapshot verify",
    .operands = "SNAPSHOT...",
    .summary = "read all of snapshots and check them",
    .min_operands = 1,
    .max_operands = FLAG_MANY,
    .values = "@snapshot",
    .run = verify,
};

static int verify(int argc, char **argv)
{
    return each_word(&verify_command, argc, argv, verify_one);
}

static int rm(int argc, char **argv);
static const struct command rm_command = {
    .name = "snapshot rm",
    .operands = "SNAPSHOT...",
    .summary = "remove snapshots",
    .min_operands = 1,
    .max_operands = FLAG_MANY,
    .values = "@snapshot",
    .run = rm,
};

static int rm(int argc, char **argv)
{
    return each_word(&rm_command, argc, argv, remove_one);
}

static const struct command *const verbs[] = {&create_command, &ls_command, &inspect_command,
                                              &verify_command, &rm_command, NULL};
const struct command command_snapshot = {
    .name = "snapshot",
    .summary = "save running machines, and what was saved",
    .sub = verbs,
};
