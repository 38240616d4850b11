#include "cmd/progress.h"

#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "cmd/verb.h"
#include "image/store.h"

enum { EVERY_MS = 100 }; /* between two drawings of the line */

static int64_t now_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

void progress_size(uint64_t bytes, char out[32])
{
    static const char *const unit[] = {"B", "kB", "MB", "GB", "TB"};
    double v = (double)bytes;
    unsigned i = 0;

    while (v >= 1000 && i < 4) {
        v /= 1000;
        i++;
    }
    snprintf(out, 32, i && v < 10 ? "%.1f %s" : "%.0f %s", v, unit[i]);
}

void progress_init(struct progress *p, bool quiet)
{
    *p = (struct progress){.quiet = quiet, .terminal = isatty(STDERR_FILENO) == 1};
}

static void draw(const char *what, uint64_t done, uint64_t total)
{
    char part[32], whole[32];

    progress_size(done, part);
    progress_size(total, whole);
    if (total)
        fprintf(stderr, "\r\033[K%s: %s of %s", what, part, whole);
    else
        fprintf(stderr, "\r\033[K%s", what);
    fflush(stderr);
}

void progress_tell(void *ctx, const char *what, uint64_t done, uint64_t total)
{
    struct progress *p = ctx;
    bool step = strncmp(p->what, what, sizeof(p->what) - 1) != 0;
    int64_t t = now_ms();

    if (p->quiet || (!step && (!p->terminal || t - p->last_ms < EVERY_MS)))
        return;
    snprintf(p->what, sizeof(p->what), "%s", what);
    p->last_ms = t;
    p->drawn = p->terminal;
    if (p->terminal)
        draw(what, done, total);
    else
        fprintf(stderr, "kiln: %s\n", what);
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
