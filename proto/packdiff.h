/* proto/packdiff.h - what a container changed, as entries (proto/pack.h): from the upper folder of
 * its overlay. Source: Linux Documentation/filesystems/overlayfs.rst ("whiteouts and opaque
 * directories", "Renaming directories"). Thread: the caller's. */
#ifndef PROTO_PACKDIFF_H
#define PROTO_PACKDIFF_H

#include <stdbool.h>

#include "base/err.h"
#include "proto/pack.h"

struct packdiff_conf {
    int upper;  /* the overlay's upper folder */
    int merged; /* the root as the container sees it; -1 = not at hand */
    /* Is this path in the image? */
    bool (*in_image)(void *ctx, const char *path);
    void *ctx;
};

/* What kiln itself puts into a container's root is left out: /dev, /proc, /sys, files in /etc.
 * Every path that was added (PACK_NEW) or changed, folders before what is in them, and every one
 * that is gone (PACK_ABSENT). A folder that hides all the image had there is PACK_OPAQUE. Without
 * the end of the stream. Errors: -EXDEV: a folder was renamed, and `merged` is -1; what reading and
 * writing say. */
int packdiff(const struct packdiff_conf *c, struct pack_out *o, struct err *e) MUST_CHECK;
/* Is this path one of those? */
bool packdiff_is_ours(const char *path);

#endif
