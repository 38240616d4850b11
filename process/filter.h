/* process/filter.h - seccomp filters of containers.
 *
 * The default one follows docker's in spirit: what a container has no business with is refused with
 * EPERM, more of it is allowed with the capability it belongs to, and system calls newer than the
 * list are "not there" (ENOSYS), so that programs fall back. libseccomp compiles it; for docker's
 * default capabilities that is done when kiln is built (tools/mkfilter.c), as it takes
 * milliseconds. A profile of the user's is the OCI runtime-spec's linux.seccomp, or docker's file
 * with its includes and excludes. Thread: any. */
#ifndef PROCESS_FILTER_H
#define PROCESS_FILTER_H

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "process/process.h"

enum { FILTER_INSNS_MAX = 4096 }; /* the kernel's */

struct filter { /* embedded: filter_done() */
    struct process_filter f;
    void *owned; /* NULL = the one of the program */
};

/* `caps`: the container's bounding set. Errors: -ENOMEM, what libseccomp says. */
int filter_default(uint64_t caps, struct filter *out, struct err *e) MUST_CHECK;
/* -EINVAL: not a profile, with the place; -E2BIG. */
int filter_profile(const json_t *profile, uint64_t caps, struct filter *out,
                   struct err *e) MUST_CHECK;
void filter_done(struct filter *f);

#endif
