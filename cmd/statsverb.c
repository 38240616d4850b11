/* kiln stats: what containers use, again and again. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "cmd/flag.h"
#include "cmd/format.h"
#include "cmd/human.h"
#include "cmd/verb.h"
#include "container/stats.h"

enum { INTERVAL_S = 1 };

struct stats_args {
    bool all, no_stream, no_trunc;
    const char *format;
};

#define A struct stats_args
static const struct flag flags[] = {
    {"all", 'a', NULL, "also those that do not run", FLAG_BOOL(A, all)},
    {"format", 0, "FORMAT", "table, json, or a template such as '{{.Name}} {{.CPUPerc}}'",
     FLAG_TEXT(A, format), .values = "table json"},
    {"no-stream", 0, NULL, "once", FLAG_BOOL(A, no_stream)},
    {"no-trunc", 0, NULL, "whole ids", FLAG_BOOL(A, no_trunc)},
    {0},
};
static const struct flag_group group = {NULL, flags};
static int run(int argc, char **argv);

const struct command command_stats = {
    .name = "stats",
    .operands = "[CONTAINER...]",
    .summary = "show what containers use",
    .about =
        "Shows CPU, memory, network and disk of running containers, anew each second, or once\n"
        "with --no-stream. Of a machine CPU is what the host spends for it, the rest what the\n"
        "guest sees.",
    .groups = {{&group}},
    .max_operands = FLAG_MANY,
    .values = "@container",
    .run = run,
};

static const struct format_column columns[] = {
    {"ID", "CONTAINER ID"},
    {"Name", "NAME"},
    {"CPUPerc", "CPU %"},
    {"MemUsage", "MEM USAGE / LIMIT"},
    {"MemPerc", "MEM %"},
    {"NetIO", "NET I/O"},
    {"BlockIO", "BLOCK I/O"},
    {"PIDs", "PIDS"},
    {"Container", "CONTAINER", true},
    {0},
};

static json_t *row(const struct stats_row *s, bool whole)
{
    char id[HUMAN_MAX], a[HUMAN_MAX], b[HUMAN_MAX], cpu[32] = "--", mem[128] = "-- / --";
    char percent[32] = "--", net[128] = "--", disk[128] = "--", pids[32] = "--";
    const struct task_stats *t = &s->now;

    if (s->valid) {
        snprintf(cpu, sizeof(cpu), "%.2f%%", s->cpu_percent);
        snprintf(percent, sizeof(percent), "%.2f%%", s->memory_percent);
        snprintf(mem, sizeof(mem), "%s / %s", human_mem(t->memory, a),
                 t->memory_limit ? human_mem(t->memory_limit, b) : "--");
        snprintf(net, sizeof(net), "%s / %s", human_size(t->net_rx, a), human_size(t->net_tx, b));
        snprintf(disk, sizeof(disk), "%s / %s", human_size(t->disk_read, a),
                 human_size(t->disk_write, b));
        snprintf(pids, sizeof(pids), "%llu", (unsigned long long)t->pids);
    }
    return json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:s}", "ID",
                     whole ? s->id : human_id(s->id, id), "Name", s->name, "CPUPerc", cpu,
                     "MemUsage", mem, "MemPerc", percent, "NetIO", net, "BlockIO", disk, "PIDs",
                     pids, "Container", whole ? s->id : human_id(s->id, id));
}

static int show(struct stats *s, const struct stats_args *a, bool clear, struct err *e)
{
    const struct stats_row *rows;
    size_t n;
    int r = stats_take(s, &rows, &n, e);

    if (r < 0)
        return r;
    json_t *list = json_array();
    for (size_t i = 0; i < n; i++)
        json_array_append_new(list, row(&rows[i], a->no_trunc));
    if (clear)
        fputs("\033[H\033[J", stdout);
    r = format_list(a->format, columns, false, "ID", list, e);
    json_decref(list);
    fflush(stdout);
    return r;
}

static int stream(struct stats *s, const struct stats_args *a, struct err *e)
{
    const struct timespec pause = {.tv_sec = INTERVAL_S};
    const struct timespec moment = {.tv_nsec = 250000000};
    const struct stats_row *rows;
    size_t n;
    int r = 0;

    /* One sample gives no rate: the first is not shown. */
    if (stats_take(s, &rows, &n, e) < 0)
        return e->code;
    nanosleep(&moment, NULL);
    if (a->no_stream)
        return show(s, a, false, e);
    signal(SIGPIPE, SIG_DFL);
    while (r == 0) {
        r = show(s, a, isatty(1) && !a->format, e);
        nanosleep(&pause, NULL);
    }
    return r;
}

static int run(int argc, char **argv)
{
    struct stats_args a = {0};
    struct stats *s = NULL;
    struct err e = {0};
    int at = flag_parse(&command_stats, argc, argv, &a, &e);

    if (at <= 0)
        return flag_stop(&command_stats, at, &e);
    int r = stats_open(NULL, at < argc ? (const char *const *)(argv + at) : NULL, a.all, &s, &e);
    if (r == 0)
        r = stream(s, &a, &e);
    stats_close(s);
    return r < 0 ? say_err(&e, 1) : 0;
}
