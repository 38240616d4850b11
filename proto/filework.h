/* proto/filework.h - work on a container's files, done by a process inside of it: a child of the
 * guest's agent, or a helper of the host in the container's mount namespace. Thread: one. */
#ifndef PROTO_FILEWORK_H
#define PROTO_FILEWORK_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "proto/pack.h"

enum filework_kind {
    FILEWORK_GET = 1, /* `path` -> its tree */
    FILEWORK_PUT,     /* `path`, `name`, a tree on `in` -> an empty stream: it is there */
    FILEWORK_DIFF,    /* -> the difference to the image, without contents */
    FILEWORK_TOP,     /* -> a file with a table of processes (proto/proctable.h) */
    FILEWORK_KINDS,
};

enum {                        /* flags */
       FILEWORK_FOLLOW = 1,   /* GET: a link as path means what it leads to */
       FILEWORK_FOLDER = 2,   /* PUT: the tree is a folder... */
       FILEWORK_CONTENTS = 4, /* ...and what is in it is wanted alone */
       FILEWORK_KEEP = 8,     /* PUT: owners and attributes as in the tree; else root's */
       FILEWORK_ONE_FS = 64,  /* GET: what is mounted in it is an empty folder */
       FILEWORK_SYNC = 32,    /* PUT: it is on the disk before the answer */
       FILEWORK_INTO = 16,    /* PUT: `path` must be a folder, the tree goes into it */
};

struct filework { /* borrowed */
    enum filework_kind kind;
    unsigned flags;
    const char *path; /* as the container sees it */
    const char *name; /* PUT: what the tree's root is called where it has a name */
    int root;         /* the container's root */
    int upper, image; /* DIFF: the overlay's upper folder, the image; -1 = not at hand */
    int in, out;      /* streams of proto/pack.h */
};

/* Does it; what failed is told on `out`. Returns 0, or -errno when even that could not be told. */
int filework_run(const struct filework *w);

#endif
