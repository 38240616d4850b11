/* kiln run: a container made and started, here or in the background. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "cmd/client.h"
#include "cmd/make.h"
#include "cmd/specflags.h"
#include "cmd/starttrace.h"
#include "cmd/verb.h"
#include "container/keeper.h"

struct shown { /* on a terminal that somebody watches */
    bool on, line;
};

static void show_boot(void *ctx, bool yes)
{
    struct shown *s = ctx;

    if (s->on && s->line)
        fputs("\r\033[K", stderr);
    if (s->on && yes)
        fputs("starting the machine...", stderr);
    s->line = yes;
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

static void set_streams(struct client *c, const struct run_options *o, const struct spec *sp)
{
    c->tty = sp->tty;
    c->in = sp->open_stdin && (!o->attach || (o->attach & ATTACH_STDIN));
    c->out = !o->attach || (o->attach & ATTACH_STDOUT);
    c->err = !o->attach || (o->attach & ATTACH_STDERR);
    c->detach_keys = sp->detach_keys;
}

/* Started: stay, or say who it is. */
static int attend(struct client *c, const struct run_options *o, const char *id, struct err *e)
{
    if (!o->detach)
        return client_stay(c, true, true, e);
    int r = keeper_await(&c->line, e);
    if (r < 0) {
        if (r == -EINTR)
            keeper_give_up(&c->line);
        return keeper_start_status(r);
    }
    puts(id);
    return 0;
}

static int run(struct spec *sp, const struct run_options *o, struct shown *shown, struct trace *t,
               struct err *e)
{
    struct client c;
    struct record rec;
    int status = EXIT_KILN;

    if (make_container(sp, o, &rec, e) < 0)
        return EXIT_KILN;
    trace_set(t, TRACE_IMAGE);
    int r = client_open(&c, !o->no_sig_proxy, e);
    set_streams(&c, o, &rec.spec);
    struct keeper_conf kc = {.attach = !o->detach,
                             .with_stdin = c.in,
                             .counters = o->stats,
                             .trace = t,
                             .watch = &c.watch};
    client_size(&c, &kc.rows, &kc.cols);
    if (r == 0)
        r = keeper_start(&rec, &kc, &c.line, e);
    if (r == 0) {
        c.line.booting = show_boot;
        c.line.console = o->quiet ? NULL : show_console;
        c.line.counters = o->stats ? show_counters : NULL;
        c.line.ctx = shown;
        status = attend(&c, o, rec.id, e);
    } else if (rec.spec.auto_remove && record_relock(&rec, NULL) == 0) {
        (void)!record_remove(&rec, NULL);
    }
    client_close(&c);
    record_done(&rec);
    return status;
}

/* What the start took. A picture that cannot be written fails a run that did not. */
static int show_trace(const char *image, const struct run_options *o, const struct trace *t,
                      int status)
{
    struct err e = {0};
    char title[256];

    if (o->stats)
        starttrace_text(stderr, t);
    if (!o->trace_start)
        return status;
    snprintf(title, sizeof(title), "kiln run %s %s", image, o->cmd[0] ? o->cmd[0] : "");
    if (starttrace_svg(o->trace_start, title, t, &e) == 0)
        return status;
    say("%s", e.msg);
    return status ? status : EXIT_KILN;
}

static int run_traced(struct spec *sp, const struct run_options *o)
{
    struct shown shown = {.on = !o->quiet && isatty(2)};
    struct err e = {0};
    struct trace *t = NULL;

    if (o->stats || o->trace_start) {
        t = trace_new(&e);
        if (!t)
            return say_err(&e, EXIT_KILN);
        trace_set(t, TRACE_MAIN);
    }
    CLEANUP(mem) char *image = strdup(sp->image);
    sp->count_insns |= o->stats;
    int status = run(sp, o, &shown, t, &e);
    show_boot(&shown, false);
    if (e.code < 0)
        say("%s", e.msg);
    if (t)
        status = show_trace(image ? image : "", o, t, status);
    trace_free(t);
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
