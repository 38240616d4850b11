/* cmd/livedraw.h - the picture of kiln top: from samples to the text of one screen. Pure. */
#ifndef CMD_LIVEDRAW_H
#define CMD_LIVEDRAW_H

#include <stdbool.h>
#include <stdio.h>

#include "container/stats.h"

enum livedraw_sort {
    LIVE_BY_CPU,
    LIVE_BY_MEMORY,
    LIVE_BY_NET,
    LIVE_BY_DISK,
    LIVE_BY_PIDS,
    LIVE_BY_NAME,
    LIVE_SORTS
};

struct livedraw {
    int rows, cols; /* of the terminal */
    bool color;
    enum livedraw_sort sort;
    bool reverse;
    char selected[RECORD_ID_LEN + 1]; /* its id; "" = none yet */
    int top;                          /* first row that is shown */
    bool help;                        /* the keys instead of the list */
    const char *message;              /* last line; NULL = the keys in short */
};

/* Sort `row` as asked, keep the selection on its container (or the nearest), scroll to it. */
void livedraw_settle(struct livedraw *d, const struct stats_row **row, size_t n);
/* The same, and write the screen: home, each line cleared to its end, the rest cleared. */
void livedraw(struct livedraw *d, const struct stats_row **row, size_t n, FILE *out);
/* Move the selection by so many rows. */
void livedraw_move(struct livedraw *d, const struct stats_row **row, size_t n, int by);
/* The selected row; NULL = there is none. */
const struct stats_row *livedraw_row(const struct livedraw *d, const struct stats_row *const *row,
                                     size_t n);
/* "999", "1.23k", "12.3M": bytes in at most five characters, powers of 1000. */
const char *livedraw_size(double bytes, char out[16]);

#endif
