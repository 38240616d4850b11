/* cmd/progress.h - long work told on stderr: one line that changes on a terminal, a line a step
 * elsewhere. */
#ifndef CMD_PROGRESS_H
#define CMD_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

struct progress { /* embedded: progress_init(), progress_done() */
    bool quiet, terminal;
    bool drawn;     /* a line is on the terminal */
    char what[128]; /* the step told last */
    int64_t last_ms;
};

void progress_init(struct progress *p, bool quiet);
/* As store_progress wants it; ctx is a struct progress. */
void progress_tell(void *ctx, const char *what, uint64_t done, uint64_t total);
void progress_done(struct progress *p); /* clears the line */

struct err;
struct image;
/* How bringing in an image ends: the line is cleared; r < 0: e's sentence, else "VERB NAME" and the
 * digest, and *im is released. Returns the exit status. */
int progress_image(struct progress *p, int r, const char *verb, struct image *im,
                   const struct err *e);

/* "1.5 MB" */
void progress_size(uint64_t bytes, char out[32]);

#endif
