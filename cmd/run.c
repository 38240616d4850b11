/* kiln run: a container image in a machine of its own. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "cmd/specflags.h"
#include "cmd/starttrace.h"
#include "cmd/verb.h"
#include "container/run.h"
#include "image/initrd.h"
#include "image/store.h"

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

/* Folders of this host; what they are is said once all flags are known. */
static int take_volumes(const struct spec *s, struct volume *v, struct err *e)
{
    struct stat st;

    if (s->n_mounts > VOLUME_MAX)
        return err_set(e, -EINVAL, "-v: at most %d folders", VOLUME_MAX);
    for (size_t i = 0; i < s->n_mounts; i++) {
        const struct spec_mount *m = &s->mounts[i];

        if (m->kind != SPEC_BIND)
            return err_set(e, -ENOTSUP, "-v: '%s' is not a path of this host",
                           m->source ? m->source : m->target);
        if (stat(m->source, &st) < 0)
            return err_errno(e, -errno, "-v: %s", m->source);
        if (!S_ISDIR(st.st_mode))
            return err_set(e, -ENOTDIR, "-v: %s is not a folder", m->source);
        if (strlen(m->target) >= VOLUME_PATH_MAX)
            return err_set(e, -EINVAL, "-v: '%s' cannot be a mount point", m->target);
        v[i] = (struct volume){m->source, m->target, m->read_only};
    }
    return 0;
}

/* Everything that may fail before a machine exists; then the machine. */
static int run(struct spec *sp, const struct run_options *o, struct progress *p, struct trace *t,
               struct image *im, struct err *e)
{
    enum { RAM_DEFAULT = 512 << 20, BILLION = 1000000000 };
    CLEANUP(mem) char *kernel = NULL;
    CLEANUP(mem) char *dir = NULL;
    struct volume volume[VOLUME_MAX];
    struct store *s = NULL;
    int r = take_volumes(sp, volume, e);

    if (r == 0)
        r = store_open(NULL, &s, e);
    if (r == 0)
        r = kernel_find(store_root(s), sp->kernel, &kernel, &dir, e);
    if (r == 0)
        r = get_image(s, sp->image, p, im, e);
    CLEANUP(mem) char *templates = r == 0 && !sp->no_template ? strdup(store_root(s)) : NULL;
    store_close(s);
    if (r == 0)
        r = specflags_merge(sp, o, im, e);
    if (r < 0)
        return RUN_KILN;
    struct run_conf c = {
        .store = templates,
        .kernel = kernel,
        .kernel_dir = dir,
        .rootfs = im->rootfs,
        .fstype = im->fstype,
        .engine = sp->engine ? sp->engine : "auto",
        .code_cache_bytes = sp->code_cache_bytes,
        .perf_map = sp->perf_map,
        .count_insns = o->stats,
        .cpus =
            sp->nano_cpus == SPEC_UNSET ? 1 : (unsigned)((sp->nano_cpus + BILLION - 1) / BILLION),
        .ram_bytes = sp->memory == SPEC_UNSET ? RAM_DEFAULT : (uint64_t)sp->memory,
        .name = o->name,
        .hostname = sp->hostname,
        .argv = (const char *const *)sp->argv.v,
        .env = (const char *const *)sp->env.v,
        .cwd = sp->cwd,
        .user = sp->user,
        .tty = sp->tty,
        .interactive = sp->open_stdin,
        .read_only = sp->read_only,
        .volume = volume,
        .n_volumes = sp->n_mounts,
        .timeout_ms = sp->timeout_ms == SPEC_UNSET ? -1 : (int)sp->timeout_ms,
        .booting = show_boot,
        .console = o->quiet ? NULL : show_console,
        .counters = o->stats ? show_counters : NULL,
        .ctx = p,
        .trace = t,
    };
    trace_set(t, TRACE_IMAGE);
    return run_container(&c, e);
}

/* What the start took. A picture that cannot be written fails a run that did not. */
static int show_trace(const struct spec *sp, const struct run_options *o, const struct trace *t,
                      int status)
{
    struct err e = {0};
    char title[256];

    if (o->stats)
        starttrace_text(stderr, t);
    if (!o->trace_start)
        return status;
    snprintf(title, sizeof(title), "kiln run %s %s", sp->image, o->cmd[0] ? o->cmd[0] : "");
    if (starttrace_svg(o->trace_start, title, t, &e) == 0)
        return status;
    say("%s", e.msg);
    return status ? status : RUN_KILN;
}

static int run_traced(struct spec *sp, const struct run_options *o)
{
    struct err e = {0};
    struct image im = {0};
    struct trace *t = NULL;

    if (o->stats || o->trace_start) {
        t = trace_new(&e);
        if (!t)
            return say_err(&e, RUN_KILN);
        trace_set(t, TRACE_MAIN);
    }
    struct progress p = {.on = !o->quiet && isatty(2)};
    int status = run(sp, o, &p, t, &im, &e);
    clear_line(&p);
    if (e.code < 0)
        say("%s", e.msg);
    if (t)
        status = show_trace(sp, o, t, status);
    trace_free(t);
    image_done(&im);
    return status;
}

int cmd_run(int argc, char **argv)
{
    struct spec sp;
    struct run_options o;
    struct err e = {0};

    spec_init(&sp);
    int r = specflags_parse(argc, argv, &sp, &o, &e);
    int status = r > 0 ? run_traced(&sp, &o) : flag_stop(&command_run, r, &e);
    spec_done(&sp);
    return status;
}
