/* container/commit.h - a container's files as they are now become an image of their own: one layer,
 * with the settings of the image it came from and what is asked for. Volumes are not in it. Thread:
 * the caller's only one. */
#ifndef CONTAINER_COMMIT_H
#define CONTAINER_COMMIT_H

#include <jansson.h>
#include <stdbool.h>

#include "base/err.h"
#include "base/strv.h"
#include "container/record.h"
#include "image/store.h"

struct commit_conf {              /* borrowed */
    const char *name;             /* of the image */
    const char *message, *author; /* NULL = none */
    const struct strv *changes;   /* instructions: commit_change() */
    bool pause;                   /* its processes stand still meanwhile */
};

/* r as for files_enter(). *out is owned by the caller. Errors: those of files_enter(),
 * commit_change(), store_import(). */
int commit(const char *root, const struct record *r, const struct commit_conf *c, struct image *out,
           struct err *e) MUST_CHECK;

/* Apply "CMD [...]", "ENTRYPOINT ...", "ENV K=V", "EXPOSE 80", "LABEL K=V", "USER u", "VOLUME /d",
 * "WORKDIR /d" or "STOPSIGNAL s" to the "config" object of an OCI image configuration. Source: OCI
 * image-spec 1.1, config.md; Dockerfile reference. -EINVAL. */
int commit_change(json_t *config, const char *text, struct err *e) MUST_CHECK;

#endif
