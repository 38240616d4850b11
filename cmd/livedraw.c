#include "cmd/livedraw.h"

#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "cmd/columns.h"
#include "cmd/human.h"

enum { NAME_LEAST = 8, FRAME_LINES = 4, LINE_MAX_BYTES = 1024, WIDE = 110 };

struct column {
    const char *heading;
    int width; /* 0 = what is left */
    enum livedraw_sort sort;
    int rank; /* the highest go first when room is short */
    bool left;
};

enum { C_NAME, C_IMAGE, C_STATE, C_CPU, C_MEM, C_PERCENT, C_RX, C_TX, C_READ, C_WRITE, C_PIDS };

static const struct column columns[] = {
    [C_NAME] = {"NAME", 0, LIVE_BY_NAME, 0, true},
    [C_IMAGE] = {"IMAGE", 20, LIVE_SORTS, 9, true},
    [C_STATE] = {"STATE", 5, LIVE_SORTS, 5, true},
    [C_CPU] = {"CPU%", 6, LIVE_BY_CPU, 0, false},
    [C_MEM] = {"MEM", 6, LIVE_BY_MEMORY, 0, false},
    [C_PERCENT] = {"MEM%", 5, LIVE_SORTS, 6, false},
    [C_RX] = {"RX/s", 6, LIVE_BY_NET, 3, false},
    [C_TX] = {"TX/s", 6, LIVE_BY_NET, 3, false},
    [C_READ] = {"READ/s", 6, LIVE_BY_DISK, 4, false},
    [C_WRITE] = {"WRIT/s", 6, LIVE_BY_DISK, 4, false},
    [C_PIDS] = {"PIDS", 5, LIVE_BY_PIDS, 2, false},
};

const char *livedraw_size(double bytes, char out[16])
{
    static const char units[] = " kMGTPE";
    unsigned i = 0;

    while (bytes >= 999.5 && units[i + 1]) {
        bytes /= 1000;
        i++;
    }
    if (i == 0)
        snprintf(out, 16, "%.0f", bytes);
    else
        snprintf(out, 16, "%.*f%c", bytes < 9.995 ? 2 : bytes < 99.95 ? 1 : 0, bytes, units[i]);
    return out;
}

static const char *state_word(enum record_status s)
{
    switch (s) {
    case RECORD_RUNNING:
        return "run";
    case RECORD_PAUSED:
        return "pause";
    case RECORD_RESTARTING:
        return "again";
    case RECORD_CREATED:
        return "new";
    default:
        return "ended";
    }
}

/* --- order and selection --------------------------------------------------------- */

static double key_of(const struct stats_row *r, enum livedraw_sort sort)
{
    if (sort == LIVE_BY_NAME)
        return 0;
    if (!r->valid)
        return -1;
    switch (sort) {
    case LIVE_BY_CPU:
        return r->cpu_percent;
    case LIVE_BY_MEMORY:
        return (double)r->now.memory;
    case LIVE_BY_NET:
        return r->net_rx_rate + r->net_tx_rate;
    case LIVE_BY_DISK:
        return r->disk_read_rate + r->disk_write_rate;
    case LIVE_BY_PIDS:
        return (double)r->now.pids;
    default:
        return 0;
    }
}

static int compare(const void *a, const void *b, void *ctx)
{
    const struct stats_row *x = *(const struct stats_row *const *)a;
    const struct stats_row *y = *(const struct stats_row *const *)b;
    const struct livedraw *d = ctx;
    double kx = key_of(x, d->sort), ky = key_of(y, d->sort);
    int r = (kx < ky) - (kx > ky); /* the most first */

    if (r == 0)
        r = strcmp(x->name, y->name);
    return d->reverse ? -r : r;
}

static size_t place(const struct livedraw *d, const struct stats_row *const *row, size_t n)
{
    size_t i = 0;

    while (i < n && strcmp(row[i]->id, d->selected) != 0)
        i++;
    return i;
}

const struct stats_row *livedraw_row(const struct livedraw *d, const struct stats_row *const *row,
                                     size_t n)
{
    size_t at = place(d, row, n);

    return at < n ? row[at] : NULL;
}

static void choose(struct livedraw *d, const struct stats_row *r)
{
    snprintf(d->selected, sizeof(d->selected), "%s", r->id);
}

