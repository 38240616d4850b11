/* cmd/runflags.h - the command line of kiln run. */
#ifndef CMD_RUNFLAGS_H
#define CMD_RUNFLAGS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "container/volume.h"

struct list { /* owned strings, NULL-terminated */
    char **v;
    size_t n;
};
int list_add(struct list *l, const char *text, struct err *e) MUST_CHECK;
void list_done(struct list *l);

struct run_flags { /* strings borrowed from argv unless said; owned: runflags_done() */
    bool help, tty, interactive, read_only, quiet, stats, perf_map, entrypoint_given;
    const char *name, *hostname, *workdir, *user, *entrypoint, *engine, *kernel, *trace_start;
    bool no_template;
    uint64_t ram_bytes;
    uint64_t code_cache_bytes; /* 0 = default */
    unsigned cpus;
    int timeout_ms;  /* -1 = none */
    struct list env; /* "K=V", in order; a bare K stands as this process has it */
    struct volume volume[VOLUME_MAX];
    size_t n_volumes;
    const char *image;
    char **cmd; /* NULL-terminated rest of argv, may be empty */
};

/* As docker reads them: flags end at the first word that is none; -it is -i -t; --flag value and
 * --flag=value. -EINVAL. */
int runflags_parse(int argc, char **argv, struct run_flags *f, struct err *e) MUST_CHECK;
void runflags_done(struct run_flags *f);

#endif
