/* proto/packread.h - a stream of entries (proto/pack.h) becomes files beneath a folder, and never
 * outside of it, whatever the names are and whoever changes links meanwhile.
 * Thread: the caller's. */
#ifndef PROTO_PACKREAD_H
#define PROTO_PACKREAD_H

#include <stdbool.h>
#include <sys/types.h>

#include "base/err.h"
#include "proto/pack.h"

enum { PACKREAD_OPEN_MAX = 64 }; /* folders whose times are put right after what is in them */

struct packread_conf {
    int root;
    const char *base; /* folder in it, where the tree goes */
    const char *name; /* of the tree's root in there; NULL: it is `base` itself */
    /* Links on the way are followed, as if `root` were "/" (a container's own tree). Else there may
     * be none: it is the host's. */
    bool follow;
    bool keep; /* owners, set-id bits and extended attributes as told; else not */
    uid_t uid; /* without keep: the owner; (uid_t)-1 = whoever makes it */
    gid_t gid;
    const struct pack_record *first; /* the tree's root, if the caller has read that already */
    bool devices;                    /* device nodes are made; else they are an error */
};

/* Until the end of the stream. Errors: those of pack_next(); -EISDIR, -ENOTDIR a folder where
 * something else is, or the reverse; what the calls say, with the path. What is made by then
 * stays. */
int packread(struct pack_in *in, const struct packread_conf *c, struct err *e) MUST_CHECK;

/* Where a copy goes, as docker has it (docker cp): `dest` is a path in `root`, what is copied a
 * folder (`folder`) called `name`, or with `contents` what is in it alone. */
struct packread_dest {
    char base[PACK_PATH_MAX + 1];
    char name[256]; /* "" = NULL of packread_conf */
};
/* Errors, with docker's words: -ENOENT the folder for it is not there; -ENOTDIR. */
int packread_find_dest(int root, bool in_root, const char *dest, bool folder, const char *name,
                       bool contents, struct packread_dest *out, struct err *e) MUST_CHECK;

#endif