void livedraw_move(struct livedraw *d, const struct stats_row **row, size_t n, int by)
{
    long at;

    if (n == 0)
        return;
    at = (long)place(d, row, n) + by;
    choose(d, row[at < 0 ? 0 : at >= (long)n ? (long)n - 1 : at]);
}

void livedraw_settle(struct livedraw *d, const struct stats_row **row, size_t n)
{
    int body = d->rows - FRAME_LINES, at;

    if (n > 1)
        qsort_r(row, n, sizeof(*row), compare, d);
    if (n == 0) {
        d->top = 0;
        return;
    }
    if (place(d, row, n) == n) /* it is gone: the one that came in its place on the screen */
        choose(d, row[(size_t)d->top < n ? (size_t)d->top : n - 1]);
    at = (int)place(d, row, n);
    if (at < d->top)
        d->top = at;
    if (body > 0 && at >= d->top + body)
        d->top = at - body + 1;
    if (d->top > (int)n - body && (int)n - body >= 0)
        d->top = (int)n - body;
}

/* --- lines ----------------------------------------------------------------------- */

/* Which columns fit, and how wide the name is. */
static int lay_out(const struct livedraw *d, bool shown[ARRAY_LEN(columns)])
{
    int room = d->cols - 1;

    for (size_t i = 0; i < ARRAY_LEN(columns); i++)
        shown[i] = i != C_IMAGE || d->cols >= WIDE;
    for (;;) {
        int used = 0, worst = -1;

        for (size_t i = 0; i < ARRAY_LEN(columns); i++) {
            if (!shown[i] || i == C_NAME)
                continue;
            used += columns[i].width + 1;
            if (columns[i].rank > 0 && (worst < 0 || columns[i].rank >= columns[worst].rank))
                worst = (int)i;
        }
        if (room - used >= NAME_LEAST || worst < 0)
            return room - used > 1 ? room - used : 1;
        shown[worst] = false;
    }
}

/* A cell of `width` characters; control characters of names are not for the terminal. */
static void cell(FILE *out, const char *text, int width, bool left)
{
    int n = columns_width(text, strlen(text)), fill = width - n;

    if (!left && fill > 0)
        fprintf(out, "%*s", fill, "");
    for (const char *s = text; *s && width > 0; s++) {
        if (((unsigned char)*s & 0xc0) != 0x80)
            width--;
        fputc((unsigned char)*s < ' ' || *s == 0x7f ? '?' : *s, out);
        while (((unsigned char)s[1] & 0xc0) == 0x80)
            fputc(*++s, out);
    }
    if (left && fill > 0)
        fprintf(out, "%*s", fill, "");
}

static void cell_text(const struct stats_row *r, unsigned column, char *buf, size_t len)
{
    char size[16];

    buf[0] = '\0';
    if (column == C_NAME || column == C_IMAGE || column == C_STATE) {
        snprintf(buf, len, "%s",
                 column == C_NAME    ? r->name
                 : column == C_IMAGE ? r->image
                                     : state_word(r->status));
        return;
    }
    if (!r->valid) {
        snprintf(buf, len, "-");
        return;
    }
    switch (column) {
    case C_CPU:
        snprintf(buf, len, "%.1f", r->cpu_percent);
        break;
    case C_MEM:
        snprintf(buf, len, "%s", livedraw_size((double)r->now.memory, size));
        break;
    case C_PERCENT:
        snprintf(buf, len, "%.1f", r->memory_percent);
        break;
    case C_RX:
        snprintf(buf, len, "%s", livedraw_size(r->net_rx_rate, size));
        break;
    case C_TX:
        snprintf(buf, len, "%s", livedraw_size(r->net_tx_rate, size));
        break;
    case C_READ:
        snprintf(buf, len, "%s", livedraw_size(r->disk_read_rate, size));
        break;
    case C_WRITE:
        snprintf(buf, len, "%s", livedraw_size(r->disk_write_rate, size));
        break;
    default:
        snprintf(buf, len, "%llu", (unsigned long long)r->now.pids);
    }
}

static const char *row_color(const struct stats_row *r)
{
    if (r->status == RECORD_PAUSED)
        return "\033[33m";
    if (r->status != RECORD_RUNNING)
        return "\033[2m";
    return r->valid && r->cpu_percent >= 80 ? "\033[31m" : "";
}

