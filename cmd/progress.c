#include "cmd/progress.h"

#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "cmd/human.h"
#include "cmd/termwidth.h"
#include "cmd/verb.h"
#include "image/store.h"

enum {
    EVERY_MS = 100, /* between two drawings of the line */
    RATE_MS = 1000, /* of a step, before its speed is told */
    BAR_LEAST = 8,
    BAR_MOST = 40,
};

static int64_t now_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

void progress_init(struct progress *p, bool quiet)
{
    *p = (struct progress){.quiet = quiet, .on = !quiet && isatty(STDERR_FILENO) == 1};
}

/* "  5.2MB/s  12s" */
static void speed(char *buf, size_t len, uint64_t done, uint64_t total, int64_t ms)
{
    char rate[HUMAN_MAX];
    uint64_t each_s = ms > 0 ? done * 1000 / (uint64_t)ms : 0;

    buf[0] = '\0';
    if (ms < RATE_MS || !each_s || !total)
        return;
    snprintf(buf, len, "  %s/s  %llus", human_size(each_s, rate),
             (unsigned long long)((total - done + each_s - 1) / each_s));
}

/* A bar that fills what is left of the line; nothing where that is too little. */
static void bar(char *buf, int room, uint64_t done, uint64_t total)
{
    int inside = (room > BAR_MOST ? BAR_MOST : room) - 4; /* two spaces, two brackets */

    buf[0] = '\0';
    if (inside + 4 < BAR_LEAST)
        return;
    int filled = (int)((double)done / (double)total * inside);
    memcpy(buf, "  [", 3);
    for (int i = 0; i < inside; i++)
        buf[3 + i] = i < filled ? '=' : i == filled ? '>' : ' ';
    memcpy(buf + 3 + inside, "]", 2);
}

int progress_line(char *buf, size_t len, int width, const char *what, uint64_t done, uint64_t total,
                  int64_t ms)
{
    char part[HUMAN_MAX], whole[HUMAN_MAX], size[2 * HUMAN_MAX + 8] = "", rate[HUMAN_MAX * 2],
                                                                 filled[BAR_MOST + 8];
    int room = width - 1; /* the last column would wrap on some terminals */

    if (total && done > total)
        done = total;
    if (total)
        snprintf(size, sizeof(size), "  %s/%s", human_size(done, part), human_size(total, whole));
    else if (done)
        snprintf(size, sizeof(size), "  %llu", (unsigned long long)done);
    speed(rate, sizeof(rate), done, total, ms);
    if ((int)(strlen(what) + strlen(size) + strlen(rate)) > room)
        rate[0] = '\0';
    bar(filled, total ? room - (int)(strlen(what) + strlen(size) + strlen(rate)) : 0, done, total);
    int n = snprintf(buf, len, "%.*s%s%s%s", room, what, filled, size, rate);
    if (n > room) {
        buf[room < (int)len ? room : (int)len - 1] = '\0';
        n = (int)strlen(buf);
    }
    return n;
}

void progress_tell(void *ctx, const char *what, uint64_t done, uint64_t total)
{
    struct progress *p = ctx;
    char line[256];
    int64_t t;

    if (!p->on)
        return;
    t = now_ms();
    if (strncmp(p->what, what, sizeof(p->what) - 1) != 0) {
        snprintf(p->what, sizeof(p->what), "%s", what);
        p->step_ms = t;
    } else if (t - p->last_ms < EVERY_MS) {
        return;
    }
    p->last_ms = t;
    p->drawn = true;
    progress_line(line, sizeof(line), termwidth(STDERR_FILENO, 80), what, done, total,
                  t - p->step_ms);
    fputs("\r\033[K", stderr);
    say_plain(stderr, line);
    fflush(stderr);
}

void progress_done(struct progress *p)
{
    if (p->drawn)
        fputs("\r\033[K", stderr);
    p->drawn = false;
}

int progress_image(struct progress *p, int r, const char *verb, struct image *im,
                   const struct err *e)
{
    progress_done(p);
    if (r < 0)
        return say_err(e, EXIT_KILN);
    if (!p->quiet)
        say("%s %s", verb, im->name);
    puts(im->digest);
    image_done(im);
    return 0;
}
