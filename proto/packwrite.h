/* proto/packwrite.h - a file tree as a stream of entries (proto/pack.h). Runs on the host, in the
 * guest's agent and in helpers inside containers; the tree may change meanwhile, by somebody
 * hostile: no name leads out of the root, and what vanishes is left out. Thread: the caller's. */
#ifndef PROTO_PACKWRITE_H
#define PROTO_PACKWRITE_H

#include <stdbool.h>

#include "base/err.h"
#include "proto/pack.h"

enum {
    PACKWRITE_DEPTH_MAX = 256,    /* folders in folders */
    PACKWRITE_LINKS_MAX = 100000, /* hard links told as such; beyond, contents come again */
};

struct packwrite_conf {
    int root;         /* folder beneath which all is */
    const char *path; /* of the tree's root, from there; its links are followed, but the last one */
    bool follow;      /* ...and that */
    bool one_fs;      /* what is mounted in it is an empty folder */
    bool xattrs;
};

/* All entries of the tree, without the end of the stream: the caller's, or the failure's. Sockets
 * are left out; proc, sysfs and their like are empty folders. Errors: -ENOENT there is no such
 * file; -ELOOP deeper than PACKWRITE_DEPTH_MAX; what reading and writing say. */
int packwrite(const struct packwrite_conf *c, struct pack_out *o, struct err *e) MUST_CHECK;

/* openat2(2) of `path` beneath `root`, with its links taken as if that were "/". */
int packwrite_open(int root, const char *path, int flags);
/* What `st` and `link` say as an entry; its path is the caller's. False: no type for it. */
struct stat;
bool packwrite_entry(const struct stat *st, const char *link, struct pack_entry *en);

#endif
