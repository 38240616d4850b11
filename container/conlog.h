/* container/conlog.h - a machine's console as `console.log` in its state folder: its last
 * CONLOG_MAX bytes or more, the ones before in `console.old`. Thread: one of its own, which lives
 * as long as the process. */
#ifndef CONTAINER_CONLOG_H
#define CONTAINER_CONLOG_H

#include "base/err.h"

enum { CONLOG_MAX = 256 * 1024 };

/* `dir`: the state folder, borrowed for ever. *out: what the console writes to, never closed. */
int conlog_start(int dir, int *out, struct err *e) MUST_CHECK;

#endif
