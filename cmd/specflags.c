#include "cmd/specflags.h"

#include <errno.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "cmd/flags.h"
#include "image/store.h"
#include "mem/mem.h"
#include "vm/vm.h"

struct both { /* targets of the two kinds of groups */
    struct spec *spec;
    struct run_options *options;
};

static int set_pull(void *pull, const char *value, struct err *e)
{
    static const char *const words[] = {"missing", "always", "never"};

    for (unsigned i = 0; i < ARRAY_LEN(words); i++) {
        if (strcmp(value, words[i]) == 0) {
            *(enum specflags_pull *)pull = (enum specflags_pull)i;
            return 0;
        }
    }
    return err_set(e, -EINVAL, "'%s' is none of missing, always, never", value);
}

static int add_attach(void *attach, const char *value, struct err *e)
{
    static const char *const words[] = {"stdin", "stdout", "stderr"};

    for (unsigned i = 0; i < ARRAY_LEN(words); i++) {
        if (strcasecmp(value, words[i]) == 0) {
            *(unsigned *)attach |= 1U << i;
            return 0;
        }
    }
    return err_set(e, -EINVAL, "'%s' is none of stdin, stdout, stderr", value);
}

static int set_sig_proxy(void *no_sig_proxy, const char *value, struct err *e)
{
    (void)e;
    *(bool *)no_sig_proxy = strcmp(value, "false") == 0;
    return 0;
}

#define O struct run_options
#define NAME_FLAGS                                                                              \
    {"name", 0, "NAME", "its name", FLAG_TEXT(O, name)},                                        \
        {"cidfile", 0, "FILE", "write its id there", FLAG_TEXT(O, cidfile), .values = "@file"}, \
        {"entrypoint", 0, "COMMAND", "instead of the image's; '' for none",                     \
         FLAG_TEXT(O, entrypoint)},                                                             \
        {"pull",                                                                                \
         0,                                                                                     \
         "WHEN",                                                                                \
         "the image: missing (default), always, never",                                         \
         FLAG_AT(O, pull, set_pull),                                                            \
         .values = "missing always never"},                                                     \
        {"quiet", 'q', NULL, "no word of kiln's own but errors", FLAG_BOOL(O, quiet)},          \
    {                                                                                           \
        "attach", 'a', "STREAM", "stdin, stdout or stderr, and not the others",                 \
            FLAG_AT(O, attach, add_attach), .values = "stdin stdout stderr"                     \
    }

static const struct flag run_flags[] = {
    {"detach", 'd', NULL, "run in the background; prints the container's id", FLAG_BOOL(O, detach)},
    NAME_FLAGS,
    {"sig-proxy", 0, NULL, "pass signals on (default true)",
     FLAG_AT(O, no_sig_proxy, set_sig_proxy)},
    {"stats", 0, NULL, "where the time went and what the engine counted, on stderr",
     FLAG_BOOL(O, stats)},
    {"trace-start", 0, "FILE", "where the time of the start went, as a picture (SVG)",
     FLAG_TEXT(O, trace_start), .values = "@file"},
    {0},
};
static const struct flag create_flags[] = {NAME_FLAGS, {0}};

static const struct flag keep_flags[] = {
    {"rm", 0, NULL, "remove the container when it ended", FLAG_BOOL(struct spec, auto_remove)},
    {0},
};
static const struct flag_group run_group = {NULL, run_flags}, create_group = {NULL, create_flags},
                               keep_group = {"Afterwards", keep_flags};

#define SPEC_GROUP(group)                           \
    {                                               \
        &(group), offsetof(struct both, spec), true \
    }
#define ALL_GROUPS(own)                                                                     \
    {                                                                                       \
        {&(own), offsetof(struct both, options), true}, SPEC_GROUP(keep_group),             \
            SPEC_GROUP(flags_process), SPEC_GROUP(flags_machine), SPEC_GROUP(flags_limits), \
            SPEC_GROUP(flags_storage), SPEC_GROUP(flags_net), SPEC_GROUP(flags_life),       \
            SPEC_GROUP(flags_power)                                                         \
    }

const struct command command_run = {
    .name = "run",
    .operands = "IMAGE [COMMAND [ARGUMENT...]]",
    .summary = "run a command of a container image",
    .about = "Runs a command of a container image in a machine of its own: own kernel, own memory. "
             "An image that is not in the store is pulled first.",
    .after =
        "Exit status: the command's; 128 + N if signal N ended it; 124 when the time was over;\n"
        "125 if kiln failed, 126 if the command cannot be run, 127 if it is not there.",
    .groups = ALL_GROUPS(run_group),
    .min_operands = 1,
    .max_operands = FLAG_MANY,
    .flags_first = true,
    .values = "@image @command",
};

