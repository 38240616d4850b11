/* kiln top CONTAINER: its processes, in ps(1)'s columns. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/sysmacros.h>
#include <time.h>

#include "base/cleanup.h"
#include "cmd/columns.h"
#include "cmd/ctrfiles.h"
#include "cmd/flag.h"
#include "cmd/liveview.h"
#include "cmd/topverb.h"
#include "cmd/verb.h"
#include "proto/proctable.h"

static int run(int argc, char **argv);

const struct command command_top = {
    .name = "top",
    .operands = "[CONTAINER [PS-OPTION...]]",
    .summary = "watch containers, or show the processes of one",
    .about = "Without a container: what all of them use, on the terminal, with keys to sort, stop, "
             "pause, and more; h tells them. "
             "With one: prints the processes of a running container in ps(1)'s columns, or those "
             "named by\n"
             "-o, such as -o pid,rss,args. A machine's processes have the numbers they have in it.",
    .flags_first = true,
    .max_operands = FLAG_MANY,
    .values = "@running",
    .run = run,
};

enum { COLUMNS_MAX = 16, CELL_MAX = 600, TABLE_MAX = 8 << 20 };

static void seconds(uint64_t s, char *out)
{
    if (s >= 86400)
        snprintf(out, CELL_MAX, "%llu-%02llu:%02llu:%02llu", (unsigned long long)(s / 86400),
                 (unsigned long long)(s / 3600 % 24), (unsigned long long)(s / 60 % 60),
                 (unsigned long long)(s % 60));
    else
        snprintf(out, CELL_MAX, "%02llu:%02llu:%02llu", (unsigned long long)(s / 3600),
                 (unsigned long long)(s / 60 % 60), (unsigned long long)(s % 60));
}

static void cell_pid(const struct proctable_row *r, char *out)
{
    snprintf(out, CELL_MAX, "%d", (int)r->pid);
}
static void cell_ppid(const struct proctable_row *r, char *out)
{
    snprintf(out, CELL_MAX, "%d", (int)r->ppid);
}
static void cell_user(const struct proctable_row *r, char *out)
{
    snprintf(out, CELL_MAX, "%s", r->user);
}
static void cell_cpu(const struct proctable_row *r, char *out)
{
    double s = r->elapsed_s ? (double)r->elapsed_s : 1;

    snprintf(out, CELL_MAX, "%.1f", (double)r->cpu_ms / 10 / s);
}
static void cell_c(const struct proctable_row *r, char *out)
{
    snprintf(out, CELL_MAX, "%llu",
             (unsigned long long)(r->cpu_ms / 10 / (r->elapsed_s ? r->elapsed_s : 1)));
}
static void cell_start(const struct proctable_row *r, char *out)
{
    time_t at = time(NULL) - (time_t)r->elapsed_s;
    struct tm tm;

    localtime_r(&at, &tm);
    strftime(out, CELL_MAX, r->elapsed_s < 86400 ? "%H:%M" : "%b%d", &tm);
}
static void cell_tty(const struct proctable_row *r, char *out)
{
    unsigned major = (unsigned)r->tty >> 8 & 0xfff, minor = (unsigned)r->tty & 0xff;

    if (r->tty == 0)
        snprintf(out, CELL_MAX, "?");
    else if (major >= 136 && major < 144) /* Linux Documentation/admin-guide/devices.txt */
        snprintf(out, CELL_MAX, "pts/%u", (major - 136) * 256 + minor);
    else
        snprintf(out, CELL_MAX, "%u:%u", major, minor);
}
static void cell_time(const struct proctable_row *r, char *out)
{
    seconds(r->cpu_ms / 1000, out);
}
static void cell_elapsed(const struct proctable_row *r, char *out)
{
    seconds(r->elapsed_s, out);
}
static void cell_state(const struct proctable_row *r, char *out)
{
    snprintf(out, CELL_MAX, "%c", r->state);
}
static void cell_rss(const struct proctable_row *r, char *out)
{
    snprintf(out, CELL_MAX, "%llu", (unsigned long long)(r->rss >> 10));
}
static void cell_vsz(const struct proctable_row *r, char *out)
{
    snprintf(out, CELL_MAX, "%llu", (unsigned long long)(r->vsize >> 10));
}
static void cell_nice(const struct proctable_row *r, char *out)
{
    snprintf(out, CELL_MAX, "%d", r->nice);
}
static void cell_threads(const struct proctable_row *r, char *out)
{
    snprintf(out, CELL_MAX, "%u", r->threads);
}
static void cell_args(const struct proctable_row *r, char *out)
{
    snprintf(out, CELL_MAX, "%s", r->command);
}

/* ps(1)'s names of columns, and its headings. */
static const struct column {
    const char *names, *heading;
    void (*cell)(const struct proctable_row *r, char *out);
} columns[] = {
    {"pid", "PID", cell_pid},
    {"ppid", "PPID", cell_ppid},
    {"user uid euser", "USER", cell_user},
    {"pcpu %cpu", "%CPU", cell_cpu},
    {"c", "C", cell_c},
    {"stime start lstart", "STIME", cell_start},
    {"tty tt tname", "TTY", cell_tty},
    {"time cputime", "TIME", cell_time},
    {"etime elapsed", "ELAPSED", cell_elapsed},
    {"s stat state", "S", cell_state},
    {"rss rssize rsz", "RSS", cell_rss},
    {"vsz vsize", "VSZ", cell_vsz},
    {"ni nice", "NI", cell_nice},
    {"nlwp thcount", "NLWP", cell_threads},
    {"args cmd command comm", "CMD", cell_args},
};
static const char *const plain[] = {"uid", "pid", "ppid", "c", "stime", "tty", "time", "cmd", NULL};

