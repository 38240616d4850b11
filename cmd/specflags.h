/* cmd/specflags.h - the command line of kiln run and kiln create: what the container is to be
 * (container/spec.h) and what the verb itself is to do. Words and syntax are docker's. */
#ifndef CMD_SPECFLAGS_H
#define CMD_SPECFLAGS_H

#include <stdbool.h>

#include "base/err.h"
#include "cmd/flag.h"
#include "container/spec.h"

struct image;

enum specflags_pull { PULL_MISSING, PULL_ALWAYS, PULL_NEVER };
enum { ATTACH_STDIN = 1, ATTACH_STDOUT = 2, ATTACH_STDERR = 4 };

struct run_options { /* strings borrowed from argv */
    const char *name, *cidfile;
    const char *entrypoint; /* NULL = the image's; "" = none */
    enum specflags_pull pull;
    bool detach, quiet, stats;
    bool no_sig_proxy;
    unsigned attach; /* ATTACH_*; 0 = not said */
    const char *trace_start;
    char **cmd; /* NULL-terminated rest of argv, may be empty */
};

/* Their run functions are in the table of main.c. */
extern const struct command command_run, command_create;

/* argv[0] is "run" or "create". Fills *s (spec_init() was called; spec_done() is the caller's, also
 * on failure) with all but what the image says: argv is what follows the image. Returns 1; 0:
 * --help was printed; -EINVAL with a sentence. */
int specflags_parse(int argc, char **argv, struct spec *s, struct run_options *o,
                    struct err *e) MUST_CHECK;

/* Put the image's settings where *s says nothing, docker's rules: words on the command line replace
 * CMD, an entrypoint there replaces both; variables of both, the command line's count; the image's
 * id and digest. -EINVAL: there is no command. */
int specflags_merge(struct spec *s, const struct run_options *o, const struct image *im,
                    struct err *e) MUST_CHECK;

#endif
