/* cmd/progress.h - long work told on stderr, where that is a terminal: one line that changes, with
 * a bar where the end is known. Nothing elsewhere. */
#ifndef CMD_PROGRESS_H
#define CMD_PROGRESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct progress { /* embedded: progress_init(), progress_done() */
    bool on, quiet;
    bool drawn;     /* a line is on the terminal */
    char what[128]; /* the step told last */
    int64_t last_ms, step_ms;
};

void progress_init(struct progress *p, bool quiet);
/* As store_progress wants it; ctx is a struct progress. */
void progress_tell(void *ctx, const char *what, uint64_t done, uint64_t total);
void progress_done(struct progress *p); /* clears the line */

/* The line as it is drawn in `width` columns, after ms of this step. Returns its length, which is
 * less than the width. */
int progress_line(char *buf, size_t len, int width, const char *what, uint64_t done,
                  uint64_t total /* 0 = unknown */, int64_t ms);

struct err;
struct image;
/* How bringing in an image ends: the line is cleared; r < 0: e's sentence, else "VERB NAME" and the
 * digest, and *im is released. Returns the exit status. */
int progress_image(struct progress *p, int r, const char *verb, struct image *im,
                   const struct err *e);

#endif
