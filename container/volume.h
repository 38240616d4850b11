/* container/volume.h - a host folder for a container, as a read-only file system image made when it
 * starts.
 *
 * kiln's board has no device yet that shares a file system, so this is a copy: later changes on the
 * host are not seen inside. Made with mksquashfs(1), uncompressed. */
#ifndef CONTAINER_VOLUME_H
#define CONTAINER_VOLUME_H

#include "base/err.h"
#include "container/session.h"

enum { VOLUME_MAX = 7, VOLUME_PATH_MAX = 512 };

struct volume { /* owned strings: volume_done() */
    char *host, *guest;
};
void volume_done(struct volume *v);

/* "HOST:GUEST:ro". -EINVAL with a sentence; -ENOTSUP for a writable one. */
int volume_parse(const char *text, struct volume *v, struct err *e) MUST_CHECK;
/* Write the image to `file`. -EINTR as session_watch says. */
int volume_pack(const struct volume *v, const char *file, const struct session_watch *w,
                struct err *e) MUST_CHECK;

#endif
