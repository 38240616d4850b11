/* proto/proctable.h - a table of processes: read from a /proc, told as lines of text, read again by
 * somebody who does not trust them. Source: proc_pid_stat(5), proc_pid_statm(5).
 * Thread: the caller's. */
#ifndef PROTO_PROCTABLE_H
#define PROTO_PROCTABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"

struct pack_out;

enum { PROCTABLE_ROWS_MAX = 65536, PROCTABLE_LINE_MAX = 1024 };

struct proctable_row {
    pid_t pid, ppid;
    char state;
    uint32_t uid;
    char user[33]; /* name of it, or its number */
    int tty;       /* device number, 0 = none */
    int nice;
    unsigned threads;
    uint64_t cpu_ms;     /* user and system */
    uint64_t elapsed_s;  /* since it was started */
    uint64_t rss, vsize; /* bytes */
    char command[512];   /* its arguments, or its name in brackets; no control characters */
};

/* Process `pid` of the /proc that `proc` is. -ESRCH: it is gone. */
int proctable_read(int proc, pid_t pid, struct proctable_row *row) MUST_CHECK;
/* The name of a uid in a passwd(5) file, which may be missing: else its number. */
void proctable_user(int root, uint32_t uid, char *out, size_t len);

/* One line, its newline included, into PROCTABLE_LINE_MAX bytes; and from one without. */
int proctable_format(const struct proctable_row *row, char *line);
bool proctable_parse(const char *line, struct proctable_row *row);

/* All processes of the container whose root `root` is, but PID 1 (its init) and the caller, as a
 * file of lines. */
int proctable_write(int root, struct pack_out *o, struct err *e) MUST_CHECK;

#endif
