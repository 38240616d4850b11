/* container/conlog.h - a machine's console as `console.log` in its state folder: its last
 * CONLOG_MAX bytes or more, the ones before in `console.old`. Both are opened while files can be
 * opened: the machine's process needs descriptors only. Thread: one of its own, which lives as long
 * as the process. */
#ifndef CONTAINER_CONLOG_H
#define CONTAINER_CONLOG_H

#include "base/err.h"
#include "os/role.h"

enum { CONLOG_MAX = 256 * 1024 };

struct conlog_files { /* owned: conlog_close() */
    int log, old;
};
#define CONLOG_NONE ((struct conlog_files){-1, -1})

/* Made in the state folder `dir`. */
int conlog_open(int dir, struct conlog_files *f, struct err *e) MUST_CHECK;
void conlog_close(struct conlog_files *f);

struct conlog; /* lives as long as the process */
/* `f`: borrowed for ever. *out: what the console writes to, never closed. */
int conlog_new(const struct conlog_files *f, struct conlog **ret, int *out,
               struct err *e) MUST_CHECK;
/* Its thread; `hook` is borrowed for ever. */
int conlog_start(struct conlog *l, const struct thread_hook *hook, struct err *e) MUST_CHECK;

#endif