const struct command command_create = {
    .name = "create",
    .operands = "IMAGE [COMMAND [ARGUMENT...]]",
    .summary = "make a container, to be started later",
    .about =
        "Makes a container of an image, for kiln start, and prints its id. The flags are those of "
        "kiln run. An image that is not in the store is pulled first.",
    .groups = ALL_GROUPS(create_group),
    .min_operands = 1,
    .max_operands = FLAG_MANY,
    .flags_first = true,
    .values = "@image @command",
};

/* Docker's answers to what does not go together. */
static int check_together(const struct spec *s, const struct run_options *o, bool attached,
                          struct err *e)
{
    if (s->auto_remove && s->restart != SPEC_NO)
        return err_set(e, -EINVAL, "--restart and --rm do not go together");
    if (o->detach && o->attach)
        return err_set(e, -EINVAL, "-a and -d do not go together");
    if (o->detach && (o->stats || o->trace_start))
        return err_set(e, -EINVAL, "--stats and --trace-start do not go with -d");
    if (s->nano_cpus != SPEC_UNSET &&
        (s->cpu_quota_us != SPEC_UNSET || s->cpu_period_us != SPEC_UNSET))
        return err_set(e, -EINVAL,
                       "--cpus says the same as --cpu-quota and --cpu-period: give one");
    if (s->memory_swap > 0 && s->memory == SPEC_UNSET)
        return err_set(e, -EINVAL, "--memory-swap goes with --memory");
    if (s->memory_swap > 0 && s->memory_swap < s->memory)
        return err_set(e, -EINVAL, "--memory-swap is both together: no less than --memory");
    if (s->memory_reservation != SPEC_UNSET && s->memory != SPEC_UNSET &&
        s->memory_reservation > s->memory)
        return err_set(e, -EINVAL, "--memory-reservation is more than --memory");
    if (attached && s->tty && s->open_stdin && !o->detach && !o->attach && !isatty(0))
        return err_set(e, -ENOTTY, "-i with -t needs a terminal as standard input; leave -t out");
    return 0;
}

static int check_machine(const struct spec *s, struct err *e)
{
    if (s->memory != SPEC_UNSET &&
        (s->memory < (int64_t)VM_RAM_MIN_MIB << 20 || (uint64_t)s->memory > MEM_SIZE_MAX))
        return err_set(e, -EINVAL, "--memory: a machine has %d MiB to %llu MiB", VM_RAM_MIN_MIB,
                       (unsigned long long)(MEM_SIZE_MAX >> 20));
    if (s->nano_cpus != SPEC_UNSET && s->nano_cpus > (int64_t)VM_CPUS_MAX * 1000000000)
        return err_set(e, -EINVAL, "--cpus: a machine has at most %d", VM_CPUS_MAX);
    return 0;
}

static int check_process(const struct spec *s, struct err *e)
{
    enum { LEAST = 6 }; /* MiB: docker's least, below which nothing starts */

    if (s->memory != SPEC_UNSET && s->memory < (int64_t)LEAST << 20)
        return err_set(e, -EINVAL, "--memory: at least %d MiB", LEAST);
    if (s->engine || s->kernel)
        return err_set(e, -EINVAL, "--%s is for machines, not for --isolation=process",
                       s->engine ? "engine" : "kernel");
    return 0;
}

int specflags_parse(int argc, char **argv, struct spec *s, struct run_options *o, struct err *e)
{
    const struct command *c = strcmp(argv[0], "create") == 0 ? &command_create : &command_run;
    struct both b = {s, o};

    *o = (struct run_options){0};
    int at = flag_parse(c, argc, argv, &b, e);
    if (at <= 0)
        return at;
    int r = flags_copy(&s->image, argv[at], e);
    if (r == 0 && !argv[at][0])
        r = err_set(e, -EINVAL, "the image has no name");
    o->cmd = argv + at + 1;
    if (r == 0)
        r = check_together(s, o, c == &command_run, e);
    if (r == 0)
        r = s->isolation == SPEC_VM ? check_machine(s, e) : check_process(s, e);
    return r < 0 ? r : 1;
}

static int merge_argv(struct spec *s, const struct run_options *o, const struct image_config *ic,
                      struct err *e)
{
    int r = 0;

