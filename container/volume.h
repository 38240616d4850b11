/* container/volume.h - what a container has mounted, from its spec to what a start needs: named and
 * anonymous volumes (container/volstore.h), folders and files of the host, tmpfs.
 *
 * At creation volume_claim() makes what is missing; at each start volume_prepare() finds it; with
 * the container volume_release() removes what was its alone. A VM gets folders by virtio-fs: both
 * sides see what the other writes. Of a single file the machine gets nothing but that file. root
 * as in image/store.h. Thread: the caller's. */
#ifndef CONTAINER_VOLUME_H
#define CONTAINER_VOLUME_H

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"
#include "container/spec.h"

enum { VOLUME_MAX = 7, VOLUME_PATH_MAX = 512 }; /* of one VM; bytes of a path in it */

struct volume {  /* one mount; owned strings: volume_done() */
    char *host;  /* NULL: a tmpfs */
    char *guest; /* absolute, without "." and ".." */
    bool read_only;
    bool file;         /* `host` is not a folder */
    char *options;     /* of a tmpfs: "size=64m,mode=1777"; NULL = none */
    char *propagation; /* "rslave", ...; NULL = rprivate. A VM's are always private */
};
void volume_done(struct volume *v);

/* At creation: check targets; make named volumes that are missing, and anonymous ones, whose names
 * are put into *s; make a bind's folder where `create` says so. Errors: -EINVAL; -ENOENT a bind's
 * source; -E2BIG more than a VM takes. What was made before a failure is removed, but for named
 * volumes and folders of the host. */
int volume_claim(const char *root, struct spec *s, struct err *e) MUST_CHECK;
/* At a start: all mounts of the spec in the order they are to be made. A volume that is new and
 * empty first gets what the image (its file system image `rootfs` of type `fstype`) has at its
 * target, as docker does. *list owned by the caller: volumes_done(). Errors: -ENOENT a source is
 * gone. */
int volume_prepare(const char *root, const struct spec *s, const char *rootfs, const char *fstype,
                   struct volume **list, size_t *n, struct err *e) MUST_CHECK;
void volumes_done(struct volume *list, size_t n);
/* The container goes with its anonymous volumes (rm -v, --rm), but those that another has. Call it
 * once its record is gone. */
void volume_release(const char *root, const struct spec *s);
/* The same in two steps, for when the spec is gone by then. */
int volume_names(const struct spec *s, struct strv *names) MUST_CHECK; /* -ENOMEM */
void volume_drop(const char *root, const struct strv *names);

#endif