static void line_end(FILE *out)
{
    fputs("\033[0m\033[K\r\n", out);
}

static void put_row(const struct livedraw *d, const struct stats_row *r, const bool *shown,
                    int name_width, FILE *out)
{
    bool selected = strcmp(r->id, d->selected) == 0;
    char text[RECORD_NAME_MAX + 80];

    if (d->color)
        fputs(row_color(r), out);
    if (selected)
        fputs("\033[7m", out);
    for (unsigned i = 0; i < ARRAY_LEN(columns); i++) {
        if (!shown[i])
            continue;
        cell_text(r, i, text, sizeof(text));
        if (i)
            fputc(' ', out);
        cell(out, text, i == C_NAME ? name_width : columns[i].width, columns[i].left);
    }
    line_end(out);
}

static void put_headings(const struct livedraw *d, const bool *shown, int name_width, FILE *out)
{
    fputs(d->color ? "\033[1;36m" : "\033[1m", out);
    for (unsigned i = 0; i < ARRAY_LEN(columns); i++) {
        char text[16];

        if (!shown[i])
            continue;
        snprintf(text, sizeof(text), "%s%s", columns[i].heading,
                 columns[i].sort == d->sort && columns[i].left ? " *" : "");
        if (i)
            fputc(' ', out);
        if (columns[i].sort == d->sort)
            fputs("\033[4m", out);
        cell(out, text, i == C_NAME ? name_width : columns[i].width, columns[i].left);
        if (columns[i].sort == d->sort)
            fputs("\033[24m", out);
    }
    line_end(out);
}

static void put_text(const struct livedraw *d, const char *text, FILE *out)
{
    cell(out, text, d->cols - 1, true);
    line_end(out);
}

static void put_summary(const struct livedraw *d, const struct stats_row *const *row, size_t n,
                        FILE *out)
{
    char text[LINE_MAX_BYTES], memory[16];
    unsigned running = 0, paused = 0;
    double cpu = 0, bytes = 0;

    for (size_t i = 0; i < n; i++) {
        running += row[i]->status == RECORD_RUNNING;
        paused += row[i]->status == RECORD_PAUSED;
        cpu += row[i]->valid ? row[i]->cpu_percent : 0;
        bytes += row[i]->valid ? (double)row[i]->now.memory : 0;
    }
    snprintf(text, sizeof(text),
             "kiln: %zu container%s, %u running, %u paused; CPU %.1f%%, memory %sB", n,
             n == 1 ? "" : "s", running, paused, cpu, livedraw_size(bytes, memory));
    put_text(d, text, out);
}

static void put_help(const struct livedraw *d, FILE *out)
{
    static const char *const lines[] = {
        "  arrows, j k, PgUp PgDn, Home End   move",
        "  c m n d i a                        sort by CPU, memory, network, disk, PIDs, name",
        "  r                                  turn the order round",
        "  A                                  show those that do not run too",
        "  s                                  stop it",
        "  K                                  kill it",
        "  p                                  pause it, or let it go on",
        "  l                                  its log; Ctrl-C comes back",
        "  e                                  a shell in it",
        "  h ?                                these keys",
        "  q Ctrl-C                           leave",
    };

    for (size_t i = 0; i < ARRAY_LEN(lines) && (int)i < d->rows - 3; i++)
        put_text(d, lines[i], out);
}

void livedraw(struct livedraw *d, const struct stats_row **row, size_t n, FILE *out)
{
    bool shown[ARRAY_LEN(columns)];
    int name_width = lay_out(d, shown), body = d->rows - FRAME_LINES;

    livedraw_settle(d, row, n);
    fputs("\033[H", out);
    put_summary(d, row, n, out);
    if (d->help) {
        put_text(d, "", out);
        put_help(d, out);
    } else {
        put_headings(d, shown, name_width, out);
        for (int i = d->top; i < (int)n && i < d->top + body; i++)
            put_row(d, row[i], shown, name_width, out);
        if (n == 0)
            put_text(d, "nothing runs", out);
    }
    fputs("\033[J", out); /* what was below */
    fprintf(out, "\033[%d;1H%s", d->rows, d->color ? "\033[2m" : "");
    cell(out,
         d->message ? d->message
                    : "q quit  s stop  K kill  p pause  l log  e shell  c m n d i a sort  h help",
         d->cols - 1, true);
    fputs("\033[0m", out);
}
