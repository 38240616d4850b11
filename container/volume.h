/* container/volume.h - a host folder for a container, shared by virtio-fs: both sides see what the
 * other writes. */
#ifndef CONTAINER_VOLUME_H
#define CONTAINER_VOLUME_H

#include <stdbool.h>

#include "base/err.h"

enum { VOLUME_MAX = 7, VOLUME_PATH_MAX = 512 };

struct volume { /* owned strings: volume_done() */
    char *host, *guest;
    bool read_only;
};
void volume_done(struct volume *v);

/* "HOST:GUEST[:ro|:rw]". Errors: -EINVAL, -ENOTDIR, what stat(2) says of HOST. */
int volume_parse(const char *text, struct volume *v, struct err *e) MUST_CHECK;

#endif
