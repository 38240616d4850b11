/* container/stats.h - what containers use, sampled again and again: for `kiln stats` and `kiln
 * top`.
 *
 * A sample asks each container's keeper, and computes rates from the sample before. Thread: one a
 * struct stats. */
#ifndef CONTAINER_STATS_H
#define CONTAINER_STATS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "container/record.h"
#include "container/task.h"

enum { STATS_ANSWER_MS = 2000 }; /* a container that does not answer meanwhile has no figures */

struct stats_row { /* plain data */
    char id[RECORD_ID_LEN + 1];
    char name[RECORD_NAME_MAX + 1];
    char image[128];
    enum spec_isolation isolation;
    enum record_status status;
    int64_t started_ns;
    bool valid;            /* `now` is: it runs and answered */
    struct task_stats now; /* totals since its start */
    double cpu_percent;    /* of one CPU, since the sample before; the first: since the start */
    double memory_percent; /* of the limit; 0 = none */
    double net_rx_rate, net_tx_rate, disk_read_rate, disk_write_rate; /* bytes/s likewise */
};

struct stats;

/* `names`: NULL-terminated, those alone, each found now (-ENOENT, -EINVAL as record_find()); NULL =
 * all. `all`: also those that do not run. root as in image/store.h. */
int stats_open(const char *root, const char *const *names, bool all, struct stats **ret,
               struct err *e) MUST_CHECK;
void stats_close(struct stats *s); /* may be NULL */
/* A sample. *rows: in the order of the names, or newest first; owned by *s until the next call. One
 * that was removed is left out. */
int stats_take(struct stats *s, const struct stats_row **rows, size_t *n, struct err *e) MUST_CHECK;

#endif