    if (!o->entrypoint)
        r = strv_add_all(&s->argv, ic->entrypoint);
    else if (o->entrypoint[0])
        r = strv_add(&s->argv, o->entrypoint);
    if (r == 0 && o->cmd[0])
        r = strv_add_all(&s->argv, o->cmd);
    else if (r == 0 && !o->entrypoint)
        r = strv_add_all(&s->argv, ic->cmd);
    if (r < 0)
        return err_errno(e, r, "command");
    if (s->argv.n == 0)
        return err_set(e, -EINVAL, "the image names no command: give one");
    return 0;
}

static size_t name_len(const char *pair)
{
    return strcspn(pair, "=");
}

/* The image's pairs, then ours, each name once: the last one counts. */
static int merge_pairs(struct strv *ours, char *const *images, struct err *e)
{
    struct strv all = {0}, once = {0};
    int r = strv_add_all(&all, images);

    if (r == 0)
        r = strv_add_all(&all, ours->v);
    for (size_t i = 0; r == 0 && i < all.n; i++) {
        size_t n = name_len(all.v[i]), k = i + 1;

        while (k < all.n && (name_len(all.v[k]) != n || strncmp(all.v[k], all.v[i], n) != 0))
            k++;
        if (k == all.n)
            r = strv_add(&once, all.v[i]);
    }
    strv_done(&all);
    if (r < 0) {
        strv_done(&once);
        return err_errno(e, r, "variables");
    }
    strv_done(ours);
    *ours = once;
    return 0;
}

static int take_unless(char **ours, const char *images, struct err *e)
{
    return *ours || !images || !images[0] ? 0 : flags_copy(ours, images, e);
}

static bool has_word(const struct strv *all, const char *word)
{
    for (size_t i = 0; i < all->n; i++)
        if (strcmp(all->v[i], word) == 0)
            return true;
    return false;
}

static int merge_exposed(struct spec *s, const struct image_config *ic, struct err *e)
{
    int r = 0;

    for (size_t i = 0; r == 0 && i < ic->exposed.n; i++)
        if (!has_word(&s->exposed, ic->exposed.v[i]))
            r = strv_add(&s->exposed, ic->exposed.v[i]);
    return r < 0 ? err_errno(e, r, "exposed ports") : 0;
}

/* Where nothing is mounted that the image wants a volume at, there is one without a name. */
static int merge_volumes(struct spec *s, const struct image_config *ic, struct err *e)
{
    int r = 0;

    for (size_t i = 0; r == 0 && i < ic->volumes.n; i++) {
        bool there = false;

        for (size_t k = 0; k < s->n_mounts; k++)
            there |= strcmp(s->mounts[k].target, ic->volumes.v[i]) == 0;
        if (!there)
            r = flags_volume(s, ic->volumes.v[i], e);
    }
    return r < 0 ? err_wrap(e, r, "volume of the image") : 0;
}

static void merge_number(int64_t *ours, int64_t images)
{
    if (*ours == SPEC_UNSET && images > 0)
        *ours = images;
}

static int merge_health(struct spec *s, const struct image_config *ic, struct err *e)
{
    if (s->health.cmd.n == 0 && strv_add_all(&s->health.cmd, ic->health.v) < 0)
        return err_errno(e, -ENOMEM, "health command");
    merge_number(&s->health.interval_ns, ic->health_interval_ns);
    merge_number(&s->health.timeout_ns, ic->health_timeout_ns);
    merge_number(&s->health.start_period_ns, ic->health_start_period_ns);
    merge_number(&s->health.retries, ic->health_retries);
    return 0;
}

int specflags_merge(struct spec *s, const struct run_options *o, const struct image *im,
                    struct err *e)
{
    int r = merge_argv(s, o, &im->config, e);

    if (r == 0)
        r = merge_pairs(&s->env, im->config.env, e);
    if (r == 0)
        r = merge_pairs(&s->labels, im->config.labels.v, e);
    if (r == 0)
        r = merge_exposed(s, &im->config, e);
    if (r == 0)
        r = merge_volumes(s, &im->config, e);
    if (r == 0)
        r = merge_health(s, &im->config, e);
    if (r == 0)
        r = take_unless(&s->cwd, im->config.workdir, e);
    if (r == 0)
        r = take_unless(&s->user, im->config.user, e);
    if (r == 0)
        r = take_unless(&s->stop_signal, im->config.stop_signal, e);
    if (r == 0)
        r = flags_copy(&s->image_id, im->config_digest, e);
    if (r == 0)
        r = flags_copy(&s->image_digest, im->digest, e);
    return r;
}
