/* kiln run: a container image in a machine of its own. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "cmd/runflags.h"
#include "cmd/starttrace.h"
#include "cmd/verb.h"
#include "container/run.h"
#include "image/initrd.h"
#include "image/store.h"

static const char help[] =
    "Usage: kiln run [flags] IMAGE [COMMAND [ARGUMENT...]]\n\n"
    "Runs a command of a container image in a machine of its own: own kernel, own memory.\n"
    "An image that is not in the store is pulled first.\n\n"
    "  -i, --interactive      pass standard input on\n"
    "  -t, --tty              give the command a terminal\n"
    "  -e, --env K[=V]        set a variable; without =V as it is here\n"
    "      --env-file FILE    variables, one a line\n"
    "  -w, --workdir DIR      working directory\n"
    "  -u, --user USER        name or uid, with :GROUP if wanted\n"
    "      --entrypoint CMD   instead of the image's; '' for none\n"
    "  -h, --hostname NAME    the machine's name\n"
    "      --name NAME        the container's name\n"
    "  -m, --memory SIZE      memory, such as 512m or 2g (default 512m)\n"
    "      --cpus N           virtual CPUs (default 1)\n"
    "      --read-only        refuse writes to the root file system\n"
    "  -v, --volume HOST:GUEST[:ro]\n"
    "                         share a folder of this host\n"
    "      --engine NAME      auto, kvm, bt or interp (default auto)\n"
    "      --code-cache SIZE  bt: translated code that is kept, 1m to 1g (default 20m)\n"
    "      --kernel PATH      guest kernel: a file, or a folder with its modules\n"
    "      --timeout TIME     stop after this long, such as 30 or 5m\n"
    "      --no-template      boot, even where a machine that has booted is kept\n"
    "      --perf-map         bt: write /tmp/perf-PID.map, the guest's code for perf(1)\n"
    "      --stats            where the time went and what the engine counted, on stderr\n"
    "      --rm               accepted: nothing of a container outlives it\n"
    "      --trace-start FILE where the time of the start went, as a picture (SVG)\n"
    "  -q, --quiet            no word of kiln's own but errors\n"
    "      --help             this text\n\n"
    "Exit status: the command's; 128 + N if signal N ended it; 124 when the time was over;\n"
    "125 if kiln failed, 126 if the command cannot be run, 127 if it is not there.\n";

/* One line on a terminal, rewritten in place; nothing where nobody watches. */
struct progress {
    bool on, shown;
    struct timespec last;
};

static void clear_line(struct progress *p)
{
    if (p->shown)
        fputs("\r\033[K", stderr);
    p->shown = false;
}

static void show_pull(void *ctx, const char *what, uint64_t done, uint64_t total)
{
    struct progress *p = ctx;
    struct timespec now;

    if (!p->on)
        return;
    clock_gettime(CLOCK_MONOTONIC, &now);
    bool due = now.tv_sec != p->last.tv_sec || now.tv_nsec - p->last.tv_nsec > 100000000;
    if (p->shown && !due)
        return;
    p->last = now;
    fprintf(stderr, "\r\033[K%s", what);
    if (total)
        fprintf(stderr, " %llu/%llu MiB", (unsigned long long)(done >> 20),
                (unsigned long long)(total >> 20));
    p->shown = true;
}

static void show_boot(void *ctx, bool yes)
{
    struct progress *p = ctx;

    if (!p->on)
        return;
    clear_line(p);
    if (yes) {
        fputs("starting the machine...", stderr);
        p->shown = true;
    }
}

static void show_console(void *ctx, const char *text)
{
    (void)ctx;
    fprintf(stderr, "the end of the guest's console:\n%s%s", text,
            text[0] && text[strlen(text) - 1] == '\n' ? "" : "\n");
}

static void show_counters(void *ctx, const struct vm_report *r)
{
    (void)ctx;
    print_stats(r);
}

/* The image, pulled if the store does not know it. */
static int get_image(struct store *s, const char *ref, struct progress *p, struct image *im,
                     struct err *e)
{
    int r = store_find(s, ref, im, e);

    if (r != -ENOENT)
        return r;
    if (p->on)
        fprintf(stderr, "image '%s' is not here: pulling it\n", ref);
    r = store_pull(s, ref, show_pull, p, im, e);
    clear_line(p);
    return r;
}

static int add_all(struct list *l, char *const *v, struct err *e)
{
    int r = 0;

    for (size_t i = 0; v && v[i] && r == 0; i++)
        r = list_add(l, v[i], e);
    return r;
}

/* Docker's rule: words on the command line replace CMD; an entrypoint there replaces both. */
static int make_argv(const struct run_flags *f, const struct image_config *ic, struct list *argv,
                     struct err *e)
{
    int r = 0;

    if (!f->entrypoint_given)
        r = add_all(argv, ic->entrypoint, e);
    else if (f->entrypoint[0])
        r = list_add(argv, f->entrypoint, e);
    if (r == 0 && f->cmd[0])
        r = add_all(argv, f->cmd, e);
    else if (r == 0 && !f->entrypoint_given)
        r = add_all(argv, ic->cmd, e);
    if (r == 0 && argv->n == 0)
        return err_set(e, -EINVAL, "the image names no command: give one");
    return r;
}

