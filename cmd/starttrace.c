#include "cmd/starttrace.h"

#include <errno.h>
#include <string.h>

#include "base/cleanup.h"

enum { /* of the picture, in its units (pixels at 100 %) */
       WIDTH = 960,
       LEFT = 230, /* names end here, time begins */
       RIGHT = 90, /* room for the last number */
       TOP = 78,
       ROW = 26,
       BAR = 16,
       BELOW = 44,
       TICKS = 6, /* about */
};

static const struct {
    const char *name, *color;
} who[] = {
    [TRACE_KILN] = {"kiln", "#4878a8"},
    [TRACE_MACHINE] = {"the machine's process", "#d08030"},
    [TRACE_GUEST] = {"the guest", "#5a9a58"},
};

static double ms(uint64_t ns)
{
    return (double)ns / 1e6;
}

void starttrace_text(FILE *to, const struct trace *t)
{
    struct trace_phase p[TRACE_MOMENTS];
    unsigned n = trace_phases(t, p);

    fputs("  at ms  took ms\n", to);
    for (unsigned i = 0; i < n; i++)
        fprintf(to, "%7.2f  %7.2f  %s (%s)\n", ms(p[i].from_ns), ms(p[i].to_ns - p[i].from_ns),
                p[i].name, who[p[i].who].name);
    if (n)
        fprintf(to, "%7.2f           over\n", ms(p[n - 1].to_ns));
}

/* The text of a user, as XML. */
static void put_text(FILE *f, const char *s)
{
    for (; *s; s++) {
        unsigned char c = (unsigned char)*s;

        if (c == '<')
            fputs("&lt;", f);
        else if (c == '&')
            fputs("&amp;", f);
        else
            fputc(c < ' ' ? ' ' : c, f);
    }
}

/* 1, 2 or 5 times a power of ten, so that there are about TICKS of them. */
static double tick(double total)
{
    double step = 0.01;

    for (unsigned i = 0; step * TICKS < total; i++)
        step *= i % 3 == 1 ? 2.5 : 2;
    return step;
}

static double x_of(double at, double total)
{
    return LEFT + at / total * (WIDTH - LEFT - RIGHT);
}

static void draw_axis(FILE *f, double total, int bottom)
{
    double step = tick(total);

    for (double at = 0; at <= total; at += step)
        fprintf(f,
                "<line x1='%.1f' y1='%d' x2='%.1f' y2='%d' stroke='#ddd'/>"
                "<text x='%.1f' y='%d' text-anchor='middle' fill='#666'>%g</text>\n",
                x_of(at, total), TOP - 8, x_of(at, total), bottom, x_of(at, total), bottom + 18,
                at);
    fprintf(f, "<text x='%d' y='%d' fill='#666'>ms</text>\n", WIDTH - RIGHT + 40, bottom + 18);
}

static void draw_phase(FILE *f, const struct trace_phase *p, double total, int y)
{
    double from = x_of(ms(p->from_ns), total), to = x_of(ms(p->to_ns), total);

    fprintf(f,
            "<text x='%d' y='%d' text-anchor='end'>%s</text>"
            "<rect x='%.1f' y='%d' width='%.1f' height='%d' fill='%s'/>"
            "<text x='%.1f' y='%d'>%.2f</text>\n",
            LEFT - 10, y + BAR - 3, p->name, from, y, to - from < 1 ? 1 : to - from, BAR,
            who[p->who].color, to + 6, y + BAR - 3, ms(p->to_ns - p->from_ns));
}

static void draw(FILE *f, const char *title, const struct trace_phase *p, unsigned n)
{
    double total = n ? ms(p[n - 1].to_ns) : 1;
    int bottom = TOP + (int)n * ROW, x = LEFT;

    fprintf(f,
            "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 %d %d' width='%d' height='%d' "
            "font-family='sans-serif' font-size='13'>\n"
            "<rect width='100%%' height='100%%' fill='#fff'/>\n"
            "<text x='20' y='28' font-size='17'>",
            WIDTH, bottom + BELOW, WIDTH, bottom + BELOW);
    put_text(f, title);
    fprintf(f, ": %.1f ms from start to end</text>\n", total);
    for (unsigned i = 0; i < ARRAY_LEN(who); i++, x += 180)
        fprintf(f,
                "<rect x='%d' y='42' width='12' height='12' fill='%s'/>"
                "<text x='%d' y='53'>%s</text>\n",
                x, who[i].color, x + 18, who[i].name);
    draw_axis(f, total, bottom);
    for (unsigned i = 0; i < n; i++)
        draw_phase(f, &p[i], total, TOP + (int)i * ROW);
    fputs("</svg>\n", f);
}

int starttrace_svg(const char *path, const char *title, const struct trace *t, struct err *e)
{
    struct trace_phase p[TRACE_MOMENTS];
    unsigned n = trace_phases(t, p);
    FILE *f = fopen(path, "we");

    if (!f)
        return err_errno(e, -errno, "--trace-start %s", path);
    draw(f, title, p, n);
    int bad = ferror(f);
    if (fclose(f) != 0 || bad)
        return err_errno(e, -EIO, "--trace-start %s", path);
    return 0;
}
