/* kiln template: the booted machines that kiln run starts from. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "cmd/flags.h"
#include "cmd/format.h"
#include "cmd/human.h"
#include "cmd/verb.h"
#include "container/template.h"
#include "image/initrd.h"
#include "image/store.h"
#include "mem/mem.h"
#include "vm/vm.h"

enum { RAM_DEFAULT = 512 << 20 };

/* --- ls ---------------------------------------------------------------------- */

struct ls_args {
    const char *format;
    bool quiet;
};

static const struct flag ls_flags[] = {
    {"format", 0, "FORMAT", "table, json or a template", FLAG_TEXT(struct ls_args, format),
     .values = "table json"},
    {"quiet", 'q', NULL, "keys only", FLAG_BOOL(struct ls_args, quiet)},
    {0},
};
static const struct flag_group ls_group = {NULL, ls_flags};
static int ls(int argc, char **argv);
static const struct command ls_command = {
    .name = "template ls",
    .summary = "list templates",
    .groups = {{&ls_group}},
    .run = ls,
};
static const struct format_column columns[] = {
    {"Key", "KEY"},         {"CPUs", "CPUS"},     {"Memory", "MEMORY"},
    {"Volumes", "VOLUMES"}, {"Size", "SIZE"},     {"LastUsed", "LAST USED"},
    {"State", "STATE"},     {"Kernel", "KERNEL"}, {0},
};

static json_t *row(const struct template_info *t, int64_t now)
{
    char memory[HUMAN_MAX], size[HUMAN_MAX], used[HUMAN_MAX];

    return json_pack("{s:s, s:i, s:s, s:s, s:s, s:s, s:s, s:s}", "Key", t->key, "CPUs",
                     (int)t->cpus, "Memory", human_mem(t->ram_bytes, memory), "Volumes",
                     t->shares ? "yes" : "no", "Size", human_size(t->bytes, size), "LastUsed",
                     human_ago(t->used * 1000000000, now, used), "State",
                     t->stale ? "stale" : "good", "Kernel", t->kernel);
}

static int ls(int argc, char **argv)
{
    CLEANUP(mem) struct template_info *v = NULL;
    struct ls_args a = {0};
    struct store *s = NULL;
    struct err e = {0};
    size_t n = 0;
    int at = flag_parse(&ls_command, argc, argv, &a, &e);

    if (at <= 0)
        return flag_stop(&ls_command, at, &e);
    int r = store_open(NULL, &s, &e);
    if (r == 0)
        r = template_list(store_root(s), &v, &n, &e);
    json_t *rows = json_array();
    for (size_t i = 0; r == 0 && i < n; i++)
        json_array_append_new(rows, row(&v[i], human_now_ns()));
    if (r == 0)
        r = format_list(a.format, columns, a.quiet, "Key", rows, &e);
    json_decref(rows);
    store_close(s);
    return r < 0 ? say_err(&e, EXIT_KILN) : 0;
}

/* --- rm ---------------------------------------------------------------------- */

static int rm(int argc, char **argv);
static const struct command rm_command = {
    .name = "template rm",
    .operands = "KEY...",
    .summary = "remove templates",
    .min_operands = 1,
    .max_operands = FLAG_MANY,
    .values = "@template",
    .run = rm,
};

static int rm(int argc, char **argv)
{
    struct store *s = NULL;
    struct err e = {0};
    int status = 0, at = flag_parse(&rm_command, argc, argv, NULL, &e);

    if (at <= 0)
        return flag_stop(&rm_command, at, &e);
    if (store_open(NULL, &s, &e) < 0)
        return say_err(&e, EXIT_KILN);
    for (int i = at; i < argc; i++) {
        if (template_remove(store_root(s), argv[i], &e) < 0)
            status = say_err(&e, 1);
        else
            printf("removed %s\n", argv[i]);
    }
    store_close(s);
    return status;
}

/* --- make -------------------------------------------------------------------- */

struct make_args {
    uint64_t ram_bytes;
    unsigned cpus;
    const char *kernel, *engine;
    bool volumes;
};

#define A struct make_args
static const struct flag make_flags[] = {
    {"memory", 'm', "SIZE", "of the machine, as of kiln run (default 512m)",
     FLAG_SIZE(A, ram_bytes)},
    {"cpus", 0, "N", "virtual CPUs (default 1)", FLAG_UINT(A, cpus, 1, VM_CPUS_MAX)},
    {"kernel", 0, "PATH", "guest kernel: a file, or a folder with its modules",
     FLAG_TEXT(A, kernel), .values = "@file"},
    {"engine", 0, "NAME", "that boots it: auto, kvm, bt or interp (default auto)",
     FLAG_TEXT(A, engine), .values = "auto kvm bt interp"},
    {"volumes", 0, NULL, "for runs with shared folders (-v)", FLAG_BOOL(A, volumes)},
    {0},
};
static const struct flag_group make_group = {NULL, make_flags};
static int make(int argc, char **argv);
static const struct command make_command = {
    .name = "template make",
    .summary = "boot a machine and keep it",
    .groups = {{&make_group}},
    .run = make,
};

static int make_in(const char *store, const struct make_args *a, struct err *e)
{
    struct guest_conf c = {.store = store,
                           .engine = a->engine,
                           .cpus = a->cpus,
                           .ram_bytes = a->ram_bytes,
                           .n_shares = a->volumes};
    struct session_watch w = {.machine_fd = -1, .signal_fd = -1};
    CLEANUP(mem) char *file = NULL;
    CLEANUP(mem) char *dir = NULL;
    struct template t;
    int r = kernel_find(store, a->kernel, &file, &dir, e);

    c.kernel = file;
    c.kernel_dir = dir;
    if (r == 0)
        r = template_find(&c, &t, e);
    bool there = r == 1;
    if (r == 0)
        r = template_make(&c, &t, &w, true, e);
    if (r < 0 && r != -EEXIST)
        return r;
    printf("%s %s\n", there || r == -EEXIST ? "found" : "made", t.key);
    return 0;
}

static int make(int argc, char **argv)
{
    struct make_args a = {.engine = "auto", .cpus = 1, .ram_bytes = RAM_DEFAULT};
    struct store *s = NULL;
    struct err e = {0};
    int at = flag_parse(&make_command, argc, argv, &a, &e);

    if (at <= 0)
        return flag_stop(&make_command, at, &e);
    int r = store_open(NULL, &s, &e);
    if (r == 0)
        r = make_in(store_root(s), &a, &e);
    store_close(s);
    return r < 0 ? say_err(&e, EXIT_KILN) : 0;
}

static const struct command *const verbs[] = {&ls_command, &rm_command, &make_command, NULL};
const struct command command_template = {
    .name = "template",
    .summary = "booted machines that run starts from",
    .about = "Templates are machines that have booted and were saved; kiln run starts from them "
             "instead of booting. It makes what it needs at first use.",
    .sub = verbs,
};