static const struct column *find(const char *name, size_t len)
{
    for (size_t i = 0; i < ARRAY_LEN(columns); i++)
        for (const char *w = columns[i].names; *w; w += strcspn(w, " "), w += strspn(w, " "))
            if (strcspn(w, " ") == len && strncasecmp(w, name, len) == 0)
                return &columns[i];
    return NULL;
}

/* The columns of "-o pid,cmd" and the like; of ps's other options none means another one. */
static int choose(int n, char **words, const struct column **out, size_t *count, struct err *e)
{
    const char *list = NULL;

    for (int i = 0; i < n; i++) {
        if ((strcmp(words[i], "-o") == 0 || strcmp(words[i], "o") == 0 ||
             strcmp(words[i], "-eo") == 0) &&
            i + 1 < n)
            list = words[++i];
        else if (strncmp(words[i], "-o", 2) == 0 && words[i][2])
            list = words[i] + 2;
        else if (strncmp(words[i], "--format=", 9) == 0)
            list = words[i] + 9;
    }
    *count = 0;
    for (size_t i = 0; !list && plain[i]; i++)
        out[(*count)++] = find(plain[i], strlen(plain[i]));
    for (const char *p = list; p && *p;) {
        size_t len = strcspn(p, ", ");

        if (len > 0 && *count < COLUMNS_MAX && !(out[(*count)++] = find(p, len)))
            return err_set(e, -EINVAL, "there is no column '%.*s'", (int)len, p);
        p += len + (p[len] != '\0');
    }
    return *count > 0 ? 0 : err_set(e, -EINVAL, "-o names no columns");
}

/* The whole table as lines; a hostile guest's may be of any length. */
static int read_table(const struct record *r, char **text, struct err *e)
{
    CLEANUP(mem) struct pack_in *in = calloc(1, sizeof(*in));
    CLEANUP(mem) struct pack_record *rec = calloc(1, sizeof(*rec));
    struct files_at *at = NULL;
    struct files f;
    size_t len = 0;

    *text = calloc(1, 1);
    if (!in || !rec || !*text)
        return err_errno(e, -ENOMEM, "top");
    int rc = files_enter(NULL, r, &at, e);
    if (rc == 0)
        rc = files_begin(at, FILEWORK_TOP, 0, "", "", &f, e);
    if (rc < 0) {
        files_leave(at);
        return rc;
    }
    pack_in_init(in, pack_fill_fd, &f.out);
    while ((rc = pack_next(in, rec, e)) == 0 && rec->kind != PACK_END) {
        if (rec->kind != PACK_DATA)
            continue;
        char *more = len + rec->len < TABLE_MAX ? realloc(*text, len + rec->len + 1) : NULL;
        if (!more) {
            rc = err_set(e, -E2BIG, "the table of processes is too long");
            break;
        }
        memcpy(more + len, rec->data, rec->len);
        len += rec->len;
        more[len] = '\0';
        *text = more;
    }
    files_end(&f);
    files_leave(at);
    return rc;
}

static int print(char *text, const struct column **cols, size_t n, struct err *e)
{
    char *out = NULL, *line, cell[CELL_MAX];
    size_t out_len;
    struct proctable_row row;
    FILE *f = open_memstream(&out, &out_len);

    if (!f)
        return err_errno(e, -errno, "top");
    for (size_t i = 0; i < n; i++)
        fprintf(f, "%s%s", i ? "\t" : "", cols[i]->heading);
    fputc('\n', f);
    while ((line = strsep(&text, "\n")) && *line) {
        if (!proctable_parse(line, &row))
            continue;
        for (size_t i = 0; i < n; i++) {
            cols[i]->cell(&row, cell);
            fprintf(f, "%s%s", i ? "\t" : "", cell);
        }
        fputc('\n', f);
    }
    fclose(f);
    columns_print(stdout, out);
    free(out);
    return 0;
}

int topverb(const char *name, int n, char **words)
{
    const struct column *cols[COLUMNS_MAX];
    CLEANUP(mem) char *text = NULL;
    struct record r;
    struct err e = {0};
    size_t count;
    int rc = choose(n, words, cols, &count, &e);

    if (rc == 0)
        rc = record_find(NULL, name, RECORD_LOOK, &r, &e);
    if (rc < 0)
        return say_err(&e, 1);
    if (r.state.status != RECORD_RUNNING)
        rc = err_set(&e, -ESRCH, "container %s is not running", r.name);
    if (rc == 0)
        rc = read_table(&r, &text, &e);
    if (rc == 0)
        rc = print(text, cols, count, &e);
    record_done(&r);
    return rc < 0 ? say_err(&e, 1) : 0;
}

static int run(int argc, char **argv)
{
    struct err e = {0};
    int at = flag_parse(&command_top, argc, argv, NULL, &e);

    if (at <= 0)
        return flag_stop(&command_top, at, &e);
    return at == argc ? liveview() : topverb(argv[at], argc - at - 1, argv + at + 1);
}