static size_t name_len(const char *var)
{
    return strcspn(var, "=");
}

/* The image's variables, then ours, each name once: the last one counts. */
static int make_env(const struct run_flags *f, const struct image_config *ic, struct list *env,
                    struct err *e)
{
    struct list all = {0};
    int r = add_all(&all, ic->env, e);

    if (r == 0)
        r = add_all(&all, f->env.v, e);
    for (size_t i = 0; r == 0 && i < all.n; i++) {
        size_t n = name_len(all.v[i]), k = i + 1;

        while (k < all.n && (name_len(all.v[k]) != n || strncmp(all.v[k], all.v[i], n) != 0))
            k++;
        if (k == all.n)
            r = list_add(env, all.v[i], e);
    }
    list_done(&all);
    return r;
}

static int check_terminal(const struct run_flags *f, struct err *e)
{
    if (f->tty && f->interactive && !isatty(0))
        return err_set(e, -ENOTTY, "-i with -t needs a terminal as standard input; leave -t out");
    return 0;
}

static int check_hostname(const char *name, struct err *e)
{
    size_t n = name ? strlen(name) : 1;

    if (n == 0 || n > 63 || (name && strpbrk(name, " \t\n/")))
        return err_set(e, -EINVAL, "--hostname '%s' is not a host's name of at most 63 bytes",
                       name);
    return 0;
}

/* Everything that may fail before a machine exists; then the machine. */
static int run(const struct run_flags *f, struct progress *p, struct trace *t, struct image *im,
               struct list *argv, struct list *env, struct err *e)
{
    CLEANUP(mem) char *kernel = NULL;
    CLEANUP(mem) char *dir = NULL;
    struct store *s = NULL;
    int r = store_open(NULL, &s, e);

    if (r == 0)
        r = kernel_find(store_root(s), f->kernel, &kernel, &dir, e);
    if (r == 0)
        r = get_image(s, f->image, p, im, e);
    CLEANUP(mem) char *templates = r == 0 && !f->no_template ? strdup(store_root(s)) : NULL;
    store_close(s);
    if (r == 0)
        r = make_argv(f, &im->config, argv, e);
    if (r == 0)
        r = make_env(f, &im->config, env, e);
    if (r < 0)
        return RUN_KILN;
    struct run_conf c = {
        .store = templates,
        .kernel = kernel,
        .kernel_dir = dir,
        .rootfs = im->rootfs,
        .fstype = im->fstype,
        .engine = f->engine,
        .code_cache_bytes = f->code_cache_bytes,
        .perf_map = f->perf_map,
        .count_insns = f->stats,
        .cpus = f->cpus,
        .ram_bytes = f->ram_bytes,
        .name = f->name,
        .hostname = f->hostname,
        .argv = (const char *const *)argv->v,
        .env = (const char *const *)env->v,
        .cwd = f->workdir ? f->workdir : im->config.workdir,
        .user = f->user ? f->user : im->config.user,
        .tty = f->tty,
        .interactive = f->interactive,
        .read_only = f->read_only,
        .volume = f->volume,
        .n_volumes = f->n_volumes,
        .timeout_ms = f->timeout_ms,
        .booting = show_boot,
        .console = f->quiet ? NULL : show_console,
        .counters = f->stats ? show_counters : NULL,
        .ctx = p,
        .trace = t,
    };
    trace_set(t, TRACE_IMAGE);
    return run_container(&c, e);
}

/* What the start took. A picture that cannot be written fails a run that did not. */
static int show_trace(const struct run_flags *f, const struct trace *t, int status)
{
    struct err e = {0};
    char title[256];

    if (f->stats)
        starttrace_text(stderr, t);
    if (!f->trace_start)
        return status;
    snprintf(title, sizeof(title), "kiln run %s %s", f->image, f->cmd[0] ? f->cmd[0] : "");
    if (starttrace_svg(f->trace_start, title, t, &e) == 0)
        return status;
    say("%s", e.msg);
    return status ? status : RUN_KILN;
}

int cmd_run(int argc, char **argv)
{
    struct run_flags f;
    struct err e = {0};
    struct image im = {0};
    struct list words = {0}, env = {0};
    int r = runflags_parse(argc, argv, &f, &e);

    if (r == 0 && f.help) {
        fputs(help, stdout);
        runflags_done(&f);
        return 0;
    }
    if (r == 0)
        r = check_terminal(&f, &e);
    if (r == 0)
        r = check_hostname(f.hostname, &e);
    if (r < 0) {
        runflags_done(&f);
        return say_usage("run", RUN_KILN, "%s", e.msg);
    }
    struct trace *t = NULL;
    if (f.stats || f.trace_start) {
        t = trace_new(&e);
        if (!t) {
            runflags_done(&f);
            return say_err(&e, RUN_KILN);
        }
        trace_set(t, TRACE_MAIN);
    }
    struct progress p = {.on = !f.quiet && isatty(2)};
    int status = run(&f, &p, t, &im, &words, &env, &e);
    clear_line(&p);
    if (e.code < 0)
        say("%s", e.msg);
    if (t)
        status = show_trace(&f, t, status);
    trace_free(t);
    list_done(&words);
    list_done(&env);
    image_done(&im);
    runflags_done(&f);
    return status;
}
