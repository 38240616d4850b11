/* image/helper.h - a program started to do a part of the work, and what it said.
 *
 * The child dies with the thread that started it; its standard error is kept for the sentence that
 * reports a failure. Threads: one. */
#ifndef IMAGE_HELPER_H
#define IMAGE_HELPER_H

#include <stdbool.h>
#include <sys/types.h>

#include "base/err.h"

enum { HELPER_SAID_MAX = 4096 }; /* bytes of standard error kept: the last ones */

struct helper {
    pid_t pid; /* 0 = not running */
    int in;    /* our end of its standard input, a socket; owned, -1 = /dev/null */
    int out;   /* our end of its standard output, owned; -1 = /dev/null */
    int err;   /* our end of its standard error, owned */
    char said[HELPER_SAID_MAX];
    size_t said_len;
};

/* Start argv[0] (searched in PATH) with `env` added to the environment (borrowed, NULL-terminated,
 * may be NULL). Errors: -ENOENT = not installed, with the package's name `package` in the sentence;
 * fork(2), socketpair(2). */
int helper_start(struct helper *h, const char *const *argv, const char *const *env,
                 const char *package, bool with_in, bool with_out, struct err *e) MUST_CHECK;

/* Write all to its standard input. Errors: -EPIPE = it has ended. Never SIGPIPE. */
int helper_write(struct helper *h, const void *p, size_t n) MUST_CHECK;

/* Read standard output and error until both are closed; `line` (may be NULL) gets each line of
 * standard output. */
void helper_drain(struct helper *h, void (*line)(void *ctx, const char *text), void *ctx);

/* Close its input, read what it says, wait. Returns 0 when it ended with status 0.
 * Errors: -ENOSPC = it said so; -EIO = any other failure, with its last line. */
int helper_end(struct helper *h, struct err *e) MUST_CHECK;

/* End it at once and forget it. Harmless when it has ended. */
void helper_kill(struct helper *h);

#endif
